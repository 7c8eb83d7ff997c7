"""How the order of a method is measured (THEORY 10): yours too, not only those of this package.

Strong: paths are drawn on a fine grid and merged to coarser ones, W, H and A by Chen's rule. The error of a solve at
step h is its root mean square distance at t1, to the closed form or to the finest solve, on the same path.

Weak: Monte-Carlo noise would drown the error. For affine coefficients one step is affine in the carry, z' = M z with
z = (1, carry) and a random M, so first and second moments obey S' = E[M ⊗ M] S; E is a finite sum, since M is a
polynomial in the normals of a cell and Gauss-Hermite nodes integrate it exactly. On a circle (periodic coefficients)
E[e^{iky'} | y] has a Fourier series in y that is known to rounding from a few points. In both cases the process itself
solves a linear equation, and what is left is the weak error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from neuralsde.sde.brownian import BrownianGrid, Cell
from neuralsde.sde.brownian.cell import Motion, merge
from neuralsde.sde.methods.base import Method
from neuralsde.sde.methods.exponential import ExponentialEuler
from neuralsde.sde.methods.weak import RI6
from neuralsde.sde.process import SDE, General, Ito

Truth = Callable[[Motion], Array]
"""The state at t1 from the motion over the whole of [0, t1]: W, H, A."""


class Paths(NamedTuple):
    """Many paths at one resolution: cells (n, ...) of equal length h, for every path."""

    h: float
    motion: Motion
    keys: Key[Array, "paths n"]


def draw_paths(
    key: Key[Array, ""], process: SDE, shape: tuple[int, ...], cells: int, t1: float = 1.0, paths: int = 256
) -> Paths:
    """Paths over [0, t1] for a state of `shape`, with W and H, and A where the motion is a vector."""
    brownian = process.noise.brownian_shape(shape)
    needs = frozenset({"A"} if len(brownian) == 1 else {"H"})

    def one(key: Key[Array, ""]) -> Motion:
        grid = BrownianGrid(key, jnp.asarray([0.0, t1]), cells)
        return grid.motions(brownian, jnp.result_type(float), needs)

    keys = jax.random.split(key, (paths, cells + 1))
    return Paths(t1 / cells, jax.jit(jax.vmap(one))(keys[:, 0]), keys[:, 1:])


def coarsen(fine: Paths, r: int) -> Paths:
    """The same paths with r cells in one."""
    merged = _merged(fine.motion, fine.h, r)
    return Paths(fine.h * r, merged, fine.keys[:, ::r])


@eqx.filter_jit
def _merged(motion: Motion, h: float, r: int) -> Motion:
    parts = jax.tree.map(lambda x: x.reshape(x.shape[0], -1, r, *x.shape[2:]), motion)
    return jax.vmap(jax.vmap(lambda part: merge(part, jnp.full(r, h, part.W.dtype))))(parts)


@eqx.filter_jit
def _padded(paths: Paths, cells: int) -> Paths:
    def longer(x: Array) -> Array:
        return jnp.concatenate([x, jnp.broadcast_to(x[:, :1], (x.shape[0], cells - x.shape[1], *x.shape[2:]))], 1)

    return paths._replace(motion=jax.tree.map(longer, paths.motion), keys=longer(paths.keys))


@eqx.filter_jit
def _solve(method: Method, process: SDE, y0: Array, paths: Paths, h: Array, n: Array) -> Array:
    """States after n cells, (paths, *y0.shape). n is traced, so that all resolutions are one program."""

    def one(motion: Motion, keys: Array) -> Array:
        def step(i: Array, carry: Any) -> Any:
            W, H, A = jax.tree.map(lambda x: x[i], motion)
            return method.step(process, carry, Cell(i * h, (i + 1) * h, h, W, H, A, keys[i]), None)

        return method.state(lax.fori_loop(0, n, step, method.init(process, jnp.zeros_like(h), y0, None)))

    return jax.vmap(one)(paths.motion, paths.keys)


def solve(method: Method, process: SDE, y0: Any, paths: Paths, longest: int | None = None) -> Array:
    """The states at t1, (paths, *y0.shape). Resolutions padded to as many cells (`longest`) share one program."""
    n = paths.keys.shape[1]
    start = jnp.asarray(y0, jnp.result_type(float))
    padded = _padded(paths, longest or n)._replace(h=0.0)
    return _solve(method, process, start, padded, jnp.asarray(paths.h, start.dtype), jnp.asarray(n))


def strong_errors(
    method: Method, process: SDE, y0: Any, levels: Sequence[Paths], truth: Array
) -> tuple[np.ndarray, np.ndarray]:
    """(h, root mean square error at t1) on the same paths at several resolutions.

    truth: the states at t1, (paths, *y0.shape): `at_end` of a closed form, or `solve` on much finer paths.
    """
    longest = max(level.keys.shape[1] for level in levels)
    ends = [solve(method, process, y0, level, longest) for level in levels]
    errors = [float(jnp.sqrt(((end - truth) ** 2).mean())) for end in ends]
    return np.asarray([level.h for level in levels]), np.asarray(errors)


def at_end(closed_form: Truth, fine: Paths) -> Array:
    """The closed form on every path."""
    whole = coarsen(fine, fine.keys.shape[1]).motion
    return jax.jit(jax.vmap(lambda motion: closed_form(jax.tree.map(lambda x: x[0], motion))))(whole)


def slope(h: Any, errors: Any) -> float:
    """The order: least squares in logarithms."""
    return float(np.polyfit(np.log(h), np.log(errors), 1)[0])


def moment_errors(
    method: Method, process: SDE, y0: Any, steps: Sequence[int] = (8, 16, 32, 64), t1: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(h, error of the first and second moments at t1), for a process whose coefficients are affine and free of t.

    y0 is a vector. The error is the Euclidean norm over E y_i and E y_i y_j; float64 wherever JAX has it.
    """
    start = jnp.asarray(y0, jnp.result_type(float))
    carry0, restore = ravel_pytree(method.init(process, jnp.zeros_like(start[0]), start, None))
    read = np.asarray(jax.jacfwd(lambda c: method.state(restore(c)))(carry0))
    exact = _exact_moments(process, start, t1)
    one_step = _affine(method, process, carry0, restore)
    errors = []
    for n in steps:
        cells, weights, own = _nodes(method, process, start, t1 / n)
        M = np.asarray(one_step(cells, own))
        twice = np.einsum("n,nij,nkl->ikjl", weights, M, M, optimize=True)
        moved = np.linalg.matrix_power(twice.reshape(M.shape[1] ** 2, M.shape[1] ** 2), n)
        z = np.concatenate([[1.0], np.asarray(carry0)])
        S = (moved @ np.kron(z, z)).reshape(z.size, z.size)
        moments = np.concatenate([read @ S[0, 1:], (read @ S[1:, 1:] @ read.T).ravel()])
        errors.append(np.linalg.norm(moments - exact))
    return t1 / np.asarray(steps), np.asarray(errors)


