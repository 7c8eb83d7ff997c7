"""A policy in another process, without this package; and the same policy as a function of its normals.

What the file holds is compared with `Policy.act`, to the rounding of another compilation (1e-3 px of 512).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from neuralsde.data.pusht import ACTIONS, normaliser
from neuralsde.errors import InputError
from neuralsde.robot.baselines import Cloning, Mixture
from neuralsde.robot.driven import Undrivable, driven
from neuralsde.robot.export import export_policy, exported, of_normals
from neuralsde.robot.plan_law import Execution
from neuralsde.robot.policy import Config, Policy, Setting, build
from neuralsde.robot.sde_plan import SDE, Facts
from neuralsde.sde.brownian import normals, subkey

ROOT = Path(__file__).resolve().parent.parent.parent
SETTING = Setting(6, 2, normaliser("pose"), ACTIONS, Facts((0.1, 0.1), (0.1,) * 8))
TOLERANCE = 1e-3
RNG = np.random.default_rng(0)
HISTORIES = RNG.uniform(100, 400, (3, 2, 6)).astype(np.float32)
LAST = RNG.uniform(100, 400, (3, 2)).astype(np.float32)
SEEDS = np.array([7, 8, 2**32 - 1], np.uint32)


def policy(method: Any, how: Execution | None = None) -> Policy:
    """One that is nothing special: every weight is off zero."""
    config = Config(method=method, kind="pose", horizon=4, width=4, blocks=1)
    law, rng = build(config, SETTING, key=jax.random.key(0)), np.random.default_rng(1)

    def moved(leaf: Any) -> Any:
        return leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32) if isinstance(leaf, Array) else leaf

    return Policy(config, SETTING, jax.tree.map(moved, law), how or Execution(2))


# -- StableHLO ---------------------------------------------------------------------------------------------------------

ALONE = """
import runpy, sys

class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("neuralsde", "equinox", "jaxtyping"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Path]:
    sde = policy(SDE())
    return sde, export_policy(sde, tmp_path_factory.mktemp("exported") / "policy.stablehlo")


