"""The samplers of diffusers and azula on a grid of our own times, with a score given in PyTorch.

diffusers knows discrete levels only, made from a table of β. The table is made so that the levels *are* the grid: level
k of n + 1 has ᾱ_k = α²(t_{n-k}), so β_0 = 1 - ᾱ_0 and β_k = 1 - ᾱ_k/ᾱ_{k-1} (`trained_betas`), the steps visit n, n -
1, ..., 1, and the last one ends at level 0, not at σ = 0 (`final_sigmas_type="sigma_min"` where there is such an
option). The network is asked at the continuous time of the level. Nothing is rounded but by float32, in which diffusers
keeps its tables and, in the DPM-Solver family, the state; `exact_tables` puts double precision in the tables.

azula takes any times: its samplers' property `timesteps` is the grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.sample import DDIMSampler, DDPMSampler, HeunSampler, xEABSampler
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_ddpm

Noise = Callable[[torch.Tensor, float], torch.Tensor]
"""(x (b, ...), t) -> ε̂, in the shape of x."""


@dataclass(frozen=True)
class Grid:
    """Decreasing times (n + 1,) with the α and σ of each, in float64."""

    ts: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray

    @property
    def betas(self) -> np.ndarray:
        """The table of β whose levels are these, increasing in noise."""
        bar = np.square(self.alpha[::-1])
        return 1 - bar / np.concatenate([[1.0], bar[:-1]])

    @property
    def n(self) -> int:
        return len(self.ts) - 1


# -- diffusers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diffusers:
    """A scheduler of diffusers by its class and options; `spacing` as its constructor needs it to visit n, ..., 1."""

    kind: type
    options: tuple[tuple[str, Any], ...] = ()
    eta: float | None = None

    def scheduler(self, grid: Grid, exact_tables: bool) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self.kind(num_train_timesteps=grid.n + 1, trained_betas=grid.betas, **dict(self.options))
        if exact_tables:
            bar = torch.from_numpy(np.square(grid.alpha[::-1]).copy())
            made.betas, made.alphas_cumprod = torch.from_numpy(grid.betas), bar
            made.alphas = 1 - made.betas
        return made

    def sampler(self, grid: Grid, net: Noise, exact_tables: bool = False) -> Callable[..., torch.Tensor]:
        """From x (b, ...) to x at the last time; `normals` (n, b, ...) replaces the generator's where it is given."""
        made = self.scheduler(grid, exact_tables)
        times = [float(t) for t in grid.ts]

        def visits() -> Any:
            """The levels in turn, with the time of each."""
            if self.kind is DDPMScheduler:
                made.set_timesteps(timesteps=list(range(grid.n, -1, -1)))
                levels = made.timesteps[:-1]  # its last level is where it ends
            elif self.kind is DDIMScheduler:
                made.set_timesteps(grid.n)  # "leading" with an offset of 1
                levels = made.timesteps
            elif self.kind in (DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler):
                made.set_timesteps(timesteps=list(range(grid.n, 0, -1)))
                levels = made.timesteps
            else:
                made.set_timesteps(grid.n)
                levels = made.timesteps
            if exact_tables and self.kind not in (DDPMScheduler, DDIMScheduler):
                made.sigmas = torch.from_numpy(grid.sigma / grid.alpha)
            return levels

        def run(x: torch.Tensor, normals: torch.Tensor | None = None) -> torch.Tensor:
            with torch.inference_mode():
                for i, level in enumerate(visits()):
                    options: dict[str, Any] = {} if self.eta is None else {"eta": self.eta}
                    if normals is not None:
                        options["variance_noise"] = normals[i]
                    x = made.step(net(x, times[i]), level, x, return_dict=False, **options)[0]
                return x

        return run if self.kind is not DDPMScheduler else _with_normals(run)


