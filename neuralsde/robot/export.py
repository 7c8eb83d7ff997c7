"""A policy as one file that runs in a process without this package.

    stablehlo   actions (b, execute, a) = program(histories (b, n_obs, f), last (b, a), keys (b, 2))
    onnx        actions (b, execute, a) = program(histories, last, normals (b, n))

The first is a `jax.export` program with its weights and its random numbers, for batches of any size, on CPU and CUDA;
a process needs `jax` and `flatbuffers` to run it. A key is two uint32: with keys[i] = (0, seed) row i is that of
`Policy.act` with this seed, whatever stands in the other rows. ONNX has no random numbers of a key: there each row is
given n standard normals, so only a policy that draws normals alone can be written as ONNX (`driven.py`); one that draws
nothing has no third input. Pixels and float32 on both sides.

Beside the file stands FILE.json: inputs and outputs with shapes, units and names, how the policy is asked, what a plan
costs, and the versions that wrote it. In an ONNX file the same text stands in its metadata too, as "neuralsde".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from neuralsde.data.pusht import LOCAL_KEYPOINTS
from neuralsde.errors import InputError, closest
from neuralsde.robot.driven import Undrivable, driven
from neuralsde.robot.onnx_graph import OPSET, onnx_model
from neuralsde.robot.policy import Policy, acting
from neuralsde.runs.folder import versions
from neuralsde.train.files import write_atomic

PLATFORMS = ("cpu", "cuda")
KIND = "neuralsde policy program"
"""What FILE.json says of itself."""

_AGENT = ["agent x", "agent y"]
_COLUMNS = {
    "pose": ["block x", "block y", "256 + 256 cos(angle)", "256 + 256 sin(angle)", *_AGENT],
    "keypoints": [f"keypoint {k} {axis}" for k in range(len(LOCAL_KEYPOINTS)) for axis in "xy"] + _AGENT,
}


def export_policy(policy: Policy, out: str | Path, format: str | None = None) -> Path:
    """Write the policy, asked as `policy.how` says, to the file `out` and what it is to `out`.json; the path of `out`.

    format: one of `FORMATS`; by default that of the ending of `out`, StableHLO for any other.
    Raises InputError for another format, a file that cannot be written, and as ONNX for a policy that draws more than
    normals or where the extra `onnx` is not installed.
    """
    out = Path(out)
    format = format or (out.suffix[1:] if out.suffix[1:] in FORMATS else "stablehlo")
    if format not in FORMATS:
        raise InputError(f"format={format!r}", "there is none of that name", hint=closest(format, FORMATS))
    if not out.parent.is_dir():
        raise InputError(f"the file {out}", f"there is no folder {out.parent}", hint=f"mkdir -p {out.parent}")
    if out.is_dir():
        raise InputError(f"the file {out}", "it is a folder", "the name of a file", f"{out / ('policy.' + format)}")
    facts = description(policy, format)
    program, more = FORMATS[format](policy, facts)
    facts |= {**more, "bytes": len(program), "sha256": hashlib.sha256(program).hexdigest()}
    write_atomic(out, program)
    write_atomic(out.with_name(out.name + ".json"), (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    return out


def description(policy: Policy, format: str) -> dict[str, Any]:
    """What a program of the policy is, apart from its random input: JSON values."""
    shape = policy.setting.shape(policy.config)
    seen, unit = _COLUMNS.get(policy.kind), "px" if policy.kind in _COLUMNS else "grey levels, the last two px"
    return {
        "kind": KIND,
        "format": format,
        "policy": policy.config.to_dict(),
        "execution": asdict(policy.how),
        "evaluations": policy.evaluations,
        "evaluations_per_action": policy.evaluations_per_action,
        "inputs": [
            {
                "name": "histories", "shape": ["b", shape.n_obs, shape.observation], "dtype": "float32", "unit": unit,
                "meaning": f"the latest observations ({policy.kind}), the newest last; before there are so many the "
                "first one is repeated",
                **({} if seen is None else {"columns": seen}),
            },
            {
                "name": "last", "shape": ["b", shape.action], "dtype": "float32", "unit": "px",
                "meaning": "the last commanded action; before the first one the position of the agent",
                "columns": ["x", "y"],
            },
        ],
        "outputs": [
            {
                "name": "actions", "shape": ["b", policy.how.execute, shape.action], "dtype": "float32", "unit": "px",
                "meaning": "where the agent is told to go in the next steps of 0.1 s", "columns": ["x", "y"],
            }
        ],
        "versions": versions(),
    }  # fmt: skip


# -- StableHLO ---------------------------------------------------------------------------------------------------------


def exported(policy: Policy) -> jax.export.Exported:
    """The policy as a program of (histories, last, keys), for a batch of any size and each of `PLATFORMS`."""
    shape = policy.setting.shape(policy.config)
    (b,) = jax.export.symbolic_shape("b")

    def neuralsde_policy(histories: Array, last: Array, keys: Array) -> Array:
        places = jnp.zeros(keys.shape[:1], jnp.uint32)
        return acting(policy.setting, policy.law, policy.how, histories, last, keys, places)[0]

    return jax.export.export(jax.jit(neuralsde_policy), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((b, shape.n_obs, shape.observation), jnp.float32),
        jax.ShapeDtypeStruct((b, shape.action), jnp.float32),
        jax.ShapeDtypeStruct((b, 2), jnp.uint32),
    )


def _stablehlo(policy: Policy, facts: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    program = exported(policy)
    key = {
        "name": "keys", "shape": ["b", 2], "dtype": "uint32",
        "meaning": "all that a row draws comes from its key: another one for every call; (0, seed) is that of a seed",
    }  # fmt: skip
    return bytes(program.serialize()), {
        "inputs": [*facts["inputs"], key],
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "run": "act = jax.jit(jax.export.deserialize(program_bytes).call); actions = act(histories, last, keys)",
    }


# -- ONNX --------------------------------------------------------------------------------------------------------------


def of_normals(policy: Policy) -> tuple[Callable[..., Any], int]:
    """The policy as a program of one row, (history, last, normals (n,)), and n; without the third where n = 0.

    Raises InputError where more is drawn than normals.
    """
    shape = policy.setting.shape(policy.config)

    def row(key: Array, history: Array, last: Array) -> Array:
        place = jnp.zeros(1, jnp.uint32)
        return acting(policy.setting, policy.law, policy.how, history[None], last[None], key[None], place)[0][0]

    sizes = ((2,), jnp.uint32), ((shape.n_obs, shape.observation), jnp.float32), ((shape.action,), jnp.float32)
    try:
        program, n = driven(row, *(jax.ShapeDtypeStruct(size, dtype) for size, dtype in sizes))
    except Undrivable:
        raise InputError(
            f"a policy of the method {policy.config.name} as ONNX",
            "it draws more than normals, and ONNX has no random numbers of a key",
            "sde without Student tails, cloning, or diffusion and flow-matching by a sampler of fixed steps",
            "format stablehlo",
        ) from None  # fmt: skip
    if not n:
        return lambda history, last: program(jnp.zeros(0), history, last), n
    return lambda history, last, numbers: program(numbers, history, last), n


def _onnx(policy: Policy, facts: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    program, n = of_normals(policy)
    normals = {
        "name": "normals", "shape": ["b", n], "dtype": "float32",
        "meaning": "standard normals, drawn afresh for every call; zeros give the path in the middle",
    }  # fmt: skip
    more = {"inputs": [*facts["inputs"], *([normals] if n else [])], "opset": OPSET}
    sizes = {given["name"]: tuple(given["shape"][1:]) for given in more["inputs"]}
    text = json.dumps({**facts, **more}, allow_nan=False)
    return onnx_model(program, sizes, "actions", {"neuralsde": text}), more


FORMATS: dict[str, Callable[[Policy, dict[str, Any]], tuple[bytes, dict[str, Any]]]] = {
    "stablehlo": _stablehlo,
    "onnx": _onnx,
}
"""By name, which is also the ending of such a file: the bytes of the program, and more to say of it."""
