"""The law, the reference and the figures of the samplers' experiment, and a small run beside the published ladder."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments.samplers import SMALL, ladder, law, measure, reproduce
from neuralsde.experiments.samplers.ladder import Cell, half_unit
from neuralsde.experiments.samplers.page import moment_order, slope
from neuralsde.experiments.samplers.rows import rows
from neuralsde.sampling import SAMPLERS, sample

KEY = jax.random.key(0)


def test_every_sampler_and_every_row_of_the_ladder_runs() -> None:
    every = rows()
    assert {row.name for row in every} == set(SAMPLERS)
    labels = [row.label for row in every]
    assert len(set(labels)) == len(labels)
    for published in (ladder.MEDIAN, ladder.SLICED_W2, ladder.EXCESS, ladder.ORDER_SEEN):
        assert set(published) <= set(labels)
    assert {row.label for row in rows(("ddim",))} == {"DDIM, log-SNR", "DDIM, uniform t"}


@pytest.mark.usefixtures("x64")
def test_the_fast_score_is_that_of_the_oracle() -> None:
    """At one point, for many at one time, and for many at times of their own."""
    net, oracle = law.exact().net, law.law().predictor(law.SCHEDULE).net
    x, ts = 3 * jax.random.normal(KEY, (7, 2)), jnp.linspace(law.T0, law.T1, 7)

    def all_ways(net):
        return net(x[0], 0.3), jax.vmap(lambda x: net(x, 0.01))(x), jax.vmap(net)(x, ts)

    for found, wanted in zip(*jax.jit(lambda: (all_ways(net), all_ways(oracle)))(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_reference_converges_at_order_four_to_a_map_that_keeps_the_law() -> None:
    """Halving the step divides the change by 16; the ends of exact starts have the law's mean."""
    x = law.starts(600, key=KEY)
    coarse, middle, fine = (np.asarray(law.reference(x, steps)) for steps in (100, 200, 400))
    ratio = np.median(np.linalg.norm(coarse - middle, axis=1)) / np.median(np.linalg.norm(middle - fine, axis=1))
    assert ratio == pytest.approx(16, rel=0.25)
    mean, cov = law.law().at(law.SCHEDULE, law.T0).moments()
    assert (np.abs(fine.mean(0) - mean) < 4 * np.sqrt(np.diag(cov) / 600)).all()


@pytest.mark.usefixtures("x64")
def test_blocks_on_a_padded_grid_are_the_loop_of_the_library() -> None:
    """Five steps of a grid padded to eight, two blocks: end points and evaluations of `sample`."""
    (row,) = rows(("sde-dpmpp-2m",))
    x = law.starts(6, key=KEY)
    end, asked = measure.ends(law.exact(), row, 5, x, key=KEY, longest=8, block=3)
    ts, keys = law.grid(5, "log-snr"), jax.random.split(KEY, 6)
    exact = law.exact()
    wanted = jax.jit(jax.vmap(lambda x, key: sample(exact, x, ts, sampler=row.sampler, key=key)))(x, keys)
    np.testing.assert_allclose(end, wanted.x, rtol=1e-10)
    assert asked == wanted.nfe[0] == 5


@pytest.mark.usefixtures("x64")
def test_the_error_of_the_score_has_the_size_that_is_told() -> None:
    """5 % of the score's length at every point; smooth or not, as seen between two points 10⁻⁶ apart."""
    exact = law.exact()
    x = 3 * jax.random.normal(KEY, (50, 2))
    for kind, far in (("smooth", False), ("white", True)):
        wrong = law.erring(**{kind: 0.05})

        @jax.jit
        @jax.vmap
        def errors(x, wrong=wrong):
            right = exact.score(x, 0.3)
            return wrong.score(x, 0.3) - right, wrong.score(x + 1e-6, 0.3) - exact.score(x + 1e-6, 0.3), right

        *off, right = map(np.asarray, errors(x))
        length = np.linalg.norm(right, axis=1)
        np.testing.assert_allclose(np.linalg.norm(off[0], axis=1), 0.05 * length, rtol=1e-9)
        turned = np.linalg.norm(off[0] - off[1], axis=1) / (0.05 * length)
        assert bool(np.median(turned) > 0.5) is far
        assert far or turned.max() < 1e-4
        assert np.linalg.norm((off[0] / length[:, None]).mean(0)) < 0.05 / 2  # no direction of its own


