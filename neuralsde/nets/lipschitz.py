"""How steep a network can be: certified from above, sampled from below, and constrained.

    |N(x) - N(y)| <= L |x - y|,   L = Π_l σ(W_l) · Π_l c_l                      `lipschitz_bound`
    L >= max_i σ(J_N(x_i)) over given points, and a few steps uphill from them   `sampled_lipschitz`

σ is the largest singular value, c_l the steepest slope of an activation (Euclidean norms on both sides; Szegedy et al.
2014, §4.3). The bound is certified: singular values come from the SVD with its rounding error added. A power iteration
cannot certify, since it approaches σ from below. The bound is often far above the truth, the sampled value never is:
the two together say where L lies. Of a drift f(t, y) as one network of [t, y], the bound in both is a bound in y.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from neuralsde.errors import InputError
from neuralsde.nets.mlp import MLP


def lipswish(x: Array) -> Array:
    """silu(x)/1.1, whose slope never exceeds 1 in size (Chen et al. 2019): the activation of neural SDEs."""
    return jax.nn.silu(x) / 1.1


def _equinox_default(name: str) -> Any:
    """The function that equinox's MLP uses where none is given; it has no public name."""
    return inspect.signature(eqx.nn.MLP.__init__).parameters[name].default


STEEPEST: Mapping[Any, float] = {
    _equinox_default("final_activation"): 1.0,
    _equinox_default("activation"): 1.0,
    jax.nn.identity: 1.0,
    jax.nn.relu: 1.0,
    jax.nn.relu6: 1.0,
    jax.nn.leaky_relu: 1.0,  # at its default slope
    jax.nn.elu: 1.0,  # at its default alpha
    jax.nn.celu: 1.0,
    jax.nn.selu: 1.7581,  # scale · alpha = 1.758099...
    jax.nn.tanh: 1.0,
    jax.nn.hard_tanh: 1.0,
    jax.nn.soft_sign: 1.0,
    jax.nn.sigmoid: 0.25,
    jax.nn.log_sigmoid: 1.0,
    jax.nn.softplus: 1.0,
    jax.nn.silu: 1.09984,  # 1.0998393...
    jax.nn.mish: 1.0885,  # 1.0884981...
    jax.nn.gelu: 1.129,  # 1.1289930... (tanh form, the default), 1.1289048... (erf)
    lipswish: 1.0,  # 1.0998393/1.1
    jnp.sin: 1.0,
    jnp.cos: 1.0,
}
"""The steepest slope of each known activation, rounded upwards."""


class SpectralNorm(eqx.Module):
    """A linear layer whose weight is scaled so that its largest singular value is at most `bound`.

    linear:     the layer, with the free weight W; what is applied is W · min(1, bound/σ(W)), its bias untouched.
    bound:      positive, fixed.
    equal:      scale up as well, to σ = bound exactly (Miyato et al. 2018), instead of "at most".
    iterations: None: σ by SVD, the constraint is exact to rounding. n: n power iterations from one fixed vector:
                cheaper, but σ from below, so the constraint is met only nearly. Certification always takes the SVD.

    `jax.grad` passes through the scaling. σ is computed at every call: give a solver `unwrap(network)`, once a solve.
    """

    linear: eqx.nn.Linear
    bound: float = eqx.field(static=True, default=1.0)
    equal: bool = eqx.field(static=True, default=False)
    iterations: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.linear, eqx.nn.Linear):
            raise InputError(f"SpectralNorm of {type(self.linear).__name__}", expected="an equinox.nn.Linear")
        if not self.bound > 0:
            raise InputError(f"bound={self.bound!r}", expected="the largest singular value allowed, above 0")
        if self.iterations is not None and self.iterations < 1:
            raise InputError(f"iterations={self.iterations!r}", expected="None (exact, by SVD) or an integer >= 1")

    @property
    def plain(self) -> eqx.nn.Linear:
        """The layer with the scaled weight."""
        W = self.linear.weight
        size = _largest_singular(W) if self.iterations is None else _power_iteration(W, self.iterations)
        scale = self.bound / jnp.maximum(size, jnp.finfo(W.dtype).tiny)
        scale = scale if self.equal else jnp.minimum(scale, 1.0)
        return eqx.tree_at(lambda layer: layer.weight, self.linear, W * scale)

    def __call__(self, x: Array, *, key: Any = None) -> Array:
        return self.plain(x)


