"""Names for the arrays that travel through the package; shapes as jaxtyping annotations, checked in the tests.

`Y` a state of any shape, `Times` a strictly monotone vector of times, `Key` a typed JAX key.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float, Key, Real

Y = Float[Array, "..."]
Times = Real[Array, " t"]
Scalar = Real[Array, ""]
PRNGKey = Key[Array, ""]
Args = Any

__all__ = ["Args", "PRNGKey", "Scalar", "Times", "Y"]
