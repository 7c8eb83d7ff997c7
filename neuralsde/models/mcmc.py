"""Sampling a density that is known up to a factor: Hamiltonian Monte Carlo, MALA and Langevin, the classical baselines.

    HMC       p ~ N(0, I);  (x, p) by `leaps` leapfrog steps of H = -log π(x) + ½ |p|²;  accepted with min(1, e^{-ΔH})
    MALA      one leap of it: x + ½ ε² ∇log π(x) + ε p, with the same test (Roberts & Tweedie 1996)
    Langevin  MALA without the test: its law is off by O(ε²)

For an energy E: `log_density = lambda x: -E(x)`. HMC with the test leaves π exactly as it is, for any step not so long
that nothing is accepted; where the share accepted is far from .65 to .9 the step is wrong. No chain of these crosses
regions without density between two modes. Source: Duane et al. 1987; Neal 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from neuralsde.errors import InputError


class Chain(eqx.Module):
    """One chain. x: its last state. xs (steps, *shape): all but the start, or None. accepted: share of the proposals.

    log_density: at x. Not finite where the start had no density: nothing moves from there.
    """

    x: Array
    xs: Array | None
    accepted: Float[Array, "*b"]
    log_density: Float[Array, "*b"]


def hmc(
    log_density: Callable[[Any], Any],
    x: Array,
    *,
    key: Key[Array, ""],
    steps: int,
    step_size: Any,
    leaps: int = 10,
    save: bool = False,
    test: bool = True,
) -> Chain:
    """`steps` proposals of `leaps` leapfrog steps of length `step_size`, from x of any shape; `jax.vmap` for many.

    log_density: x -> a scalar, up to a constant, differentiable. Evaluations: steps · leaps gradients, and one.
    test: False keeps every proposal, which leaves another law than π (that is unadjusted Langevin with leaps=1).
    """
    _check(log_density, steps, step_size, leaps)
    both = jax.value_and_grad(log_density)

    def leap(carry: Any, _: Any) -> tuple[Any, None]:
        x, p, grad, _ = carry
        p = p + 0.5 * step_size * grad
        x = x + step_size * p
        value, grad = both(x)
        return (x, p + 0.5 * step_size * grad, grad, value), None

    def one(carry: Any, i: Any) -> tuple[Any, Any]:
        x, grad, value = carry
        kick, toss = jax.random.split(jax.random.fold_in(key, i))
        p = jax.random.normal(kick, x.shape, x.dtype)
        (new, end, new_grad, new_value), _ = lax.scan(leap, (x, p, grad, value), None, length=leaps)
        gain = new_value - value + 0.5 * (jnp.square(p).sum() - jnp.square(end).sum())
        gain = jnp.where(jnp.isnan(gain), -jnp.inf, gain)
        take = jnp.log(jax.random.uniform(toss, (), x.dtype)) < gain if test else jnp.asarray(True)
        carry = jax.tree.map(lambda a, b: jnp.where(take, a, b), (new, new_grad, new_value), carry)
        return carry, (jnp.exp(jnp.minimum(gain, 0.0)) if test else jnp.ones_like(gain), carry[0] if save else None)

    value, grad = both(x)
    (x, _, value), (accepted, xs) = lax.scan(one, (x, grad, value), jnp.arange(steps))
    return Chain(x, xs, accepted.mean(), value)


def mala(
    log_density: Callable[[Any], Any], x: Array, *, key: Key[Array, ""], steps: int, step_size: Any, save: bool = False
) -> Chain:
    """Metropolis-adjusted Langevin: HMC of one leap, a step ε = `step_size` (a time ½ ε²). Best accepted: .57."""
    return hmc(log_density, x, key=key, steps=steps, step_size=step_size, leaps=1, save=save)


def langevin(
    log_density: Callable[[Any], Any], x: Array, *, key: Key[Array, ""], steps: int, step_size: Any, save: bool = False
) -> Chain:
    """Unadjusted Langevin, x + ½ ε² ∇log π + ε z: a variance v becomes v / (1 - ε²/4v) for a Gaussian."""
    return hmc(log_density, x, key=key, steps=steps, step_size=step_size, leaps=1, save=save, test=False)


def _check(log_density: Any, steps: Any, step_size: Any, leaps: Any) -> None:
    if not callable(log_density):
        raise InputError(f"log_density={log_density!r}", "not a function", "log_density(x) -> a scalar")
    for name, value in (("steps", steps), ("leaps", leaps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}", expected="a whole number of at least 1")
    if isinstance(step_size, int | float) and not step_size > 0:
        raise InputError(f"step_size={step_size!r}", expected="a number above 0")
