"""Simulated likelihood: exact where the law of m Euler steps is known, right where only the law in the limit is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal

from neuralsde import sde
from neuralsde.errors import InputError

pytestmark = pytest.mark.usefixtures("x64")

KEY = 5


def density(process, y0, y1, dt, **options):
    options = {"steps": 32, "n": 64, "key": jax.random.key(KEY), **options}
    return sde.transition_log_density(process, jnp.asarray(y0), jnp.asarray(y1), dt, **options)


def euler_ou(ou, y0, y1, dt, m):
    """The law of m Euler steps of an Ornstein-Uhlenbeck process: mean mu + (y0 - mu) A^m, A = 1 - theta h."""
    h = dt / m
    A = 1 - ou.theta * h
    mean, var = ou.mu + (y0 - ou.mu) * A**m, ou.sigma**2 * h * (1 - A ** (2 * m)) / (1 - A**2)
    return -0.5 * ((y1 - mean) ** 2 / var + jnp.log(2 * jnp.pi * var))


@pytest.mark.parametrize("m", [1, 40])
def test_ornstein_uhlenbeck_has_equal_weights_and_the_law_of_m_euler_steps(m):
    ou, dt = sde.OU(1.0, 0.5, 0.7), 2.0 if m > 2 else 0.8
    found = density(ou.process(), 2.0, -0.3, dt, steps=m)
    assert jnp.isclose(found.log_density, euler_ou(ou, 2.0, -0.3, dt, m), atol=1e-11)
    assert jnp.isclose(found.ess, 64, rtol=1e-9)
    assert found.standard_error < 1e-6
    assert jnp.isclose(found.corrected, found.log_density, atol=1e-12)


def test_the_gradient_of_a_linear_process_is_exact():
    """In a parameter of the drift, one of the noise, both states and the time: no path carries any noise into it."""

    def estimate(theta, sigma, y0, y1, dt):
        return density(sde.OU(theta, 0.5, sigma).process(), y0, y1, dt, steps=12, n=8, pilots=0).log_density

    def exact(theta, sigma, y0, y1, dt):
        return euler_ou(sde.OU(theta, 0.5, sigma), y0, y1, dt, 12)

    at = tuple(jnp.asarray(x) for x in (1.1, 0.6, 1.4, 0.2, 1.5))
    one, other = jax.jit(lambda *at: [jnp.stack(jax.grad(f, range(5))(*at)) for f in (estimate, exact)])(*at)
    assert np.allclose(one, other, atol=1e-9)


A, B, S = jnp.array([[-1.0, 1.0], [-0.5, -0.3]]), jnp.array([0.2, -0.1]), jnp.array([[0.5, 0.0, 0.1], [0.3, 0.4, 0.0]])


LINEAR = sde.SDE(lambda t, y, args: A @ y + B, lambda t, y, args: S * (1 + t), sde.General(3))  # g is a matrix (2, 3)


def linear_moments(y0, t0, dt, m):
    mean, cov, h = np.asarray(y0), np.zeros((2, 2)), dt / m
    A64, B64, S64 = (np.asarray(part, np.float64) for part in (A, B, S))
    for k in range(m):
        G = S64 * (1 + t0 + k * h)
        step = np.eye(2) + h * A64
        mean, cov = step @ mean + h * B64, step @ cov @ step.T + h * G @ G.T
    return mean, cov


def test_a_linear_system_with_general_noise_is_exact_whole_or_in_part():
    y0, y1, t0, dt, m = [1.0, -1.0], [0.3, 0.2], 0.4, 1.0, 10
    mean, cov = linear_moments(y0, t0, dt, m)
    found = density(LINEAR, y0, y1, dt, steps=m, n=16, t0=t0)
    assert jnp.isclose(found.log_density, multivariate_normal.logpdf(jnp.asarray(y1), mean, cov), atol=1e-10)
    assert jnp.isclose(found.ess, 16, rtol=1e-9)
    part = density(LINEAR, y0, [jnp.nan, 0.2], dt, steps=m, n=16, t0=t0, mask=np.array([False, True]))
    exact = multivariate_normal.logpdf(jnp.array([0.2]), mean[1:], cov[1:, 1:])
    assert jnp.isclose(part.log_density, exact, atol=1e-10)
    assert jnp.isclose(part.ess, 16, rtol=1e-9)
    nothing = density(LINEAR, y0, [jnp.nan, jnp.nan], dt, steps=m, n=16, t0=t0, mask=np.zeros(2, bool))
    assert jnp.isclose(nothing.log_density, 0.0, atol=1e-12)


def test_noise_that_reaches_an_entry_only_through_another():
    """Position and velocity, noise on the velocity alone: given the velocity there is a density, and it is exact."""
    process = sde.SDE(
        lambda t, y, args: jnp.stack([y[1], -y[0] - 0.5 * y[1]]),
        lambda t, y, args: jnp.array([[0.0], [0.6]]),
        sde.General(1),
    )
    M, mean, cov, h = jnp.array([[0.0, 1.0], [-1.0, -0.5]]), jnp.array([1.0, 0.0]), jnp.zeros((2, 2)), 0.1
    for _ in range(10):
        step = jnp.eye(2) + h * M
        mean, cov = step @ mean, step @ cov @ step.T + h * jnp.diag(jnp.array([0.0, 0.36]))
    found = density(process, [1.0, 0.0], [0.0, -0.4], 1.0, steps=10, n=16, pilots=0, mask=np.array([False, True]))
    assert jnp.isclose(found.log_density, -0.5 * ((-0.4 - mean[1]) ** 2 / cov[1, 1] + jnp.log(2 * jnp.pi * cov[1, 1])))
    with pytest.raises(InputError, match="no density in 2 entries"):
        density(process, [1.0, 0.0], [0.0, -0.4], 1.0)


CASES = {
    "OU": (sde.OU(1.0, 0.5, 0.7), 2.0, jnp.array([0.0, 0.9, 1.5])),
    "CIR": (sde.CIR(1.0, 1.0, 0.6), 1.5, jnp.array([0.6, 1.0, 1.6])),
    "GBM": (sde.GBM(0.2, 0.4), 1.0, jnp.array([0.6, 1.2, 2.5])),
}


@pytest.mark.parametrize("name", CASES)
def test_within_a_hundredth_of_a_nat_or_three_standard_errors_of_the_exact_law(name):
    """A gap of two relaxation times in 512 steps: their own bias is below .005 here, by the closed form for OU."""
    law, y0, y1 = CASES[name]

    @jax.jit
    def both(y1):
        found = jax.vmap(lambda y: density(law.process(), y0, y, 2.0, steps=512, n=1_000, pilots=0))(y1)
        return found, found.corrected, law.log_density(y1, y0, 2.0)

    found, corrected, exact = jax.tree.map(np.asarray, both(y1))
    off = np.abs(corrected - exact)
    assert (off < np.maximum(0.01, 3 * found.standard_error)).all()
    assert (found.standard_error < 0.02).all()
    assert (found.ess > 0.7 * 1_000).all()
    if name == "OU":
        assert (np.abs(euler_ou(law, y0, y1, 2.0, 512) - exact) < 0.005).all()


def on_a_grid(f, g, y0, y1, dt, m):
    """Log density of the m-step law by the product of transition matrices, on 1,500 points."""
    x, h = np.linspace(-3.5, 3.5, 1_500), dt / m
    mean, sd = x + h * f(x), np.sqrt(h) * g(x)
    kernel = (
        np.exp(-0.5 * ((x[None] - mean[:, None]) / sd[:, None]) ** 2)
        / (sd[:, None] * np.sqrt(2 * np.pi))
        * (x[1] - x[0])
    )
    sd_0 = np.sqrt(h) * g(y0)
    p = np.exp(-0.5 * ((x - y0 - h * f(y0)) / sd_0) ** 2) / (sd_0 * np.sqrt(2 * np.pi))
    for _ in range(m - 2):
        p = p @ kernel
    last = np.exp(-0.5 * ((y1 - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    return np.log((p * last).sum() * (x[1] - x[0]))


@pytest.mark.parametrize("y1", [-1.0, 0.0, 1.0])
def test_a_double_well_with_noise_that_depends_on_the_state_against_its_transition_matrix(y1):
    """The law of the same 16 steps, so that nothing but the weights can be wrong."""

    def f(y):
        return 2 * (y - y**3)

    process = sde.SDE(lambda t, y, args: f(y), lambda t, y, args: 0.6 * jnp.sqrt(1 + 0.5 * y**2), sde.Diagonal())
    exact = on_a_grid(f, lambda y: 0.6 * np.sqrt(1 + 0.5 * y**2), -1.0, y1, 0.5, 16)
    found = density(process, -1.0, y1, 0.5, steps=16, n=2_000)
    assert abs(found.corrected - exact) < 3 * found.standard_error < 0.05
    assert found.ess > 0.5 * 2_000


def test_the_density_is_unbiased_and_its_spread_is_the_standard_error():
    """512 estimates of a geometric process by 16 paths each, against the closed form of two steps."""
    law, y0, y1, dt = sde.GBM(0.2, 0.8), 1.0, 0.5, 1.0
    x = jnp.linspace(-4.0, 6.0, 20_001)
    h = dt / 2
    half = jnp.exp(-0.5 * ((x - 1.1) / (0.8 * jnp.sqrt(h))) ** 2) / (0.8 * jnp.sqrt(2 * jnp.pi * h))
    end = jnp.exp(-0.5 * ((y1 - 1.1 * x) / (0.8 * x)) ** 2 / h) / (0.8 * jnp.abs(x) * jnp.sqrt(2 * jnp.pi * h))
    exact = (half * jnp.where(x == 0, 0.0, end)).sum() * (x[1] - x[0])
    keys = jax.random.split(jax.random.key(1), 512)
    found = jax.vmap(lambda k: density(law.process(), y0, y1, dt, steps=2, n=16, key=k, pilots=0))(keys)
    p = jnp.exp(found.log_density)
    assert abs(p.mean() / exact - 1) < 4 * (p / exact).std() / jnp.sqrt(512)
    measured = (p / exact).std()
    assert 0.7 < jnp.sqrt((found.standard_error**2).mean()) / measured < 1.3
    assert abs(found.corrected.mean() - jnp.log(exact)) < abs(found.log_density.mean() - jnp.log(exact))


def test_spellings_of_one_process_agree():
    """An array in Ito's calculus, and a pytree in Stratonovich's."""
    y0, y1, options = jnp.array([1.0, 1.4]), jnp.array([1.2, 1.1]), {"steps": 8, "n": 32, "pilots": 0}
    plain = density(sde.GBM(0.2, 0.4).process(), y0, y1, 0.5, **options).log_density
    tree = sde.SDE(
        lambda t, y, args: jax.tree.map(lambda leaf: 0.2 * leaf, y),
        lambda t, y, args: jax.tree.map(lambda leaf: 0.4 * leaf, y),
    )
    start, end = ({"a": y[0], "b": y[1]} for y in (y0, y1))
    key = jax.random.key(KEY)
    found = sde.transition_log_density(tree.to(sde.Stratonovich()), start, end, 0.5, key=key, **options)
    assert jnp.isclose(plain, found.log_density, atol=1e-6)  # the rates of the former were made in single precision


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 0}, "steps=0"),
        ({"n": 1}, "n=1"),
        ({"dt": -1.0}, "dt=-1.0"),
        ({"y1": jnp.zeros(3)}, r"\(2,\), \(3,\)"),
        ({"mask": np.ones(3, bool)}, "mask of shapes"),
        ({"process": sde.SDE(lambda t, y, args: y, lambda t, y, args: y, sde.Scalar())}, "no density in 2 entries"),
    ],
)
def test_input_without_a_meaning_is_refused(change, says):
    given = {"process": sde.GBM(0.2, 0.4).process(), "y0": jnp.ones(2), "y1": jnp.ones(2), "dt": 1.0, **change}
    with pytest.raises(InputError, match=says):
        density(**given)
