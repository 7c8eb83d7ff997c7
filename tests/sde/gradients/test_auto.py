"""The estimates against what XLA reserves, what `Auto` chooses from them, and what `explain_gradient` prints."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.explain import explain_gradient
from neuralsde.sde.gradients import Auto, Backprop, Checkpointed, ContinuousAdjoint, Loop, Reversible
from neuralsde.sde.methods import EulerHeun, EulerMaruyama, Heun
from neuralsde.sde.methods.reversible_heun import ReversibleHeun

BATCH, STEPS = 64, 200
TS = jnp.array([0.0, 1.0])
WEIGHTS = {"in": jax.random.normal(jax.random.key(0), (4, 32)), "out": jax.random.normal(jax.random.key(1), (32, 4))}


def process(w):
    def network(t, y, args):
        return jnp.tanh(jax.nn.silu(y @ w["in"]) @ w["out"])

    return sde.SDE(network, lambda t, y, args: 0.1 * network(t, y, args), sde.Diagonal(), sde.Stratonovich())


def loss(w, method, mode, steps=STEPS):
    def one(key):
        return sde.simulate(process(w), jnp.ones(4), TS, key=key, method=method, substeps=steps, gradient=mode).ys[-1]

    return jax.vmap(one)(jax.random.split(jax.random.key(2), BATCH)).sum()


def temporary(method, mode, steps):
    """Bytes that XLA reserves for the gradient; compiled, not run."""
    compiled = jax.jit(jax.grad(loss), static_argnums=(1, 2, 3)).lower(WEIGHTS, method, mode, steps).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def explain(method, **given):
    return explain_gradient(process(WEIGHTS), jnp.ones(4), TS, method=method, substeps=STEPS, **given)


@pytest.mark.parametrize(
    ("method", "mode"),
    [
        (Heun(), Backprop()),
        (Heun(), Checkpointed()),
        (Heun(), ContinuousAdjoint()),
        (ReversibleHeun(), Reversible()),
    ],
    ids=["backprop", "checkpointed", "adjoint", "reversible"],
)
def test_memory_is_estimated_within_a_factor_of_three(method, mode):
    truth = temporary(method, mode, STEPS)
    estimate = explain(method, batch=BATCH, gradients=[mode]).costs[0].memory
    assert truth / 3 < estimate < truth * 3


@pytest.mark.parametrize(
    ("method", "mode"), [(ReversibleHeun(), Reversible()), (Heun(), ContinuousAdjoint())], ids=["reversible", "adjoint"]
)
def test_constant_memory_modes_need_as_much_for_65_536_steps_as_for_64(method, mode):
    assert temporary(method, mode, 65_536) == pytest.approx(temporary(method, mode, 64), rel=0.05)


def test_evaluations_are_counted():
    report = explain(Heun(), gradients=[Backprop(), Checkpointed(), Checkpointed(segments=10), ContinuousAdjoint()])
    assert [its.drift for its in report.costs] == [2 * STEPS * passes for passes in (1, 2, 4, 2)]
    assert [its.diffusion for its in report.costs] == [2 * STEPS * passes for passes in (1, 2, 4, 2)]


def chosen(method, memory_mb):
    """What `Auto` runs, by the loop that a solve hands to it."""
    y0, model, path = jnp.ones(4), process(WEIGHTS), sde.BrownianGrid(jax.random.key(0), TS, STEPS)
    loop = Loop(model, method, path, None, (4,), 1, STEPS, None, None)
    return Auto(memory_mb=memory_mb, batch=BATCH).choose(loop, method.init(model, TS[0], y0, None))


def test_auto_takes_the_most_memory_that_fits():
    modes = [Backprop(), Checkpointed(), Checkpointed(segments="sqrt")]
    for mode, its in zip(modes, explain(ReversibleHeun(), batch=BATCH, gradients=modes).costs, strict=True):
        assert chosen(ReversibleHeun(), its.memory / 1e6 + 1e-6) == mode
    its = explain(ReversibleHeun(), batch=BATCH, gradients=[Reversible()]).costs[0]
    assert chosen(ReversibleHeun(), its.memory / 1e6 + 1e-6) == Reversible()


def test_a_limit_that_no_mode_meets_is_said():
    with pytest.raises(InputError, match="no mode is that small"):
        chosen(Heun(), 1e-6)
    report = explain(Heun(), batch=BATCH, gradients=[Auto(memory_mb=1e-6), Auto(memory_mb=0.2, batch=BATCH)])
    assert report.takes == (None, Checkpointed(segments="sqrt"))
    first, second = str(report).splitlines()[2:]
    assert "no mode is that small here: Checkpointed(segments=4), the smallest, needs" in first
    assert "Auto(memory_mb=0.2, batch=64): Checkpointed(segments='sqrt')" in second
    assert report.costs[1] == explain(Heun(), batch=BATCH, gradients=[Checkpointed(segments="sqrt")]).costs[0]


def test_auto_gives_the_gradient_of_the_solve():
    grad = jax.jit(jax.grad(loss), static_argnums=(1, 2))
    mine, exact = grad(WEIGHTS, EulerHeun(), Auto(memory_mb=1.0, batch=BATCH)), grad(WEIGHTS, EulerHeun(), Backprop())
    for key in WEIGHTS:
        assert jnp.allclose(mine[key], exact[key], rtol=1e-4, atol=1e-4)


def test_the_report_says_why_a_mode_does_not_apply():
    ito = sde.OU(1.0, 0.0, 1.0).process()
    text = str(explain_gradient(ito, jnp.ones(3), jnp.linspace(0.0, 1.0, 11), method=EulerMaruyama(), batch=10))
    assert text.splitlines()[0] == "10 paths of 3 entries (float32), 10 steps, 10 saved, EulerMaruyama"
    assert "not here: the method has no exact inverse" in text
    assert "of the equation, not of the solve" in text
    with pytest.raises(InputError):
        explain_gradient(ito, jnp.ones(3), TS, batch=0)
    with pytest.raises(InputError, match="substeps=0"):
        explain_gradient(ito, jnp.ones(3), TS, substeps=0)
    wrong: Any = ["x"]  # as someone who runs no type checker may give it
    with pytest.raises((InputError, TypeError)):
        explain_gradient(ito, jnp.ones(3), TS, gradients=wrong)
    unlikely: list[Any] = [0, "a", float("nan"), True]
    for memory in unlikely:
        with pytest.raises((InputError, TypeError)):
            Auto(memory_mb=memory)
