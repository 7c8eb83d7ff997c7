"""Paths from a start point, in data units."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.errors import InputError
from neuralsde.models.sequence_sde.rollout import Steps
from neuralsde.models.sequence_sde.window import Window
from neuralsde.tasks.ahead import grid, paths_from
from neuralsde.tasks.fitted import Fitted


def sample(
    fitted: Fitted,
    y0: Any,
    ts: Any,
    *,
    n: int,
    seed: int = 0,
    context: Any = None,
    substeps: int | None = None,
) -> np.ndarray:
    """Draw n paths (n, len(ts), d) in data units; `[:, 0]` is the start.

    y0: (d,), or (rows, d) for a start with a past at steps of the typical gap, the present last.
    ts: (k,) increasing clock times; seconds since 1970 for time stamps. ts[0] is the time of y0.
    context: (k, c) covariates of the table at `ts`, in their own units; calendar features make themselves.
    """
    encoder, history = fitted.encoder, fitted.history
    start = np.atleast_2d(np.asarray(y0, np.float64))
    if start.ndim != 2 or start.shape[1] != encoder.dim or not np.isfinite(start).all():
        expected = f"{encoder.dim} finite values ({', '.join(encoder.columns)}), or rows of them"
        raise InputError(f"a start of shape {np.shape(y0)}", "", expected)
    times = np.asarray(ts, np.float64)
    if times.ndim != 1 or len(times) < 2 or not (np.diff(times) > 0).all():
        raise InputError(f"ts of shape {times.shape}", "", "two or more strictly increasing times")
    model_times = encoder.model_time(times, times[0])
    plan = grid(model_times[None, 1:])
    ends = np.concatenate([[0.0], plan.end[0]])
    covariates = _covariates(fitted, times, encoder.clock_time(ends, times[0]), context)
    window = _start_window(encoder.encode_values(start), history, covariates[0])
    steps = Steps(jnp.asarray(plan.dt[0], jnp.float32), jnp.asarray(covariates[1:]))
    key = jax.random.key(seed)
    paths = paths_from(fitted.model, window, steps, key=key, n=n, substeps=substeps or fitted.law.substeps)
    later = encoder.decode(np.asarray(paths)[:, plan.at[0]])
    return np.concatenate([np.broadcast_to(start[-1], (n, 1, encoder.dim)), later], axis=1)


def _start_window(z: np.ndarray, history: int, context: np.ndarray) -> Window:
    """The start as a window; a past that is not given repeats the first row, as in training."""
    rows = z[-(history + 1) :]
    missing = history + 1 - len(rows)
    value = np.concatenate([np.repeat(rows[:1], missing, axis=0), rows])
    lag = np.minimum(np.arange(history, -1, -1), len(rows) - 1)
    zeros = np.zeros_like(value)
    parts = (value, zeros, lag, 0.0, context)
    return Window(*(jnp.asarray(part, jnp.float32) for part in parts))


def _covariates(fitted: Fitted, given: np.ndarray, wanted: np.ndarray, context: np.ndarray | None) -> np.ndarray:
    """Encoded covariates (k, c) at clock times `wanted`; those of the table hold from one given time to the next."""
    encoder = fitted.encoder
    count = len(encoder.layout.context)
    table = np.zeros((len(wanted), 0))
    if count:
        shape = () if context is None else np.shape(context)
        if context is None or shape != (len(given), count):
            expected = f"({len(given)}, {count}): {', '.join(encoder.layout.context)} at each of ts"
            raise InputError(f"context of shape {shape}", "the model reads covariates", expected)
        hold = np.maximum(np.searchsorted(given, wanted, side="right") - 1, 0)
        table = (np.asarray(context, np.float64)[hold] - encoder.context_mean) / np.array(encoder.context_sd)
    return np.concatenate([table, encoder.clock.features(wanted, encoder.calendar)], axis=1).astype(np.float32)
