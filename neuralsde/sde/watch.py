"""What is seen of a solve while it runs: how many steps stayed finite, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

Progress = Callable[[int, int], Any]
_CALLS = 100


def watcher(
    state: Callable[[Any], Array], steps: int, count: bool, progress: Progress | None
) -> Callable[[Array, Any, Any], Array] | None:
    """(seen, carry, i) -> seen, the number of steps so far whose state is finite.

    Where every step is saved nothing needs to be counted. `progress(done, steps)` is called on the host some 100 times,
    not always in order (that is what `jax.debug.callback` promises), once for a whole batch of paths.
    """
    if not count and progress is None:
        return None
    every = max(1, steps // _CALLS)
    show = None if progress is None else lambda done: jax.debug.callback(lambda n: progress(int(n), steps), done)

    def watch(seen: Array, carry: Any, i: Any) -> Array:
        if show is not None:
            lax.cond((i + 1) % every == 0, show, lambda _: None, i + 1)
        return seen + jnp.isfinite(lax.stop_gradient(state(carry))).all() if count else seen

    return watch
