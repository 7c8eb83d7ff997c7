"""Small neural SDEs for the tests of gradients: the weights reach the coefficients by all roads at once."""

import equinox as eqx
import jax
import jax.numpy as jnp

from neuralsde import sde
from neuralsde.sde.gradients import Gradient

D, M, PATHS = 3, 2, 4
KEYS = jax.random.split(jax.random.key(11), 12)


class Layer(eqx.Module):
    """A coefficient that is a pytree: tanh of a linear map, with a scale from `args`."""

    weight: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, t, y, args):
        return jnp.tanh(y @ self.weight + t).reshape(self.shape) * args["scale"]


def draw(i, shape, dtype):
    return (jax.random.normal(KEYS[i], shape) / 2).astype(dtype)


def parameters(noise, dtype=jnp.float64):
    """Leaves of the process (`drift`), a parameter that is closed over (`closed`), args, starts and times."""
    columns = M if isinstance(noise, sde.General) else 1
    return {
        "drift": draw(0, (D, D), dtype),
        "closed": draw(1, (D, D * columns), dtype),
        "args": {"scale": jnp.asarray(0.7, dtype)},
        "y0": draw(2, (PATHS, D), dtype),
        "ts": jnp.array([0.0, 0.2, 0.5, 0.6, 1.0], dtype),
    }


def process(p, noise, calculus):
    shape = noise.diffusion_shape((D,))

    def diffusion(t, y, args):
        return (0.3 + 0.3 * jnp.cos(y @ p["closed"] + t)).reshape(shape) * args["scale"]

    return sde.SDE(Layer(p["drift"], (D,)), diffusion, noise, calculus)


def loss(p, noise, calculus, method, gradient: Gradient, substeps):
    """Every saved state counts, with its own weight."""
    model = process(p, noise, calculus)

    def one(y, key):
        solved = sde.simulate(
            model, y, p["ts"], key=key, method=method, substeps=substeps, gradient=gradient, args=p["args"]
        )
        return solved.ys

    ys = jax.vmap(one)(p["y0"], KEYS[-PATHS:])
    weights = jnp.arange(1.0, ys.shape[1] + 1, dtype=ys.dtype)
    return (jnp.sin(ys) * weights[:, None]).sum() / PATHS


def gradients(noise, method, calculus, substeps, mode, dtype):
    """Of the loss in all parameters."""
    p = parameters(noise, dtype)
    return jax.jit(jax.grad(loss), static_argnums=(1, 2, 3, 4, 5))(p, noise, calculus, method, mode, substeps)


def apart(one, other):
    """Relative L1 distance of two gradients, leaf by leaf; the largest."""
    far = []
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        far.append(float(jnp.abs(a - b).sum() / jnp.maximum(jnp.abs(a).sum(), jnp.abs(b).sum())))
    return max(far)