def _affine(
    method: Method, process: SDE, carry0: Array, restore: Callable[[Array], Any]
) -> Callable[[Cell, Array], Array]:
    """M of one step, (n, k, k) over n cells; `own` are the method's own variables."""

    def affine(cell: Cell, own: Array) -> Array:
        def step(c: Array) -> Array:
            carry = restore(c)
            if isinstance(method, RI6 | ExponentialEuler):
                return ravel_pytree(method.advance(process, carry, cell, own, None))[0]
            return ravel_pytree(method.step(process, carry, cell, None))[0]

        at_zero, push = jax.linearize(step, jnp.zeros_like(carry0))
        slopes = jax.vmap(push)(jnp.eye(carry0.size, dtype=carry0.dtype)).T
        top = jnp.zeros(carry0.size + 1, carry0.dtype).at[0].set(1.0)
        return jnp.concatenate([top[None], jnp.concatenate([at_zero[:, None], slopes], 1)])

    return jax.jit(jax.vmap(affine))


def _nodes(method: Method, process: SDE, y: Array, h: float) -> tuple[Cell, np.ndarray, Array]:
    """Cells with their weights, and the method's own variables: normals, or fair signs, which two nodes are."""
    shape = process.noise.brownian_shape(y.shape)
    m = int(np.prod(shape))
    pairs = m * (m - 1) // 2 if "A" in method.needs else 0
    areas = m if method.needs & {"H", "A"} else 0
    own = m if "key" in method.needs else 0
    rules = [_gauss_hermite(count) for count in [5] * m + [3] * areas + [3] * pairs + [2] * own]
    values = np.asarray(list(itertools.product(*(nodes for nodes, _ in rules))))
    weights = np.asarray([np.prod(w) for w in itertools.product(*(w for _, w in rules))])
    W, H, b, extra = np.split(values, np.cumsum([m, areas, pairs]), axis=1)
    W, H = W * np.sqrt(h), H * np.sqrt(h / 12)
    times = (np.zeros(len(values)), np.full(len(values), h), np.full(len(values), h))
    A = None
    if "A" in method.needs:  # Davie's model: the right second moments, and no method is more than linear in A
        A = H[:, :, None] * W[:, None, :] - W[:, :, None] * H[:, None, :]
        for at, (i, j) in enumerate(itertools.combinations(range(m), 2)):
            A[:, i, j] += h / np.sqrt(12) * b[:, at]
            A[:, j, i] -= h / np.sqrt(12) * b[:, at]
    given = [None if x is None else jnp.asarray(x, y.dtype) for x in (*times, W.reshape(-1, *shape), None, A)]
    H_given = jnp.asarray(H.reshape(-1, *shape), y.dtype) if areas else None
    own_given = jnp.asarray(extra.reshape(-1, *shape) if own else np.zeros(len(values)), y.dtype)
    t0, t1, dt, W_given = given[:4]
    assert t0 is not None
    assert t1 is not None
    assert dt is not None
    assert W_given is not None
    return Cell(t0, t1, dt, W_given, H_given, given[5]), weights, own_given


