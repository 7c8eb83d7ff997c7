"""Many samples at once: the grid, the starts, one compiled program, and one clear line when something broke."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError, RunFailed
from neuralsde.noising import Kind, Predictor, Schedule, Spacing
from neuralsde.sampling.loop import Sampler, Samples, sample


def draw(
    predictor: Predictor,
    shape: tuple[int, ...],
    n: int,
    *,
    sampler: Sampler,
    key: Key[Array, ""],
    nfe: int | None = None,
    steps: int | None = None,
    ts: Float[Array, " k"] | None = None,
    spacing: Spacing | None = None,
    x: Array | None = None,
    save: bool = False,
) -> Samples:
    """Independent samples of the given shape: `.x` (n, *shape), `.nfe` a sample (of each, (n,), if it is adaptive).

    nfe, steps or ts: how much work, one of the three: at most so many evaluations of the network, so many steps, or the
                      times themselves. `spacing` is the sampler's own unless it is named. An adaptive sampler is asked
                      for by none of them: it goes from end to end in one.
    x:                the starts (n, *shape) at ts[0]; by default normal with the schedule's `prior_sd`.

    Raises InputError for a budget that is none or too small and for times at which the network would be asked where it
    has no answer; RunFailed for a state that is not finite.
    """
    if sampler.adaptive and nfe is None and steps is None and ts is None:
        steps = 1
    if sum(given is not None for given in (nfe, steps, ts)) != 1:
        raise InputError(
            f"nfe={nfe}, steps={steps}, ts={'given' if ts is not None else None}",
            expected="one of the three: evaluations, steps, or the times themselves",
        )
    if ts is None:
        steps = sampler.steps_for(nfe) if nfe is not None else steps
        assert steps is not None
        ts = _times(sampler, predictor.schedule, predictor.kind, steps, spacing, jnp.result_type(float))
    else:
        check_times(ts, sampler, predictor.schedule, predictor.kind)
    found = _many(predictor, x, ts, sampler, key, (n, *shape), save)
    raise_if_failed(found)
    return found


@eqx.filter_jit
def _many(
    predictor: Predictor, x: Array | None, ts: Array, sampler: Sampler, key: Key[Array, ""], shape: tuple[int, ...],
    save: bool,
) -> Samples:  # fmt: skip
    """Everything that touches numbers is one program: a dozen calls of their own cost more than a small network."""
    start, noise = jax.random.split(key)
    x = predictor.schedule.prior_sd * jax.random.normal(start, shape) if x is None else x
    found = jax.vmap(lambda x, k: sample(predictor, x, ts, sampler=sampler, key=k, save=save))(
        x, jax.random.split(noise, shape[0])
    )
    return eqx.tree_at(lambda s: (s.ts, s.nfe), found, (ts, found.nfe if sampler.adaptive else found.nfe[0]))


@lru_cache(maxsize=256)
def _times(
    sampler: Sampler, schedule: Schedule, kind: Kind, steps: int, spacing: Spacing | None, dtype: Any
) -> Float[Array, " k"]:
    """A sampler's own grid in floats of the type `dtype`, checked; kept: for a few samples it is half of the time."""
    ts = sampler.times(schedule, steps, spacing)
    check_times(ts, sampler, schedule, kind)
    return ts


def check_times(ts: Float[Array, " k"], sampler: Sampler, schedule: Schedule, kind: Kind) -> None:
    """Refuse a grid that does not decrease, or on which the network would be asked where it has no answer."""
    grid = np.asarray(ts)
    if grid.ndim != 1 or len(grid) < 2 or not (np.diff(grid) < 0).all():
        raise InputError(f"ts of shape {grid.shape}", "not a way from noise to data", "decreasing times, two or more")
    if grid[-1] < 0:
        raise InputError(f"ts that end at {grid[-1]:g}", expected="times of at least 0")
    flows = sampler.flows and kind == "velocity"
    if sampler.clean or flows or float(schedule.sigma(grid[-1])) > 0:
        return
    name = type(sampler).__name__
    raise InputError(
        f"ts that end at {grid[-1]:g}, where {type(schedule).__name__} has no noise left",
        f"there is no score there, and {name} asks for one",
        f"a last time above 0, such as {schedule.t0:.3g}",
        "a sampler that does not look at the last time, such as DDIM or EDMHeun",
    )


def raise_if_failed(samples: Samples) -> None:
    """RunFailed with the step and the time, when any sample stopped being finite."""
    failed = np.atleast_1d(np.asarray(samples.failed))
    if (failed < 0).all():
        return
    step, ts = int(failed[failed >= 0].min()), np.asarray(samples.ts)
    raise RunFailed(
        f"step {step + 1} of {len(ts) - 1}, from t={ts[step]:.4g} to {ts[step + 1]:.4g}: a state that is not finite in "
        f"{(failed >= 0).sum()} of {failed.size} samples",
        "causes in order of likelihood: a network that gave NaN or infinity there, a step too long for the sampler (an "
        "adaptive one: a tolerance out of reach), a time so near the data that the score is singular",
        hint="more steps, or a later last time",
    )
