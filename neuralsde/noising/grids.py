"""Times at which a sampler stops on its way from noise to data, decreasing.

uniform    equal steps of t
log-snr    equal steps of log α²/σ², the clock of the exponential integrators (Lu et al. 2022)
edm        equal steps of σ̃^{1/ρ}, σ̃ = σ/α, ρ = 7 (Karras et al. 2022, eq. 5): finer towards the data
"""

from __future__ import annotations

from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralsde.errors import InputError, closest
from neuralsde.noising.schedule import Schedule

Spacing = Literal["uniform", "log-snr", "edm"]


def times(
    schedule: Schedule,
    n: int,
    spacing: Spacing = "log-snr",
    *,
    t0: float | None = None,
    t1: float | None = None,
    rho: float = 7.0,
) -> Float[Array, " k"]:
    """Grid of n steps from t1 down to t0, both of the schedule by default: (n + 1,) times, the ends exact.

    Raises InputError for n < 1, for ends in the wrong order, and for t0 = 0 (or a t1 without any data left) on a grid
    of log SNR, which is infinite there.
    """
    t0, t1 = schedule.t0 if t0 is None else t0, schedule.t1 if t1 is None else t1
    if spacing not in get_args(Spacing):
        raise InputError(f"spacing={spacing!r}", "there is none of that name", hint=closest(spacing, get_args(Spacing)))
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n={n!r} steps", expected="a whole number of at least 1")
    if not 0 <= t0 < t1:
        raise InputError(f"t0={t0}, t1={t1}", expected="0 <= t0 < t1")
    if not rho > 0:
        raise InputError(f"rho={rho}", expected="a positive number; 7 is usual")
    ends = np.asarray(_clock_at(schedule, jnp.asarray([t1, t0], float)))
    if spacing != "uniform" and not np.isfinite(ends).all():
        raise InputError(
            f"a grid of log SNR from t={t1} to t={t0}",
            f"log SNR is {ends[0]:g} and {ends[1]:g} there",
            f"times inside, such as {schedule.t1:g} to {schedule.t0:g}",
            "spacing='uniform'",
        )
    return _grid(schedule, n, spacing, t0, t1, rho)


@eqx.filter_jit
def _clock_at(schedule: Schedule, t: Array) -> Array:
    return schedule.log_snr(t)


@eqx.filter_jit
def _grid(schedule: Schedule, n: int, spacing: Spacing, t0: float, t1: float, rho: float) -> Array:
    part = jnp.linspace(0.0, 1.0, n + 1)
    if spacing == "uniform":
        return (t1 + part * (t0 - t1)).at[-1].set(t0)
    first, last = schedule.log_snr(t1), schedule.log_snr(t0)
    if spacing == "log-snr":
        clock = first + part * (last - first)
    else:
        roots = jnp.exp(jnp.stack([first, last]) * (-0.5 / rho))
        clock = -2 * rho * jnp.log(roots[0] + part * (roots[1] - roots[0]))
    return schedule.time_at(clock).at[0].set(t1).at[-1].set(t0)
