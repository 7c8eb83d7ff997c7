"""The continuous adjoint: its error against the gradient of the solution falls with the order of the method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.gradients import ContinuousAdjoint
from neuralsde.sde.methods import EulerMaruyama, Heun, Milstein
from neuralsde.sde.methods.reversible_heun import ReversibleHeun

KEYS = jax.random.split(jax.random.key(9), 64)
TS = jnp.array([0.0, 0.5, 1.0])
STEPS = (16, 128)


def slope_of_error(method, calculus, adjoint=ContinuousAdjoint()):  # noqa: B008 (a frozen value)
    """GBM with separable noise: RMS error of the gradient in both parameters and the start, against the closed form on
    the same path; the order between 16 and 128 steps a gap.
    """

    def truth(p, key, n):
        W = sde.BrownianGrid(key, TS, n).increments((2,), jnp.float64).sum(0)
        return sde.GBM(p["alpha"], p["beta"]).solution(p["y0"], 1.0, W).sum()

    def solved(p, key, n):
        process = sde.GBM(p["alpha"], p["beta"]).process().to(calculus)
        mine = sde.simulate(process, p["y0"], TS, key=key, method=method, substeps=n, gradient=adjoint)
        return mine.ys[-1].sum()

    p = {"alpha": jnp.asarray(0.4), "beta": jnp.asarray(0.6), "y0": jnp.array([1.0, -0.5])}
    errors = []
    for n in STEPS:

        def apart(key, n=n):
            pair = jax.grad(solved)(p, key, n), jax.grad(truth)(p, key, n)
            return jax.tree.map(jnp.subtract, *pair)

        far = jax.jit(jax.vmap(apart))(KEYS)
        errors.append([float(jnp.sqrt((leaf**2).mean())) for leaf in jax.tree.leaves(far)])
    coarse, fine = np.array(errors)
    return np.log(coarse / fine) / np.log(STEPS[1] / STEPS[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("method", "calculus", "order"),
    [
        (Milstein(), sde.Ito(), 1.0),
        (EulerMaruyama(), sde.Ito(), 0.5),
    ],
    ids=["milstein-ito", "euler-ito"],
)
def test_error_falls_with_the_order_of_the_method(method, calculus, order):
    assert (slope_of_error(method, calculus) > order - 0.2).all()


@pytest.mark.usefixtures("x64")
def test_additive_noise_agrees_with_the_closed_form():
    """Example 3 of Li et al. 2020: gradients in a and b of the state at two saved times."""
    law = sde.exact.LiExample3(0.4, 0.7)

    def truth(q, key):
        W = sde.BrownianGrid(key, TS, 200).values((), jnp.float64)
        at = sde.exact.LiExample3(q["a"], q["b"])
        return at.solution(1.0, 0.5, W[200]) ** 2 + at.solution(1.0, 1.0, W[400])

    def solved(q, key):
        process = sde.exact.LiExample3(q["a"], q["b"]).process().to(sde.Stratonovich())
        ys = sde.simulate(
            process, jnp.asarray(1.0), TS, key=key, method=Heun(), substeps=200, gradient=ContinuousAdjoint()
        ).ys
        return ys[1] ** 2 + ys[2]

    q = {"a": law.a, "b": law.b}
    mine, exact = (jax.jit(jax.grad(f))(q, KEYS[0]) for f in (solved, truth))
    for name in q:
        assert float(mine[name]) == pytest.approx(float(exact[name]), rel=1e-4)


def test_refusals():
    process = sde.OU(1.0, 0.0, 1.0).process()
    run = lambda ts, **given: sde.simulate(process, jnp.ones(2), ts, key=KEYS[0], **given).ys.sum()  # noqa: E731
    with pytest.raises(InputError, match="fixed times"):
        jax.grad(lambda ts: run(ts, gradient=ContinuousAdjoint()))(TS)
    with pytest.raises(InputError, match="no events"):
        run(TS, gradient=ContinuousAdjoint(), events=sde.Stop(lambda t, y, a: (y > 9).any()))
    for method in (EulerMaruyama(), ReversibleHeun()):
        with pytest.raises(InputError, match="from W alone"):
            ContinuousAdjoint(method=method)
