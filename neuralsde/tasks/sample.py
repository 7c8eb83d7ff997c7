"""Paths from a start point, in data units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data import Layout, Series
from neuralsde.data.labels import codes_of, label, missing_code
from neuralsde.errors import InputError, closest
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
    context: covariates of the table at `ts`, in their own units: {column: one entry, or (k,) entries}, labels as they
        stand in the table; or (k, c), with the columns of `layout.covariates` and labels as codes (`data.labels`). The
        entry at ts[j] is read for the time from ts[j] to ts[j + 1]. Calendar features make themselves.
    """
    encoder, history = fitted.encoder, fitted.past
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


def _covariates(fitted: Fitted, given: np.ndarray, wanted: np.ndarray, context: Any) -> np.ndarray:
    """Encoded covariates (k, c) at clock times `wanted`; those of the table hold from one given time to the next."""
    raw = _raw(fitted.encoder.layout, context, len(given))
    return fitted.encoder.context_at(wanted, Series("given", given, np.zeros((len(given), 0)), raw))


def _raw(layout: Layout, context: Any, k: int) -> np.ndarray:
    """Covariates (k, c) as numbers and codes."""
    count = len(layout.covariates)
    if not count:
        return np.zeros((k, 0))
    if isinstance(context, Mapping):
        columns = [_column(layout, name, context.get(name), k) for name in layout.covariates]
        unknown = [name for name in context if name not in layout.covariates]
        if unknown:
            raise InputError(
                f"the covariate {unknown[0]!r}", "it is not known", hint=closest(unknown[0], layout.covariates)
            )
        return np.stack(columns, axis=1)
    shape = () if context is None else np.shape(context)
    if context is None or shape != (k, count):
        expected = f"({k}, {count}): {', '.join(layout.covariates)} at each of ts"
        hint = f"context={{{layout.covariates[0]!r}: ...}}, or --future FILE with these columns"
        raise InputError(f"context of shape {shape}", "the model reads covariates", expected, hint)
    return np.asarray(context, np.float64)


def _column(layout: Layout, name: str, given: Any, k: int) -> np.ndarray:
    """One covariate (k,) of a mapping."""
    levels = layout.levels.get(name)
    if given is None and name in layout.discrete and levels is not None:
        return np.full(k, missing_code(levels))
    entries = [] if given is None else [given] * k if np.ndim(given) == 0 else list(given)
    if len(entries) != k:
        raise InputError(f"{len(entries)} entries of {name!r}", "", f"one, or {k}: one at each of ts")
    if levels is None:
        return np.array(entries, np.float64)
    labels = [label(entry) for entry in entries]
    new = [each for each in labels if each not in levels]
    if new:
        raise InputError(f"the label {new[0]!r} of {name}", "the run has never seen it", hint=closest(new[0], levels))
    return codes_of(labels, levels)
