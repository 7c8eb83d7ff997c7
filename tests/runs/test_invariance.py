"""What must not matter does not: units of time and values, the density of rows, the order of series and channels.

Losses are compared at given weights, so the laws hold to rounding; in a fit rounding grows with the steps, so there the
forecasts are compared, after a few steps, to a thousandth of their spread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl
import pytest

from neuralsde.data import Nothing, Trajectories, from_arrays
from neuralsde.models.sequence_sde import Config, SequenceSDE, loss
from neuralsde.runs import fit
from neuralsde.runs.fit import problem_of
from neuralsde.runs.plan import prepare
from neuralsde.tasks.sample import sample
from neuralsde.train.problem import TrainConfig

D, SERIES, ROWS = 3, 3, 60
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "low-rank": {"noise": "low-rank", "rank": 2},
    "student": {"tails": "student", "flow_loss": "student"},
    "denoiser": {"denoiser": "fixed", "denoiser_noise": 0.2},
    "chord": {"interpolation": "chord", "denoiser": "consistent", "memory": 2},
}
TRAINING = TrainConfig(steps=12, batch_size=32, learning_rate=3e-3, log_every=6, validate_every=6)
every_option = pytest.mark.parametrize("option", OPTIONS)


def config_of(option: str) -> Config:
    return Config(history=1, width=6, depth=1, **OPTIONS[option])


def table(second: float = 1.0, scale: Any = 1.0, shift: Any = 0.0, order: Any = slice(None)) -> Trajectories:
    """Three series of a coupled random walk with holes; times in units of `second` seconds, columns in any order."""
    rng = np.random.default_rng(5)
    times, values = [], []
    for _ in range(SERIES):
        seconds = np.cumsum(rng.integers(100, 2_000, ROWS)).astype(float)
        x = np.zeros((ROWS, D))
        for k in range(1, ROWS):
            x[k] = 0.9 * x[k - 1] + rng.normal(size=D) @ np.array([[1.0, 0.4, 0.0], [0.0, 0.7, 0.2], [0.0, 0.0, 1.5]])
        x[2:][rng.random((ROWS - 2, D)) < 0.1] = np.nan
        times.append(seconds / second)
        values.append((x * scale + shift)[:, order])
    return from_arrays(times, values)


# -- the loss at given weights -----------------------------------------------------------------------------------------


@eqx.filter_jit
def losses(model: SequenceSDE, batch: Any, running: Any, key: jax.Array) -> Any:
    value, (metrics, after) = loss(model, batch, running, key=key)
    return value, metrics, after.variance


def at_random(model: SequenceSDE) -> SequenceSDE:
    """The model with no weight at zero; its constants as they were."""
    rng = np.random.default_rng(1)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    moved = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.1 * rng.normal(size=leaf.shape), jnp.float32), params)

    def constants(m: SequenceSDE) -> tuple[Any, ...]:
        return m.walk, m.bounds, m.strength, m.first_loading

    return eqx.tree_at(constants, eqx.combine(moved, rest), constants(model), is_leaf=lambda leaf: leaf is None)


def evaluated(data: Trajectories, option: str, change: Any = lambda model: model) -> Any:
    """Loss, metrics and running variance on the table's first batch."""
    prepared = prepare(data, config_of(option), TRAINING, None)
    problem = problem_of(prepared)
    batch = problem.sample_batch(problem.data, jax.random.key(3))
    model = change(at_random(problem.model))
    return losses(model, batch, problem.aux, jax.random.key(4)), batch, model


@every_option
def test_units_do_not_change_the_loss(option: str) -> None:
    scale, shift = np.array([1e3, 1e-2, 7.0]), np.array([-40.0, 3.0, 1e3])
    plain, _, one = evaluated(table(), option)
    units, _, other = evaluated(table(second=3600.0, scale=scale, shift=shift), option)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(units), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(one.walk, other.walk, rtol=1e-3)
    assert other.travel == pytest.approx(one.travel, rel=1e-4)


