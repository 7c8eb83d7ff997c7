"""Does a fit find the law that made the data? Known SDEs, 200,000 transitions at irregular gaps (THEORY 19, 20).

An OU process; a rotating one; a square-root process, whose noise depends on the state; a double well, whose drift is
not linear; ten channels with correlated noise. In two of them also with 30 % of the entries missing.

One-step Euler coefficients are not those of the SDE (THEORY 15): with u = θΔ ~ U(.02, .2) the drift of an OU process
comes out as E[1 - e^-u] / E[u] = .935 θ, the diffusion as σ √E[(1 - e^-2u) / 2u] = .948 σ; what a network adds to that
is its own error. So beside every fit stand the exact maximum-likelihood estimate, which has no such bias, and the
Euler estimate of the right parametric form, which has no network (`known`). Where the law of the gap is of second
order, or that of four steps, the bias is gone or a quarter. Errors of a drift are root mean squares over the
stationary law, each channel in units of its noise, relative to the true drift. Likelihoods are of fresh transitions, in
nats per dimension and step; a random walk is the model without a drift, with the right shape of the noise.

The double well is the hard one: its drift is worth .012 nats a step, and a network has to find its form. Tried on two
of its data sets (drift errors as set here .12 and .20): a quarter of the width .55 to .69, a quarter of the rate .20
and .37, larger batches .12 and .22, five times the rate .14 and .16, and twice the steps beside .12 and .13; four times
the data .12. So it is the fit that is short of the bound, not the data alone.

    neuralsde reproduce recovery
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralsde.data import Nothing, Trajectories
from neuralsde.data.windows import Table, starts
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.known import Euler, Process, Sample, draw
from neuralsde.experiments.linear import Linear, kalman, ornstein_uhlenbeck, rotating, ten
from neuralsde.experiments.nonlinear import CIR, DoubleWell
from neuralsde.experiments.recovery_checks import MISSING, checks, report
from neuralsde.experiments.results import write_results
from neuralsde.experiments.seeds import window
from neuralsde.models.sequence_sde import Config, Running, SequenceSDE, transition_losses
from neuralsde.runs.fit import fit
from neuralsde.runs.report_field import coefficients, to_data
from neuralsde.runs.run import Run
from neuralsde.train.problem import TrainConfig

_STATES = 20_000


@dataclass(frozen=True)
class Case:
    """A process and what is fitted to it.

    bias:    what the law of a gap leaves of the bias of one step.
    lighter: by how much the batches are smaller, where a step takes long.
    sets:    how many of the data sets it is fitted to at most; thinned: how many of these also with entries missing.
    dropped: whether the rows that miss something are also left out.
    """

    process: Process
    options: Mapping[str, Any] = field(default_factory=dict)
    how: str = "one step"
    bias: float = 1.0
    lighter: int = 1
    sets: int = 1_000
    thinned: int = 0
    dropped: bool = False

    @property
    def name(self) -> str:
        """The process, and the law of a gap where that is not one step."""
        return self.process.name if self.how == "one step" else f"{self.process.name}, {self.how}"


LOCAL_LINEAR = {"options": {"law": "local-linear", "substeps": 8}, "how": "local linear", "bias": 0.0}
FOUR_STEPS = {"options": {"substeps": 4}, "how": "four steps", "bias": 0.25, "lighter": 4}


def cases() -> list[Case]:
    """All of them."""
    return [
        Case(ornstein_uhlenbeck()),
        Case(ornstein_uhlenbeck(), **LOCAL_LINEAR),
        Case(rotating(), thinned=1_000, dropped=True),
        Case(CIR()),
        Case(CIR(), sets=1, **FOUR_STEPS),
        Case(DoubleWell()),
        Case(DoubleWell(), **LOCAL_LINEAR),
        Case(ten(), options={"noise": "full"}, sets=2, thinned=1),
    ]


@dataclass(frozen=True)
class Size:
    """`series` of `steps` transitions to fit, as many of `test_steps` to score; `sets` of data of every process."""

    sets: int = 3
    series: int = 100
    steps: int = 2_000
    test_steps: int = 1_000
    width: int = 32
    depth: int = 2
    fit_steps: int = 1_000
    batch: int = 2_048
    rate: float = 2e-3


SMALL = Size(sets=1, series=20, steps=60, test_steps=30, depth=0, fit_steps=10)
FULL = Size(sets=10, width=64, fit_steps=10_000, rate=1e-3)


# -- one fit and what it is measured by --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """One data set: what is fitted, fresh transitions, states at which coefficients are compared; which are missing."""

    process: Process
    sample: Sample
    test: Sample
    states: np.ndarray
    keep: np.ndarray
    keep_test: np.ndarray
    seed: int

    @classmethod
    def of(cls, process: Process, seed: int, size: Size) -> Drawn:
        """Of one seed."""
        rng = np.random.default_rng(seed)
        sample, test = (draw(process, size.series, steps, rng) for steps in (size.steps, size.test_steps))
        keep, keep_test = (rng.random(part.values.shape) >= MISSING for part in (sample, test))
        return cls(process, sample, test, process.states(_STATES, rng), keep, keep_test, seed)

    def fit(self, table: Trajectories, size: Size, **options: Any) -> Run:
        """A fit without history; nothing is held out beside its validation part, as the test is fresh."""
        config = Config(history=0, width=size.width, depth=size.depth, **options)
        every = max(size.fit_steps // 8, 1)
        training = TrainConfig(
            steps=size.fit_steps, batch_size=size.batch, learning_rate=size.rate, log_every=every, validate_every=every,
            ema=min(0.999, 1 - 10 / (size.fit_steps + 10)),
        )  # fmt: skip
        return fit(table, model=config, training=training, seed=self.seed, split=Nothing())

    def drift_error(self, drift: np.ndarray) -> float:
        """Relative RMS error of a drift (n, d) at the states."""
        truth = self.process.drift(self.states)
        unit = np.sqrt(np.square(self.process.spread(self.states)).mean(0))
        return _rms((drift - truth) / unit) / _rms(truth / unit)

    def noise_error(self, spread: np.ndarray) -> float:
        """Relative RMS error of a diffusion (n, d) at the states, of the worst channel."""
        return max(_rms(channel) for channel in (spread / self.process.spread(self.states) - 1).T)

    def estimates(self) -> dict[str, float]:
        """Errors of the exact and of the Euler estimate, of what one step finds in endless data; the truth's gain."""
        process, truth, found = self.process, self.test.nats(self.process), {}
        for name, law in (("exact", process.exact(self.sample)), ("euler", Euler.of(self.sample))):
            found[f"drift_{name}"] = self.drift_error(law.drift(self.states))
            found[f"sigma_{name}"] = self.noise_error(law.spread(self.states))
            found[f"regret_{name}"] = truth - self.test.nats(law)
        drift, spread = process.one_step(self.states)
        found |= {"drift_one_step": self.drift_error(drift), "sigma_one_step": self.noise_error(spread)}
        return {**found, "truth": truth, "gain": truth - self.test.nats(Euler.of(self.sample, walk=True))}


