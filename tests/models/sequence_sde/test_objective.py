"""The sequence SDE against its own likelihood, exact regressions and `sde.simulate`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from sequence_models import KEY, C, D, f32, linear, minimise, model, running, still

from neuralsde.errors import InputError
from neuralsde.models.sequence_sde import Config, Losses, SequenceSDE, Transition, loss, transition_losses
from neuralsde.models.sequence_sde.window import Window


@eqx.filter_jit
def losses_of(m: SequenceSDE, batch: Transition, scale: jax.Array, key: jax.Array | None = None) -> Losses:
    return jax.vmap(lambda one: transition_losses(m, one, running(scale), key))(batch)


@eqx.filter_jit
def loss_of(m: SequenceSDE, batch: Transition, aux: jax.Array) -> Any:
    value, (metrics, after) = loss(m, batch, running(aux), key=KEY)
    return value, (metrics, after.variance)


@eqx.filter_jit
def gradient_of(m: SequenceSDE, batch: Transition, aux: jax.Array) -> tuple[jax.Array, SequenceSDE]:
    return eqx.filter_value_and_grad(lambda m: loss(m, batch, running(aux), key=KEY)[0])(m)


def weights(part: Any) -> np.ndarray:
    """All weights of a part of a model (or of its gradient) as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(part, eqx.is_inexact_array))])


def transitions(n: int, config: Config, d: int = D, c: int = C, seed: int = 2, missing: float = 0.3) -> Transition:
    """n transitions of nothing in particular: uneven gaps, ages, unseen targets, channels that were never seen."""
    rng = np.random.default_rng(seed)
    h = config.history
    age = np.where(rng.random((n, h + 1, d)) < missing, rng.uniform(0.5, 4.0, (n, h + 1, d)), 0.0)
    age[rng.random(n) < missing / 3, :, -1] = np.inf
    lag = np.arange(h, -1, -1) * np.ones((n, 1))
    parts = (rng.normal(size=(n, h + 1, d)), age, lag, rng.uniform(0, 9, n), rng.normal(size=(n, c)))
    window = jax.vmap(Window)(*map(f32, parts))
    seen = rng.random((n, d)) >= missing
    target = np.where(seen, rng.normal(size=(n, d)), 1e3)
    return jax.vmap(Transition)(window, f32(rng.uniform(0.5, 2.0, n)), f32(target), jnp.asarray(seen))


# -- the likelihood ----------------------------------------------------------------------------------------------------


def negative_log_likelihood(m: SequenceSDE, batch: Transition, fixed_mean: bool = False) -> tuple[jax.Array, jax.Array]:
    """(b, d) from `transition` and SciPy's formula, with where it counts: seen now, and seen some time before."""
    law = jax.vmap(m.transition)(batch.window, batch.dt)
    mean, sd = law.mean, law.sd
    mean = jax.lax.stop_gradient(mean) if fixed_mean else mean
    counts = batch.seen & jnp.isfinite(batch.window.age[:, -1])
    return jnp.where(counts, -norm.logpdf(jnp.where(counts, batch.target, mean), mean, sd), 0.0), counts


def flow_loss(m: SequenceSDE, batch: Transition, scale: jax.Array) -> jax.Array:
    """(b, d): ½ (x' - mean)² / (Δ scale), with Δ from each channel's own last observation."""
    mean = jax.vmap(m.transition)(batch.window, batch.dt).mean
    counts = batch.seen & jnp.isfinite(batch.window.age[:, -1])
    span = batch.dt[:, None] + batch.window.age[:, -1]
    return jnp.where(counts, 0.5 * (batch.target - mean) ** 2 / jnp.where(counts, span, 1.0) / scale, 0.0)


def mean_over(values: jax.Array, counts: jax.Array) -> jax.Array:
    return values.sum() / counts.sum()


