"""A chunk policy in PyTorch with a scheduler of diffusers in the loop of its documentation; as large as ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn

LEVELS = 100
"""Of the published diffusion policy."""
_CLOCK = 32


class Block(nn.Module):
    """h + B silu(A norm(h))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.second(nn.functional.silu(self.first(self.norm(h))))


class ChunkNet(nn.Module):
    """Noised plan, time and history -> noise; the layers of `nets.residual.ResidualMLP`."""

    def __init__(self, plan: int, context: int, width: int, blocks: int) -> None:
        super().__init__()
        size = plan + _CLOCK + context
        self.clock = nn.Sequential(nn.Linear(32, _CLOCK), nn.SiLU(), nn.Linear(_CLOCK, _CLOCK), nn.SiLU())
        self.linear, self.enter = nn.Linear(size, plan), nn.Linear(size, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.norm, self.out = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, plan)
        self.register_buffer("rates", 2 * torch.pi * torch.logspace(-2, 4, 16, base=2.0))

    def forward(self, x: torch.Tensor, t: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        angle = self.rates * (t / LEVELS)
        told = self.clock(torch.cat([angle.cos(), angle.sin()])).expand(len(x), -1)
        z = torch.cat([x.flatten(1), told, history], 1)
        return (self.linear(z) + self.out(self.norm(self.blocks(self.enter(z))))).view_as(x)


class Peer:
    """`act`: histories and last actions in pixels, NumPy, to the next `execute` actions in pixels, NumPy."""

    def __init__(self, net: ChunkNet, scheduler: Any, steps: int, horizon: int, execute: int) -> None:
        self.net, self.scheduler, self.steps = net.eval(), scheduler, steps
        self.horizon, self.execute = horizon, execute
        scheduler.set_timesteps(steps)

    @torch.inference_mode()
    def act(self, histories: np.ndarray) -> np.ndarray:
        seen = torch.from_numpy(histories.reshape(len(histories), -1)) / 256 - 1
        x = torch.randn(len(histories), self.horizon, 2)
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.net(x, t, seen), t, x).prev_sample
        return (256 * x[:, : self.execute].clamp(-1, 1) + 256).numpy()


def schedulers() -> dict[str, Any]:
    """As the published diffusion policy makes them."""
    common = {"num_train_timesteps": LEVELS, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}
    return {"DDPM": DDPMScheduler(**common), "DDIM": DDIMScheduler(**common)}