@pytest.fixture(scope="module")
def server(program: tuple[Policy, Path]) -> Iterator[str]:
    """The example server on the exported file, in a process that cannot import this package."""
    command = [sys.executable, "-c", ALONE, str(ROOT / "examples" / "policy_server.py"), str(program[1]), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.sep) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def asked(server: str, question: Any) -> Any:
    with urllib.request.urlopen(server, json.dumps(question).encode(), timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_file_acts_like_the_policy_in_a_process_without_the_package(
    program: tuple[Policy, Path], server: str, rows: int
):
    given = HISTORIES[:rows], LAST[:rows], SEEDS[:rows]
    answer = asked(server, dict(zip(("histories", "last", "seeds"), (x.tolist() for x in given), strict=True)))
    np.testing.assert_allclose(answer["actions"], program[0].act(*given), atol=TOLERANCE)


def test_the_server_draws_seeds_and_says_what_is_wrong_with_a_question(server: str):
    question = {"histories": HISTORIES[:1].tolist(), "last": LAST[:1].tolist()}
    first, second = (asked(server, question)["actions"] for _ in range(2))
    assert np.shape(first) == (1, 2, 2)
    assert first != second
    for wrong, says in [({"histories": []}, "last"), ({**question, "last": [[1, 2, 3]]}, "2"), ([], "list")]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(server, wrong)
        with refused.value as answer:
            assert answer.code == 400
            assert says in json.load(answer)["error"]


def test_the_file_beside_it_says_what_goes_in_and_out(program: tuple[Policy, Path]):
    sde, path = program
    facts = json.loads(path.with_name("policy.stablehlo.json").read_text())
    held = jax.export.deserialize(bytearray(path.read_bytes()))
    told = [*facts["inputs"], *facts["outputs"]]
    for given, aval in zip(told, (*held.in_avals, *held.out_avals), strict=True):
        assert [str(size) for size in given["shape"]] == [str(size) for size in aval.shape]
        assert given["dtype"] == aval.dtype.name
    assert [given["name"] for given in told] == ["histories", "last", "keys", "actions"]
    assert len(facts["inputs"][0]["columns"]) == 6
    assert facts["platforms"] == list(held.platforms) == ["cpu", "cuda"]
    assert (facts["bytes"], facts["sha256"]) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert facts["execution"] == {"execute": 2, "steps": 1.0, "noise": 1.0, "sampler": ""}
    assert (facts["evaluations"], facts["evaluations_per_action"]) == (sde.evaluations, 1.0) == (2, 1.0)


@pytest.mark.parametrize(
    ("name", "format", "says"),
    [
        ("no/such/p.stablehlo", None, "there is no folder"),
        ("p.stablehlo", "onxn", "did you mean 'onnx'?"),
        ("", None, "a folder"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, format: str | None, says: str):
    with pytest.raises(InputError, match=says):
        export_policy(policy(Cloning()), tmp_path / name, format)
    assert not list(tmp_path.iterdir())


# -- normals as an input -----------------------------------------------------------------------------------------------


def drawn(seeds: np.ndarray, steps: int, size: int) -> Array:
    """The normals that `Policy.act` draws for these seeds, row by row."""

    def row(seed: Array) -> Array:
        key = subkey(jax.random.wrap_key_data(jnp.stack([jnp.zeros_like(seed), seed]), impl="threefry2x32"), 0, 0)
        return jnp.concatenate([normals(key, k, (size,), jnp.float32) for k in range(steps)])

    return jax.vmap(row)(jnp.asarray(seeds))


def test_a_policy_given_its_normals_is_the_policy_that_draws_them(program: tuple[Policy, Path]):
    function, n = of_normals(program[0])
    assert n == 4
    found = jax.jit(lambda *given: jax.vmap(function)(*given, drawn(SEEDS, 2, 2)))(HISTORIES, LAST)
    np.testing.assert_allclose(found, program[0].act(HISTORIES, LAST, SEEDS), atol=TOLERANCE)


def test_a_program_is_driven_by_the_normals_of_either_kind_in_their_order():
    """Loops forward and backward, calls within calls, and what else the key decided."""

    def program(key: Array, x: Array) -> Array:
        def turn(total: Array, k: Array) -> tuple[Array, Array]:
            return 2 * total + normals(key, k, (), jnp.float32), total

        total, path = jax.lax.scan(turn, x, jnp.arange(2))
        total, _ = jax.lax.scan(turn, total, jnp.arange(2), reverse=True)
        return total + 100 * jax.jit(jax.random.normal)(key) + path[1]

    function, n = driven(program, jax.random.key(0), jnp.zeros(()))
    numbers = jnp.array([1.0, 0.5, 0.25, 0.125, 0.03])
    assert n == 5
    assert float(function(numbers, 3.0)) == pytest.approx(16 * 3 + 8 + 2 + 0.5 + 0.125 + 100 * 0.03 + 7)
    with pytest.raises(Undrivable):
        driven(lambda key: jax.random.normal(key) + jax.random.uniform(key), jax.random.key(0))


def test_a_policy_that_draws_more_than_normals_is_no_onnx():
    assert of_normals(policy(Cloning()))[1] == 0
    with pytest.raises(InputError, match="as ONNX") as refused:
        of_normals(policy(Mixture(2)))
    assert "\n" not in refused.value.line


def test_onnx_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs the extra 'onnx'"):
        export_policy(policy(Cloning()), tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    "ours",
    [(SDE(), 2), (Cloning(), 1)],
    ids=["sde in two steps", "cloning"],
)
def test_an_onnx_file_acts_like_the_policy_given_its_normals(tmp_path: Path, ours: tuple[Any, float]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that are tried
        pytest.importorskip("onnx", reason="needs the extra 'onnx': pip install 'neuralsde[onnx]'")
        runtime = pytest.importorskip("onnxruntime", reason="needs a runtime: pip install onnxruntime")
    asked = policy(ours[0], Execution(2, ours[1]))
    session = runtime.InferenceSession(export_policy(asked, tmp_path / "policy.onnx"))
    names, (function, n) = [given.name for given in session.get_inputs()], of_normals(asked)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["neuralsde"])
    assert [given["name"] for given in facts["inputs"]] == names == ["histories", "last", "normals"][: 2 + bool(n)]
    numbers = np.random.default_rng(2).normal(size=(3, n)).astype(np.float32)
    for rows in (1, 3):
        given = [HISTORIES[:rows], LAST[:rows], numbers[:rows]][: len(names)]
        found = session.run(None, dict(zip(names, given, strict=True)))[0]
        np.testing.assert_allclose(found, jax.jit(jax.vmap(function))(*given), atol=TOLERANCE)


def test_every_method_can_be_written(program: tuple[Policy, Path]):
    """Lowered for both platforms without a check switched off."""
    held = exported(policy(Mixture(2)))
    assert (held.platforms, held.disabled_safety_checks) == (("cpu", "cuda"), ())
