"""Why the backward pass must see the same noise: the gradient of a diffusion parameter, replayed and not.

    dx = alpha x dt + beta x ∘ dW,  x_0 = 1,  loss = x_T²            d loss / d beta = 2 x_T² W_T  on every path

The continuous adjoint runs (x, a, g) from T back to 0 along the path: dx as above, da = -a (alpha dt + beta ∘ dW), and
g, which gathers the gradient, dg = -a x ∘ dW, from (x_T, 2 x_T, 0). Along the forward path it finds 2 x_T² W_T. Along a
fresh path W' it finds 2 x_T² W'_T, whose mean is zero: an unbiased-looking number that teaches beta nothing.

    python examples/brownian_replay.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from neuralsde import sde

ALPHA, BETA, STEPS = -0.5, 0.4, 64
TS = np.array([0.0, 1.0])

forward = sde.SDE(lambda t, x, args: ALPHA * x, lambda t, x, args: BETA * x, sde.Scalar(), sde.Stratonovich())
adjoint = sde.SDE(
    lambda t, z, args: jnp.stack([ALPHA * z[0], -ALPHA * z[1], jnp.zeros_like(z[2])]),
    lambda t, z, args: jnp.stack([BETA * z[0], -BETA * z[1], -z[1] * z[0]]),
    sde.Scalar(),
    sde.Stratonovich(),
)


def gradients(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """D loss / d beta of one path: in closed form, by the adjoint on the same path, and on a fresh one."""
    path, fresh = (sde.BrownianGrid(k, TS, STEPS) for k in jax.random.split(key))
    end = sde.simulate(forward, 1.0, TS, path=path, method=sde.Heun(), substeps=STEPS).ys[-1]
    start = jnp.stack([end, 2 * end, jnp.zeros_like(end)])

    def back(along: sde.BrownianPath) -> jax.Array:
        return sde.simulate(adjoint, start, TS[::-1], path=along, method=sde.Heun(), substeps=STEPS).ys[-1, 2]

    return 2 * end**2 * path.increments((), end.dtype).sum(), back(path), back(fresh)


def main(paths: int = 20_000) -> tuple[float, float]:
    """Print the three averages; return those of the adjoint on the same and on a fresh path."""
    exact, replayed, fresh = jax.jit(jax.vmap(gradients))(jax.random.split(jax.random.key(0), paths))
    expected = 4 * BETA * np.exp(2 * ALPHA + 2 * BETA**2)  # d/d beta of E x_T²
    print(f"d E[x_T²] / d beta, exact{' ' * 27}{expected:7.4f}")
    for name, value in (("closed form of each path", exact), ("same path, replayed", replayed), ("fresh path", fresh)):
        print(f"{f'{paths} paths, {name}':<52}{value.mean():7.4f} ± {value.std() / paths**0.5:.4f}")
    print(f"{'mean distance of a path, replayed to closed form':<52}{jnp.abs(replayed - exact).mean():7.4f}")
    return float(replayed.mean()), float(fresh.mean())


if __name__ == "__main__":
    main()
