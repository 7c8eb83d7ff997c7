"""Reversible methods: exact inverses, the law that they converge to, and a way back that never fails in silence."""

import gradient_problems as problems
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError, RunFailed
from neuralsde.sde.gradients import Backprop, Checkpointed, Reversible
from neuralsde.sde.methods import EulerMaruyama, Heun, Milstein
from neuralsde.sde.methods.reversible_heun import ReversibleHeun
from neuralsde.sde.methods.reversible_pair import ReversiblePair

KEY = jax.random.key(5)
TS = jnp.array([0.0, 1.0])
RATE = sde.SDE(lambda t, y, rate: -rate * y, lambda t, y, rate: 0.1 * jnp.sin(y), sde.Diagonal(), sde.Stratonovich())


def solve(y0, rate, gradient, method=ReversibleHeun(), substeps=400):  # noqa: B008 (a frozen value)
    return sde.simulate(RATE, y0, TS, key=KEY, method=method, gradient=gradient, substeps=substeps, args=rate)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("method", "noise"),
    [
        (ReversibleHeun(), sde.General(problems.M)),
        (ReversiblePair(Heun()), sde.Diagonal()),
        (ReversiblePair(Milstein(), 0.9), sde.Scalar()),
    ],
    ids=["heun", "pair-heun", "pair-milstein"],
)
def test_undo_inverts_step_and_the_links_are_the_step(method, noise):
    p = problems.parameters(noise)
    process = problems.process(p, noise, sde.Stratonovich())
    path = sde.BrownianGrid(KEY, jnp.array([0.0, 0.3, 0.5]))
    first, second = (path.cell(i, noise.brownian_shape((problems.D,)), jnp.float64) for i in (0, 1))
    start = method.step(process, method.init(process, first.t0, p["y0"][0], p["args"]), first, p["args"])
    end = method.step(process, start, second, p["args"])
    again = method.undo(process, end, second, p["args"])
    assert all(jnp.allclose(a, b, rtol=0, atol=1e-14) for a, b in zip(again, start, strict=True))
    x = method.position(process, start, first)
    for link in method.links:
        x, _ = link.step(process, x, first, second, p["args"])
    assert jnp.allclose(method.arrive(process, x, second, p["args"]), method.state(end), atol=1e-14)
    for link in reversed(method.links):
        x = link.undo(process, x, first, second, p["args"])
    assert all(jnp.allclose(a, b, atol=1e-14) for a, b in zip(x, method.position(process, start, first), strict=True))


@pytest.mark.usefixtures("x64")
def test_one_step_of_reversible_heun_written_out():
    """Kidger et al. 2021, algorithm 1, for dy = a y dt + b y ∘ dW: the copy moves by Euler, y by the trapezium."""
    a, b, y, h = -0.3, 0.7, 1.5, 0.25
    process = sde.SDE(lambda t, y, args: a * y, lambda t, y, args: b * y, sde.Scalar(), sde.Stratonovich())
    cell = sde.BrownianGrid(KEY, jnp.array([0.0, h])).cell(0, (), jnp.float64)
    method, W = ReversibleHeun(), float(cell.W)
    after = method.step(process, method.init(process, cell.t0, jnp.asarray(y), None), cell, None)
    yhat = y + a * y * h + b * y * W
    assert float(after.yhat) == pytest.approx(yhat, rel=1e-14)
    assert float(after.y) == pytest.approx(y + 0.5 * (y + yhat) * (a * h + b * W), rel=1e-14)


@pytest.mark.usefixtures("x64")
def test_pairs_converge_to_the_equation_of_the_wrapped_method():
    """Geometric Brownian motion in closed form; halving the step halves the strong error (commuting noise)."""
    gbm = sde.GBM(0.3, 0.6)
    errors = []
    for method, process in (
        (ReversiblePair(Heun()), gbm.process().to(sde.Stratonovich())),
        (ReversiblePair(Milstein()), gbm.process()),
    ):
        for n in (64, 512):

            def error(key, n=n, method=method, process=process):
                path = sde.BrownianGrid(key, TS, n)
                end = sde.simulate(process, jnp.ones(()), TS, path=path, method=method, substeps=n).ys[-1]
                return end - gbm.solution(1.0, 1.0, path.increments((), jnp.float64).sum())

            errors.append(float(jnp.sqrt((jax.jit(jax.vmap(error))(jax.random.split(KEY, 100)) ** 2).mean())))
    coarse, fine = np.array(errors).reshape(-1, 2).T
    assert (np.log2(coarse / fine) / 3 > 0.8).all()