@pytest.mark.usefixtures("x64")
def test_figures_of_real_draws_are_those_of_the_law() -> None:
    """The published entropy; a shift by s is s/√2 in sliced W2, for the directions are equally spaced."""
    n = 20_000
    x = np.array(law.truth(n, key=KEY))
    noised = law.law().at(law.SCHEDULE, law.T0)
    assert measure.cross_entropy(noised, x) == pytest.approx(law.ENTROPY, abs=4 * 1.1 / np.sqrt(n))
    yard = measure.Yardstick(n, key=KEY)
    assert yard.figures(x)["w2"] == pytest.approx(0.0, abs=1e-5)
    assert yard.figures(x + np.array([3.0, 0.0]))["w2"] == pytest.approx(3 / np.sqrt(2), rel=1e-4)
    x[0] = np.nan
    assert yard.figures(x) == {"w2": float("inf"), "excess": float("inf")}
    found = measure.error(np.array([[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]]), np.zeros((3, 2)))
    assert found == {"median": 3.0, "rms": pytest.approx(5 / np.sqrt(3))}


def test_a_cell_is_held_up_to_rounding_noise_and_floor() -> None:
    assert half_unit(3.7e-3) == pytest.approx(5e-5)
    assert half_unit(0.098, 3) == pytest.approx(5e-4)
    assert Cell(3.75e-3, 0.0, 3.7e-3, 5e-5).held()
    assert not Cell(4.0e-3, 0.0, 3.7e-3, 5e-5).held()
    assert Cell(4.0e-3, 6e-5, 3.7e-3, 5e-5).held()
    assert Cell(0.05, 0.0, 0.028, 5e-4).held(floor=0.06)
    nfe = np.array([48, 96, 192, 384])
    assert slope(nfe, 7.0 * nfe**-2.5) == pytest.approx(2.5)
    assert moment_order({"nfe": nfe, "cov": [1e-13] * 4}, "cov") is None


def test_a_small_run_climbs_the_ladder_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    first = reproduce(out=tmp_path, size=SMALL)
    assert next(first).startswith("DPM-Solver++(2M), log-SNR: ")
    assert isinstance(first, Generator)
    first.close()
    page = "\n".join(reproduce(out=tmp_path, size=SMALL))
    facts = json.loads((tmp_path / "samplers.json").read_text())
    found = facts["found"]
    for label in ("DPM-Solver++(2M), log-SNR", "DPM-Solver++(2M), ρ = 7"):
        for nfe, published in zip(ladder.ERROR_NFE, ladder.MEDIAN[label], strict=True):
            assert np.mean(found[label][str(nfe)]["median"]) == pytest.approx(published, rel=0.2), (label, nfe)
    stochastic = found["SDE-DPM-Solver++(2M), log-SNR"]
    assert np.mean(stochastic["96"]["excess"]) < 0.5 * np.mean(stochastic["12"]["excess"])
    assert facts["moments"]["DPM-Solver++(2M), log-SNR"] == {}
    moments = facts["moments"]["SDE-DPM-Solver++(2M), log-SNR"]
    assert moment_order(moments, "mean") is None
    assert moment_order(moments, "cov") == pytest.approx(2, abs=ladder.ORDER_TOLERANCE)
    assert facts["erring"]["DPM-Solver++(2M), log-SNR"]["none"]["24"]["nfe"] == 24
    assert (
        "| order of the path within 0.15 of theory, NFE 48 to 384 (the last four rows) | 2 of 2 samplers | yes |"
        in page
    )
    assert (tmp_path / "samplers.md").read_text().startswith("# Samplers on a law whose score is known")
    assert (tmp_path / "samplers.png").stat().st_size > 10_000
