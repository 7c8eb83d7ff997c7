"""Parameters of a stated SDE from a panel: maximum likelihood, and how far to trust it.

    ẑ = argmin L(z),   L = -Σ nats = ½ Σ e²/S + log 2πS   over entries with innovations e of variance S
    information        Cov = H⁻¹,         H = ∂²L(ẑ)      right when the law of the filter is that of the data
    sandwich           Cov = H⁻¹ V H⁻¹,   V = B/(B-1) Σ_b s_b s_bᵀ,  s_b = the score of block b, of B blocks

The search is Fisher scoring from several starts (train/newton.py): the curvature expected under the model, Σ ∂e ∂eᵀ/S +
½ ∂S ∂Sᵀ/S², needs first derivatives only; H itself is a central difference of the gradient, once, at ẑ.
The sandwich (Huber 1967, White 1982) asks only that scores of blocks are uncorrelated with mean zero, so it stays right
when one step's law is no Gaussian or noise is not what was stated. Intervals are Wald's on z, with the t quantile of
B - 1, mapped to each parameter's own scale. All in float64; pure, so `jax.vmap` estimates many data sets at once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from scipy.stats import t as student

from neuralsde.errors import InputError
from neuralsde.models.physics import Panel, Parameters, PhysicsSDE
from neuralsde.sde.exact.parts import gaussian_log_density
from neuralsde.train.newton import Minimum, minimise

Kind = Literal["sandwich", "information"]
FEWEST_BLOCKS = 20
"""The sandwich is the default from so many blocks on: with fewer, V is too rough."""
_JITTER = 0.5
_SINGULAR, _DIFFERENCE = 1e-10, 1e-3


class Estimate(eqx.Module):
    """ẑ (p,), H and V (p, p), the number of blocks, the log-likelihood, of how many entries, how the search ended."""

    z: Float[Array, "*sets p"]
    information: Float[Array, "*sets p p"]
    scores: Float[Array, "*sets p p"]
    blocks: Int[Array, "*sets"]
    nats: Float[Array, "*sets"]
    entries: Int[Array, "*sets"]
    steps: Int[Array, "*sets"]
    settled: Bool[Array, "*sets"]


class _Local(NamedTuple):
    """At one z: -Σ nats, its gradient, the expected curvature, and the scores of blocks (B, p)."""

    value: Array
    gradient: Array
    curvature: Array
    scores: Array


def _local(model: PhysicsSDE, panel: Panel, z: Array, most_blocks: int) -> _Local:
    """One pass of the filter and its derivatives along every parameter; see the head of the module."""

    def entries(z: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        found = _at(model, z).filter_panel(panel)
        both = (found.off.ravel(), found.var.ravel())
        return both, both

    (d_off, d_var), (off, var) = jax.jacfwd(entries, has_aux=True)(z)
    counted = panel.counted.ravel()
    d_off, d_var = (jnp.where(counted[:, None], part, 0.0) for part in (d_off, d_var))
    nats = jnp.where(counted, gaussian_log_density(off, jnp.zeros_like(off), var), 0.0)
    slope = (off / var)[:, None] * d_off + (0.5 / var * (1 - off**2 / var))[:, None] * d_var
    curvature = d_off.T @ (d_off / var[:, None]) + 0.5 * d_var.T @ (d_var / (var**2)[:, None])
    block = jnp.broadcast_to(panel.block[..., None], panel.counted.shape).ravel()
    scores = jnp.zeros((most_blocks, len(z)), z.dtype).at[block].add(slope)
    return _Local(-nats.sum(), slope.sum(0), curvature, scores)


def estimate(model: PhysicsSDE, panel: Panel, starts: Float[Array, "k p"], most_blocks: int) -> Estimate:
    """Fit z of `model` to a panel of at most `most_blocks` blocks; traced. The residual network stays as it is."""
    local = jax.jit(lambda z: _local(model, panel, z, most_blocks))  # the search and the differences share one trace

    def search(start: Array) -> Minimum:
        return minimise(lambda z: local(z)[:3], start)

    found = lax.map(search, starts)
    number = jnp.argmin(jnp.where(jnp.isfinite(found.value), found.value, jnp.inf))
    best = jax.tree.map(lambda part: part[number], found)
    unit = _DIFFERENCE / jnp.sqrt(jnp.diagonal(best.hessian))
    moves = jnp.concatenate([jnp.diag(unit), -jnp.diag(unit), jnp.zeros((1, len(unit)))])
    near = lax.map(lambda move: local(best.at + move), moves)
    up, down = jnp.split(near.gradient[:-1], 2)
    observed, scores = (up - down) / (2 * unit[:, None]), near.scores[-1]
    rows = jnp.zeros(most_blocks, int).at[panel.block.ravel()].add(panel.counted.any(-1).ravel())
    count = (rows > 0).sum()
    V = scores.T @ scores * count / jnp.maximum(count - 1, 1)
    return Estimate(
        best.at, (observed + observed.T) / 2, V, count, -best.value, panel.counted.sum(), best.steps, best.settled
    )


def _at(model: PhysicsSDE, z: Array) -> PhysicsSDE:
    return eqx.tree_at(lambda m: m.z, model, z)


def starts_around(parameters: Parameters, given: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Starts (count, p): the given one, and some around it (s.d. ½ on the log scale, or half of the value)."""
    logs = np.concatenate([np.full(slot.size, not slot.is_real) for slot in parameters.slots])
    size = np.where(logs, _JITTER, _JITTER * np.abs(given))
    jitter = np.random.default_rng(seed).standard_normal((count, len(given)))
    jitter[0] = 0.0
    return given + size * jitter


