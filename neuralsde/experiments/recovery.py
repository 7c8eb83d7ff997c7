"""Does a fit find the law that made the data? Known linear SDEs, 200,000 transitions, five data seeds (THEORY 19, 20).

One-step Euler coefficients are not those of the SDE (THEORY 15). With u = θΔ ~ U(.02, .2) the drift of an OU process
comes out as E[1 - e^-u] / E[u] = .936 θ, the diffusion as σ √E[(1 - e^-2u) / 2u] = .948 σ; what a network adds to that
is its own error. So beside every fit stand the exact maximum-likelihood estimate, which has no such bias, and the
linear Euler estimate, which has no network. Errors of a drift are root mean squares over the stationary law, each
channel in units of its noise, relative to the true drift. Likelihoods are of fresh transitions, in nats per dimension
and step; a random walk is the model without a drift.

    python -m neuralsde.experiments.recovery [--seeds 5] [--out experiments/results]
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralsde.data import Nothing, Trajectories
from neuralsde.data.windows import Table, starts
from neuralsde.experiments.linear import (
    Estimate,
    Process,
    Sample,
    draw,
    euler_estimate,
    euler_kernels,
    exact_estimate,
    kalman,
    kernels,
    log_density,
    one_step_sigma,
    ornstein_uhlenbeck,
    rotating,
)
from neuralsde.experiments.recovery_checks import MISSING, checks, report
from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, transition_losses
from neuralsde.runs.fit import fit
from neuralsde.runs.report_field import coefficients, to_data
from neuralsde.runs.run import Run

_STATES = 20_000


@dataclass(frozen=True)
class Size:
    """`series` of `steps` transitions to fit, as many of `test_steps` to score, `fit_steps` of training.

    None stands for the default of `fit`.
    """

    series: int = 100
    steps: int = 2_000
    test_steps: int = 1_000
    fit_steps: int | None = None


# -- one fit and what it is measured by ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One data set: what is fitted, fresh transitions, states at which coefficients are compared; which are missing."""

    sample: Sample
    test: Sample
    states: np.ndarray
    keep: np.ndarray
    keep_test: np.ndarray
    seed: int

    @classmethod
    def of(cls, process: Process, seed: int, size: Size) -> Case:
        rng = np.random.default_rng(seed)
        sample, test = (draw(process, size.series, steps, rng) for steps in (size.steps, size.test_steps))
        keep, keep_test = (rng.random(part.values.shape) >= MISSING for part in (sample, test))
        return cls(sample, test, process.states(_STATES, rng), keep, keep_test, seed)

    @property
    def process(self) -> Process:
        return self.sample.process

    def fit(self, table: Trajectories, size: Size) -> Run:
        """The default fit without history; nothing is held out beside its validation part, as the test is fresh."""
        return fit(table, model=Config(history=0), steps=size.fit_steps, seed=self.seed, split=Nothing())

    def drift_error(self, drift: np.ndarray) -> float:
        """Relative RMS error of a drift (n, d) at the states."""
        truth = self.process.drift(self.states)
        return _rms((drift - truth) / self.process.sigma) / _rms(truth / self.process.sigma)


def recover(case: Case, size: Size) -> dict[str, Any]:
    """Fit complete data; errors of the fit, of the exact and of the linear Euler estimate."""
    process, sample, test = case.process, case.sample, case.test
    began = time.monotonic()
    run = case.fit(sample.table(), size)
    seconds = time.monotonic() - began
    drift, sigma = learnt(run, case.states)
    exact, euler = exact_estimate(sample), euler_estimate(sample)
    truth = _nats(log_density(process.kernels, test), process)
    exact_law = kernels(exact.A, exact.b, exact.sigma, process.gaps)
    walk = Estimate(0 * euler.A, 0 * euler.b, _walk(run))
    total, count, _ = one_step(run, test.table())
    return {
        "process": process.name,
        "seed": case.seed,
        "transitions": sample.transitions,
        "seconds": seconds,
        "best_step": _best_step(run),
        "drift": case.drift_error(drift),
        "drift_exact": case.drift_error(exact.drift(case.states)),
        "drift_euler": case.drift_error(euler.drift(case.states)),
        "sigma": max(_rms(channel) for channel in (sigma / process.sigma - 1).T),
        "sigma_ratio": (sigma / process.sigma).mean(0).tolist(),
        "sigma_exact": float(np.abs(exact.sigma / process.sigma - 1).max()),
        "sigma_euler": float(np.abs(euler.sigma / process.sigma - 1).max()),
        "gain": truth - _nats(log_density(euler_kernels(walk, process.gaps), test), process),
        "regret": truth - total / count,
        "regret_exact": truth - _nats(log_density(exact_law, test), process),
        "regret_euler": truth - _nats(log_density(euler_kernels(euler, process.gaps), test), process),
        "regressions": regressions(run, sample),
    }


def recover_missing(case: Case, size: Size) -> dict[str, Any]:
    """The same data with entries missing at random: all that is left, or only the rows where nothing is missing.

    Each fit is scored on test data of its own kind against the Kalman filter, which for whole rows is the true law.
    """
    found: dict[str, Any] = {"seed": case.seed}
    whole = case.keep_test & case.keep_test.all(-1, keepdims=True)
    for name, seen, rows_only in (("masked", case.keep_test, False), ("dropped", whole, True)):
        run = case.fit(case.sample.table(case.keep, complete_rows=rows_only), size)
        best, entries = kalman(case.test, seen)
        total, count, _ = one_step(run, case.test.table(seen, complete_rows=rows_only))
        assert count == entries, "model and Kalman filter must score the same entries"
        found |= {
            f"drift_{name}": case.drift_error(learnt(run, case.states)[0]),
            f"kalman_{name}": best / entries,
            f"gap_{name}": (best - total) / entries,
            f"entries_{name}": entries,
        }
    return found