def recover(case: Case, drawn: Drawn, known: Mapping[str, float], size: Size) -> tuple[dict[str, Any], Run]:
    """Fit complete data; errors of the fit, beside those of the estimates."""
    began = time.monotonic()
    run = drawn.fit(drawn.sample.table(), replace(size, batch=size.batch // case.lighter), **case.options)
    seconds = time.monotonic() - began
    drift, spread = learnt(run, drawn.states)
    total, count, _ = one_step(run, drawn.test.table())
    row = {
        "case": case.name,
        "seed": drawn.seed,
        "transitions": drawn.sample.transitions,
        "seconds": seconds,
        "best_step": _best_step(run),
        "order": case.bias,
        "drift": drawn.drift_error(drift),
        "sigma": drawn.noise_error(spread),
        "regret": known["truth"] - total / count,
        **known,
    }
    if case.bias == 1:
        row["regressions"] = regressions(run, drawn.sample)
    if isinstance(drawn.process, Linear) and drawn.process.correlated:
        row["covariance"] = noise_covariance_error(run, drawn)
    return row, run


def recover_missing(case: Case, drawn: Drawn, size: Size) -> dict[str, Any]:
    """The same data with entries missing at random: all that is left, or only the rows where nothing is missing.

    Each fit is scored on test data of its own kind against the Kalman filter, which for whole rows is the true law.
    """
    assert isinstance(case.process, Linear)
    found: dict[str, Any] = {"seed": drawn.seed}
    whole = drawn.keep_test & drawn.keep_test.all(-1, keepdims=True)
    kinds = [("masked", drawn.keep_test, False), ("dropped", whole, True)]
    for name, seen, rows_only in kinds if case.dropped else kinds[:1]:
        run = drawn.fit(drawn.sample.table(drawn.keep, complete_rows=rows_only), size, **case.options)
        best, entries = kalman(case.process, drawn.test, seen)
        test = drawn.test.table(seen, complete_rows=rows_only)
        total, count, _ = one_step(run, test)
        walk, _, _ = one_step(replace(run, model=run.plan.model()), test)
        assert count == entries, "model and Kalman filter must score the same entries"
        found |= {
            f"drift_{name}": drawn.drift_error(learnt(run, drawn.states)[0]),
            f"kalman_{name}": best / entries,
            f"gap_{name}": (best - total) / entries,
            f"gain_{name}": (best - walk) / entries,
            f"entries_{name}": entries,
        }
    return found


def learnt(run: Run, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drift and diffusion (n, d) of a run in data units, at states (n, d) seen just now."""
    encoder = run.plan.encoder
    z = encoder.encode_values(states)
    return to_data(encoder, z, *coefficients(run.model, z, np.zeros(encoder.context_dim), 0.0))


def noise_covariance_error(run: Run, drawn: Drawn) -> float:
    """Relative Frobenius error of G Gᵀ against what one step finds, RMS over the states, channels in their units."""
    encoder, process = run.plan.encoder, drawn.process
    assert isinstance(process, Linear)
    z = jnp.asarray(encoder.encode_values(drawn.states[:2_000]), jnp.float32)
    unit = np.sqrt(np.diag(process.one_step_noise))
    G = np.asarray(_factors(run.model, z), np.float64) * (np.array(encoder.sd) / np.sqrt(encoder.tau) / unit)[:, None]
    truth = process.one_step_noise / unit / unit[:, None]
    return _rms(np.linalg.norm(G @ G.swapaxes(1, 2) - truth, axis=(1, 2))) / float(np.linalg.norm(truth))


@eqx.filter_jit
def _factors(model: SequenceSDE, z: Array) -> Array:
    """The full factor (n, d, d) of a model that has one."""
    return jax.vmap(lambda y: model.noise(window(y))[1])(z)


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
    y = sample.pairs[1]
    scale = sample.process.one_step(y)[1]
    some = slice(None, None, max(1, len(y) // _STATES))
    share = learnt(run, y[some])[1] / scale[some]
    return {
        "likelihood": float(np.mean(share)),
        "likelihood_worst": float(np.abs(np.mean(share, axis=0) - 1).max()),
        "absolute": float(np.mean(size / scale)),
        "log": float(np.exp(np.mean(np.log(size / scale)))),
    }


def _best_step(run: Run) -> int:
    scores = [(row["validation"], row["step"]) for row in run.metrics if "validation" in row]
    return int(min(scores)[1])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# -- the whole of it ---------------------------------------------------------------------------------------------------


@experiment("recovery", Size(), FULL)
def reproduce(asked: Asked[Size]) -> Iterator[str]:
    """Run everything, write recovery.json, recovery.md and recovery.png into `out`; yields lines as they become known.

    What the same command has left in `out` already is kept and not made again. seeds: times the size: two seeds are
    six data sets of every process.
    """
    size = asked.size
    facts = asked.first | {"transitions": size.series * size.steps, "sets": size.sets * asked.seeds}
    saved = asked.before()
    tables: dict[str, dict[str, Any]] = {name: saved.get(name, {}) for name in ("complete", "missing", "shown")}
    before, page = saved.get("seconds", 0), ""
    drawn: dict[str, tuple[Drawn, dict[str, float]]] = {}
    for case in cases():
        for number in range(asked.seed, asked.seed + min(facts["sets"], case.sets)):
            rows, thinned = (tables[name].setdefault(case.name, []) for name in ("complete", "missing"))
            if all(row["seed"] != number for row in rows):
                key = f"{case.process.name} {number}"
                if key not in drawn:
                    data = Drawn.of(case.process, number, size)
                    drawn[key] = data, data.estimates()
                row, run = recover(case, *drawn[key], size)
                yield _line(row, ("drift", "drift_exact", "drift_euler", "sigma", "regret", "gain", "seconds"))
                if len(thinned) < case.thinned:
                    thinned.append(
                        {"drift": row["drift"], "case": case.name} | recover_missing(case, drawn[key][0], size)
                    )
                    yield _line(thinned[-1], ("drift", "drift_masked", "gap_masked", "gain_masked"))
                rows.append(row)
                tables["shown"].setdefault(case.name, _seen(case.process, run))
            facts["seconds"] = before + asked.seconds
            page = _written(facts, tables, asked.out)  # after every fit: a stopped run leaves what it has
    yield from page.splitlines()


def _written(facts: dict[str, Any], tables: dict[str, dict[str, Any]], out: Path) -> str:
    """The page, which is now on disk with its figures."""
    complete, missing = (
        {name: rows for name, rows in tables[kind].items() if rows} for kind in ("complete", "missing")
    )
    verdict = checks(complete, missing)
    page = report(facts, verdict, complete, missing)
    found = {"checks": [check.to_dict() for check in verdict], **tables, "complete": complete, "missing": missing}
    write_results("recovery", rounded({**facts, **found}), page, out)
    _picture(tables["shown"], out / "recovery.png")
    return page


def _line(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return f"{row['case']}, seed {row['seed']}: " + ", ".join(f"{name} {row[name]:.5g}" for name in names)


def rounded(value: Any) -> Any:
    """Six digits: the rest differs from machine to machine."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _seen(process: Process, run: Run) -> dict[str, Any]:
    """States and, of drift and diffusion, the truth and what was learnt there: what the picture shows."""
    states = process.states(400 if process.dim == 1 else 60, np.random.default_rng(0))
    states = (states[np.argsort(states[:, 0])] if process.dim == 1 else states)[::4]
    found, truth = learnt(run, states), (process.drift(states), process.spread(states))
    pairs = {name: [truth[k].tolist(), found[k].tolist()] for k, name in enumerate(("drift", "diffusion"))}
    return {"states": states.tolist(), **pairs}


def _picture(shown: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Drift and diffusion learnt from the first data set, beside the truth; above one dimension against the truth."""
    fig = style.figure(1_000, 420)
    for column, (name, seen) in enumerate(shown.items()):
        states = np.array(seen["states"])
        for row, part in enumerate(("drift", "diffusion")):
            ax = fig.add_axes((0.035 + 0.122 * column, 0.54 - 0.46 * row, 0.085, 0.33), facecolor="none")
            truth, found = np.array(seen[part])
            if states.shape[1] == 1:
                ax.plot(states[:, 0], truth[:, 0], color=style.INK, linewidth=1.0)
                ax.plot(states[:, 0], found[:, 0], color=style.ACCENT, linewidth=1.4)
                if part == "diffusion":
                    ax.set_ylim(0, 1.3 * truth.max())
            else:
                unit = np.sqrt(np.square(truth).mean(0))
                a, b = (truth / unit).ravel(), (found / unit).ravel()
                ax.plot(a, b, ".", color=style.ACCENT, markersize=2.0, alpha=0.5)
                ax.plot([a.min(), a.max()], [a.min(), a.max()], color=style.INK, linewidth=1.0)
                if part == "diffusion":
                    ax.set_xlim(0.8, 1.2)
                    ax.set_ylim(0.8, 1.2)
            title = name.replace(", ", ",\n") + "\n" + part if row == 0 else part
            ax.set_title(title, fontsize=8, color=style.INK)
            ax.tick_params(length=0, labelsize=7, colors=style.MUTED, pad=2)
            for spine in ax.spines.values():
                spine.set_visible(False)
    told = "dark: the truth; green: learnt (of several channels: learnt against true, each in its own unit)"
    fig.text(0.5, 0.015, told, ha="center", fontsize=9)
    style.save(fig, path)
