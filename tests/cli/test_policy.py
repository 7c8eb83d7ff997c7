"""`policy eval` and `export`: the command is the Python function; a policy's folder is known to every other command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

import neuralsde as nsde
from neuralsde.cli import app as cli
from neuralsde.data.pusht import ACTIONS, normaliser
from neuralsde.errors import InputError
from neuralsde.robot import CHOICES, Conditions, Push, rollout, starts
from neuralsde.robot.baselines import Cloning
from neuralsde.robot.plan_law import Execution
from neuralsde.robot.policy import Config, Policy, Setting, build
from neuralsde.robot.sde_plan import Facts
from neuralsde.robot.train import load_policy, save_policy
from neuralsde.runs.folder import RunFolder


@pytest.fixture(scope="module")
def made() -> Policy:
    config = Config(method=Cloning(), kind="pose", n_obs=2, horizon=4, width=4, blocks=1)
    setting = Setting(6, 2, normaliser("pose"), ACTIONS, Facts((0.1, 0.1), (0.1,) * 8))
    return Policy(config, setting, build(config, setting, key=jax.random.key(0)), Execution(2))


@pytest.fixture(scope="module")
def run(made: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(made, tmp_path_factory.mktemp("policies") / "clone").path


def test_eval_prints_and_writes_what_became_of_the_episodes(
    made: Policy, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("av")
    tokens = f"policy eval {run} --starts 3 --max-steps 5 --execute 2 --seed 4 --delay 1 --observation-noise 2 --push"
    assert cli.run(f"{tokens} --video 2 --out {tmp_path}/new".split()) == 0
    out, err = capsys.readouterr()
    found = json.loads((tmp_path / "new" / "evaluation.json").read_text())
    hard = Conditions(delay=1, noise=2.0, push=Push())
    wanted = rollout(made, starts(CHOICES, 3), max_steps=5, seed=4, conditions=hard)
    np.testing.assert_allclose([episode["max_reward"] for episode in found["episodes"]], wanted.max_reward, rtol=1e-12)
    assert found["max_reward"] == pytest.approx(wanted.max_reward.mean())
    assert found["standard_error"] == pytest.approx(wanted.max_reward.std(ddof=1) / math.sqrt(3))
    assert (found["success"], found["median_time_to_095"]) == (0, None)
    assert (found["evaluations_per_plan"], found["evaluations_per_action"]) == (1, 0.5)
    assert found["starts"] == {"first_seed": CHOICES, "count": 3, "are": "for choices"}
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert f"{found['max_reward']:.3f} ± {found['standard_error']:.3f}" in out
    for text in ("cloning on pose", "executes 2 of 4", "200000 to 200002 (for choices)", "1 a plan, 0.5 an executed",
                 "1 steps late, observation noise of 2, a push of 40 px", "100 % never"):  # fmt: skip
        assert text in out
    assert (tmp_path / "new" / "episodes.mp4").read_bytes()[4:8] == b"ftyp"
    assert err.count("written:") == 2


def test_export_writes_the_policy_as_asked(run: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(f"export {run} --execute 3 --steps 1/2 --noise 0.5".split()) == 0
    assert capsys.readouterr().out.strip() == str(run / "policy.stablehlo")
    facts = json.loads((run / "policy.stablehlo.json").read_text())
    assert facts["execution"] == {"execute": 3, "steps": 0.5, "noise": 0.5, "sampler": ""}
    held = jax.export.deserialize(bytearray((run / "policy.stablehlo").read_bytes()))
    assert [str(size) for size in held.out_avals[0].shape] == ["b", "3", "2"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("policy evl RUN", "no command 'evl'; did you mean 'eval'?; see neuralsde policy --help"),
        ("policy eval RUN --video 1", "--out FOLDER"),
        ("policy eval RUN --published --first-seed 3", "one of the two"),
        ("policy eval RUN --starts 0", "0 starts"),
        ("policy eval RUN --execute 9", "execute=9 of plans of 4"),
        ("policy eval RUN --steps many", "--steps many; it is not a number"),
        ("policy eval RUN --steps 0.7", "1/2"),
        ("policy eval RUN --noise -1", "noise=-1"),
        ("policy eval RUN --sampler ddim", "the policy is of the method cloning"),
        ("policy eval RUN --delay -1", "a delay of -1"),
        ("policy eval nowhere", "no such folder"),
        ("export RUN --out no/such/p.stablehlo", "there is no folder"),
        ("export RUN --format onxn", "did you mean 'onnx'?"),
        ("score RUN", "it is a policy"),
        ("forecast RUN t.csv", "neuralsde policy eval"),
        ("sample RUN", "it is a policy"),
        ("report RUN", "it is a policy"),
        ("fit --config RUN/config.json", "it is a policy"),
        ("fit t.csv --resume --out RUN", "it is a policy"),
    ],
)
def test_misuse_is_one_line(run: Path, command: str, says: str, capsys: pytest.CaptureFixture[str]):
    before = sorted(run.iterdir())
    assert cli.run(command.replace("RUN", str(run)).split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("neuralsde: ")
    assert says in err
    assert sorted(run.iterdir()) == before


def test_load_opens_a_policy_and_a_table_run_is_none(run: Path, made: Policy, tmp_path: Path):
    loaded = nsde.load(run)
    assert isinstance(loaded, Policy)
    assert loaded.config == made.config
    given = np.full((1, 2, 6), 200.0, np.float32), np.full((1, 2), 100.0, np.float32), 0
    np.testing.assert_array_equal(loaded.executing(execute=2).act(*given), made.act(*given))
    with pytest.raises(InputError, match="it is a policy"):
        nsde.runs.load(run)
    with pytest.raises(InputError, match="not that of a policy"):
        load_policy(RunFolder.create(tmp_path / "other", {"model": {"name": "sequence-sde"}}).path)