def default_kind(found: Estimate) -> Kind:
    """The sandwich when there are blocks enough for it."""
    return "sandwich" if int(found.blocks) >= FEWEST_BLOCKS else "information"


def covariance(found: Estimate, kind: Kind) -> np.ndarray:
    """Cov(ẑ) (p, p); NaN when the likelihood does not rise and fall in every direction."""
    H, V = np.asarray(found.information, np.float64), np.asarray(found.scores, np.float64)
    unit = np.sqrt(np.abs(np.diagonal(H)))
    if not (np.isfinite(H).all() and (unit > 0).all() and np.linalg.eigvalsh(H / unit / unit[:, None])[0] > _SINGULAR):
        return np.full_like(H, np.nan)
    inverse = np.linalg.inv(H / unit / unit[:, None]) / unit / unit[:, None]
    return inverse if kind == "information" else inverse @ V @ inverse


def intervals(
    parameters: Parameters, found: Estimate, *, kind: Kind | None = None, level: float = 95
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimates, standard errors, and the ends of the intervals, each (p,), on the parameters' own scales."""
    if not 0 < level < 100:
        raise InputError(f"the level {level:g}", "", "percent, between 0 and 100", "95")
    kind = kind or default_kind(found)
    z = np.asarray(found.z, np.float64)
    se = np.sqrt(np.diagonal(covariance(found, kind)))
    freedom = int(found.blocks) - 1 if kind == "sandwich" else np.inf
    half = student.ppf(0.5 + level / 200, freedom) * se
    with jax.enable_x64(True):
        value, low, high = (np.asarray(parameters.values(jnp.asarray(at))) for at in (z, z - half, z + half))
        slope = np.diagonal(np.asarray(jax.jacfwd(parameters.values)(jnp.asarray(z))))
    return value, np.abs(slope) * se, low, high


def parameter_table(
    parameters: Parameters, found: Estimate, *, kind: Kind | None = None, level: float = 95
) -> pl.DataFrame:
    """parameter, estimate, se, lo-95, hi-95 and which interval it is; on the parameters' own scales."""
    value, se, low, high = intervals(parameters, found, kind=kind, level=level)
    return pl.DataFrame({
        "parameter": parameters.names,
        "estimate": value,
        "se": se,
        f"lo-{level:g}": low,
        f"hi-{level:g}": high,
        "interval": [kind or default_kind(found)] * len(value),
    })  # fmt: skip