def _gauss_hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the standard normal law, exact for polynomials of degree 2 count - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _exact_moments(process: SDE, y0: Float[Array, " d"], t1: float) -> np.ndarray:
    """E y and E y yᵀ at t1, flat: dS = 𝔸 S + S 𝔸ᵀ + Σ_j 𝔹_j S 𝔹_jᵀ for S = E z zᵀ, z = (1, y)."""
    ito, d = process.to(Ito()), y0.size
    zero, t = jnp.zeros_like(y0), jnp.zeros_like(y0[0])

    def matrix(y: Array) -> Array:
        """G as (d, m)."""
        g = process.diffusion(t, y, None)
        if isinstance(process.noise, General):
            return g
        return jnp.diag(g) if process.noise.brownian_shape(y.shape) else g[:, None]

    def lifted(value: Array, slopes: Array) -> np.ndarray:
        return np.block([[np.zeros((1, d + 1))], [np.asarray(value)[:, None], np.asarray(slopes)]])

    A = lifted(ito.drift(t, zero, None), jax.jacfwd(lambda y: ito.drift(t, y, None))(zero))
    values, slopes = matrix(zero), jax.jacfwd(matrix)(zero)
    B = [lifted(values[:, j], slopes[:, j]) for j in range(values.shape[1])]
    unit = np.eye(d + 1)
    generator = np.kron(A, unit) + np.kron(unit, A) + sum(np.kron(b, b) for b in B)
    z = np.concatenate([[1.0], np.asarray(y0)])
    S = (scipy.linalg.expm(generator * t1) @ np.kron(z, z)).reshape(d + 1, d + 1)
    return np.concatenate([S[0, 1:], S[1:, 1:].ravel()])


def circle_errors(
    method: Method, process: SDE, y0: float = 0.4, steps: Sequence[int] = (64, 128, 256, 512), modes: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """(h, error of E e^{iy} at time 1) for a state of shape () with coefficients of period 2π, free of t."""
    points = 2 * np.pi * np.arange(2 * modes) / (2 * modes)
    k = np.arange(-modes + 1, modes)
    basis = np.exp(1j * np.outer(points, k))
    exact = _circle_generator(process, points, k)
    one_step = jax.jit(jax.vmap(lambda y, cell: _moved(method, process, y, cell), (0, None)))
    target = scipy.linalg.expm(exact)[:, k == 1][:, 0] @ np.exp(1j * k * y0)
    errors = []
    for n in steps:
        cells, weights = _circle_nodes(1.0 / n)
        moved = np.asarray(one_step(jnp.asarray(points), cells))  # (points, nodes)
        means = np.einsum("n,pnk->pk", weights, np.exp(1j * moved[:, :, None] * k))
        transfer = np.linalg.lstsq(basis, means, rcond=None)[0]
        errors.append(abs(np.linalg.matrix_power(transfer, n)[:, k == 1][:, 0] @ np.exp(1j * k * y0) - target))
    return 1.0 / np.asarray(steps), np.asarray(errors)


def _moved(method: Method, process: SDE, y: Array, cells: Cell) -> Array:
    """The state after one step from y, for every cell; one motion, so that signs do not enter."""

    def one(cell: Cell) -> Array:
        if isinstance(method, RI6):
            return method.advance(process, y, cell, jnp.ones_like(y), None)
        return method.state(method.step(process, method.init(process, cell.t0, y, None), cell, None))

    return jax.vmap(one)(cells)


def _circle_nodes(h: float) -> tuple[Cell, np.ndarray]:
    """Cells of one motion, W and H, with weights; the integrands are entire, so few nodes reach rounding."""
    (w, p), (v, q) = _gauss_hermite(24), _gauss_hermite(10)
    W, H = (jnp.asarray(x.ravel()) for x in np.meshgrid(w * np.sqrt(h), v * np.sqrt(h / 12), indexing="ij"))
    return Cell(jnp.zeros_like(W), jnp.full_like(W, h), jnp.full_like(W, h), W, H), np.outer(p, q).ravel()


def _circle_generator(process: SDE, points: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The operator f ∂ + ½ g² ∂² (Ito) on Fourier coefficients, with the Fourier matrices of f and ½ g²."""
    ito = process.to(Ito())
    y = jnp.asarray(points)
    f = np.asarray(jax.vmap(lambda y: ito.drift(jnp.zeros_like(y), y, None))(y))
    g = np.asarray(jax.vmap(lambda y: process.diffusion(jnp.zeros_like(y), y, None))(y))

    def multiply(values: np.ndarray) -> np.ndarray:
        modes = np.fft.fft(values) / values.size
        shift = k[:, None] - k[None, :]
        return np.where(np.abs(shift) < values.size // 2, modes[shift % values.size], 0)

    return multiply(f) @ np.diag(1j * k) - multiply(0.5 * g**2) @ np.diag(k.astype(float) ** 2)