def permuted(option: str, order: np.ndarray) -> Any:
    """The same network for channels in another order: rows and columns of every weight that belongs to a channel."""
    config = config_of(option)
    past, c = config.history, 0
    rows = [order]  # the present; the past, row by row; ages of past and present; the mask; the lags
    first = D
    for _ in range(past + (past + 1) + 1):
        rows.append(first + order)
        first += D
    rest = np.arange(first, first + past + c)
    summary = np.arange(first + past + c, first + past + c + (config.width if config.memory else 0))
    inputs = np.concatenate([*rows, rest, summary])
    factors = config.rank if config.noise == "low-rank" else 0
    loadings = (D + order[:, None] * factors + np.arange(factors)).ravel() if factors else np.zeros(0, int)
    tokens = np.concatenate([order, D + order, 2 * D + order, 3 * D + np.arange(2)])

    def network(net: Any, outputs: np.ndarray) -> Any:
        hidden = net.hidden[0]
        return eqx.tree_at(
            lambda n: (n.linear.weight, n.linear.bias, n.hidden[0].weight, n.out.weight),
            net,
            (net.linear.weight[outputs][:, inputs], net.linear.bias[outputs], hidden.weight[:, inputs],
             net.out.weight[outputs]),
        )  # fmt: skip

    def change(m: SequenceSDE) -> SequenceSDE:
        own = m.tail  # of every channel, as there are no factors beside Student's law here

        def parts(m: SequenceSDE) -> list[Any]:
            found: list[Any] = [m.flow_net, m.diffusion_net]
            found += [] if m.denoiser_net is None else [m.denoiser_net]
            found += [] if m.memory_net is None else [m.memory_net.cell.weight_ih]  # type: ignore[union-attr]
            found += [] if own is None else [m.tail]
            return found + ([] if m.first_loading is None else [m.first_loading])

        new: list[Any] = [network(m.flow_net, order), network(m.diffusion_net, np.concatenate([order, loadings]))]
        new += [] if m.denoiser_net is None else [network(m.denoiser_net, order)]
        new += [] if m.memory_net is None else [m.memory_net.cell.weight_ih[:, tokens]]  # type: ignore[union-attr]
        new += [] if own is None else [own[order]]
        new += [] if m.first_loading is None else [m.first_loading[order]]
        return eqx.tree_at(parts, m, new)

    return change


