"""One test problem for every kind of noise, on which orders are measured; Ito, state (2,), over [0, 1].

Strong orders want a solution along the path: a closed form where there is one, else the finest solve (`measure`).

    growth        dy_i = μ_i y_i dt + y_i Σ_j L_ij dW_j       y_i exp((μ_i - ½ Σ_j L_ij²) t + Σ_j L_ij W_j)
    rotation      dy = D y dt + C y dW                        expm((D - ½ C²) t + C W) y0     (C and D commute)

Weak orders want affine coefficients, dy = (A y + b) dt + Σ_j (B_j y + c_j) dW_j, whose moments are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array

from neuralsde.sde.brownian.cell import Motion
from neuralsde.sde.exact import Heisenberg
from neuralsde.sde.methods.measure import Truth
from neuralsde.sde.process import SDE, Diagonal, General, Noise, Scalar

Y0 = (1.0, 0.5)
"""Where every problem starts."""


class Problem(NamedTuple):
    """A process with its name; `truth` is its solution along the path, if known; `positive`: it stays above 0."""

    name: str
    process: SDE
    truth: Truth | None = None
    positive: bool = False


def _array(values: Any, y: Array) -> Array:
    return jnp.asarray(np.asarray(values), y.dtype)


def _curved(t: Array, y: Array, args: Any) -> Array:
    """A drift with strong second derivatives."""
    return jnp.stack([jnp.sin(3 * y[1]) - y[0], jnp.cos(3 * y[0]) - 0.5 * y[1]])


def _additive(noise: Noise, g: Any) -> SDE:
    return SDE(_curved, lambda t, y, args: _array(g, y) * (1 + 0.5 * t), noise)


_MU = (0.3, -0.2)
_MIXED = np.array([[0.4, -0.2], [0.3, 0.4]])


def _growth(noise: Noise, L: np.ndarray) -> Problem:
    diagonal, scalar = isinstance(noise, Diagonal), isinstance(noise, Scalar)

    def diffusion(t: Array, y: Array, args: Any) -> Array:
        rates = _array(L, y)
        return y * rates if diagonal or scalar else y[:, None] * rates

    def truth(motion: Motion) -> Array:
        rates, y0 = _array(L, motion.W), _array(Y0, motion.W)
        total = rates * motion.W if diagonal or scalar else rates @ motion.W
        square = rates**2 if diagonal or scalar else (rates**2).sum(-1)
        return y0 * jnp.exp(_array(_MU, motion.W) - 0.5 * square + total)

    name = "separable growth" if diagonal else "growth, one motion" if scalar else "correlated growth"
    return Problem(name, SDE(lambda t, y, args: _array(_MU, y) * y, diffusion, noise), truth, positive=True)


_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
_D, _C = -0.2 * np.eye(2) + 0.4 * _TURN, 0.3 * np.eye(2) + 0.6 * _TURN


def _rotation() -> Problem:
    def truth(motion: Motion) -> Array:
        steady, turned = _array(_D - 0.5 * _C @ _C, motion.W), _array(_C, motion.W)
        return jsl.expm(steady + turned * motion.W) @ _array(Y0, motion.W)

    process = SDE(lambda t, y, args: _array(_D, y) @ y, lambda t, y, args: _array(_C, y) @ y, Scalar())
    return Problem("rotation", process, truth)


def _coupled(t: Array, y: Array, args: Any) -> Array:
    return y * (0.4 + 0.4 * jnp.sin(2 * y[::-1]))


def _crossed(t: Array, y: Array, args: Any) -> Array:
    return 0.8 + 0.4 * jnp.sin(2 * y[::-1])


def _full(t: Array, y: Array, args: Any) -> Array:
    rates = jnp.stack([jnp.sin(2 * y[1]), jnp.cos(y[0]), jnp.cos(2 * y[1]), jnp.sin(y[0])])
    return 0.5 * y[:, None] * rates.reshape(2, 2)


def _heisenberg() -> Problem:
    law = Heisenberg()
    return Problem("Heisenberg", law.process(), lambda m: law.solution(_array(Y0, m.W), m.W, m.A))


def strong_problems() -> dict[str, Problem]:
    """By name; made once a call, since a compiled program belongs to one process."""
    found = [
        Problem("additive", _additive(Diagonal("additive"), [1.0, 0.8])),
        Problem("additive, one motion", _additive(Scalar("additive"), [1.0, 0.8])),
        Problem("additive matrix", _additive(General(2, "additive"), [[1.0, -0.4], [0.3, 0.8]])),
        _growth(Diagonal("separable"), np.array([0.5, -0.4])),
        _growth(Scalar(), np.array([0.5, -0.4])),
        _rotation(),
        Problem("coupled diagonal", SDE(lambda t, y, args: -0.2 * y, _coupled, Diagonal()), positive=True),
        Problem("crossed diagonal", SDE(lambda t, y, args: -0.2 * y, _crossed, Diagonal())),
        _growth(General(2, "commutative"), _MIXED),
        _heisenberg(),
        Problem("full matrix", SDE(lambda t, y, args: -0.2 * y, _full, General(2)), positive=True),
    ]
    return {problem.name: problem for problem in found}


def circle_problems() -> dict[str, Problem]:
    """Weak orders where nothing is linear: a state of shape () with periodic coefficients."""

    def drift(t: Array, y: Array, args: Any) -> Array:
        return jnp.sin(y) + 0.3 * jnp.cos(2 * y)

    kinds = {
        "circle, additive": (lambda t, y, args: jnp.full_like(y, 0.8), Diagonal("additive")),
        "circle": (lambda t, y, args: 0.7 + 0.4 * jnp.sin(y), Diagonal("separable")),
    }
    return {name: Problem(name, SDE(drift, g, noise)) for name, (g, noise) in kinds.items()}


_A, _b = np.array([[-0.9, 0.3], [-0.4, -0.5]]), np.array([0.3, -0.2])
_B = np.array([[[0.5, 0.3], [-0.2, 0.4]], [[-0.3, 0.2], [0.5, 0.1]]])
_c = np.array([[0.3, -0.1], [0.2, 0.4]])


def affine_problems() -> dict[str, Problem]:
    """By name, one for each kind of noise; for every kind but additive the diffusion moves with the state."""

    def drift(t: Array, y: Array, args: Any) -> Array:
        return _array(_A, y) @ y + _array(_b, y)

    def rows(t: Array, y: Array, args: Any) -> Array:
        return _array(_B[0], y) @ y + _array(_c[0], y)

    def entries(t: Array, y: Array, args: Any) -> Array:
        return _array([0.5, -0.4], y) * y + 0.3

    def columns(t: Array, y: Array, args: Any) -> Array:
        return (_array(_B, y) @ y + _array(_c, y)).T

    def commuting(t: Array, y: Array, args: Any) -> Array:
        return y[:, None] * _array(_MIXED, y)

    kinds = {
        "additive": (lambda t, y, args: _array([0.5, 0.8], y), Diagonal("additive")),
        "additive, one motion": (lambda t, y, args: _array([0.5, 0.8], y), Scalar("additive")),
        "additive matrix": (lambda t, y, args: _array(_c, y), General(2, "additive")),
        "separable": (entries, Diagonal("separable")),
        "one motion": (rows, Scalar()),
        "coupled diagonal": (rows, Diagonal()),
        "commuting matrix": (commuting, General(2, "commutative")),
        "full matrix": (columns, General(2)),
    }
    return {name: Problem(name, SDE(drift, g, noise)) for name, (g, noise) in kinds.items()}
