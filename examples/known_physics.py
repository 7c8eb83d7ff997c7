"""Rates of a stated SDE from incomplete data: predators and prey, `python examples/known_physics.py`.

    dx = x (a - b y) dt + s x dW1,      dy = y (c x - d) dt + s y dW2

Fifteen herds are counted at irregular times; three counts in ten are missing. The equations are known, the rates not.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

import neuralsde as nsde

TRUTH = {"a": 1.0, "b": 0.5, "c": 0.3, "d": 0.9, "s": 0.15}


class LotkaVolterra(eqx.Module):
    """Drift and diffusion in the units of the table; a rate may be a number or a parameter to be estimated."""

    a: Any
    b: Any
    c: Any
    d: Any
    s: Any

    def drift(self, t: Any, y: Any, args: Any) -> Any:
        prey, predators = y
        return jnp.stack([prey * (self.a - self.b * predators), predators * (self.c * prey - self.d)])

    def diffusion(self, t: Any, y: Any, args: Any) -> Any:
        return self.s * y


def herds(count: int = 15, rows: int = 30, seed: int = 0) -> nsde.data.Trajectories:
    """Simulated counts, three in ten missing."""
    rng = np.random.default_rng(seed)
    truth = LotkaVolterra(**TRUTH)
    process = nsde.sde.SDE(truth.drift, truth.diffusion)
    times = np.cumsum(rng.uniform(0.1, 0.5, rows))
    starts = np.exp(np.log([3.0, 2.0]) + 0.4 * rng.standard_normal((count, 2)))

    def path(start: jax.Array, key: jax.Array) -> jax.Array:
        return nsde.sde.simulate(process, start, times, key=key, method=nsde.sde.Milstein(), substeps=50).ys

    ys = np.array(jax.vmap(path)(jnp.asarray(starts), jax.random.split(jax.random.key(seed), count)), np.float64)
    ys[rng.random(ys.shape) < 0.3] = np.nan
    return nsde.data.from_arrays(times, ys, columns=["prey", "predators"])


def main(herds_count: int = 15) -> pl.DataFrame:
    """Estimate the rates, print them beside the truth, and forecast; returns the table of parameters."""
    model = LotkaVolterra(*(nsde.Positive(0.5) for _ in TRUTH))
    run = nsde.fit(herds(herds_count), model=nsde.Physics(model.drift, model.diffusion, in_logs=True, starts=1))
    table = run.parameters().with_columns(truth=pl.Series(list(TRUTH.values())))
    print(table)
    print(run.forecast(horizon=3, levels=(80,), n=100).head(6))
    return table


if __name__ == "__main__":
    main()