def test_where_the_way_back_is_lost_the_gradient_is_nan_and_the_result_says_so():
    """Contraction · time = 12 in float32: undoing it amplifies rounding by e^12. The states themselves are right."""

    def run(rate, y0):
        solution = solve(y0, rate, Reversible(check=True), substeps=1600)
        return solution.ys[-1].sum(), solution

    batched = jax.vmap(jax.value_and_grad(run, argnums=1, has_aux=True))
    (_, solution), slopes = jax.jit(batched)(jnp.array([1.0, 12.0]), jnp.ones((2, 3)))
    assert np.isfinite(np.asarray(slopes[0])).all()
    assert np.isnan(np.asarray(slopes[1])).all()
    assert solution.result.tolist() == [sde.Result.SUCCESSFUL, sde.Result.NOT_REVERSIBLE]
    assert float(jnp.abs(solution.ys[1, -1]).max()) < 0.05  # e^-12, and what the parasite adds
    with pytest.raises(RunFailed, match="could not be reconstructed"):
        solution.raise_if_failed()
    # Without a gradient nothing has to be reconstructed, and nothing is lost.
    assert int(solve(jnp.ones(3), 11.0, Reversible(check=True), substeps=1600).result) == sde.Result.SUCCESSFUL


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [ReversibleHeun(), ReversiblePair(Heun())], ids=["heun", "pair"])
def test_a_solve_that_its_parasite_took_over_says_so(method):
    """dX = -X dt + .5 dW with h = .1: right at time 4, garbage at 20 (standard deviation 2e4 and 1e3 for .35)."""
    process = sde.OU(1.0, 0.0, 0.5).process().to(sde.Stratonovich())

    def run(length):
        ts, keys = jnp.array([0.0, length]), jax.random.split(KEY, 50)
        steps = round(length / 0.1)
        one = lambda key: sde.simulate(process, jnp.zeros(2), ts, key=key, method=method, substeps=steps)  # noqa: E731
        return jax.jit(jax.vmap(one))(keys)

    short, long = run(4.0), run(20.0)
    assert (short.result == sde.Result.SUCCESSFUL).all()
    assert float(short.ys[:, -1].std()) == pytest.approx(0.354, rel=0.25)
    assert (long.result == sde.Result.UNSTABLE).mean() > 0.95
    assert float(long.ys[:, -1].std()) > 100
    with pytest.raises(RunFailed, match="Heun"):
        long.raise_if_failed()


@pytest.mark.usefixtures("x64")
def test_more_stored_carries_reach_further():
    """Contraction · time = 25 in sixteen segments: each undoes less than two units of it."""
    slope = jax.jit(jax.grad(lambda y, mode: solve(y, 25.0, mode).ys[-1].sum()), static_argnums=1)
    y0 = jnp.ones(3)
    # The parasitic factor makes the gradient itself large, 6e5, and takes its share of the digits.
    assert problems.apart(slope(y0, Reversible(segments=16)), slope(y0, Backprop())) < 1e-7


@pytest.mark.usefixtures("x64")
def test_a_shared_weight_is_poisoned_when_any_path_is_lost():
    """And the start of a path that was not lost keeps its gradient."""

    def total(scale, y0s):
        return jax.vmap(lambda y, rate: solve(y * scale, rate, Reversible()).ys[-1])(y0s, jnp.array([1.0, 40.0])).sum()

    by_scale, by_start = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.asarray(1.0), jnp.ones(2))
    assert np.isnan(float(by_scale))
    assert np.isnan(np.asarray(by_start)).tolist() == [False, True]


def test_refusals():
    additive = sde.SDE(lambda t, y, a: -y, lambda t, y, a: jnp.ones_like(y), sde.Diagonal("additive"))
    general = sde.SDE(lambda t, y, a: -y, lambda t, y, a: y)
    run = lambda process, method, **given: sde.simulate(process, jnp.ones(2), TS, key=KEY, method=method, **given)  # noqa: E731
    with pytest.raises(InputError, match="no exact inverse"):
        run(general, EulerMaruyama(), gradient=Reversible())
    with pytest.raises(InputError, match="converge to another equation"):
        run(general, ReversiblePair(EulerMaruyama()))
    with pytest.raises(InputError, match="does not take that process"):
        run(general, ReversiblePair(Heun()))
    with pytest.raises(InputError, match="no events"):
        run(RATE, ReversibleHeun(), gradient=Reversible(), args=1.0, events=sde.Stop(lambda t, y, a: (y > 9).any()))
    with pytest.raises(InputError):
        ReversiblePair(Heun(), coupling=1.0)
    with pytest.raises(InputError):
        ReversiblePair(ReversibleHeun())
    ends = [
        run(additive, method, gradient=Checkpointed(), substeps=200).ys[-1]
        for method in (EulerMaruyama(), ReversiblePair(EulerMaruyama()))
    ]
    assert jnp.allclose(*ends, atol=0.02)
