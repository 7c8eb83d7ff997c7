"""`neuralsde export RUN`: a policy as one file that runs without this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from neuralsde.cli.common import option
from neuralsde.cli.entry import function
from neuralsde.cli.policy import Execute, Noise, PolicyPath, Sampler, Steps, asked_policy


def export(
    run: PolicyPath,
    /,
    *,
    out: Annotated[Path | None, option("FILE", "The program; RUN/policy.stablehlo or .onnx by default.")] = None,
    format: Annotated[str | None, option("NAME", "stablehlo or onnx; by default that of FILE's ending.")] = None,
    execute: Execute = None,
    steps: Steps = None,
    noise: Noise = None,
    sampler: Sampler = None,
) -> None:
    """Write a policy as one file that runs without this package.

    StableHLO runs wherever JAX does, on CPU and CUDA, with batches of any size;
    ONNX (the extra onnx) in any runtime of it, and is given its random numbers.
    FILE.json says what goes in and out; examples/policy_server.py serves the file.
    """
    asked = asked_policy(run, execute, steps, noise, sampler)
    target = run / f"policy.{format or 'stablehlo'}" if out is None else out
    written = function("neuralsde.robot.export:export_policy")(asked, target, format)
    print(written)
    print(f"inputs and outputs: {written}.json; to serve it: examples/policy_server.py", file=sys.stderr)