def learnt(run: Run, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drift and diffusion (n, d) of a run in data units, at states (n, d) seen just now."""
    encoder = run.plan.encoder
    z = encoder.encode_values(states)
    return to_data(encoder, z, *coefficients(run.model, z, np.zeros(encoder.context_dim), 0.0))


def one_step(run: Run, table: Trajectories) -> tuple[float, int, np.ndarray]:
    """Log-likelihood of the observed entries of a table in data units, their number, and residuals (n, d): |r| √Δ.

    Columns on the whole line, a model without history.
    """
    encoder = run.plan.encoder
    rows = encoder.encode(table)
    start = starts(rows, np.ones(len(rows), bool))
    parts = _losses(run.model, Table.of(rows), jnp.asarray(start))
    nats, squared, seen = (np.asarray(part) for part in parts)
    density = np.where(seen, -nats.astype(np.float64) - np.log(encoder.sd), 0.0)
    size = np.sqrt(np.where(seen, squared, np.nan)) * np.array(encoder.sd) / np.sqrt(encoder.tau)
    return float(density.sum()), int(seen.sum()), size


@eqx.filter_jit
def _losses(model: SequenceSDE, table: Table, start: Array) -> tuple[Array, Array, Array]:
    def one(row: Array) -> tuple[Array, Array, Array]:
        losses = transition_losses(
            model, table.transition(row, model.config.past), Running.first(jnp.asarray(model.walk)), None
        )
        return losses.nats, losses.squared, losses.seen

    return jax.vmap(one)(start)


def regressions(run: Run, sample: Sample) -> dict[str, float]:
    """What three ways make of the residuals R = |r| √Δ of one flow, as shares of their true scale, over the channels.

    likelihood: the run's own diffusion. absolute: the least-squares constant for R, its mean. log: that for log R, its
    geometric mean. For Gaussian R these are E|Z| = .80 and e^{E log|Z|} = .53 of the scale (METHOD 10.2).
    """
    _, _, size = one_step(run, sample.table())
    scale = one_step_sigma(sample.process)
    sigma = learnt(run, sample.values.reshape(-1, sample.process.dim)[:: max(1, sample.transitions // _STATES)])[1]
    return {
        "likelihood": float(np.mean(sigma / scale)),
        "likelihood_worst": float(np.abs(np.mean(sigma / scale, axis=0) - 1).max()),
        "absolute": float(np.mean(size / scale)),
        "log": float(np.exp(np.mean(np.log(size / scale)))),
    }


def _walk(run: Run) -> np.ndarray:
    encoder = run.plan.encoder
    return np.array(run.plan.walk) * np.array(encoder.sd) / np.sqrt(encoder.tau)


def _best_step(run: Run) -> int:
    scores = [(row["validation"], row["step"]) for row in run.metrics if "validation" in row]
    return int(min(scores)[1])


def _nats(density: np.ndarray, process: Process) -> float:
    return float(density.mean()) / process.dim


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# -- the whole of it -----------------------------------------------------------------------------------------------


def reproduce(*, out: Path, seeds: int = 5, seed: int = 0, size: Size | None = None) -> Iterator[str]:
    """Run everything, write recovery.json and recovery.md into `out`; yields lines as they become known.

    seeds: data sets of each process, numbered from `seed`.
    """
    size, began = size or Size(), time.monotonic()
    complete: dict[str, list[dict[str, Any]]] = {}
    missing: list[dict[str, Any]] = []
    for process in (ornstein_uhlenbeck(), rotating()):
        complete[process.name] = []
        for number in range(seed, seed + seeds):
            case = Case.of(process, number, size)
            row = recover(case, size)
            complete[process.name].append(row)
            yield _line(row, ("drift", "drift_exact", "sigma", "regret", "gain", "seconds"))
            if process.dim > 1:
                missing.append({"drift": row["drift"], **recover_missing(case, size)})
                yield _line(missing[-1], ("drift", "drift_masked", "drift_dropped", "gap_masked", "gap_dropped"))
    verdict = checks(complete, missing)
    seconds = time.monotonic() - began
    facts = {
        "transitions": size.series * size.steps,
        "seeds": seeds,
        "seconds": round(seconds),
        "cores": os.cpu_count(),
    }
    out.mkdir(parents=True, exist_ok=True)
    saved = {"facts": facts, "checks": [check.to_dict() for check in verdict], "complete": complete, "missing": missing}
    (out / "recovery.json").write_text(json.dumps(rounded(saved), indent=1) + "\n", encoding="utf-8")
    text = report(facts, verdict, complete, missing)
    (out / "recovery.md").write_text(text, encoding="utf-8")
    yield from text.splitlines()


def main(*, seeds: int = 5, out: Path = Path("experiments/results")) -> None:
    """Fit known linear SDEs and write what was asked beside what was measured."""
    for line in reproduce(out=out, seeds=seeds):
        print(line, flush=True)  # noqa: T201 (a command)


def _line(row: dict[str, Any], names: tuple[str, ...]) -> str:
    return f"seed {row['seed']}: " + ", ".join(f"{name} {row[name]:.5g}" for name in names)


def rounded(value: Any) -> Any:
    """Six digits: the rest differs from machine to machine."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    cyclopts.run(main)
