"""What a solve returns, and the one place where its failure becomes an error."""

from __future__ import annotations

import enum
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from neuralsde.errors import InputError, RunFailed


class Result(enum.IntEnum):
    """How a solve ended."""

    SUCCESSFUL = 0
    NOT_FINITE = 1
    TIMES_NOT_MONOTONE = 2
    NOT_REVERSIBLE = 3
    STEP_CONTROL_FAILED = 4
    UNSTABLE = 5


class Solution(eqx.Module):
    """A solved path, or a batch of them under `jax.vmap` (then every field has the batch axes in front).

    ts:     (k,) times.
    ys:     (k, *y0.shape), or a pytree of such; ys[0] == y0. Entries after a failure are not numbers.
    result: () a `Result` code, int32.
    steps:  () how many steps, from the first on, ended in a finite state, int32.
    stop_time: () where a `Stop` event ended the path, inf where none did; None without events.
    """

    ts: Array
    ys: Any
    result: Int[Array, ...]
    steps: Int[Array, ...]
    stop_time: Float[Array, ...] | None = None

    def raise_if_failed(self) -> Solution:
        """The solution itself, or `RunFailed` with the likely causes. For the edge of a program, outside `jax.jit`."""
        if isinstance(self.result, Tracer):
            raise InputError(
                "raise_if_failed() inside a traced function",
                "the result is not known before the program runs",
                "a call outside jax.jit, jax.vmap and jax.grad",
                "return the solution, or solution.result, from the traced function",
            )
        codes: np.ndarray = np.asarray(self.result)
        if (codes == Result.SUCCESSFUL).all():
            return self
        if (codes == Result.TIMES_NOT_MONOTONE).any():
            raise InputError(
                _count(codes == Result.TIMES_NOT_MONOTONE, "solve") + " over times that are not monotone",
                "a traced ts has a gap that is zero, negative or not a number, or is not where the path is",
                "strictly increasing times; decreasing ones must be known when the solve is traced",
                "np.diff(ts) to see which; in a padded batch, mask the padding after the last time",
            )
        if (codes == Result.STEP_CONTROL_FAILED).any():
            raise RunFailed(
                _count(codes == Result.STEP_CONTROL_FAILED, "path") + " that the step control gave up",
                "max_steps were taken, and the last time was not reached",
                "a tolerance that the steps can meet",
                "a larger max_steps, or larger rtol and atol; else a state at which drift or diffusion is not finite",
            )
        if (codes == Result.NOT_FINITE).any():
            raise self._not_finite(codes)
        other = "method=Heun(), or an implicit one such as DriftImplicitEuler(), with gradient=Checkpointed()"
        if (codes == Result.UNSTABLE).any():
            raise RunFailed(
                _count(codes == Result.UNSTABLE, "path") + " taken over by the parasite of a reversible method",
                "its two copies of the state ended far apart, so that neither these states nor their gradients are "
                "right, in any gradient mode: where the solution contracts the copies part by e^(contraction · time)",
                "contraction · time below about 8 in the whole solve; shorter steps help little",
                other,
            )
        raise RunFailed(
            _count(codes == Result.NOT_REVERSIBLE, "path") + " that could not be reconstructed from its end",
            "there is no gradient: going back amplifies rounding by e^(contraction · time). Much further on the states "
            "of a reversible method are lost too",
            "contraction · time below about 8 in float64, 5 in float32",
            other + ", or less contraction · time",
        )

    def _not_finite(self, codes: np.ndarray) -> RunFailed:
        """The error of the first failed path, with the causes in the order of what its states show."""
        ts, ys = self._first_failed(codes)
        finite: np.ndarray = np.asarray(np.isfinite(ys).all(axis=1))
        got = _count(codes != Result.SUCCESSFUL, "path") + " with a state that is not finite"
        if not finite[0]:
            return RunFailed(
                got,
                f"y0 itself is not finite in {int((~np.isfinite(ys[0])).sum())} of {ys.shape[1]} entries",
                "a finite y0",
                "np.isfinite(y0) to see which, e.g. a missing value that was not filled",
            )
        bad = int(np.argmin(finite))
        size = np.abs(ys[:bad]).max(axis=1)
        steps = int(np.asarray(self.steps).ravel()[int(np.argmax(codes))])
        where = f"ts[{bad}]" if steps == bad - 1 else f"ts[{bad}], in step {steps + 1} of the solve"
        meaning = f"first at t={ts[bad]:g} ({where}); before, |y| went from {size[0]:.3g} to {size[-1]:.3g}"
        step = (
            f"a step too long for the drift or the diffusion (gaps of ts up to {np.diff(ts).max():g}): more substeps, "
            "or coefficients that grow at most linearly"
        )
        value = (
            "drift or diffusion not finite at a state that is (a root or a logarithm of a negative number, a division "
            "by zero, args that are not finite): evaluate both at the last finite state"
        )
        grew = size[-1] > 1e3 * max(1.0, float(size[0]))
        causes = (step, value) if grew or bad > 1 else (value, step)
        return RunFailed(got, meaning, "finite states at every time", f"(1) {causes[0]}; (2) {causes[1]}")

    def _first_failed(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Times (k,) and states (k, d) of the first failed path of the batch."""
        where = np.unravel_index(int(np.argmax(codes)), codes.shape)
        ts = np.asarray(self.ts)
        ts = ts[where] if ts.ndim > 1 else ts
        leaves = [np.asarray(leaf)[where].reshape(ts.shape[0], -1) for leaf in jax.tree.leaves(self.ys)]
        return ts, np.concatenate(leaves, axis=1)


def _count(failed: Any, noun: str) -> str:
    if np.ndim(failed) == 0:
        return f"a {noun}"
    return f"{int(np.sum(failed))} of {np.size(failed)} {noun}s"
