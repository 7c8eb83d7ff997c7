"""An Ornstein-Uhlenbeck process: simulate it, and compare with the exact law.

    dy = theta (mu - y) dt + sigma dW

Euler-Maruyama has weak order 1: with four times the substeps, the gap of its s.d. to the exact one falls to about a
quarter, once the steps are short against 1/theta and until the Monte-Carlo error of a few thousandths hides it.

    python examples/ou_process.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from neuralsde import sde


def main(paths: int = 20_000) -> dict[int, float]:
    """Print mean and s.d. at three times for several substeps; return the error of the last s.d. for each."""
    ou = sde.OU(theta=1.5, mu=0.5, sigma=0.8)
    process, y0 = ou.process(), 2.0
    ts = jnp.array([0.0, 0.25, 1.0, 3.0])  # any increasing times
    mean, variance = ou.transition(y0, ts[1:])

    def ends(substeps: int) -> jax.Array:
        keys = jax.random.split(jax.random.key(0), paths)
        solve = jax.jit(jax.vmap(lambda key: sde.simulate(process, y0, ts, key=key, substeps=substeps)))
        return solve(keys).raise_if_failed().ys[:, 1:]

    print(f"{paths} paths from y0 = {y0} at t = {', '.join(f'{t:g}' for t in ts[1:])}")
    print(f"{'exact law':>12}  mean {_row(mean)}   s.d. {_row(jnp.sqrt(variance))}")
    errors = {}
    for substeps in (2, 4, 8, 32):
        ys = ends(substeps)
        print(f"{f'{substeps} substeps':>12}  mean {_row(ys.mean(0))}   s.d. {_row(ys.std(0))}")
        errors[substeps] = float(jnp.abs(ys[:, -1].std() - jnp.sqrt(variance[-1])))

    y1 = -0.5
    middle, spread = ou.bridge(y0, y1, 0.5, 1.0)
    print(f"half way of a bridge from {y0} to {y1} in one time unit: {middle:.3f} ± {jnp.sqrt(spread):.3f}")
    return errors


def _row(values: jax.Array) -> str:
    return " ".join(f"{value:7.4f}" for value in values)


if __name__ == "__main__":
    main()