def constrain(network: Any, bound: float = 1.0, *, equal: bool = False, iterations: int | None = None) -> Any:
    """The network with `SpectralNorm(layer, bound, ...)` in the place of every equinox Linear."""
    return jax.tree.map(
        lambda leaf: SpectralNorm(leaf, bound, equal, iterations) if isinstance(leaf, eqx.nn.Linear) else leaf,
        network,
        is_leaf=lambda node: isinstance(node, eqx.nn.Linear | SpectralNorm),
    )


def unwrap(network: Any) -> Any:
    """The network with plain layers in the place of `SpectralNorm` and equinox's `WeightNorm`: the same outputs.

    Differentiable: call it inside the loss, before the solve, so that singular values are found once and not at every
    evaluation of the drift.
    """
    return jax.tree.map(
        lambda leaf: _plain(leaf) if isinstance(leaf, SpectralNorm | eqx.nn.WeightNorm) else leaf,
        network,
        is_leaf=lambda node: isinstance(node, SpectralNorm | eqx.nn.WeightNorm),
    )


def clip_weights(network: Any, bound: float | None = None) -> Any:
    """Every weight of every Linear moved into [-bound, bound]; bound None: 1/in_features of its layer.

    With the default each layer is 1-Lipschitz in the maximum norm, and with lipswish the network too (Kidger et al.
    2021, "Efficient and accurate gradients for neural SDEs"). For use after every step of an optimiser: a clip inside
    the network would stop the gradient of what it clips.
    """

    def clip(leaf: Any) -> Any:
        if not isinstance(leaf, eqx.nn.Linear):
            return leaf
        size = 1.0 / leaf.weight.shape[-1] if bound is None else bound
        return eqx.tree_at(lambda layer: layer.weight, leaf, jnp.clip(leaf.weight, -size, size))

    return jax.tree.map(clip, network, is_leaf=lambda node: isinstance(node, eqx.nn.Linear))


def lipschitz_bound(network: Any, *, known: Mapping[Any, float] | None = None) -> Float[Array, ""]:
    """A certified L with |N(x) - N(y)| <= L |x - y| for all x and y, in Euclidean norms.

    network: an equinox Linear, MLP, Sequential, Lambda, Identity, WeightNorm of a Linear; `nets.MLP`; `SpectralNorm`;
             an activation of `STEEPEST`. Anything else is refused, never guessed.
    known:   Lipschitz constants of further functions, e.g. {my_activation: 1.2}.

    Differentiable in the weights (for a penalty). Costs one SVD a layer.
    """
    constants = {**STEEPEST, **(known or {})}
    return jnp.asarray(_bound(network, constants))


def sampled_lipschitz(
    function: Callable[[Array], Array], points: Float[Array, "n ..."], *, ascent: int = 0, step: float = 0.1
) -> Float[Array, ""]:
    """A lower bound: the largest singular value of the Jacobian over points (n, *x.shape).

    ascent: steps uphill from each point, by the gradient of that singular value; the largest met is kept.
    step:   length of each of them, in units of x.
    """
    points = jnp.asarray(points)

    def steepness(x: Array) -> Array:
        return _jacobian_norm(function, x)

    def climb(x: Array) -> Array:
        def move(x: Array, _: None) -> tuple[Array, Array]:
            value, slope = jax.value_and_grad(steepness)(x)
            size = jnp.linalg.norm(slope.ravel())
            return x + jnp.where(size > 0, step / jnp.where(size > 0, size, 1.0), 0.0) * slope, value

        x, met = lax.scan(move, x, length=ascent)
        return jnp.maximum(met.max(initial=0.0), steepness(x))

    return jax.vmap(climb if ascent else steepness)(points).max()


