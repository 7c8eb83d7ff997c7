"""Checkpoints fit every layout of gaps and substeps, keep the memory they say, and refuse what they cannot mean."""

import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.gradients import Backprop, Checkpointed

KEY = jax.random.key(3)


def end(y, a, ts, substeps, mode, drift=lambda y: y):
    model = sde.SDE(lambda t, y, a: a * drift(y), lambda t, y, a: jnp.ones_like(y), sde.Diagonal("additive"))
    return sde.simulate(model, y, ts, key=KEY, substeps=substeps, gradient=mode, args=a).ys[-1].sum()


@pytest.mark.parametrize(("gaps", "substeps"), [(1, 1), (1, 7), (7, 1), (5, 4), (2, 17)])
@pytest.mark.parametrize("segments", [2, "sqrt"])
def test_every_layout(gaps, substeps, segments):
    """A linear process: the slope of the end in the start is a product of 1 + a h, whatever the layout."""
    ts, n = jnp.linspace(0.0, 1.0, gaps + 1), gaps * substeps
    slope = jax.jit(jax.grad(end), static_argnums=(3, 4))
    assert float(slope(jnp.asarray(0.3), -0.8, ts, substeps, Checkpointed(segments=segments))) == pytest.approx(
        (1 - 0.8 / n) ** n, rel=1e-5
    )


def test_memory_of_65_536_steps_where_only_the_end_is_saved():
    """Compiled, not run: all states, the root of them, and a bounded number."""
    ts, y0 = jnp.array([0.0, 1.0]), jnp.ones(128)

    def temporary(mode):
        compiled = jax.jit(jax.grad(end), static_argnums=(3, 4, 5)).lower(y0, 0.1, ts, 65_536, mode, jnp.sin).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    states = 65_536 * y0.nbytes
    assert temporary(Checkpointed()) > states
    assert temporary(Checkpointed(segments="sqrt")) < 4 * 256 * y0.nbytes
    assert temporary(Checkpointed(segments=16)) < 4 * 16 * 4 * y0.nbytes


def test_refusals():
    for wrong in (0, 1, True, -3):
        with pytest.raises(InputError):
            Checkpointed(segments=wrong)


def test_checkpoints_take_events():
    """A path that stops keeps its gradient: the state at the stop is the state at the end."""
    model = sde.SDE(lambda t, y, a: jnp.ones_like(y), lambda t, y, a: jnp.zeros_like(y), sde.Diagonal("additive"))
    stop = sde.Stop(lambda t, y, args: y > 0.5)

    def last(y, mode):
        return sde.simulate(model, y, jnp.linspace(0.0, 1.0, 9), key=KEY, gradient=mode, events=stop).ys[-1] ** 2

    for mode in (Backprop(), Checkpointed(segments=2)):
        assert float(jax.grad(last)(jnp.asarray(0.0), mode)) == pytest.approx(2 * 0.625)
