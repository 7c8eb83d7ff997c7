"""Does the equation have exactly one solution that lives for ever? What is certified, what samples say.

Theorem (Ito; e.g. Øksendal 2003, 5.2.1; Kloeden & Platen 1992, 4.5.3). dy = f dt + G dW has one strong solution on
[t0, t1] if f and G are measurable in t and
    |f(t, x) - f(t, y)| + |G(t, x) - G(t, y)| <= L |x - y|           (Lipschitz)
    |f(t, y)| + |G(t, y)| <= K (1 + |y|)                             (linear growth; K = max(L, |f(t, 0)|) does)
in the Euclidean and Frobenius norms. Two rooms beyond it are looked into: a drift of more than linear growth that
points inwards, <y, f> + ½|G|² <= K (1 + |y|²) (Khasminskii 1980); and a diffusion like √|y|, Hölder of exponent ½,
entry by entry (Yamada & Watanabe 1971). Bounds come in as numbers (of networks: `nets.lipschitz`). Samples refute, or
find nothing to refute; they never prove, and the report keeps the two apart. `depends` is held
against samples too: ∂G = 0 (additive), ∂_j g_i = 0 for j != i (separable), (∂G_j) G_k = (∂G_k) G_j (commutative).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from neuralsde.errors import InputError
from neuralsde.sde.edge import as_floats, take_in
from neuralsde.sde.methods.base import commutes
from neuralsde.sde.process import SDE, Diagonal, General, Ito, Noise

Status = Literal["certified", "sampled", "fails"]
Verdict = Literal["certified", "nothing refuted", "beyond the theorem", "not established"]

_OUTER = 8  # radii R, 4R, ..., 4^8 R outwards, and R/4, ..., R/4^8 inwards
_ROUNDING = 1e3  # an entry of a Jacobian below so many units of rounding of the largest is taken for 0
_SLACK = 0.1  # an exponent is called other than 1 (growth) or 0 (steepness) from this far on


@dataclasses.dataclass(frozen=True)
class Condition:
    """One line of the report: a condition of the theorem, how it stands, and the number that says so."""

    name: str
    status: Status
    value: float
    note: str

    def __str__(self) -> str:
        return f"{self.name:<25} {self.status:<10} {self.value:>10.4g}   {self.note}"


@dataclasses.dataclass(frozen=True)
class WellPosedness:
    """What `wellposedness` found. `str(report)` is the table.

    conditions: Lipschitz and linear growth of drift and diffusion; and, where `depends` claims anything, whether the
                sampled Jacobians of the diffusion agree with it. They can refute it, not prove it.
    verdict:    "certified": the theorem applies, by bounds that were given; "nothing refuted": samples do not
                contradict it; "beyond the theorem": a condition fails, and another theorem seems to apply; "not
                established".
    reasons:    what the verdict rests on. advice: what to do, methods included.
    """

    conditions: tuple[Condition, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{'condition':<25} {'status':<10} {'constant':>10}   how"
        lines = [head, *map(str, self.conditions), f"verdict: {self.verdict}"]
        return "\n".join(lines + [f"  because {r}" for r in self.reasons] + [f"  try {a}" for a in self.advice])


class _Rays(eqx.Module):
    """One coefficient seen from a centre outwards and inwards, worst over directions and times."""

    steepest: Array  # largest singular value of the Jacobian over the points: a lower bound of L
    at_centre: Array  # size at the centre
    offset: Array  # |centre|
    growth: Array  # exponent of its size far out
    singular: Array  # exponent of its steepness near the centre, below 0 where it is not Lipschitz there
    finite: Array  # share of evaluations at the points that are finite


def wellposedness(
    process: SDE,
    points: Any,
    *,
    ts: Any = (0.0, 1.0),
    lipschitz_drift: float | None = None,
    lipschitz_diffusion: float | None = None,
    centre: Any = None,
    args: Any = None,
) -> WellPosedness:
    """Check the conditions of existence and uniqueness for one process.

    points: (n, *y.shape) states that matter, n >= 2, e.g. draws of where solutions live, or the data; for a pytree
            state, a pytree whose leaves lead with n. Steepness is sampled at them; rays from `centre` through them, out
            to 65,536 times their size and in to 1/65,536 of it, show growth and singular points.
    ts:     (k,) times to look at; that bounds hold at other times too is the caller's word.
    lipschitz_drift, lipschitz_diffusion: certified bounds in y, uniform in t, if known (networks:
            `nets.lipschitz.lipschitz_bound`); the diffusion's in the Frobenius norm. One that the samples exceed is
            refused.
    centre: where a coefficient may be singular, a state; default 0. For several, ask several times.

    The drift is that of the Ito form: a Stratonovich process is converted, and its drift is then not certified unless
    the noise is additive.
    """
    process, points, middle, times = _inputs(process, points, centre, ts, lipschitz_drift)
    drift, diffusion, inward, coupling = _look(process, points, times, middle, args)
    lines = (
        _lipschitz("Lipschitz drift", drift, lipschitz_drift),
        _growth("linear growth, drift", drift, lipschitz_drift),
        _lipschitz("Lipschitz diffusion", diffusion, lipschitz_diffusion),
        _growth("linear growth, diffusion", diffusion, lipschitz_diffusion),
    )
    away, energy = (float(exponent) <= 2 + _SLACK for exponent in inward)
    line, found = _declared(process, np.asarray(coupling), _ROUNDING * float(jnp.finfo(points.dtype).eps))
    return _judge(process, (*lines, *line), found, drift, diffusion, (away, energy), points[0].size)


def growth_constant(lipschitz: float, at_zero: float) -> float:
    """K with |f(y)| <= K (1 + |y|), which follows from a Lipschitz constant and the size of f at 0."""
    if not (lipschitz >= 0 and at_zero >= 0):
        raise InputError(f"lipschitz={lipschitz!r}, at_zero={at_zero!r}", expected="two sizes, at least 0")
    return max(lipschitz, at_zero)


def _inputs(process: SDE, points: Any, centre: Any, ts: Any, bound: float | None) -> tuple[SDE, Array, Array, Array]:
    """The Ito process of one array state, points (n, *state), the centre and the times."""
    if not isinstance(process, SDE):
        raise InputError(f"process={process!r}", "not an SDE", "sde.SDE(drift, diffusion, noise=..., calculus=...)")
    # Nested lists and tuples of numbers are one array, as everywhere; what holds arrays is a pytree state.
    numbers = all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(points))
    points = as_floats(jnp.asarray(points) * 1.0 if numbers or not _is_tree(points) else points)
    shapes = [leaf.shape for leaf in jax.tree.leaves(points)]
    if any(shape == () or shape[0] < 2 or shape[0] != shapes[0][0] for shape in shapes):
        given = shapes[0] if isinstance(points, jax.Array) else shapes
        raise InputError(f"points of shape {given}", expected="at least 2 states, (n, *y.shape)")
    one = jax.tree.map(lambda leaf: leaf[0], points)
    centre = jax.tree.map(jnp.zeros_like, one) if centre is None else as_floats(centre)
    if jax.tree.structure(centre) != jax.tree.structure(one) or not all(
        jnp.shape(a) == jnp.shape(b) for a, b in zip(jax.tree.leaves(centre), jax.tree.leaves(one), strict=True)
    ):
        given, wanted = jax.tree.map(jnp.shape, centre), jax.tree.map(jnp.shape, one)
        raise InputError(f"centre of shape {given}", expected=f"one state, shape {wanted}")
    middle = centre if isinstance(centre, jax.Array) else ravel_pytree(centre)[0]
    inside = take_in(_in_ito(process, bound), one)
    states = points if isinstance(points, jax.Array) else jax.vmap(lambda y: ravel_pytree(y)[0])(points)
    if not bool(jnp.isfinite(states).all()):
        raise InputError("points that are not finite", expected="finite states")
    return inside.process, states, middle.astype(states.dtype), jnp.atleast_1d(jnp.asarray(ts, states.dtype))


def _is_tree(value: Any) -> bool:
    return jax.tree.structure(value) != jax.tree.structure(0) and not isinstance(value, list)


def _in_ito(process: SDE, bound: float | None) -> SDE:
    converted = process.to(Ito())
    if bound is not None and converted.drift is not process.drift:
        raise InputError(
            f"lipschitz_drift={bound:g} of a Stratonovich process with noise {process.noise}",
            "the theorem is about the Ito drift, which has the derivative of the diffusion in it",
            "a bound of the Ito drift",
            "wellposedness(process.to(sde.Ito()), lipschitz_drift=...) with a bound of its drift, or no bound",
        )
    return converted


@eqx.filter_jit
def _look(process: SDE, points: Array, times: Array, centre: Array, args: Any) -> tuple[_Rays, _Rays, Array, Array]:
    """Both coefficients; the exponents of <y, f> and of <y, f> + ½|G|² far out (-inf where they are negative); and what
    the diffusion depends on.
    """
    away = points - centre
    axes = tuple(range(1, away.ndim))
    size = jnp.sqrt((away**2).sum(axes, keepdims=True))
    radius = jnp.maximum(size.max(), jnp.finfo(points.dtype).eps)
    units = away / jnp.where(size > 0, size, 1.0)
    units = jnp.concatenate([units, -units])
    drift = _rays(process.drift, points, times, centre, units, radius, args)
    diffusion = _rays(process.diffusion, points, times, centre, units, radius, args)

    def energy(t: Array, y: Array) -> Array:
        f, g = process.drift(t, y, args), process.diffusion(t, y, args)
        along = ((y - centre) * f).sum()
        return jnp.stack([along, along + 0.5 * (g**2).sum()])

    outer, inner = (_over(energy, times, centre + units * radius * 4.0**k) for k in (_OUTER, _OUTER - 1))
    return drift, diffusion, _exponent(outer, inner), _coupling(process, points, times, args)


def _coupling(process: SDE, points: Array, times: Array, args: Any) -> Array:
    """(3,) sizes that are 0 for noise that is additive, separable and commutative: the largest slope times the largest
    state, the largest slope of an entry along another, the largest commutator; each over the size that it is cut from.
    """
    d, diagonal, alone = points[0].size, isinstance(process.noise, Diagonal), commutes(_undeclared(process.noise))

    def at(t: Array, y: Array) -> Array:
        G = process.diffusion(t, y, args).reshape(d, -1)
        J = jax.jacfwd(lambda x: process.diffusion(t, x, args))(y).reshape(d, -1, d)
        others = jnp.abs(J) * (1 - jnp.eye(d))[:, None, :]
        if diagonal:  # column j is g_j e_j, so that (∂G_j) G_k has the one entry g_k ∂_k g_j
            across, whole = others * jnp.abs(G)[:, 0], jnp.abs(J) * jnp.abs(G)[:, 0]
        elif alone:
            across, whole = jnp.zeros(()), jnp.ones(())
        else:
            moved = jnp.einsum("ijl,lk->ijk", J, G)
            across, whole = moved - jnp.swapaxes(moved, 1, 2), jnp.einsum("ijl,lk->ijk", jnp.abs(J), jnp.abs(G))
        above = jnp.stack([jnp.abs(J).max() * jnp.abs(points).max(), others.max(), jnp.abs(across).max()])
        below = jnp.stack([jnp.abs(G).max(), jnp.abs(J).max(), whole.max()])
        found = jnp.stack([above, below])
        return jnp.where(jnp.isfinite(found).all(), found, 0.0)

    found = jax.vmap(lambda t: jax.vmap(lambda y: at(t, y))(points))(times).max((0, 1))
    return jnp.where(found[0] > 0, found[0] / jnp.maximum(found[1], jnp.finfo(points.dtype).tiny), 0.0)


def _undeclared(noise: Noise) -> Noise:
    """The shape alone."""
    return dataclasses.replace(noise, depends="any")


def _rays(f: Any, points: Array, times: Array, centre: Array, units: Array, radius: Array, args: Any) -> _Rays:
    def size(t: Array, y: Array) -> Array:
        return jnp.sqrt((f(t, y, args) ** 2).sum())

    def steep(t: Array, y: Array) -> Array:
        J = jax.jacfwd(lambda x: f(t, x, args))(y)
        # The SVD of a matrix with a NaN in it may not end well on every device; it is made one number first.
        fine = jnp.isfinite(J).all()
        norm = jnp.linalg.norm(jnp.where(fine, J, 0.0).reshape(-1, y.size), 2)
        return jnp.where(fine, norm, jnp.nan)

    at_points = jax.vmap(lambda t: jax.vmap(lambda y: steep(t, y))(points))(times)
    far, less = (_over(size, times, centre + units * radius * 4.0**k) for k in (_OUTER, _OUTER - 1))
    near, nearer = (_over(steep, times, centre + units * radius * 4.0**-k) for k in (_OUTER - 1, _OUTER))
    values = jax.vmap(lambda t: jax.vmap(lambda y: size(t, y))(points))(times)
    singular = _exponent(near, nearer)
    return _Rays(
        jnp.nan_to_num(at_points, nan=0.0, posinf=jnp.inf).max(),
        jnp.nan_to_num(jax.vmap(lambda t: size(t, centre))(times)).max(),
        jnp.sqrt((centre**2).sum()),
        _exponent(far, less),
        jnp.where(nearer > near * 1.01, singular, 0.0),
        jnp.isfinite(values).mean(),
    )


def _over(of: Any, times: Array, states: Array) -> Array:
    """Largest value over times and states, entry by entry; NaN is passed over, overflow is not."""
    values = jax.vmap(lambda t: jax.vmap(lambda y: of(t, y))(states))(times)
    return jnp.where(jnp.isnan(values), -jnp.inf, values).max((0, 1))


def _exponent(outer: Array, inner: Array) -> Array:
    """Log_4(outer/inner): p when the value grows like r^p and the radii are 4 apart; -inf where it is not positive."""
    safe = jnp.log(jnp.where(outer > 0, outer, 1.0) / jnp.where(inner > 0, inner, 1.0)) / jnp.log(4.0)
    return jnp.where(outer > 0, jnp.where((inner > 0) & jnp.isfinite(outer), safe, jnp.inf), -jnp.inf)


def _lipschitz(name: str, seen: _Rays, bound: float | None) -> Condition:
    steepest, singular = float(seen.steepest), float(seen.singular)
    if bound is not None and steepest > bound * (1 + 1e-4):
        raise InputError(
            f"a {name} bound of {bound:g}",
            f"at one of the points the Jacobian has the norm {steepest:g}, so that it is not a bound",
            f"a number of at least {steepest:g}",
            "the bound in the Euclidean norm, for all t of ts, of the whole coefficient",
        )
    if bound is not None:
        return Condition(name, "certified", bound, f"given; steepest of the samples {steepest:.4g}")
    if singular < -_SLACK:
        return Condition(name, "fails", steepest, f"steepness grows like |y|^{singular:.2g} towards the centre")
    if float(seen.growth) > 1 + _SLACK:
        return Condition(name, "fails", steepest, f"grows like |y|^{_power(seen.growth)} far out")
    return Condition(name, "sampled", steepest, "steepest of the samples: L is at least this")


def _growth(name: str, seen: _Rays, bound: float | None) -> Condition:
    lipschitz = float(seen.steepest) if bound is None else bound
    constant = growth_constant(lipschitz, float(seen.at_centre) + lipschitz * float(seen.offset))
    if bound is not None:
        return Condition(name, "certified", constant, "follows from the bound and the value at the centre")
    if float(seen.growth) > 1 + _SLACK:
        return Condition(name, "fails", float(seen.growth), f"grows like |y|^{_power(seen.growth)} far out")
    return Condition(name, "sampled", constant, f"grows like |y|^{max(0.0, float(seen.growth)):.2g} at most, on rays")


def _power(exponent: Array) -> str:
    return f"{float(exponent):.2g}" if np.isfinite(exponent) else "(more than any power)"


_Finding = tuple[str, str, bool]  # a reason, an advice, and whether a theorem still applies


def _declared(process: SDE, coupling: np.ndarray, rounding: float) -> tuple[list[Condition], list[_Finding]]:
    """What `depends` claims against the sizes of `_coupling`; those up to `rounding` are taken for 0."""
    noise, kinds = process.noise, ("additive", "separable", "commutative")
    if noise.depends == "any":
        return [], []
    at, name = kinds.index(noise.depends), "noise depends as declared"
    if coupling[at] <= rounding:
        return [Condition(name, "sampled", float(coupling[at]), f"{noise.depends}: no sample contradicts it")], []
    why = (
        "the diffusion changes with y",
        "an entry of the diffusion changes with another entry of y",
        "(∂G_j) G_k is not (∂G_k) G_j",
    )[at]
    reason = f"the noise is declared {noise.depends} and {why}: a method or .to() that relies on it is wrong"
    really = next((kind for kind, size in zip(kinds, coupling, strict=True) if size <= rounding), "any")
    first = f"{noise.m}, " if isinstance(noise, General) else ""
    agrees = "which is always true" if really == "any" else "with which the samples agree; 'any' is always true"
    advice = f"sde.{type(noise).__name__}({first}depends={really!r}), {agrees}"
    return [Condition(name, "fails", float(coupling[at]), f"{why}; relative size")], [(reason, advice, False)]


def _judge(
    process: SDE,
    lines: tuple[Condition, ...],
    declared: list[_Finding],
    drift: _Rays,
    diffusion: _Rays,
    inside: tuple[bool, bool],
    size: int,
) -> WellPosedness:
    found = [*declared, *_undefined("drift", drift), *_undefined("diffusion", diffusion)]
    fails = [line.status == "fails" for line in lines]
    if fails[1] or fails[3]:
        found.append(_superlinear(fails[1], fails[3], inside))
    if fails[2] and float(diffusion.singular) < -_SLACK:
        found.append(_root(process, 1 + float(diffusion.singular), size))
    if fails[0] and float(drift.singular) < -_SLACK:
        reason = "the drift is not Lipschitz at the centre, for which no theorem is tried here"
        found.append((reason, "a drift with a bounded derivative", False))
    reasons, advice = tuple(f[0] for f in found), tuple(f[1] for f in found)
    if not all(f[2] for f in found):
        return WellPosedness(lines, "not established", reasons, advice)
    if found:
        return WellPosedness(lines, "beyond the theorem", reasons, advice)
    if all(line.status == "certified" for line in lines[:4]):
        return WellPosedness(lines, "certified", ("both bounds were given, and growth follows from them",), ())
    return WellPosedness(
        lines,
        "nothing refuted",
        ("samples agree with the theorem's conditions, which is no proof",),
        ("lipschitz_drift= and lipschitz_diffusion=, e.g. by nets.lipschitz.lipschitz_bound, for a certificate",),
    )


def _undefined(name: str, seen: _Rays) -> list[_Finding]:
    share = 100 * (1 - float(seen.finite))
    if not share:
        return []
    advice = f"a {name} that is defined wherever a step may land, e.g. jnp.maximum(y, 0) under a root"
    return [(f"the {name} is not finite at {share:.3g} % of the points and times", advice, False)]


def _superlinear(drift: bool, diffusion: bool, inside: tuple[bool, bool]) -> _Finding:
    """`inside`: whether <y, f> and <y, f> + ½|G|² stay below K(1 + |y|²) on the rays."""
    what = (
        "the drift and the diffusion grow" if drift and diffusion else f"the {'drift' if drift else 'diffusion'} grows"
    )
    if inside[1]:
        why = "but <y, f> + ½|G|² <= K(1 + |y|²) on the rays, Khasminskii's condition beside local Lipschitz continuity"
        advice = "TamedEuler() in the place of EulerMaruyama(), whose moments diverge here (Hutzenthaler et al. 2011)"
        if diffusion:  # taming is proved for a Lipschitz diffusion; a tamed drift no longer holds this one back
            advice = "a diffusion of linear growth with TamedEuler(): for this one no method here is proved to converge"
        return f"{what} faster than linearly, {why}", advice, True
    if inside[0]:
        why = "and ½|G|² outgrows K(1 + |y|²) against the drift: moments may be infinite, or the solution explode"
    else:
        why = "and <y, f> outgrows K(1 + |y|²) on the rays: the solution may explode in finite time"
    advice = "other coefficients, held back far out: where the solution or its moments explode, no step is small enough"
    return f"{what} faster than linearly, {why}", advice, False


def _root(process: SDE, exponent: float, size: int) -> _Finding:
    alone = size == 1 or (isinstance(process.noise, Diagonal) and process.noise.depends == "separable")
    enough = exponent >= 0.5 - 0.02 and alone
    if enough:
        why = "at least ½ and entry by entry, as Yamada & Watanabe's theorem asks beside a Lipschitz drift"
    else:
        why = "and Yamada & Watanabe's theorem needs ½, entry by entry (sde.Diagonal(depends='separable'))"
    advice = "FullTruncationEuler(), the root of max(y, 0), as for the square-root process (Lord et al. 2010)"
    return (
        f"the diffusion is Hölder of exponent about {exponent:.2g} at the centre, not Lipschitz: {why}",
        advice,
        enough,
    )
