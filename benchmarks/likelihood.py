"""Transition densities over a long gap by simulated likelihood, in nats, against the exact ones.

    python benchmarks/likelihood.py            # a few minutes on one core; writes results/likelihood.json and .md
    python benchmarks/likelihood.py --small    # seconds: fewer transitions, paths and steps; writes nothing

Gaps of two relaxation times (growth processes: of a log-volatility of .57), from one start to end points drawn from the
exact law. Two errors are apart: that of m Euler steps, which more paths do not cure, and that of n paths, which the
standard error measures. One step (m = 1) is the trivial line, an error of 0 the floor. (4 log p_4m - log p_m)/3 removes
the first order of the Euler error.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from record import record, table

from neuralsde import sde

GAP = 2.0
LAWS: dict[str, tuple[type, tuple[float, ...], float]] = {
    "OU": (sde.OU, (1.0, 0.5, 0.7), 2.0),
    "CIR": (sde.CIR, (1.0, 1.0, 0.6), 1.5),
    "GBM": (sde.GBM, (0.2, 0.4), 1.0),
}
TITLES = {
    "OU": "OU, dy = (0.5 - y) dt + 0.7 dW, y0 = 2",
    "CIR": "CIR, dy = (1 - y) dt + 0.6 √y dW, y0 = 1.5",
    "GBM": "GBM, dy = 0.2 y dt + 0.4 y dW, y0 = 1",
}


def euler_law(law: Any, y0: float, y1: Any, m: int) -> Any:
    """Log density of m Euler steps of an OU process, in closed form."""
    h = GAP / m
    left = 1 - law.theta * h
    mean, var = law.mu + (y0 - law.mu) * left**m, law.sigma**2 * h * (left ** (2 * np.arange(m))).sum()
    return -0.5 * ((y1 - mean) ** 2 / var + jnp.log(2 * jnp.pi * var))


def measure(name: str, ends: int, levels: tuple[int, ...], counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for every (n, m): errors over the end points."""
    kind, parameters, y0 = LAWS[name]
    law: Any = kind(*parameters)  # made here, in the precision that `main` asks for
    keys = jax.random.split(jax.random.key(0), ends)
    y1 = jax.vmap(lambda k: law.sample(y0, jnp.array([0.0, GAP]), key=k)[-1])(keys)
    exact, rows = law.log_density(y1, y0, GAP), []
    for n in counts:
        before = None
        for m in levels:

            @jax.jit
            def estimate(y1: Any, keys: Any, m: int = m, n: int = n) -> Any:
                start = jnp.asarray(y0)
                return jax.vmap(
                    lambda y, k: sde.transition_log_density(law.process(), start, y, GAP, steps=m, n=n, key=k)
                )(y1, keys)

            own = jax.random.split(jax.random.key(1000 + m), ends)
            jax.block_until_ready(estimate(y1, own))
            began = time.perf_counter()
            found = jax.block_until_ready(estimate(y1, own))
            ms = 1e3 * (time.perf_counter() - began) / ends
            error = np.asarray(found.corrected - exact)
            row = {"law": name, "n": n, "m": m, "mean": error.mean(), "rms": np.sqrt((error**2).mean())}
            row |= {"se": np.sqrt((np.asarray(found.standard_error) ** 2).mean())}
            row |= {"ess": float(jnp.median(found.ess)) / n, "least_ess": float(found.ess.min()) / n, "ms": ms}
            if name == "OU":
                row["rms_to_euler"] = np.sqrt(((found.corrected - euler_law(law, y0, y1, m)) ** 2).mean())
            if before is not None and m == 4 * before[0]:
                # The first order of m and 4m: (4 log p_4m - log p_m)/3.
                better = (4 * error - before[1]) / 3
                row["rms_extrapolated"] = np.sqrt((better**2).mean())
            before = (m, error)
            rows.append({key: v if isinstance(v, str | int) else float(v) for key, v in row.items()})
            print({key: v if isinstance(v, str | int) else round(float(v), 5) for key, v in row.items()}, flush=True)
    return rows


def page(rows: list[dict[str, Any]], ends: int) -> str:
    head = ["steps m", "paths n", "mean error", "RMS error", "standard error (n)", "RMS, m and m/4 combined"]
    head += ["ESS, median (least)", "ms each"]
    parts = [f"Nats, against the exact law, over {ends} end points drawn from it; float64. The exact density is 0."]
    for name in LAWS:
        lines = []
        for row in (r for r in rows if r["law"] == name):
            one = row["m"] == 1
            lines.append(
                [
                    "1 (trivial)" if one else str(row["m"]),
                    "-" if one else str(row["n"]),
                    f"{row['mean']:+.4f}",
                    f"{row['rms']:.4f}",
                    "0" if row["se"] < 1e-6 else f"{row['se']:.4f}",
                    f"{row['rms_extrapolated']:.4f}" if "rms_extrapolated" in row and row["m"] > 4 else "",
                    "" if one else f"{100 * row['ess']:.0f} % ({100 * row['least_ess']:.0f} %)",
                    f"{row['ms']:.2f}",
                ]
            )
        parts += ["", f"**{TITLES[name]}**, gap 2", "", table(head, lines)]
    worst = max(row["rms_to_euler"] for row in rows if row["law"] == "OU")
    parts += ["", f"OU against the closed form of its own m Euler steps: RMS {worst:.1e} at most, all weights equal."]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a quick pass; prints, writes nothing")
    small = parser.parse_args().small
    jax.config.update("jax_enable_x64", True)
    ends, levels, counts = (16, (1, 16), (64,)) if small else (64, (1, 8, 32, 128, 512), (64, 1_024))
    rows = [row for name in LAWS for row in measure(name, ends, levels, counts)]
    rows = [row for row in rows if row["m"] > 1 or row["n"] == counts[0]]
    if small:
        print(page(rows, ends))
        return
    record("likelihood", {"ends": ends, "gap": GAP, "rows": rows}, page(rows, ends))


if __name__ == "__main__":
    main()