def _with_normals(run: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """DDPMScheduler takes no noise: its own function for it is replaced while it runs, if there is any to be given."""

    def replaced(x: torch.Tensor, normals: torch.Tensor | None = None) -> torch.Tensor:
        if normals is None:
            return run(x)
        own, rest = scheduling_ddpm.randn_tensor, iter(normals)
        scheduling_ddpm.randn_tensor = lambda *_, **__: next(rest)
        try:
            return run(x)
        finally:
            scheduling_ddpm.randn_tensor = own

    return replaced


@dataclass(frozen=True)
class Heun:
    """HeunDiscreteScheduler, which works on x/α and ends at σ = 0: its last level is put back to that of the grid."""

    def sampler(self, grid: Grid, net: Noise, exact_tables: bool = False) -> Callable[..., torch.Tensor]:
        made = HeunDiscreteScheduler(num_train_timesteps=grid.n + 1, trained_betas=grid.betas)
        sigma = torch.from_numpy(grid.sigma / grid.alpha)
        sigma = sigma if exact_tables else sigma.float()
        alpha = [float(a) for a in grid.alpha]
        levels = [0, *np.repeat(np.arange(1, grid.n), 2).tolist(), grid.n]

        def run(x: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                made.set_timesteps(timesteps=list(range(grid.n, 0, -1)))
                made.sigmas = sigma[levels]
                made._step_index = 0
                y = x / alpha[0]
                for i in levels:
                    y = made.step(net(alpha[i] * y, float(grid.ts[i])), 0.0, y, return_dict=False)[0]
                return y * alpha[-1]

        return run


@dataclass(frozen=True)
class EDMMultistep:
    """EDMDPMSolverMultistepScheduler on x/α, with the grid's σ/α for its own."""

    def sampler(self, grid: Grid, net: Noise, exact_tables: bool = False) -> Callable[..., torch.Tensor]:
        made = EDMDPMSolverMultistepScheduler(final_sigmas_type="sigma_min", lower_order_final=False)
        sigma = torch.from_numpy(grid.sigma / grid.alpha)
        sigma = sigma if exact_tables else sigma.float()
        alpha, data = [float(a) for a in grid.alpha], made.config.sigma_data

        def run(x: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                made.set_timesteps(grid.n)
                made.sigmas, made._step_index = sigma, 0
                y = x / alpha[0]
                for i in range(grid.n):
                    s = sigma[i]
                    x_0 = y - s * net(alpha[i] * y, float(grid.ts[i]))
                    # It undoes a preconditioning that our network does not have.
                    skip, out = data**2 / (s**2 + data**2), s * data / (s**2 + data**2) ** 0.5
                    y = made.step((x_0 - skip * y) / out, made.timesteps[i], y, return_dict=False)[0]
                return y * alpha[-1]

        return run


_MULTI = (("final_sigmas_type", "sigma_min"), ("lower_order_final", False))
DIFFUSERS: dict[str, Any] = {
    "DDIM": Diffusers(
        DDIMScheduler, (("clip_sample", False), ("timestep_spacing", "leading"), ("steps_offset", 1)), eta=0.0
    ),
    "DDPM ancestral": Diffusers(DDPMScheduler, (("clip_sample", False),)),
    "DPM-Solver-2": Diffusers(
        DPMSolverSinglestepScheduler, (*_MULTI, ("algorithm_type", "dpmsolver"), ("solver_order", 2))
    ),
    "DPM-Solver-3": Diffusers(
        DPMSolverSinglestepScheduler,
        (*_MULTI, ("algorithm_type", "dpmsolver"), ("solver_order", 3), ("solver_type", "midpoint")),
    ),
    "DPM-Solver++(2M)": Diffusers(DPMSolverMultistepScheduler, (*_MULTI, ("solver_order", 2))),
    "DPM-Solver++(2M), EDM": EDMMultistep(),
    "SDE-DPM-Solver++(2M)": Diffusers(
        DPMSolverMultistepScheduler, (*_MULTI, ("algorithm_type", "sde-dpmsolver++"), ("solver_order", 2))
    ),
    "UniPC": Diffusers(UniPCMultistepScheduler, (*_MULTI, ("solver_order", 2))),
    "Heun": Heun(),
}
"""By our names."""
PARTS = {"DPM-Solver-2": 2, "DPM-Solver-3": 3}
"""Levels of diffusers in one of our steps: its single-step solvers take every stage for a level of the grid."""


# -- azula -----------------------------------------------------------------------------------------------------------


class _Network(Denoiser):
    """ε̂ as azula wants it, as a posterior mean; and the grid's schedule, looked up by the number of the level."""

    def __init__(self, grid: Grid, net: Noise) -> None:
        super().__init__()
        self.grid, self.net = grid, net
        self.alpha, self.sigma = torch.from_numpy(grid.alpha), torch.from_numpy(grid.sigma)

    def schedule(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # pyright: ignore
        return self.alpha[t.long()], self.sigma[t.long()]

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, **_: Any) -> DiracPosterior:
        alpha, sigma = self.schedule(t)
        return DiracPosterior((x_t - sigma * self.net(x_t, float(self.grid.ts[int(t)]))) / alpha)


def azula(kind: type, **options: Any) -> Callable[..., Callable[..., torch.Tensor]]:
    """A sampler of azula on a grid; its clock is the number of the level."""

    class OnGrid(kind):
        levels: torch.Tensor

        @property
        def timesteps(self) -> torch.Tensor:
            return self.levels

    def sampler(grid: Grid, net: Noise) -> Callable[..., torch.Tensor]:
        network = _Network(grid, net)
        made = OnGrid(network, silent=True, **options)
        made.levels = torch.arange(grid.n + 1)

        def run(x: torch.Tensor) -> torch.Tensor:
            network.alpha, network.sigma = network.alpha.to(x.dtype), network.sigma.to(x.dtype)
            with torch.inference_mode():
                return made(x)

        return run

    return sampler


AZULA = {
    "DDIM": azula(DDIMSampler, eta=0.0),
    "DDPM ancestral": azula(DDPMSampler),
    "DPM-Solver++(2M)": azula(xEABSampler, order=2),
    "Heun": azula(HeunSampler),
}
"""By our names. Its second-order method in x_0 integrates the line through two predictions; 2M takes a midpoint."""


# -- networks --------------------------------------------------------------------------------------------------------


class MLP(torch.nn.Module):
    """ε̂ from x and log SNR, weights as [(W, b), ...]; the clock of a time is looked up, as no network computes it."""

    def __init__(self, weights: list[tuple[np.ndarray, np.ndarray]], clock: Callable[[float], float]) -> None:
        super().__init__()
        self.clock = clock
        self.layers = torch.nn.ModuleList()
        for W, b in weights:
            layer = torch.nn.Linear(W.shape[1], W.shape[0])
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W))
                layer.bias.copy_(torch.from_numpy(b))
            self.layers.append(layer)

    def forward(self, x: torch.Tensor, t: float) -> torch.Tensor:
        y = torch.cat([x, x.new_full((len(x), 1), self.clock(t))], 1)
        for layer in self.layers[:-1]:
            y = torch.nn.functional.silu(layer(y))
        return self.layers[-1](y)


class MixtureNoise:
    """ε̂ of a mixture of one s.d., exactly: means (k, d), weights (k,)."""

    def __init__(
        self, means: np.ndarray, weights: np.ndarray, sd: float, kernel: Callable[[float], tuple[float, float]]
    ) -> None:
        self.means, self.log_weights = torch.from_numpy(means), torch.from_numpy(np.log(weights))
        self.sd, self.kernel = sd, kernel

    def __call__(self, x: torch.Tensor, t: float) -> torch.Tensor:
        alpha, sigma = self.kernel(t)
        v, means, state = (alpha * self.sd) ** 2 + sigma**2, alpha * self.means, x.double()
        terms = self.log_weights - 0.5 * means.square().sum(1) / v + state @ means.T / v
        return (sigma * (state - torch.softmax(terms, 1) @ means) / v).to(x.dtype)