def test_nats_are_the_likelihood_of_the_transition() -> None:
    config = Config(history=2, width=8)
    m, batch = model(config), transitions(64, config)
    got = losses_of(m, batch, jnp.ones(D))
    wanted, counts = eqx.filter_jit(negative_log_likelihood)(m, batch)
    np.testing.assert_allclose(got.nats, wanted, rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(got.seen, counts)
    assert 0 < int(counts.sum()) < counts.size


def test_a_missing_channel_counts_from_its_last_observation() -> None:
    """What was seen 2.5 ago and is seen again 0.5 later has made a step of 3; the other channel one of 0.5."""
    m = model(Config(history=0, width=8))
    age = jnp.array([[2.5, 0.0]])
    here = Window(jnp.ones((1, D)), age, jnp.zeros(1), jnp.float32(4), jnp.zeros(C))
    parts = eqx.filter_jit(lambda m, w: (m.transition(w, jnp.float32(0.5)), m.flow(w), m.diffusion(w)))
    law, flow, diffusion = parts(m, here)
    np.testing.assert_allclose(law.mean, 1.0 + flow * np.array([3.0, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(law.sd, diffusion * np.sqrt([3.0, 0.5]), rtol=1e-6)


def test_joint_is_the_likelihood() -> None:
    config = Config(history=1, width=8, objective="joint")
    m, batch, aux = model(config), transitions(64, config), jnp.array([0.3, 2.0])

    def wanted(m: SequenceSDE) -> jax.Array:
        return mean_over(*negative_log_likelihood(m, batch))

    _, got = gradient_of(m, batch, aux)
    truth = eqx.filter_jit(eqx.filter_grad(wanted))(m)
    for part in ("flow_net", "diffusion_net"):
        a, b = weights(getattr(got, part)), weights(getattr(truth, part))
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
        assert np.abs(b).max() > 0


def test_decoupled_gives_each_network_the_gradient_of_its_own_loss() -> None:
    """The flow that of its own loss alone; the diffusion that of the likelihood with the means held fixed."""
    config = Config(history=1, width=8)
    m, batch, aux = model(config), transitions(64, config), jnp.array([0.3, 2.0])

    def flow(m: SequenceSDE) -> jax.Array:
        return flow_loss(m, batch, aux).sum() / negative_log_likelihood(m, batch)[1].sum()

    def diffusion(m: SequenceSDE) -> jax.Array:
        return mean_over(*negative_log_likelihood(m, batch, fixed_mean=True))

    _, got = gradient_of(m, batch, aux)
    for part, own in (("flow_net", flow), ("diffusion_net", diffusion)):
        a, b = weights(getattr(got, part)), weights(getattr(eqx.filter_jit(eqx.filter_grad(own))(m), part))
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
        assert np.abs(b).max() > 0


def test_the_random_walk_is_no_weight() -> None:
    config = Config(history=0, width=8)
    m, batch = model(config), transitions(64, config)
    np.testing.assert_array_equal(gradient_of(m, batch, jnp.ones(D))[1].walk, 0.0)


def test_only_observed_targets_count() -> None:
    """What stands in an unseen target changes nothing, not even as NaN; what is seen does."""
    config = Config(history=1, width=8, input_noise=0.3)
    m, batch = model(config), transitions(64, config)
    value, gradient = gradient_of(m, batch, jnp.ones(D))
    for garbage in (jnp.nan, -7e8):
        other = eqx.tree_at(lambda b: b.target, batch, jnp.where(batch.seen, batch.target, garbage))
        again, gradient_again = gradient_of(m, other, jnp.ones(D))
        assert float(again) == float(value)
        np.testing.assert_array_equal(weights(gradient_again), weights(gradient))
    assert np.isfinite(weights(gradient)).all()
    other = eqx.tree_at(lambda b: b.target, batch, jnp.where(batch.seen, batch.target + 0.1, batch.target))
    assert float(gradient_of(m, other, jnp.ones(D))[0]) != float(value)


def test_the_running_scale_follows_the_residuals() -> None:
    """v <- .99 v + .01 mean of r² Δ for each channel, held where nothing was seen, never below 1e-8 of the walk's."""
    config = Config(history=0, width=8)
    m, batch, aux = model(config), transitions(64, config, missing=0.0), jnp.array([0.3, 2.0])
    batch = eqx.tree_at(lambda b: b.seen, batch, batch.seen.at[:, 1].set(False))
    _, (_, new) = loss_of(m, batch, aux)
    squared = 2 * eqx.filter_jit(flow_loss)(m, batch, jnp.ones(D))[:, 0].mean()
    np.testing.assert_allclose(new, [0.99 * 0.3 + 0.01 * float(squared), 2.0], rtol=1e-5)
    _, (_, low) = loss_of(m, batch, jnp.zeros(D))
    np.testing.assert_allclose(low[1], 1e-8 * m.walk[1] ** 2, rtol=1e-5)


# -- units -------------------------------------------------------------------------------------------------------------


def scaled(m: SequenceSDE, flow: Any, walk: Any) -> SequenceSDE:
    """The model whose flow is `flow` times that of m, and whose diffusion is `walk` times."""
    factor = jnp.asarray(flow, jnp.float32) * jnp.ones(D)

    def last(net: Any) -> tuple[Any, ...]:
        return net.linear.weight, net.linear.bias, net.out.weight

    weight, bias, out = last(m.flow_net)
    new = (weight * factor[:, None], bias * factor, out * factor[:, None], np.asarray(m.walk * walk, np.float32))
    return eqx.tree_at(lambda m: (*last(m.flow_net), m.walk), m, new)


@pytest.mark.parametrize("flow_loss", ["gaussian", "log"])
def test_units_of_time_and_of_a_column_do_not_matter(flow_loss: Any) -> None:
    """Theorem 1 and eq. 20 of the paper: (f / λ, g / √λ) over gaps λ Δ, and (c f, c g) over increments c Δx."""
    config = Config(history=0, width=8, flow_loss=flow_loss)
    m, batch, aux = model(config), transitions(64, config, missing=0.0), jnp.array([0.3, 2.0])
    _, (first, new) = loss_of(m, batch, aux)
    slow = eqx.tree_at(lambda b: b.dt, batch, batch.dt * 60)
    _, (later, new_slow) = loss_of(scaled(m, 1 / 60, 60**-0.5), slow, aux / 60)
    assert float(later["flow"]) == pytest.approx(float(first["flow"]), rel=1e-5)
    assert float(later["nats"]) == pytest.approx(float(first["nats"]), abs=1e-5)
    np.testing.assert_allclose(new_slow, new / 60, rtol=1e-5)
    c = np.array([100.0, 0.01])
    present = batch.window.value[:, -1]
    wide = eqx.tree_at(lambda b: b.target, batch, present + c * (batch.target - present))
    _, (other, _) = loss_of(scaled(m, c, c), wide, jnp.asarray(aux * c**2, jnp.float32))
    assert float(other["flow"]) == pytest.approx(float(first["flow"]), rel=1e-4)
    assert float(other["nats"]) == pytest.approx(float(first["nats"]) + np.log(c).mean(), abs=1e-4)


# -- what is learnt ----------------------------------------------------------------------------------------------------

THETA, GAP = 1.0, 0.5


def stationary(noise: float = 1.0, n: int = 6000) -> Transition:
    """Transitions x' = e^(-θΔ) x + noise: of an Ornstein-Uhlenbeck process of variance 1, or of its drift alone."""
    rng = np.random.default_rng(5)
    x, decay = rng.normal(size=(n, 1)), np.exp(-THETA * GAP)
    return still(n, x, decay * x + noise * np.sqrt(1 - decay**2) * rng.normal(size=(n, 1)), GAP)


def fitted(batch: Transition, **options: Any) -> tuple[float, float]:
    """Slope of a linear flow, and the diffusion at 0, after a full descent of the loss."""
    first = linear([[0.0]], Config(history=0, depth=0, **options))
    last = minimise(first, lambda m, key: loss(m, batch, running(jnp.ones(1)), key=key)[0])
    here = jax.tree.map(lambda leaf: leaf[0], batch.window).moved(jnp.zeros(1))
    sigma = eqx.filter_jit(lambda m, w: m.diffusion(w))(last, here)
    return float(last.flow_net.linear.weight[0, 0]), float(sigma[0])


def test_the_flow_is_that_of_the_start_points_and_the_diffusion_is_whole() -> None:
    """The regression of velocity on start: (e^(-θΔ) - 1)/Δ. A flow that saw between the ends would learn 0 (THEORY 17).

    And σ is the r.m.s. residual over √Δ: a regression of |residual| would learn .8 of it.
    """
    batch = stationary()
    slope, sigma = fitted(batch)
    x = np.asarray(batch.window.value[:, 0])
    velocity = (np.asarray(batch.target) - x) / GAP
    exact, offset = np.polyfit(x[:, 0], velocity[:, 0], 1)
    assert slope == pytest.approx(exact, abs=2e-3)
    assert slope == pytest.approx((np.exp(-THETA * GAP) - 1) / GAP, abs=0.08)
    residual = velocity[:, 0] - exact * x[:, 0] - offset
    assert sigma == pytest.approx(np.sqrt(GAP * np.mean(residual**2)), rel=0.02)


@pytest.mark.parametrize("target", ["keep", "return"])
def test_noise_on_the_input_turns_the_flow_and_does_not_end_in_the_diffusion(target: Any) -> None:
    """With x̃ = x + s ε the flow is the regression on x̃: slope (a - [return] s²/Δ)/(1 + s²), a the clean one.

    On data without noise the diffusion is what that flow is off by at the clean points; at the noisy ones it is off
    by three times as much.
    """
    s, clean, undo = 0.3, (np.exp(-THETA * GAP) - 1) / GAP, float(target == "return") / GAP
    batch = stationary(noise=0.0)
    slope, sigma = fitted(batch, input_noise=s, noise_target=target)
    exact = (clean - undo * s**2) / (1 + s**2)
    assert slope == pytest.approx(exact, abs=0.02)
    x = np.asarray(batch.window.value[:, 0])
    off = np.sqrt(GAP * np.mean(((clean - slope) * x) ** 2))
    assert sigma == pytest.approx(off, rel=0.05)
    assert s * abs(undo + slope) * np.sqrt(GAP) > 3 * off


@pytest.mark.parametrize("target", ["keep", "return"])
def test_a_constant_diffusion_has_the_same_loss_with_and_without_noise(target: Any) -> None:
    config = Config(history=1, width=8, input_noise=2.0, noise_target=target)
    m, batch = model(config), transitions(32, config)
    flat = eqx.tree_at(lambda m: m.diffusion_net, m, jax.tree.map(jnp.zeros_like, m.diffusion_net))
    noisy, clean = losses_of(flat, batch, jnp.ones(D), KEY), losses_of(flat, batch, jnp.ones(D))
    np.testing.assert_allclose(noisy.nats, clean.nats, rtol=1e-5, atol=1e-5)
    assert float(jnp.abs(noisy.flow - clean.flow).max()) > 0.1


@pytest.mark.parametrize("substeps", [1, 2])
def test_a_joint_likelihood_is_that_of_the_rows_with_the_noise(substeps: int) -> None:
    """With constant g: ½ r²/(g² s) + log g√s, r what is left of the way that the flow is asked for."""
    config = Config(
        history=1, width=8, objective="joint", input_noise=0.5, noise_target="return", substeps=substeps, confined=False
    )
    m, batch = model(config), transitions(32, config, missing=0.0)
    flat = eqx.tree_at(lambda m: m.diffusion_net, m, jax.tree.map(jnp.zeros_like, m.diffusion_net))
    still = eqx.tree_at(lambda m: m.flow_net, flat, jax.tree.map(jnp.zeros_like, flat.flow_net))
    clean, noisy = losses_of(still, batch, jnp.ones(D)), losses_of(still, batch, jnp.ones(D), KEY)
    g = np.asarray(still.diffusion(jax.tree.map(lambda leaf: leaf[0], batch.window)))
    wanted = clean.nats + 0.5 * (noisy.squared - clean.squared) / g**2
    np.testing.assert_allclose(noisy.nats.sum(1), wanted.sum(1), rtol=1e-4)
    assert float(jnp.abs(noisy.squared - clean.squared).max()) > 0.1


def test_the_flow_reads_nothing_of_the_target() -> None:
    """√(r² Δ) moves by exactly 1/√Δ with the target: whatever the flow reads, the target is not in it."""
    config = Config(history=2, width=8, input_noise=0.5, noise_target="return")
    m, batch = model(config), transitions(32, config, missing=0.0)

    def root(target: jax.Array, one: Transition) -> jax.Array:
        moved = eqx.tree_at(lambda t: t.target, one, target)
        return jnp.sqrt(2 * transition_losses(m, moved, running(jnp.ones(D)), KEY).flow).sum()

    slope = jax.jit(jax.vmap(jax.grad(root)))(batch.target, batch)
    np.testing.assert_allclose(np.abs(slope) * np.sqrt(batch.dt)[:, None], 1.0, rtol=1e-4)


# -- options -----------------------------------------------------------------------------------------------------------


def test_noise_of_one_size_in_data_units_is_one_number_for_each_column() -> None:
    sizes, n = (0.05, 0.6), 8000
    echo = linear(np.eye(2), Config(history=0, depth=0, input_noise=sizes))  # f = x: the residual at rest is the noise
    rest = jax.tree.map(lambda leaf: leaf[0], still(1, np.zeros((1, 2)), np.zeros((1, 2))))
    noise = jax.vmap(lambda key: transition_losses(echo, rest, running(jnp.ones(2)), key).flow)
    squared = 2 * jax.jit(noise)(jax.random.split(KEY, n))
    np.testing.assert_allclose(squared.mean(0), np.square(sizes), rtol=5 * np.sqrt(2 / n))


def test_the_log_loss_is_the_papers_and_tends_to_the_gaussian_one() -> None:
    """½ log(r² Δ / v + δ); for large δ its gradient is 1/δ times that of ½ r² Δ / v (eq. 23)."""
    plain = Config(history=1, width=8)
    m, batch, v = model(plain), transitions(64, plain), jnp.array([0.3, 2.0])

    def with_options(**options: Any) -> SequenceSDE:
        return eqx.tree_at(lambda m: m.flow_net, model(replace(plain, **options)), m.flow_net)

    @eqx.filter_jit
    def gradient(m: SequenceSDE) -> Any:
        return eqx.filter_grad(lambda m: loss(m, batch, running(v), key=KEY)[1][0]["flow"])(m).flow_net

    wide = with_options(flow_loss="log", log_delta=1e6)
    np.testing.assert_allclose(1e6 * weights(gradient(wide)), weights(gradient(m)), rtol=1e-2, atol=1e-4)
    got = losses_of(with_options(flow_loss="log", log_delta=0.01), batch, v)
    relative = 2 * eqx.filter_jit(flow_loss)(m, batch, v)
    np.testing.assert_allclose(got.flow, np.where(got.seen, 0.5 * np.log(relative + 0.01), 0.0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "best"), [("gaussian", 0.0), ("log", 1.0)])
def test_at_a_fork_the_gaussian_loss_takes_the_mean_and_the_log_loss_a_branch(kind: Any, best: float) -> None:
    m = linear([[0.0]], Config(history=0, depth=0, flow_loss=kind))
    fork = still(2, np.zeros((2, 1)), np.array([[1.0], [-1.0]]))

    def value(f: jax.Array) -> jax.Array:
        constant = eqx.tree_at(lambda m: m.flow_net.linear.bias, m, f[None])
        return loss(constant, fork, running(jnp.ones(1)), key=KEY)[1][0]["flow"]

    f = jnp.linspace(-1.5, 1.5, 301)
    assert abs(float(f[jnp.argmin(jax.jit(jax.vmap(value))(f))])) == pytest.approx(best, abs=0.011)


@pytest.mark.parametrize(
    "options",
    [
        {"history": -1},
        {"width": 0},
        {"objective": "both"},
        {"flow_loss": "absolute"},
        {"noise_target": "undo"},
        {"log_delta": 0.0},
        {"log_delta": float("nan")},
        {"input_noise": -0.1},
        {"input_noise": float("inf")},
        {"input_noise": (0.1, float("nan"))},
        {"input_noise": ()},
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((InputError, TypeError), match=next(iter(options))):  # in tests the types are checked first
        Config(**options)


def test_noise_for_other_columns_is_refused() -> None:
    with pytest.raises(InputError, match="3 columns"):
        model(Config(input_noise=(0.1, 0.2)), d=3)
