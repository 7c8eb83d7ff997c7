"""From a table to a run and back: folders, resuming, repeating, and nothing half-written on misuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from neuralsde.data import from_arrays
from neuralsde.errors import InputError
from neuralsde.models.sequence_sde import Config
from neuralsde.runs import Run, fit, load
from neuralsde.runs.plan import Plan, model_config


def leaves(model) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model)]


def test_a_run_folder_holds_what_the_design_says(run: Run):
    names = {path.name for path in tiny.folder_of(run).path.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "model.safetensors", "finished.json"} <= names
    assert tiny.folder_of(run).summary()["best_validation_nats"] < 2


def test_load_gives_the_same_model_and_forecasts(run: Run):
    again = load(tiny.folder_of(run).path, data=tiny.data_of(run))
    assert all(np.array_equal(a, b) for a, b in zip(leaves(run.model), leaves(again.model), strict=True))
    assert again.forecast(horizon=2, n=10).equals(run.forecast(horizon=2, n=10))
    assert again.describe() == run.describe()


def test_a_plan_survives_json(run: Run):
    saved = json.loads(json.dumps(run.plan.to_dict()))
    assert Plan.from_dict(saved).to_dict() == run.plan.to_dict()


def test_the_same_options_give_the_same_bits_in_memory(run: Run):
    plan = run.plan
    again = fit(tiny.ou_table(), model=plan.config, training=plan.train)
    assert all(np.array_equal(a, b) for a, b in zip(leaves(run.model), leaves(again.model), strict=True))


def test_a_finished_run_resumes_to_itself(run: Run, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny.folder_of(run).path, folder)
    (folder / "finished.json").unlink()  # as if it had been killed between the last step and the weights
    (folder / "model.safetensors").unlink()
    again = fit(tiny.ou_table(), model=run.plan.config, training=run.plan.train, out=folder, resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(leaves(run.model), leaves(again.model), strict=True))
    assert (folder / "model.safetensors").read_bytes() == tiny.folder_of(run).weights_path.read_bytes()


def test_resume_under_other_options_is_refused(run: Run):
    with pytest.raises(InputError, match=r"model\.width 16 -> 17"):
        fit(
            tiny.data_of(run),
            model=Config(history=1, width=17, depth=1),
            training=run.plan.train,
            out=tiny.folder_of(run).path,
            resume=True,
        )


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_no_folder(tmp_path: Path, steps: int):
    with pytest.raises(InputError, match="steps"):
        fit(tiny.ou_table(), steps=steps, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_written_over(run: Run):
    before = tiny.folder_of(run).weights_path.read_bytes()
    with pytest.raises(InputError, match=r"exists|already"):
        fit(tiny.ou_table(), out=tiny.folder_of(run).path)
    assert tiny.folder_of(run).weights_path.read_bytes() == before


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'sequence-sde'"):
        fit(tiny.ou_table(), model="sequence-sd")
    with pytest.raises(InputError, match="did you mean 'history'"):
        model_config("sequence-sde", {"histroy": 3})


def test_weights_that_were_cut_off_are_refused(run: Run, tmp_path: Path):
    folder = tmp_path / "cut"
    shutil.copytree(tiny.folder_of(run).path, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load(folder)


def test_a_run_without_its_table_says_so(run: Run):
    with pytest.raises(InputError, match="data from memory"):
        load(tiny.folder_of(run).path).score()


def test_series_of_two_rows_can_be_fitted():
    rng = np.random.default_rng(0)
    data = from_arrays([np.array([0.0, 1.0])] * 30, [rng.standard_normal((2, 1)) for _ in range(30)])
    assert fit(data, model=Config(history=2, width=8, depth=1), training=tiny.TRAINING).plan.rows["transitions"] > 10
