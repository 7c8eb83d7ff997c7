"""Schedules against their own derivatives, their clock against its inverse, the kernel against the forward SDE."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.noising import EDM, SCHEDULES, VE, VP, CondOT, Cosine, Schedule, times

pytestmark = pytest.mark.usefixtures("x64")
ALL = [kind() for kind in SCHEDULES.values()] + [VP(2.0, 2.0)]


def inside(schedule: Schedule) -> jax.Array:
    return jnp.linspace(schedule.t0, schedule.t1, 9)[:-1] + 1e-4


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_rates_are_the_derivatives(schedule: Schedule) -> None:
    ts = inside(schedule)

    def slopes(t: jax.Array) -> jax.Array:
        return jnp.stack(jax.jvp(lambda u: (schedule.alpha(u), schedule.sigma(u), schedule.sigma(u) ** 2),
                                 (t,), (jnp.ones_like(t),))[1])  # fmt: skip

    alpha, sigma, variance = slopes(ts)
    np.testing.assert_allclose(schedule.alpha_rate(ts), alpha, rtol=1e-9)
    np.testing.assert_allclose(schedule.sigma_rate(ts), sigma, rtol=1e-9)
    squared = variance - 2 * schedule.log_alpha_rate(ts) * schedule.sigma(ts) ** 2
    np.testing.assert_allclose(schedule.squared_diffusion(ts), squared, rtol=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_the_clock_falls_and_has_its_inverse(schedule: Schedule) -> None:
    ts = inside(schedule)
    clock = schedule.log_snr(ts)
    np.testing.assert_allclose(clock, 2 * jnp.log(schedule.alpha(ts) / schedule.sigma(ts)), atol=1e-9)
    assert (jnp.diff(clock) < 0).all()
    np.testing.assert_allclose(schedule.time_at(clock), ts, rtol=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_single_precision_keeps_the_small_noise(schedule: Schedule) -> None:
    """Near the data 1 - α² cancels; no schedule may lose more than a few bits of σ or of the clock there."""
    t = schedule.t0
    with jax.enable_x64(False):
        sigma, back = schedule.sigma(jnp.float32(t)), schedule.time_at(schedule.log_snr(jnp.float32(t)))
    np.testing.assert_allclose(sigma, schedule.sigma(t), rtol=2e-6)
    np.testing.assert_allclose(back, t, rtol=2e-5)


def test_the_forward_sde_has_the_kernel_as_its_law() -> None:
    """Mean and variance of the linear SDE by their own equations, against α and σ², for every schedule at once.

    dm = f m dt, dv = (2 f v + g²) dt from the start of a grid; the closed kernel says what comes out at its end.
    """
    for schedule in ALL:
        process = schedule.forward()
        assert isinstance(process.calculus, sde.Ito)
        assert process.noise == sde.Diagonal("additive")
        begin, end = schedule.t0, schedule.t0 + 0.4 * (schedule.t1 - schedule.t0)
        ts = jnp.geomspace(begin, end, 4001)

        def rates(t: jax.Array, m: jax.Array, v: jax.Array, process: sde.SDE = process) -> tuple[jax.Array, jax.Array]:
            one = jnp.ones(())
            f, g = process.drift(t, one, None), process.diffusion(t, one, None)
            return f * m, 2 * f * v + g**2

        def midpoint(state: tuple, cell: tuple, rates=rates) -> tuple:
            (m, v), (t, s) = state, cell
            dm, dv = rates(t, m, v)
            h, middle = s - t, jnp.sqrt(s * t)
            dm, dv = rates(middle, m + (middle - t) * dm, v + (middle - t) * dv)
            return (m + h * dm, v + h * dv), None

        start = (schedule.alpha(begin), schedule.sigma(begin) ** 2)
        (mean, variance), _ = jax.lax.scan(midpoint, start, (ts[:-1], ts[1:]))
        np.testing.assert_allclose(mean, schedule.alpha(end), rtol=1e-3)
        np.testing.assert_allclose(variance, schedule.sigma(end) ** 2, rtol=1e-2)


def test_grids() -> None:
    for schedule in ALL:
        for spacing in ("uniform", "log-snr", "edm"):
            ts = times(schedule, 6, spacing)
            assert ts.shape == (7,)
            assert (float(ts[0]), float(ts[-1])) == (schedule.t1, schedule.t0)
            assert (jnp.diff(ts) < 0).all()
    np.testing.assert_allclose(jnp.diff(VP().log_snr(times(VP(), 5)), 2), 0, atol=1e-9)
    # Karras et al. 2022, eq. 5
    index = jnp.arange(19) / 18
    expected = (80 ** (1 / 7) + index * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(times(EDM(), 18, "edm"), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: times(VP(), 0), "n=0 steps"),
        (lambda: times(VE(), 5, t0=0.0), "log SNR is"),
        (lambda: times(CondOT(), 5, t1=1.0), "spacing='uniform'"),
        (lambda: times(VP(), 5, t0=0.5, t1=0.5), "t0 < t1"),
        (lambda: times(VP(), 5, "edm", rho=0.0), "rho=0.0"),
        (lambda: VP(3.0, 1.0), "beta=(3.0, 1.0)"),
        (lambda: VP(0.0, 0.0), "no noise would ever come"),
        (lambda: VE(1.0, 1.0), "0 < sigma0 < sigma1"),
        (lambda: EDM(0.0, 1.0), "0 < sigma0 < sigma1"),
        (lambda: Cosine(0.0), "0.008 is usual"),
    ],
)
def test_bad_input(ask, said: str) -> None:
    with pytest.raises(InputError) as error:
        ask()
    assert said in error.value.line
