"""Certificates of problems with known errors: orders and errors in their intervals, honesty where there is noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.certificate import _spread, step_size_certificate
from neuralsde.sde.exact import GBM, LiExample3

KEY = jax.random.key(0)
TS = jnp.array([0.0, 0.5, 1.0])


def row(certificate, name):
    return next(found for found in certificate.rows if found.name.startswith(name))


def euler_error_of_gbm(mu, sigma, n):
    """√E(y - ŷ)² at time 1 from 1, ŷ by n steps: E y², E ŷ² and E y ŷ are products over the steps."""
    h = 1 / n
    both = np.exp(mu * h) * (1 + mu * h + sigma**2 * h)
    return np.sqrt(np.exp(2 * mu + sigma**2) + ((1 + mu * h) ** 2 + sigma**2 * h) ** n - 2 * both**n)


def euler_error_of_example_3(a, b, y0, n):
    """The same of LiExample3: mean and variance of a difference that is affine in the n increments."""
    t = np.arange(n) / n
    shrink = 1 - 1 / (2 * n * (1 + t))
    rest = np.append(np.cumprod(shrink[::-1])[-2::-1], 1.0)  # what is left at the end of a kick at each step
    mean = y0 * shrink.prod() + (b / np.sqrt(1 + t) * rest).sum() / n - (y0 + b) / np.sqrt(2)
    return np.sqrt(mean**2 + ((a * b * (rest / np.sqrt(1 + t) - 1 / np.sqrt(2))) ** 2).sum() / n)


GBM_RUN = {"key": KEY, "substeps": 16, "paths": 2048}  # one program for all
EXAMPLE_3_RUN = {"key": KEY, "paths": 1024}


@pytest.mark.usefixtures("x64")
def test_strong_order_half_and_its_error_are_measured():
    """Independent levels: a sum of the differences as if they all pointed one way would be 2.4 times too large."""
    certificate = step_size_certificate(GBM(0.3, 0.4).process(), 1.0, TS, **GBM_RUN)
    strong = row(certificate, "strong")
    assert strong.order == pytest.approx(0.5, abs=0.12)
    assert strong.order_interval[0] < 0.5 < strong.order_interval[1]
    assert 0.8 < strong.error / euler_error_of_gbm(0.3, 0.4, 32) < 1.3
    assert strong.error_interval[0] < strong.error < strong.error_interval[1]


@pytest.mark.usefixtures("x64")
def test_strong_order_one_and_its_error_are_measured():
    certificate = step_size_certificate(LiExample3(0.7, 0.5).process(), 0.4, TS, substeps=8, **EXAMPLE_3_RUN)
    strong = row(certificate, "strong")
    assert strong.order == pytest.approx(1, abs=0.1)
    assert 0.85 < strong.error / euler_error_of_example_3(0.7, 0.5, 0.4, 16) < 1.15


@pytest.mark.usefixtures("x64")
def test_weak_error_is_resolved_where_it_is_large_and_not_where_it_drowns():
    """GBM with little noise: the mean of Euler is (1 + mu h)^n exactly."""
    clear = step_size_certificate(GBM(1.0, 0.05).process(), 1.0, TS, **GBM_RUN)
    exact = np.exp(1.0) - (1 + 1 / 32) ** 32
    mean = row(clear, "mean")
    assert mean.order == pytest.approx(1, abs=0.1)
    assert mean.error == pytest.approx(exact, rel=0.1)
    noisy = step_size_certificate(GBM(0.02, 1.0).process(), 1.0, TS, **GBM_RUN)
    lost = row(noisy, "mean")
    assert lost.order is None
    assert "not resolved" in str(noisy)
    assert lost.error_interval[0] == 0  # noise is no evidence of an error


@pytest.mark.usefixtures("x64")
def test_the_verdict_follows_the_tolerance_and_the_suggestion_meets_it():
    process, options = LiExample3(0.7, 0.5).process(), {"tolerance": 6e-3, **EXAMPLE_3_RUN}
    first = step_size_certificate(process, 0.4, TS, substeps=2, **options)
    assert first.small_enough == "no"
    assert first.suggested_factor == 4  # so that the second is the program of the test of order one
    second = step_size_certificate(process, 0.4, TS, substeps=2 * first.suggested_factor, **options)
    assert second.small_enough == "yes"
    assert second.suggested_factor is None
    assert "as many steps" in str(first)
    assert "as many steps" not in str(second)


def test_a_functional_takes_the_place_of_the_moments_and_pytrees_are_states():
    process = sde.SDE(
        lambda t, y, args: jax.tree.map(lambda x: -x, y),
        lambda t, y, args: jax.tree.map(lambda x: 0.1 * jnp.ones_like(x), y),
        sde.Diagonal(depends="additive"),
    )
    y0 = {"a": jnp.ones(2), "b": jnp.array(3.0)}
    certificate = step_size_certificate(process, y0, TS, key=KEY, substeps=4, functional=lambda y: y["b"])
    assert [found.name for found in certificate.rows] == ["strong (RMS)", "functional"]
    assert row(certificate, "functional").error == pytest.approx(3 * (np.exp(-1) - (1 - 1 / 8) ** 8), rel=0.1)
    assert certificate.paths == 256
    assert certificate.dtype == "float32"


def test_too_few_paths_and_other_input_are_refused():
    with pytest.raises(InputError, match="paths=100"):
        step_size_certificate(GBM(0.3, 0.4).process(), 1.0, TS, key=KEY, paths=100)
    with pytest.raises(InputError, match="tolerance"):
        step_size_certificate(GBM(0.3, 0.4).process(), 1.0, TS, key=KEY, tolerance=-1.0)
    with pytest.raises(InputError, match="decreasing"):
        step_size_certificate(GBM(0.3, 0.4).process(), 1.0, TS[::-1], key=KEY)


class Cubic(eqx.Module):
    """dy = (rate y + cube y³) dt + sigma dW."""

    rate: jax.Array = eqx.field(converter=jnp.asarray)
    cube: jax.Array = eqx.field(converter=jnp.asarray)
    sigma: jax.Array = eqx.field(converter=jnp.asarray)

    def drift(self, t, y, args):
        return self.rate * y + self.cube * y**3

    def diffusion(self, t, y, args):
        return self.sigma * jnp.ones_like(y)


def of_cubic(start, end=1.0, *, rate=0.0, cube=0.0, sigma=1.0):
    """The certificate of four steps in float32; one program for all."""
    model = Cubic(rate, cube, sigma)
    process = sde.SDE(model.drift, model.diffusion, sde.Diagonal("additive"))
    return step_size_certificate(process, start, jnp.array([0.0, end]), key=KEY, substeps=4)


def test_rounding_is_not_taken_for_an_order():
    """dy = dW is exact at every step: what differs between levels is rounding in float32."""
    certificate = of_cubic(1.0)
    assert row(certificate, "strong").order is None
    assert certificate.small_enough == "yes"


def test_paths_that_fail_are_counted_and_are_a_no():
    certificate = of_cubic(1.5, cube=-1e3)
    assert certificate.failed[0] == 256
    assert certificate.small_enough == "no"
    assert "not finite at h" in str(certificate)


@pytest.mark.parametrize(
    ("start", "end", "options"), [(2.0, 1.0, {"sigma": 0.01}), (0.5, 2.0, {"rate": -1.0, "sigma": 0.6})]
)
def test_an_explosion_is_a_no_even_where_the_given_step_outlives_it(start, end, options):
    """dy = y³ dt from 2 is infinite at t = 1/8: long steps jump over it and short ones do not."""
    certificate = of_cubic(start, end, cube=1.0, **options)
    assert certificate.failed[0] < certificate.failed[2]
    assert certificate.small_enough == "no"
    assert certificate.suggested_factor is None
    assert "finer steps blow up" in str(certificate)


def test_a_few_wild_paths_do_not_widen_the_spread():
    """Standard normal ends: the spread is 1; 3 % of paths thrown to 1e8 move it by that of the quartiles."""
    ends = np.random.default_rng(0).normal(size=(4000, 3, 2))
    assert _spread(ends) == pytest.approx(1, abs=0.05)
    ends[:120] = 1e8
    assert _spread(ends) == pytest.approx(1, abs=0.1)


def test_without_noise_the_size_takes_the_place_of_the_spread():
    """dy = -y dt: Euler gives (1 - h)^n, and the tolerance is 5 % of |y|."""
    certificate = of_cubic(1.0, rate=-1.0, sigma=0.0)
    mean = row(certificate, "mean")
    assert certificate.spread == 0
    assert mean.error == pytest.approx(np.exp(-1) - 0.75**4, rel=0.1)
    assert mean.allowed == pytest.approx(0.05 * 0.75**4, rel=1e-3)
    assert "no; try" in str(certificate)


def test_steps_past_the_limit_of_stability_are_a_no_without_an_order():
    """OU with lambda h = 3: the mean of Euler is (-2)^4, at h/2 it is (-1/2)^8: no order, and no doubt."""
    certificate = of_cubic(1.0, rate=-12.0)
    mean = row(certificate, "mean")
    assert mean.small_enough == "no"
    assert mean.order is None
    assert not mean.asymptotic
    assert mean.error_interval[0] < 2**4 < mean.error_interval[1]
    assert "mean is not asymptotic: order" in str(certificate)
    assert certificate.suggested_factor == 4
