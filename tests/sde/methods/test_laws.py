"""Laws that every method obeys: equal spellings, the way back, any shape and dtype, jit, vmap and grad."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.methods import (
    METHODS,
    RI6,
    SRIW1,
    EulerHeun,
    ExponentialEuler,
    FullTruncationEuler,
    Heun,
    Method,
    Milstein,
    MilsteinArea,
    ReversibleHeun,
    ShARK,
)

KEY = jax.random.key(11)
TS = np.array([0.0, 0.1, 0.3, 1.0])
every = pytest.mark.parametrize("method", [known() for known in METHODS], ids=lambda m: type(m).__name__)


def drift(t, y, args):
    return jnp.sin(t) - 0.5 * y + 0.2 * jnp.cos(y)


def solve(method: Method, process: sde.SDE, y0: Any, **options: Any):
    if not isinstance(process.calculus, method.calculus):
        process = process.to(method.calculus[0]())
    ts = jnp.asarray(TS, jnp.result_type(y0))
    return sde.simulate(process, y0, ts, key=KEY, method=method, **options).ys


def depends(method: Method) -> str:
    return "separable" if "separable" in method.depends else "additive"


def diffusion(method: Method):
    if depends(method) == "additive":
        return lambda t, y, args: 0.4 + 0.1 * jnp.sin(t) + 0 * y
    return lambda t, y, args: 0.4 + 0.2 * jnp.sin(y + t)


# ---- equal spellings


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [Milstein(), MilsteinArea(), SRIW1(), ShARK(), RI6(), Heun()], ids=str)
def test_one_entry_is_diagonal_scalar_and_general_noise_alike(method):
    """One Brownian motion and one entry: three shapes, one process. The bits of a normal of shape () and (1,) agree."""
    g, kind, y0 = diffusion(method), depends(method), jnp.array([1.0])
    noises = [sde.Scalar(kind), sde.Diagonal(kind), sde.General(1, kind)]  # type: ignore[arg-type]
    spelled = [g, g, lambda t, y, args: g(t, y, args)[:, None]]
    taken = [
        (noise, own)
        for noise, own in zip(noises, spelled, strict=True)
        if isinstance(noise, method.noise) and not (isinstance(method, ExponentialEuler) and noise != noises[1])
    ]
    found = jax.jit(lambda y: [solve(method, sde.SDE(drift, own, noise), y) for noise, own in taken])(y0)
    for ys in found[1:]:
        assert np.allclose(ys, found[0], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [Milstein(), MilsteinArea(), RI6(), Heun()])
def test_a_diagonal_matrix_is_diagonal_noise(method):
    """General noise with a diagonal matrix, whatever is declared: coupled entries where the method takes them."""
    y0, coupled = jnp.array([1.0, -0.5]), not isinstance(method, Milstein)
    g = (lambda t, y, a: 0.4 + 0.2 * jnp.sin(y + 2 * y[::-1])) if coupled else lambda t, y, a: 0.4 + 0.2 * jnp.sin(y)
    diagonal, general = (sde.Diagonal(), sde.General(2)) if coupled else (sde.Diagonal(), sde.General(2, "commutative"))
    matrix = sde.SDE(drift, lambda t, y, a: jnp.diag(g(t, y, a)), general)
    one, other = jax.jit(lambda y: [solve(method, p, y) for p in (sde.SDE(drift, g, diagonal), matrix)])(y0)
    assert np.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [Milstein(), MilsteinArea()])
def test_ito_and_its_stratonovich_form_take_the_same_steps(method):
    """Milstein's formula for both calculi is one formula: the correction leaves the drift and enters the noise.

    With areas not for the first: it is the branch of the second again, on entries that are not coupled.
    """
    commuting = sde.SDE(drift, lambda t, y, a: 0.3 * y[:, None] * jnp.ones((1, 3)), sde.General(3, "commutative"))
    processes = (
        sde.SDE(drift, lambda t, y, a: 0.4 + 0.2 * jnp.sin(y), sde.Diagonal("separable")),
        sde.SDE(drift, lambda t, y, a: 0.4 + 0.2 * jnp.sin(y + 2 * y[::-1])),
        commuting,
    )
    processes = processes[1:] if isinstance(method, MilsteinArea) else processes
    calculi = sde.Ito(), sde.Stratonovich()
    pairs = jax.jit(lambda y: [[solve(method, process.to(each), y) for each in calculi] for process in processes])
    for both in pairs(jnp.array([1.0, -0.5])):
        assert np.allclose(*both, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [Milstein(), SRIW1(), RI6()])
def test_declaring_less_changes_the_cost_and_not_the_numbers(method):
    """Separable noise said to be commutative, additive noise said to be separable."""
    g = diffusion(ShARK())
    weaker = ["additive", "separable", "commutative"]
    declared = [sde.SDE(drift, g, sde.Diagonal(kind)) for kind in weaker if kind in method.depends]  # type: ignore[arg-type]
    found = jax.jit(lambda y: [solve(method, process, y) for process in declared])(jnp.array([1.0, -0.5]))
    for ys in found[1:]:
        assert np.allclose(ys, found[0], rtol=0, atol=3e-3 if isinstance(method, SRIW1) else 1e-12)


# ---- shapes, dtypes, transformations


def widest(method: Method, scale: Any = 1.0) -> tuple[sde.SDE, tuple[int, ...]]:
    """A process of the widest noise that the method takes, and the shape of a state for it: a matrix, where it can."""
    g, kind = diffusion(method), depends(method)
    f = lambda t, y, args: scale * drift(t, y, args)  # noqa: E731
    general = sde.General(2, "additive" if kind == "additive" else "commutative")
    both = jnp.array([1.0, 0.5])
    if method.takes(general, method.calculus[0]()):
        h = lambda t, y, args: (scale * g(t, y, args)[..., None] * both).astype(y.dtype)  # noqa: E731
        return sde.SDE(f, h, general), (2, 3)
    return sde.SDE(f, lambda t, y, args: scale * g(t, y, args), sde.Diagonal(kind)), (2, 3)  # type: ignore[arg-type]


@every
def test_a_state_of_any_shape_and_dtype(method):
    """Traced only: shape and dtype of the solution are those of the state, whatever else is in double precision."""
    process, shape = widest(method)
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            out = jax.eval_shape(lambda y: solve(method, process, y), jnp.ones(shape, dtype))
            assert out.shape == (4, *shape)
            assert out.dtype == dtype


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [MilsteinArea(), SRIW1(), RI6(), ReversibleHeun(), ExponentialEuler(-0.5)], ids=str)
def test_gradients_agree_with_differences_under_jit_and_vmap(method):
    def end(scale):
        process, shape = widest(method, scale)
        return solve(method, process, jnp.linspace(1.0, 2.0, 6).reshape(shape))[-1].sum()

    step = 1e-5
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(end)))(jnp.array([1 - step, 1.0, 1 + step]))
    assert np.isclose(slope[1], (value[2] - value[0]) / (2 * step), rtol=1e-7)


# ---- the way back (THEORY 6)


def return_errors(method, process, cells=(32, 256)):
    """Forward, then over decreasing times on the same path: root mean square distance to the start."""

    def one(key):
        fine = sde.BrownianGrid(key, jnp.array([0.0, 1.0]), cells[-1])
        errors = []
        for n in cells:
            path = fine.coarsen(cells[-1] // n)
            there = sde.simulate(process, jnp.ones(2), fine.base_ts, path=path, method=method, substeps=n).ys[-1]
            back = sde.simulate(process, there, np.array([1.0, 0.0]), path=path, method=method, substeps=n).ys[-1]
            errors.append(back - 1.0)
        return jnp.stack(errors)

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 100))
    return 1.0 / np.array(cells), np.sqrt((np.asarray(found) ** 2).mean((0, 2)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [Milstein(), Heun(), EulerHeun()])
def test_a_solve_returns_along_its_path_at_its_strong_order(method):
    law = sde.GBM([0.3, -0.2], [0.5, 0.8]).process()
    process = law if isinstance(law.calculus, method.calculus) else law.to(sde.Stratonovich())
    h, errors = return_errors(method, process)
    order = np.polyfit(np.log(h), np.log(errors), 1)[0]
    assert order >= (method.strong_order(process.noise) or 0) - 0.1
    assert errors[-1] < 0.1


@pytest.mark.parametrize("method", [SRIW1(), RI6(), FullTruncationEuler(), ExponentialEuler(-1.0)])
def test_methods_with_roots_or_draws_of_their_own_refuse_to_run_back(method):
    process = sde.GBM(0.3, 0.5).process()
    with pytest.raises(InputError, match="decreasing ts"):
        sde.simulate(process, 1.0, np.array([1.0, 0.0]), key=KEY, method=method)
