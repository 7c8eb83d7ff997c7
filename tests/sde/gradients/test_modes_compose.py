"""Gradient modes under other transformations: derivatives of derivatives, forward mode, gradients of single paths."""

import gradient_problems as problems
import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.sde.gradients import Backprop, Checkpointed, Reversible
from neuralsde.sde.methods.reversible_heun import ReversibleHeun

pytestmark = pytest.mark.usefixtures("x64")
NOISE, CALCULUS, METHOD = sde.Diagonal(), sde.Stratonovich(), ReversibleHeun()


def loss(p, mode):
    return problems.loss(p, NOISE, CALCULUS, METHOD, mode, 1)


def test_reverse_over_reverse():
    """Hessian times vector in weights, args, start and times, against forward over plain reverse."""
    p = problems.parameters(NOISE)
    v = jax.tree.map(jnp.cos, p)

    def slope(p, mode):
        g = jax.grad(loss)(p, mode)
        return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(g), jax.tree.leaves(v), strict=True))

    hessian = jax.jit(jax.grad(slope), static_argnums=1)
    exact = jax.jit(lambda p, v: jax.jvp(lambda p: jax.grad(loss)(p, Backprop()), (p,), (v,))[1])(p, v)
    assert problems.apart(hessian(p, Reversible()), exact) <= 1e-12


def test_forward_mode():
    p = problems.parameters(NOISE)
    v = jax.tree.map(jnp.cos, p)
    push = jax.jit(lambda p, v, mode: jax.jvp(lambda p: loss(p, mode), (p,), (v,))[1], static_argnums=2)
    exact = float(push(p, v, Backprop()))
    assert float(push(p, v, Reversible())) == pytest.approx(exact, rel=1e-12)


def test_gradients_of_single_paths_are_not_summed():
    """`vmap` of `grad` is another thing than `grad` of `vmap`, and the pullback that knows the batch must see it."""
    p = problems.parameters(NOISE)

    def one(weights, y, key, mode):
        model = problems.process({**p, "drift": weights}, NOISE, CALCULUS)
        solved = sde.simulate(model, y, p["ts"], key=key, method=METHOD, gradient=mode, args=p["args"])
        return jnp.sin(solved.ys).sum()

    each = jax.jit(jax.vmap(jax.grad(one), in_axes=(None, 0, 0, None)), static_argnums=3)
    paths = problems.KEYS[-problems.PATHS :]
    mine, theirs = each(p["drift"], p["y0"], paths, Reversible()), each(p["drift"], p["y0"], paths, Backprop())
    assert mine.shape == (problems.PATHS, problems.D, problems.D)
    assert problems.apart(mine, theirs) <= 1e-12


def test_a_gradient_mode_never_changes_the_solution():
    p = problems.parameters(NOISE)
    model = problems.process(p, NOISE, CALCULUS)
    first, *others = (
        sde.simulate(
            model, p["y0"][0], p["ts"], key=problems.KEYS[0], method=METHOD, substeps=5, gradient=mode, args=p["args"]
        )
        for mode in (Checkpointed(), Checkpointed(segments=2), Reversible(segments=3))
    )
    for other in others:
        assert jnp.allclose(first.ys, other.ys, rtol=1e-14, atol=1e-14)
        assert int(other.steps) == 20
        assert int(other.result) == sde.Result.SUCCESSFUL
