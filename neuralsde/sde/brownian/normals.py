"""Standard normals by counter: draw j of cell i is a pure function of (key, i, j), and cheap enough for every step.

    (w_0, w_1) = Threefry-2x32-20 of the counter (i, j) under the key        (Salmon et al. 2011, SC'11)
    z = √2 erf⁻¹(u),   u uniform on (-1, 1) from the high bits of w_0 (float32), of w_0 and w_1 (float64)

It is the block cipher of JAX's own keys, with the same bits; but one block serves one number, nothing is concatenated
or folded in, and the rounds are written out, so that XLA makes one loop of cipher, root and product. On CPU that is
several times as fast as `normal(fold_in(key, i))`, whose rounds run in a loop over memory, and compiles in a third of
the time (decision 2; `benchmarks/brownian.py`). Keys of another kind take `fold_in` and `jax.random.normal`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_ROUNDS = 20
# Sub-key k of cell i is the block of the counter (i, this - k); no cell draws that many numbers.
_SUBKEY = 2**32 - 1


def normals(
    key: Key[Array, ""], i: Int[Array, ""] | int, shape: tuple[int, ...], dtype: Any, first: int = 0
) -> Float[Array, ...]:
    """Draws j = first, first + 1, ... of cell i, in `shape`; the same bits whatever is drawn beside them."""
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if not _is_threefry(key):
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, i), first), shape, dtype)
    j = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape) + np.uint32(first)
    return np.sqrt(2).astype(dtype) * lax.erf_inv(_uniform(*_block(key, i, j), dtype))


def subkey(key: Key[Array, ""], i: Int[Array, ""] | int, k: int) -> Key[Array, ""]:
    """Key k of cell i alone, for whatever else is random in it."""
    if not _is_threefry(key):
        return jax.random.fold_in(jax.random.fold_in(key, i), _SUBKEY - k)
    block = _block(key, i, jnp.asarray(_SUBKEY - k, jnp.uint32))
    return jax.random.wrap_key_data(jnp.stack(block), impl="threefry2x32")


def threefry(key: UInt32[Array, " two"], x0: UInt32[Array, ...], x1: UInt32[Array, ...]) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds: the block of the counter (x0, x1), entry by entry."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for done in range(_ROUNDS):
        turn = _ROTATIONS[done // 4 % 2][done % 4]
        x0 = x0 + x1
        x1 = x0 ^ ((x1 << np.uint32(turn)) | (x1 >> np.uint32(32 - turn)))
        if done % 4 == 3:
            inject = done // 4 + 1
            x0 = x0 + schedule[inject % 3]
            x1 = x1 + schedule[(inject + 1) % 3] + np.uint32(inject)
    return x0, x1


def _block(key: Key[Array, ""], i: Int[Array, ""] | int, j: UInt32[Array, ...]) -> tuple[Array, Array]:
    return threefry(jax.random.key_data(key), jnp.asarray(i).astype(jnp.uint32), j)


def _uniform(w0: Array, w1: Array, dtype: Any) -> Array:
    """On (-1, 1), with as many bits as the mantissa holds: 1.xxx from the bits, less 1, stretched, and never -1."""
    if jnp.finfo(dtype).bits == 32:
        unit = lax.bitcast_convert_type((w0 >> np.uint32(9)) | np.uint32(0x3F800000), jnp.float32)
    else:
        bits = (w0.astype(jnp.uint64) << np.uint64(32)) | w1.astype(jnp.uint64)
        unit = lax.bitcast_convert_type((bits >> np.uint64(12)) | np.uint64(0x3FF0000000000000), jnp.float64)
    lowest = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    return jnp.maximum(lowest, (unit - 1) * (1 - lowest) + lowest)


def _is_threefry(key: Key[Array, ""]) -> bool:
    return str(jax.random.key_impl(key)) == "threefry2x32"
