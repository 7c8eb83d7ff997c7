"""A random key as the calculus wants it: typed, one, and used once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from neuralsde.errors import InputError


def checked_key(key: Any) -> Key[Array, ""]:
    """The key, if it is one."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return key
        raise InputError(
            f"{key.shape} keys",
            "one path has one key",
            "one key",
            "jax.vmap(lambda k: sde.simulate(..., key=k))(keys)",
        )
    if isinstance(key, jax.Array) and key.dtype == jnp.uint32:
        raise InputError(
            f"key of shape {key.shape} and dtype {key.dtype}",
            "a key of the old kind, as jax.random.PRNGKey makes",
            "one typed key",
            "jax.random.key(0) in its place, or jax.random.wrap_key_data(key)",
        )
    raise InputError(
        f"key of type {type(key).__name__}", "not a typed random key", "one typed key", "key=jax.random.key(0)"
    )
