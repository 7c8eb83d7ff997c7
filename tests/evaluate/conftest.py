"""Made-up but plausible content for a report, from a fixed seed: OU-like weather at one station."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neuralsde.evaluate import scores
from neuralsde.evaluate.baselines import gaussian_samples
from neuralsde.evaluate.compare import compare, coverage_rows
from neuralsde.evaluate.content import Fan, KeyFigure, Paths, Pit, ReportContent, Training, VectorField

COLUMNS = ("temp", "dewp", "wind_speed", "pressure")
UNITS = {"temp": "°F", "dewp": "°F", "wind_speed": "mph", "pressure": "hPa"}
LEVEL = np.array([58.0, 44.0, 10.0, 1016.0])
SIZE = np.array([9.0, 9.0, 4.0, 6.0])


def _futures(rng: np.random.Generator, start: np.ndarray, steps: int, n: int) -> np.ndarray:
    """n paths `(n, steps, d)` of an OU process with a day in it, from `start (d,)`."""
    state, out = np.tile(start, (n, 1)), np.empty((n, steps, 4))
    for k in range(steps):
        day = np.array([5.0, 0.5, 1.5, 0.3]) * np.cos(2 * np.pi * (k - 9) / 24) * 2 * np.pi / 24
        state = state + 0.05 * (LEVEL - state) + day + SIZE * 0.16 * rng.standard_normal((n, 4))
        out[:, k] = np.where(np.arange(4) == 2, np.abs(state), state)
    return out


def _fan(rng: np.random.Generator, label: str) -> Fan:
    start = LEVEL + SIZE * rng.standard_normal(4)
    past = _futures(rng, start, 18, 1)[0]
    draws = _futures(rng, past[-1], 24, 400)
    truth = _futures(rng, past[-1], 24, 1)[0]
    truth[10:13, 1] = np.nan
    bands = {level: scores.band(draws, level) for level in (80, 95)}
    return Fan(label, np.arange(-17.0, 1.0), past, np.arange(1.0, 25.0), truth, draws.mean(0), bands)


def _judged(rng: np.random.Generator, n: int) -> tuple[list, list, list]:
    rows, cover, pits = [], [], []
    blocks = np.arange(n) // max(1, n // 12)
    for lead, reach in (("1 hour", 0.2), ("6 hours", 0.45), ("24 hours", 0.8)):
        signal, noise = rng.standard_normal((2, n, 4))
        sd = SIZE * reach
        truth = LEVEL + SIZE * signal + sd * noise * (1.0 if reach < 0.8 else 1.12)
        draws = gaussian_samples(LEVEL + SIZE * signal, np.broadcast_to(sd, (n, 4)), 60, seed=1)
        loss = {"neural SDE": scores.crps_samples(draws, truth)}
        nats = {"neural SDE": -scores.log_interval(truth, LEVEL + SIZE * signal, sd, 0.1)}
        for name, blur in (("persistence", 0.35 + reach), ("climatology", 1.0), ("linear AR", 0.32 * (1.2 - reach))):
            mean = LEVEL + SIZE * (signal + blur * rng.standard_normal((n, 4)))
            spread = SIZE * np.hypot(reach, blur)
            loss[name] = scores.crps_gaussian(mean, spread, truth)
            nats[name] = -scores.log_interval(truth, mean, spread, 0.1)
        for metric, values in (("crps", loss), ("nll", nats)):
            rows += compare(metric, values, columns=COLUMNS, lead=lead, blocks=blocks, model="neural SDE", n_boot=200)
        shares = {level: scores.covered(draws, truth, level) for level in (80, 95)}
        cover += coverage_rows(shares, columns=COLUMNS, lead=lead, blocks=blocks, n_boot=200)
        ranks = scores.pit(draws, truth)
        pits += [Pit(column, lead, ranks[:, i]) for i, column in enumerate(COLUMNS)]
    return rows, cover, pits


def _field() -> VectorField:
    x, y = np.linspace(-2, 2, 24), np.linspace(-1.5, 1.5, 20)
    gx, gy = np.meshgrid(x, y)
    drift = np.stack([gx - gx**3 - 0.4 * gy, 0.6 * gx - gy], axis=-1)
    diffusion = np.stack([0.2 + 0.4 * np.exp(-(gx**2)), 0.2 + 0.0 * gy], axis=-1)
    rng, state, steps = np.random.default_rng(2), np.zeros((8, 2)), []
    for _ in range(90):
        push = np.stack([state[:, 0] - state[:, 0] ** 3 - 0.4 * state[:, 1], 0.6 * state[:, 0] - state[:, 1]], axis=-1)
        noise = np.stack([0.2 + 0.4 * np.exp(-(state[:, 0] ** 2)), np.full(8, 0.2)], axis=-1)
        state = state + 0.05 * push + np.sqrt(0.05) * noise * rng.standard_normal((8, 2))
        steps.append(state)
    return VectorField(x, y, drift, diffusion, paths=np.stack(steps, axis=1))


def content(n: int = 1000, windows: int = 3) -> ReportContent:
    """A full report of four columns."""
    rng = np.random.default_rng(7)
    rows, cover, pits = _judged(rng, n)
    labels = ("JFK · 24 January, 06:00", "LGA · 26 May, 12:00", "EWR · 28 October, 00:00")
    steps, checks = np.arange(0.0, 4000.0, 20.0), np.arange(200.0, 4001.0, 200.0)
    start = LEVEL + SIZE * np.array([1.1, 0.6, -0.3, -0.8])
    curves = Training(
        steps,
        0.9 * np.exp(-steps / 500) + 0.31 + 0.03 * rng.standard_normal(len(steps)),
        checks,
        0.8 * np.exp(-checks / 600) + 0.33 + 6e-9 * np.maximum(checks - 2600, 0) ** 2 + 0.004 * rng.standard_normal(20),
        3000,
        "Weights are averaged over steps; the average with the lowest validation loss is kept, the first when tied.",
    )
    return ReportContent(
        title="Three airports, one year of hourly weather",
        summary="A neural SDE learned temperature, dew point, wind speed and pressure from the first three weeks of "
        "every month of 2013, and forecast the last week of each.",
        columns=COLUMNS,
        units=UNITS,
        time_unit="hours",
        kicker="neuralsde · held-out report",
        key_figures=(KeyFigure("1\u202f004 windows", "held out over twelve weeks, one every six hours"),),
        facts={
            "Data": {
                "Source": "embedded: NYC weather 2013 (CC0)",
                "Series": "3 (EWR, JFK, LGA)",
                "Rows": "26 115, typical gap 1 h",
                "Missing": "0.4 % of temp, 10.6 % of pressure",
                "Held out": "the last seven days of every month",
            },
            "Model": {
                "Equation": "dX = f(X, c, t) dt + g(X, c, t) dW, Itô, diagonal noise",
                "Networks": "2 × MLP, width 128, depth 3 (71 304 parameters)",
                "History": "3 past states",
                "Sub-steps": "1 a gap, as fitted",
            },
            "Training": {"Steps": "4 000 of batch 512", "Objective": "decoupled", "Time": "41 s on 2 cores"},
            "Run": {"Folder": "runs/weather", "Seed": "0", "Fingerprint": "9f31c07a…"},
        },
        notes=(
            "EWR, wind_speed: 1 value outside the plausible 0 to 120 (1048.36 on 2013-02-12) became missing.",
            "3 rows out of order were sorted by time.",
        ),
        training=curves,
        fans=tuple(_fan(rng, labels[i % 3]) for i in range(windows)),
        pit=tuple(pits),
        coverage=tuple(cover),
        scores=tuple(rows),
        paths=(Paths("JFK · three days from 24 January, 06:00", np.arange(0.0, 72.0), _futures(rng, start, 72, 30)),),
        field=_field(),
        command="neuralsde fit weather.csv --id airport --time time --steps 4000 --out runs/weather",
        footer="Made by neuralsde 0.1.0 with JAX 0.10.2. This file is complete: it needs no connection.",
    )


@pytest.fixture(scope="session")
def fake_content() -> Callable[..., ReportContent]:
    """`fake_content(n=..., windows=...)` is the content of a full report."""
    return content
