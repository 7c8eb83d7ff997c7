"""Drift and diffusion of a two-dimensional state over its plane, in data units.

A value is x = T^-1(mean + sd z), a time t = tau s. By Ito's formula, with x' and x'' the derivatives of x in z,

    drift = (x' f + x'' g² / 2) / tau,    diffusion = |x'| g / sqrt(tau);

for columns on the whole line that is f sd / tau and g sd / sqrt(tau). A model that reads the past sees one that has
stood still: every row of it is the state itself.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from neuralsde.data import Encoder, Split
from neuralsde.evaluate.content import VectorField
from neuralsde.evaluate.scores import Floats
from neuralsde.models.sequence_sde import SequenceSDE
from neuralsde.models.sequence_sde.window import Window
from neuralsde.runs.report_windows import Moment, moment_text
from neuralsde.tasks.fitted import Fitted

_ACROSS, _UP, _DOTS = 31, 25, 800
_TAILS, _ROOM = 0.002, 0.06
_BEND = 1e-3  # half the step of the second difference, in s.d.


def vector_field(
    fitted: Fitted, split: Split | None, moment: Moment | None, *, paths: Floats | None = None
) -> VectorField:
    """The field over the range of the training data; without a table over three standard deviations.

    moment: gives the covariates (and the time, where the model reads it); the averages without one.
    """
    encoder = fitted.encoder
    values = _sigmas(encoder) if split is None else np.concatenate([series.values for series in split.train_data])
    x, y = (_axis(encoder, values, k) for k in (0, 1))
    states = np.stack(np.meshgrid(x, y), axis=-1)
    z = encoder.encode_values(states)
    context, time = np.zeros(encoder.context_dim), 0.0
    if moment is not None:
        context, time = moment.rows.context[moment.row], float(moment.rows.time[moment.row])
    flow, sigma = coefficients(fitted.model, z.reshape(-1, 2), context, time)
    drift, diffusion = to_data(encoder, z, flow.reshape(z.shape), sigma.reshape(z.shape))
    unit, length = _unit(encoder)
    return VectorField(
        x=x,
        y=y,
        drift=drift * length,
        diffusion=diffusion * np.sqrt(length),
        paths=paths,
        data=None if split is None else _cloud(values),
        time_unit=unit,
        about=_about(fitted, moment),
    )


def coefficients(model: SequenceSDE, z: np.ndarray, context: np.ndarray, time: float) -> tuple[Floats, Floats]:
    """Flow and diffusion (n, d) at states (n, d) whose past is equal to them, all in model units."""
    states, covariates = (jnp.asarray(part, jnp.float32) for part in (z, context))
    flow, sigma = _coefficients(model, states, covariates, jnp.float32(time))
    return np.asarray(flow, np.float64), np.asarray(sigma, np.float64)


@eqx.filter_jit
def _coefficients(model: SequenceSDE, z: jax.Array, context: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
    history = model.config.past

    def at(state: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = jnp.broadcast_to(state, (history + 1, len(state)))
        lag = jnp.arange(history, -1, -1, dtype=value.dtype)
        here = Window(value, jnp.zeros_like(value), lag, time, context)
        return model.flow(here), model.diffusion(here)

    return jax.vmap(at)(z)


def to_data(encoder: Encoder, z: np.ndarray, flow: np.ndarray, sigma: np.ndarray) -> tuple[Floats, Floats]:
    """Drift and diffusion (..., d) in data units per unit of the clock, by Ito's formula; all arguments (..., d)."""

    def slope(at: np.ndarray) -> np.ndarray:
        return np.exp(-encoder.log_slope(encoder.decode(at)))

    bend = (slope(z + _BEND) - slope(z - _BEND)) / (2 * _BEND)
    drift = slope(z) * flow + 0.5 * bend * sigma**2
    return drift / encoder.tau, slope(z) * sigma / np.sqrt(encoder.tau)


# -- the frame ----------------------------------------------------------------------------------------------------


def _unit(encoder: Encoder) -> tuple[str, float]:
    """The unit of time of the rates, and its length on the clock: the largest one that is no longer than a step."""
    if not encoder.clock.is_calendar:
        return "unit of time", 1.0
    units = (("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0))
    return next((unit for unit in units if unit[1] <= encoder.tau), ("second", 1.0))


def _cloud(values: np.ndarray) -> Floats:
    """States (m, 2) with both entries, evenly picked, at most `_DOTS` of them."""
    whole = values[np.isfinite(values).all(1)]
    return whole[np.linspace(0, len(whole) - 1, min(len(whole), _DOTS)).astype(np.int64)]


def _sigmas(encoder: Encoder) -> Floats:
    return encoder.decode(np.array([[-3.0, -3.0], [3.0, 3.0]]))


def _axis(encoder: Encoder, values: np.ndarray, column: int) -> Floats:
    """Grid lines over the bulk of a column of values (n, 2), inside its support."""
    seen = values[np.isfinite(values[:, column]), column]
    low, high = np.quantile(seen, [_TAILS, 1 - _TAILS])
    room = _ROOM * (high - low) or 0.5
    least, most = encoder.layout.support.get(encoder.columns[column], (-np.inf, np.inf))
    return np.linspace(max(low - room, least), min(high + room, most), (_ACROSS, _UP)[column])


def _about(fitted: Fitted, moment: Moment | None) -> str:
    """What had to be held fixed to draw a plane."""
    parts = []
    if fitted.history:
        rows = "row" if fitted.history == 1 else f"{fitted.history} rows"
        parts.append(
            f"The model also reads the {rows} before the present: here they equal it, a state that stood still."
        )
    if fitted.encoder.context_dim and moment is not None:
        clock, series = fitted.encoder.clock, moment.rows.series[moment.row]
        time = moment.rows.origin[series] + moment.rows.time[moment.row] * fitted.encoder.tau
        parts.append(f"Covariates are those of {moment_text(clock, float(time))}.")
    elif fitted.encoder.context_dim:
        parts.append("Covariates are at their averages.")
    return " ".join(parts)
