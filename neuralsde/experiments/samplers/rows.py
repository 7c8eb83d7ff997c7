"""Which samplers run on which grid: every one of `SAMPLERS` on its own, and those of the ladder on the ladder's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuralsde.noising import Spacing
from neuralsde.sampling import DDIM, RK4, SAMPLERS, AdaptiveODE, AdaptiveSDE, DPMSolverPP, Sampler

GRIDS: dict[Spacing, str] = {"uniform": "uniform t", "log-snr": "log-SNR", "edm": "ρ = 7"}
LABELS = {
    "euler": "Euler",
    "heun": "Heun",
    "heun-log-snr": "Heun in λ",
    "rk4": "RK4 in λ",
    "ddim": "DDIM",
    "dpm-1": "DPM-Solver-1",
    "dpm-2": "DPM-Solver-2",
    "dpm-3": "DPM-Solver-3",
    "dpmpp-2s": "DPM-Solver++(2S)",
    "dpmpp-2m": "DPM-Solver++(2M)",
    "unipc-1": "UniPC-1",
    "unipc": "UniPC-2",
    "unipc-3": "UniPC-3",
    "edm-heun": "EDM Heun",
    "ddpm": "DDPM ancestral",
    "euler-maruyama": "Euler-Maruyama",
    "reverse-heun": "reverse SDE, Heun",
    "reverse-shark": "reverse SDE, ShARK",
    "sde-dpmpp-1": "SDE-DPM-Solver++(1)",
    "sde-dpmpp-2m": "SDE-DPM-Solver++(2M)",
    "edm-churn": "EDM Heun with churn",
    "pc": "predictor-corrector",
    "annealed-langevin": "annealed Langevin",
}
"""Names for the page; one that is missing here shows under its name in the registry."""
TOLERANCES = {"adaptive-ode": (1e-2, 1e-3), "adaptive-sde": (0.1, 0.05)}


@dataclass(frozen=True)
class Row:
    """A sampler on a grid; an adaptive one at a tolerance has no grid. `called`: its name on the page, if another."""

    name: str
    sampler: Sampler
    spacing: Spacing | None
    tolerance: float | None = None
    called: str | None = None

    @property
    def label(self) -> str:
        if self.tolerance is not None:
            return f"{self.name}, rtol = {self.tolerance:g}"
        assert self.spacing is not None
        return f"{self.called or LABELS.get(self.name, self.name)}, {GRIDS[self.spacing]}"


BESIDES = (
    Row("rk4", RK4("t"), "log-snr", called="RK4"),
    Row("ddim", DDIM(), "uniform"),
    Row("dpmpp-2m", DPMSolverPP(), "edm"),
)
"""Rows of the ladder that are not of the registry: another grid, or RK4 in t on a grid of log SNR."""


def rows(names: tuple[str, ...] = ()) -> list[Row]:
    """Of the registry, or of these names of it only, with the rows that the ladder has besides."""
    found: list[Row] = []
    for name, make in SAMPLERS.items():
        if names and name not in names:
            continue
        sampler = make()
        if isinstance(sampler, AdaptiveODE | AdaptiveSDE):
            found += [Row(name, _at(sampler, rtol), None, rtol) for rtol in TOLERANCES[name]]
            continue
        found.append(Row(name, sampler, sampler.spacing))
        found += [row for row in BESIDES if row.name == name]
    return found


def _at(sampler: AdaptiveODE | AdaptiveSDE, rtol: float) -> Sampler:
    """With this tolerance; the absolute one keeps its share of it."""
    return replace(sampler, rtol=rtol, atol=rtol * sampler.atol / sampler.rtol)