def _jacobian_norm(function: Callable[[Array], Array], x: Array) -> Array:
    J = jax.jacobian(function)(x)
    return jnp.linalg.norm(J.reshape(-1, x.size), 2)


def _bound(node: Any, constants: Mapping[Any, float]) -> Any:
    if isinstance(node, SpectralNorm | eqx.nn.WeightNorm):
        return _bound(_plain(node), constants)
    if isinstance(node, eqx.nn.Linear):
        return jnp.prod(_certified_singular(node.weight))  # several under equinox's scan over layers
    if isinstance(node, eqx.nn.MLP):
        inner = jnp.prod(jnp.stack([_bound(layer, constants) for layer in node.layers]))
        return inner * _slope(node.activation, constants) ** node.depth * _slope(node.final_activation, constants)
    if isinstance(node, MLP):
        layers = [] if node.out is None else [*node.hidden, node.out]
        inner = jnp.prod(jnp.stack([_bound(layer, constants) for layer in layers])) if layers else 0.0
        return _bound(node.linear, constants) + inner * STEEPEST[jax.nn.silu] ** len(node.hidden)
    if isinstance(node, eqx.nn.Sequential):
        return jnp.prod(jnp.stack([jnp.asarray(_bound(layer, constants)) for layer in node.layers]))
    if isinstance(node, eqx.nn.Identity):
        return 1.0
    return _slope(node.fn if isinstance(node, eqx.nn.Lambda) else node, constants)


def _slope(function: Any, constants: Mapping[Any, float]) -> float:
    try:
        return constants[function]
    except (KeyError, TypeError):
        pass
    name = getattr(function, "__name__", type(function).__name__)
    raise InputError(
        f"{name} in a network to certify",
        "its Lipschitz constant is not known here",
        "layers Linear, MLP, Sequential, Lambda, Identity, WeightNorm, SpectralNorm, and activations "
        + ", ".join(sorted({known.__name__ for known in STEEPEST if known.__name__ != "<lambda>"})),
        f"known={{{name}: constant}} if you know it, or sampled_lipschitz for a lower bound",
    )


def _plain(node: Any) -> eqx.nn.Linear:
    if isinstance(node, SpectralNorm):
        return node.plain
    if not isinstance(node.layer, eqx.nn.Linear) or node.weight_name != "weight":
        raise InputError(f"WeightNorm of {type(node.layer).__name__}", expected="WeightNorm of an equinox.nn.Linear")
    v = node.layer.weight
    size = jnp.linalg.norm(v) if node.axis is None else jnp.linalg.norm(v, axis=1 - node.axis, keepdims=True)
    return eqx.tree_at(lambda layer: layer.weight, node.layer, v * node.g / size)


def _largest_singular(W: Array) -> Array:
    """By SVD; with a gradient that is 0 where W is 0."""
    zero = jnp.all(W == 0)
    safe = jnp.where(zero, jnp.eye(*W.shape[-2:], dtype=W.dtype), W)
    return jnp.where(zero, 0.0, jnp.linalg.norm(safe, 2, axis=(-2, -1)))


def _certified_singular(W: Array) -> Array:
    """The same plus the backward error of the SVD: a small multiple of max(m, n) · eps · σ."""
    return _largest_singular(W) * (1 + 4 * max(W.shape[-2:]) * float(jnp.finfo(W.dtype).eps))


def _power_iteration(W: Array, iterations: int) -> Array:
    """What u' W v is after some iterations, with the gradient u v' that σ has once u and v are singular vectors."""
    v = jnp.cos(jnp.arange(W.shape[1], dtype=W.dtype))  # fixed, in no special position to W
    tiny = jnp.finfo(W.dtype).tiny

    def unit(x: Array) -> Array:
        return x / jnp.maximum(jnp.linalg.norm(x), tiny)

    v = lax.fori_loop(0, iterations, lambda _, v: unit(W.T @ unit(W @ v)), unit(v))
    u, v = lax.stop_gradient((unit(W @ v), v))
    return u @ W @ v
