"""The laws of the plane and their baselines against closed forms; densities and trio whole, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde.experiments import densities, trio
from neuralsde.experiments.planar import SETS, Gaussian, Kernel, Training, kernel, law, pick, train
from neuralsde.experiments.results import RESULTS

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", SETS)
def test_a_law_is_normalised_and_its_points_are_its_own(name: str) -> None:
    """∫ p = 1 on a grid, and the moments of its samples are those of its density; models see s.d. 1."""
    planar = law(name)
    low, high, n = np.asarray(planar.centre) - 3.2 * planar.scale, np.asarray(planar.centre) + 3.2 * planar.scale, 201
    axes = [np.linspace(a, b, n, endpoint=False) + (b - a) / n / 2 for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)

    @jax.jit
    def both(grid, key):
        x = planar.sample(4_000, key)
        return jax.lax.map(planar.log_density, grid, batch_size=2_000), x, planar.inward(x)

    log_p, x, z = both(jnp.asarray(grid), jax.random.key(0))
    p = np.exp(np.asarray(log_p, np.float64)) * np.prod(high - low) / n**2
    assert p.sum() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(np.mean(x, 0), p @ grid, atol=4 * planar.scale / np.sqrt(4_000))
    assert float(np.var(z, 0).mean()) == pytest.approx(1.0, abs=0.05)


def test_the_kernel_density_chooses_a_width_that_explains_new_points() -> None:
    """Near Silverman's 1.06 n^(-1/6) for one Gaussian; its density is the mean of its kernels."""
    points = jax.random.normal(jax.random.key(0), (1_000, 2))
    chosen = kernel(points)
    assert 0.5 < chosen.width / (1_000 ** (-1 / 6)) < 1.5
    x = jnp.array([[0.3, -0.2]])
    two = Kernel(points[:2], 0.5)
    far = np.square(np.asarray(points[:2]) - np.asarray(x)).sum(1) / 0.25
    exact = np.log(np.mean(np.exp(-0.5 * far)) / (2 * np.pi * 0.25))
    assert float(two.log_density(x)[0]) == pytest.approx(exact, rel=1e-5)
    trivial = Gaussian.of(points)
    assert float(trivial.log_density(x)[0]) == pytest.approx(-np.log(2 * np.pi) - 0.065, abs=0.1)


def test_training_finds_the_mean_of_each_seed() -> None:
    """A model of one vector under a square loss ends at the mean of its own data."""
    data = jax.random.normal(jax.random.key(0), (2, 200, 2)) + jnp.array([[[1.0, 2.0]], [[-1.0, 0.0]]])

    def loss(model, batch, aux, *, key):
        return jnp.square(batch - model).sum(1).mean(), ({}, aux)

    found = train(lambda key: jnp.zeros(2), loss, data, Training(400, 64, 3e-2), seed=0)
    np.testing.assert_allclose(pick(found, 1), data[1].mean(0), atol=0.05)
    np.testing.assert_allclose(pick(found, 0), data[0].mean(0), atol=0.05)


def test_the_energy_is_integrated() -> None:
    """The network is zero at the start, so that exp(-E) is a Gaussian at t0: ∫ = 2π n² over a square of ±4."""
    model = densities.WAYS["energy"][0](densities.SMALL, jax.random.key(0))
    assert float(densities.log_integral(model, 100)) == pytest.approx(np.log(2 * np.pi), abs=1e-3)


@pytest.mark.slow
def test_densities_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densities, "WAYS", {"flow matching": densities.WAYS["flow matching"]})
    lines = list(densities.reproduce(out=tmp_path, size=densities.SMALL))
    facts = json.loads((tmp_path / "densities.json").read_text())
    assert (tmp_path / "densities.md").read_text().strip() == densities.page(facts).strip()
    assert "checkerboard, flow matching" in "\n".join(lines)
    floor, known = np.log(8.0), facts["known"]["checkerboard"]
    for one in known:
        assert one["the law itself"]["nats"] == pytest.approx(floor, rel=1e-6)
        assert one["Gaussian"]["nats"] > floor
    for rows in facts["models"]["checkerboard"].values():
        assert all(row["nats"] > floor for row in rows)  # after four steps a model is little more than the Gaussian
    assert (tmp_path / "densities.png").stat().st_size > 1_000


@pytest.mark.slow
def test_trio_whole(tmp_path: Path) -> None:
    list(trio.reproduce(out=tmp_path, size=trio.SMALL))
    facts = json.loads((tmp_path / "trio.json").read_text())
    text = (tmp_path / "trio.md").read_text()
    assert text.strip() == trio.page(facts).strip()
    for name, rows in facts["losses"].items():
        holds = trio.WAYS[name].holds
        assert set(rows[0]["w2"]) == {by for by in trio.SAMPLERS if trio.refusal(holds, by) is None}
    assert "knows no noised data" in text


def test_every_pair_that_is_refused_says_why() -> None:
    valid = {holds: [by for by in trio.SAMPLERS if trio.refusal(holds, by) is None] for holds in
             ("score", "levels", "velocity", "energy")}  # fmt: skip
    assert valid == {
        "score": ["SDE", "ODE", "Langevin"],
        "levels": ["SDE", "ODE", "Langevin", "HMC"],
        "velocity": ["ODE"],
        "energy": ["Langevin", "HMC"],
    }


@pytest.mark.parametrize(("name", "module"), [("densities", densities), ("trio", trio)])
def test_the_page_that_is_shown_says_what_was_measured(name: str, module) -> None:
    """The committed page is the one that its figures make, and its verdicts are those of its figures."""
    facts = json.loads((ROOT / RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert module.verdicts(facts) == facts["verdicts"]
    assert module.page(facts).rstrip() == (ROOT / RESULTS / f"{name}.md").read_text(encoding="utf-8").rstrip()
