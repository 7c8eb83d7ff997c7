"""The same training step in eager PyTorch, as tutorials write it: modules, `backward()`, Adam, a clipped gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.peers.training_jax import CLIP, DECAY, SIGMA_RANGE, Data


class Network(torch.nn.Module):
    def __init__(self, p: Any) -> None:
        super().__init__()
        self.linear = _linear(p["A"], p["b"])
        self.hidden = torch.nn.ModuleList([_linear(W, b) for W, b in p["hidden"]])
        self.out = _linear(p["out"], None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        for layer in self.hidden:
            x = torch.nn.functional.silu(layer(x))
        return y + self.out(x)


def _linear(W: Any, b: Any) -> torch.nn.Linear:
    layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=b is not None)
    with torch.no_grad():
        layer.weight.copy_(_tensor(W))
        if b is not None:
            layer.bias.copy_(_tensor(b))
    return layer


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


class Loop:
    """The model, its data and its optimiser."""

    def __init__(self, params: Any, variance: Any, data: Data, batch: int, rate: Callable[[int], float]) -> None:
        self.flow, self.diffusion = Network(params["flow"]), Network(params["diffusion"])
        self.weights = [*self.flow.parameters(), *self.diffusion.parameters()]
        self.optimiser = torch.optim.Adam(self.weights, lr=rate(0))
        self.data, self.variance = Data(*map(_tensor, data)), _tensor(variance)
        self.batch, self.rate, self.done = batch, rate, 0

    @property
    def parameters(self) -> int:
        """Their number."""
        return sum(p.numel() for p in self.weights)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Of these rows; the running variance moves on."""
        x, start, end, dt = (part[rows] for part in self.data[:-1])
        move, flow = end - start, self.flow(x)
        squared = (move / dt - flow) ** 2 * dt
        scale = self.data.walk * torch.exp(SIGMA_RANGE * torch.tanh(self.diffusion(x) / SIGMA_RANGE)) * dt.sqrt()
        left = (move - flow.detach() * dt) / scale
        nats = 0.5 * left**2 + scale.log() + 0.5 * np.log(2 * np.pi)
        value = (0.5 * squared / self.variance + nats).mean()
        self.variance = DECAY * self.variance + (1 - DECAY) * squared.detach().mean(0)
        return value

    def stepped(self, count: int, rows: Any = None, each: int = 50) -> list[float]:
        """Losses of `count` more steps on rows (count, batch), or on rows drawn here; fetched every `each` steps."""
        found, pending = [], []
        for i in range(count):
            drawn = torch.randint(len(self.data.x), (self.batch,)) if rows is None else _tensor(rows[i])
            self.optimiser.param_groups[0]["lr"] = self.rate(self.done)
            self.optimiser.zero_grad()
            value = self.loss(drawn)
            value.backward()
            torch.nn.utils.clip_grad_norm_(self.weights, CLIP)
            self.optimiser.step()
            self.done += 1
            pending.append(value.detach())
            if len(pending) == each or i == count - 1:
                found += torch.stack(pending).tolist()
                pending = []
        return found
