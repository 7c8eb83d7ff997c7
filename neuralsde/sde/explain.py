"""What every gradient mode would cost for a problem: memory, evaluations, exactness. Nothing is solved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from neuralsde.errors import InputError
from neuralsde.sde.brownian import BrownianGrid
from neuralsde.sde.edge import as_floats, take_in
from neuralsde.sde.gradients import Auto, Backprop, Checkpointed, ContinuousAdjoint, Gradient, Loop, Reversible
from neuralsde.sde.gradients.sizes import Cost, Sizes, cost, measure
from neuralsde.sde.inputs import check_options, checked_times
from neuralsde.sde.methods import EulerMaruyama, Method, check_method
from neuralsde.sde.process import SDE


@dataclasses.dataclass(frozen=True)
class GradientReport:
    """The cost of every mode; `print` it, or read `costs` (bytes and counts).

    title: the problem in one line. modes, costs: side by side. sizes: what they were computed from.
    takes: for every mode what it takes here: itself, but for `Auto`, where None means that nothing fits.
    """

    title: str
    modes: tuple[Gradient, ...]
    costs: tuple[Cost, ...]
    sizes: Sizes
    takes: tuple[Gradient | None, ...]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("mode", "memory", "drift", "diffusion", "gradient")]
        for mode, its, taken in zip(self.modes, self.costs, self.takes, strict=True):
            numbers = ("-", "-", "-") if its.refused else (_size(its.memory), f"{its.drift:,}", f"{its.diffusion:,}")
            name = _name(mode) if taken in (mode, None) else f"{_name(mode)}: {_name(taken)}"
            rows.append((name, *numbers, f"not here: {its.refused}" if its.refused else its.exact))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in (1, 2, 3)), row[4]]) for row in rows
        ]
        return "\n".join([self.title, *lines])


def explain_gradient(
    process: SDE,
    y0: Any,
    ts: Any,
    *,
    method: Method = EulerMaruyama(),  # noqa: B008 (a frozen value)
    substeps: int = 1,
    args: Any = None,
    batch: int = 1,
    gradients: Sequence[Gradient] | None = None,
) -> GradientReport:
    """Expected memory, evaluations and exactness of the gradient of `simulate` with the same arguments.

    batch:     how many paths `jax.vmap` will solve at a time.
    gradients: the modes to compare; None: one of each kind.

    Memory is an estimate from shapes: within a factor of 3 of what XLA reserves, measured in the tests. Evaluations are
    those of one path, forward and again on the way back; pulling a gradient through each costs about two more.
    `Auto` is shown with the mode that it takes. Raises `InputError` for what `simulate` would refuse.
    """
    modes = tuple(gradients) if gradients is not None else _one_of_each()
    for mode in modes or (Backprop(),):
        check_options(process, method, mode, substeps)
    check_method(method, process)
    times = jnp.asarray(checked_times(ts)[0])
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch={batch!r}", expected="how many paths are solved at a time, an integer >= 1")
    inside = take_in(process, as_floats(y0))
    path = BrownianGrid(jax.random.key(0), times, substeps)
    brownian = process.noise.brownian_shape(inside.y0.shape)
    loop = Loop(inside.process, method, path, args, brownian, times.shape[0] - 1, substeps, None, None)
    carry = method.init(inside.process, times[0].astype(inside.y0.dtype), inside.y0, args)
    sizes = measure(loop, carry)
    taken = [_taken(mode, loop, carry) for mode in modes]
    title = (
        f"{batch:,} path{'s' * (batch > 1)} of {inside.y0.size} entries ({inside.y0.dtype}), "
        f"{loop.gaps * substeps:,} steps, {loop.gaps:,} saved, {type(method).__name__}"
    )
    costs = tuple(Cost(0, 0, 0, "", it) if isinstance(it, str) else cost(it, loop, sizes, batch) for it in taken)
    return GradientReport(title, modes, costs, sizes, tuple(None if isinstance(it, str) else it for it in taken))


def _taken(mode: Gradient, loop: Loop, carry: Any) -> Gradient | str:
    """The mode itself, or what `Auto` chooses; why it finds none."""
    if not isinstance(mode, Auto):
        return mode
    try:
        return mode.choose(loop, carry)
    except InputError as none:
        return none.meaning


def _one_of_each() -> tuple[Gradient, ...]:
    return (
        Backprop(),
        Checkpointed(),
        Checkpointed(segments="sqrt"),
        Checkpointed(segments=16),
        Reversible(),
        ContinuousAdjoint(),
    )


def _name(mode: Gradient) -> str:
    fields = dataclasses.fields(mode)  # type: ignore[arg-type]  (every mode is a dataclass)
    given = [f"{f.name}={getattr(mode, f.name)!r}" for f in fields if getattr(mode, f.name) != f.default]
    return f"{type(mode).__name__}({', '.join(given)})"


def _size(memory: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if memory >= unit:
            return f"{memory / unit:.3g} {name}"
    return f"{memory} B"