@pytest.mark.parametrize("option", ["default", "low-rank", "student", "chord"])
def test_the_order_of_the_channels_does_not_change_the_loss(option: str) -> None:
    """With the rows and columns of the weights in the same order. The denoiser's own loss draws noise by channel."""
    order = np.array([2, 0, 1])
    (_, plain, variance), batch, _ = evaluated(table(), option)
    (_, turned, other), mixed, _ = evaluated(table(order=order), option, permuted(option, order))
    np.testing.assert_array_equal(np.asarray(batch.target)[:, order], mixed.target)
    for name in ("flow", "nats"):
        assert float(turned[name]) == pytest.approx(float(plain[name]), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(other, np.asarray(variance)[order], rtol=1e-4)


# -- fits --------------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def descended(model: SequenceSDE, batch: Any, running: Any) -> Any:
    """The laws of the batch after 12 steps of Adam on it, and before them: where they move, their s.d."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    optimiser = optax.adam(3e-3)

    def step(carry: Any, i: jax.Array) -> tuple[Any, None]:
        params, state = carry
        key = jax.random.fold_in(jax.random.key(4), i)
        slope = jax.grad(lambda p: loss(eqx.combine(p, rest), batch, running, key=key)[0])(params)
        change, state = optimiser.update(slope, state)
        return (optax.apply_updates(params, change), state), None

    def laws(params: Any) -> Any:
        found = jax.vmap(eqx.combine(params, rest).transition)(batch.window, batch.dt)
        return found.mean - batch.window.value[:, -1], found.sd

    last = jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(12))[0][0]
    return jax.vmap(laws)(jax.tree.map(lambda a, b: jnp.stack([a, b]), last, params))


def test_a_fit_to_columns_in_another_order_has_the_same_law() -> None:
    """From weights in that order: after training the law of a transition is the same up to the order, to rounding."""
    option, order = "default", np.array([2, 0, 1])

    def trained(data: Trajectories, change: Any = lambda model: model) -> Any:
        problem = problem_of(prepare(data, config_of(option), TRAINING, None))
        batch = problem.sample_batch(problem.data, jax.random.key(3))
        return descended(change(at_random(problem.model)), batch, problem.aux)

    move, sd = trained(table())
    other_move, other_sd = trained(table(order=order), permuted(option, order))
    assert float(jnp.abs(move[0] - move[1]).max()) > 0.03, "training moves the law by much more than the tolerance"
    np.testing.assert_allclose(other_move, move[..., order], atol=1e-3)
    np.testing.assert_allclose(other_sd, sd[..., order], rtol=1e-3)


@pytest.mark.parametrize(("second", "every"), [(1.0, 1), (3600.0, 1), (1.0, 10)])
def test_a_fixed_stabiliser_has_the_same_effect_in_any_unit_of_time_and_at_any_density(
    second: float, every: int
) -> None:
    """Smooth demonstrations x = u t, by the clock: what is left of a deviation after a time t is e^(-t u / (n sd)).

    In the paper the pull is so much for each unit of model time, so that ten times the rows freeze the path.
    """
    speed, noise = 0.02, 0.1
    seconds = np.cumsum(np.random.default_rng(1).uniform(5.0, 15.0, (6, 1001)), axis=1)
    curves = [speed * t[::every, None] for t in seconds]
    data = from_arrays([t[::every] / second for t in seconds], curves)
    config = Config(history=0, depth=0, denoiser="fixed", denoiser_noise=noise, confined=False)
    plan = prepare(data, config, TRAINING, Nothing()).plan
    model = plan.model()  # before training nothing flows
    assert model.denoiser_net is not None
    weight = model.denoiser_net.linear.weight.at[0, 0].set(1 / noise)  # all that is off zero is noise

    def parts(m: SequenceSDE) -> Any:
        return m.walk, m.denoiser_net.linear.weight  # type: ignore[union-attr]

    model = eqx.tree_at(parts, model, (np.full(1, 1e-6, np.float32), weight))
    mean, sd = plan.encoder.mean[0], plan.encoder.sd[0]
    start, ts = mean + 0.5 * sd, np.array([0.0, 100.0, 300.0]) / second
    left = (sample(plan.fitted(model), [start], ts, n=1)[0, :, 0] - mean) / (0.5 * sd)
    exact = np.exp(-ts * second * speed / (noise * sd))
    assert 0.05 < exact[2] < exact[1] < 0.9
    np.testing.assert_allclose(np.log(left[1:]), np.log(exact[1:]), rtol=0.05)


def test_units_do_not_change_a_fit() -> None:
    """Rare shapes, tails and a stabiliser together: hours for seconds, another scale and origin of every column."""
    config, scale, shift = config_of("low-rank"), np.array([1e3, 1e-2, 7.0]), np.array([-40.0, 3.0, 1e3])
    config = replace(config, tails="student", denoiser="fixed", denoiser_noise=0.2)
    runs = [fit(data, model=config, training=TRAINING) for data in (table(), table(3600.0, scale, shift))]
    plain, units = (run.forecast(horizon=3, n=40) for run in runs)
    for column in range(D):
        a, b = (frame.filter(pl.col("variable") == f"x{column}") for frame in (plain, units))
        sd = a["sd"].to_numpy()
        for name in ("mean", "lo-95", "hi-95"):
            back = (b[name].to_numpy() - shift[column]) / scale[column]
            assert np.abs((back - a[name].to_numpy()) / sd).max() < 2e-3


def test_the_order_of_the_series_is_only_another_draw() -> None:
    """Encoder, walk, travel time and gap law are the same numbers; so is the validation loss at given weights."""
    data = table()
    turned = replace(data, series=data.series[::-1])
    options = config_of("denoiser")
    one, other = (prepare(each, options, TRAINING, None) for each in (data, turned))
    mine, theirs = one.plan.encoder.to_dict(), other.plan.encoder.to_dict()
    for name in ("mean", "sd", "tau"):
        assert theirs[name] == pytest.approx(mine[name], rel=1e-9)
    np.testing.assert_allclose(other.plan.walk, one.plan.walk, rtol=1e-6)
    assert other.plan.travel == pytest.approx(one.plan.travel, rel=1e-6)
    assert other.plan.law == one.plan.law
    model = at_random(one.plan.model())
    a, b = (problem_of(each).validate(model) for each in (one, other))
    assert a == pytest.approx(b, rel=1e-5)
