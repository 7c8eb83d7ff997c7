"""Score matching: every objective and weighting has the value that a closed form gives it, at a score that is wrong."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.errors import InputError
from neuralsde.models.score import Config, Objective, ScoreModel, Weighting, levels, loss, matching_loss
from neuralsde.models.times import lognormal_times, quantiles, snr_range, snr_times
from neuralsde.noising import EDM, VE, VP, Gaussian, Predictor

pytestmark = pytest.mark.usefixtures("x64")
SD, SLOPE, N = 0.7, 0.6, 4096


def wrong(x, t):
    """A noise prediction that no law has."""
    return SLOPE * jnp.sin(x)


def test_all_objectives_have_one_value_and_weights_are_what_they_say() -> None:
    """For data N(0, s²): E|a sin x - ε|² by Gaussian integrals, e.g. E[ε sin x_t] = σ E[cos x_t] = σ exp(-v/2)."""
    schedule = VP(0.1, 8.0)
    x = SD * jax.random.normal(jax.random.key(0), (N, 2))
    cases: list[tuple[Objective, Weighting]] = [
        ("denoising", "simple"),
        ("implicit", "simple"),
        ("sliced", "simple"),
        ("implicit", "likelihood"),
        ("denoising", "edm"),
    ]

    @jax.jit
    def measured():
        predictor = Predictor(wrong, "noise", schedule)
        keys = jax.random.split(jax.random.key(1), 8)
        found = []
        for objective, weighting in cases:
            config = Config(schedule, kind="noise", objective=objective, weighting=weighting)
            found.append(jax.vmap(lambda k, c=config: matching_loss(lambda _: predictor, c, x, key=k))(keys))
        return jnp.stack(found)

    @jax.jit
    def exact():
        u, found = (jnp.arange(4096) + 0.5) / 4096, {}
        for name, t, weight in (
            ("simple", schedule.t0 + u * (schedule.t1 - schedule.t0), 1.0),
            ("likelihood", snr_times(schedule, u), 0.5 * snr_range(schedule)),
            ("edm", lognormal_times(schedule, u, -1.2, 1.2), None),
        ):
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            v = (alpha * SD) ** 2 + sigma**2
            error = SLOPE**2 * 0.5 * (1 - jnp.exp(-2 * v)) - 2 * SLOPE * sigma * jnp.exp(-v / 2) + 1
            # "edm" squares x_0, which is σ̃ as large, with the weight (σ̃² + 1)/σ̃² for data of s.d. 1
            found[name] = (error * ((sigma / alpha) ** 2 + 1 if weight is None else weight)).mean()
        return found

    known = exact()
    for (objective, weighting), values in zip(cases, np.asarray(measured()), strict=True):
        error = values.std(ddof=1) / np.sqrt(len(values)) + 0.02 * abs(known[weighting])
        assert abs(values.mean() - known[weighting]) < 3 * error, (objective, weighting)


def test_levels_are_even_and_in_the_range_of_the_schedule() -> None:
    for config in (Config(VP()), Config(VE(), weighting="likelihood"), Config(EDM(), weighting="edm")):
        schedule = config.schedule
        t, _ = jax.jit(lambda c=config: levels(c, 256, key=jax.random.key(0)))()
        assert float(t.min()) >= schedule.t0 * (1 - 1e-6)
        assert float(t.max()) <= schedule.t1 * (1 + 1e-6)
    even = np.sort(np.asarray(jax.jit(lambda: quantiles(256, stratified=True, key=jax.random.key(1)))()))
    assert np.diff(even).max() <= 2 / 256 + 1e-12
    assert np.diff(even, 2).max() < 2 / 256

    @jax.jit
    def spread(keys):
        def mean(stratified):
            return jax.vmap(lambda k: jnp.square(quantiles(64, stratified=stratified, key=k)).mean())(keys)

        return mean(True).std(), mean(False).std()

    even, independent = spread(jax.random.split(jax.random.key(2), 100))
    assert float(even) < 0.25 * float(independent)


def test_the_exact_network_of_each_kind_gives_the_exact_score_and_the_least_loss() -> None:
    """A Gaussian's own predictions as the network: no constant factor between the kinds, and any change costs."""
    law, x = Gaussian(jnp.zeros(2), SD**2 * jnp.eye(2)), SD * jax.random.normal(jax.random.key(3), (1024, 2))
    schedule = VP()
    at = schedule.time_at(1.0)
    point = jnp.array([0.4, -1.1])

    class Known(eqx.Module):
        """What a network of the kind has to say, from its scaled input and its clock, times 1 + off."""

        kind: Any = eqx.field(static=True)
        off: float = eqx.field(static=True, default=0.0)

        def __call__(self, z, c):
            t = schedule.time_at(-8 * c)
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            if self.kind == "edm":  # data_sd is right, so that the best network is zero
                return self.off * z
            n = jnp.hypot(alpha * SD, sigma)
            return (1 + self.off) * law.predictor(schedule)(n * z, t, self.kind)

    for kind in ("edm", "v"):
        config = Config(schedule, kind=kind, data_sd=SD, stratified=False)
        model = ScoreModel(config, Known(kind))

        @jax.jit
        def values(kind=kind, config=config, model=model):
            losses = [loss(ScoreModel(config, Known(kind, off)), x, (), key=jax.random.key(4))[0] for off in (0.0, 0.3)]
            return losses, model.predictor().score(point, at), law.at(schedule, at).score(point)

        (best, worse), found, exact = values()
        np.testing.assert_allclose(found, exact, rtol=1e-9, err_msg=kind)
        assert float(best) < float(worse), kind


def test_labels_reach_the_network_and_some_are_withheld() -> None:
    def net(x, c, label):
        return jnp.where(label < 0, 100.0, 0.0) * jnp.ones_like(x)

    x, labels = jnp.zeros((400, 1)), jnp.ones(400, int)
    config = Config(kind="noise", unlabelled=0.25)
    value = jax.jit(lambda: loss(ScoreModel(config, net), (x, labels), (), key=jax.random.key(0))[0])()
    assert float(value) / 100.0**2 == pytest.approx(0.25, abs=0.08)
    assert float(ScoreModel(config, net).predictor(jnp.asarray(1)).noise(x[0], 0.5)[0]) == 0.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data_sd": 0.0}, "a positive number"),
        ({"unlabelled": 1.5}, "a share from 0 to 1"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Config(**options)
    assert says in caught.value.line
