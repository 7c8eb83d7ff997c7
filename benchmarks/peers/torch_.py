"""torchsde, and the loop that one would write by hand in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchsde

from benchmarks.peers.problem import Problem


class Process(torch.nn.Module):
    """The same process for torchsde."""

    noise_type = "diagonal"

    def __init__(self, problem: Problem, sde_type: str) -> None:
        super().__init__()
        self.sde_type = sde_type
        self.layers = torch.nn.ParameterList([torch.tensor(w) for w in problem.weights()])

    def f(self, t: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(y @ self.layers[0]) @ self.layers[1]

    def g(self, t: Any, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.sigmoid(torch.tanh(y @ self.layers[2]) @ self.layers[3])


def calls(process: Process, loss: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def forward() -> None:
        with torch.no_grad():
            loss()

    def gradient() -> None:
        process.zero_grad()
        loss().backward()

    return forward, gradient


def with_torchsde(problem: Problem, sde_type: str, **options: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """`options` go to sdeint, or to sdeint_adjoint when one of them names an adjoint."""
    process, start, ts = Process(problem, sde_type), torch.tensor(problem.start()), torch.tensor([0.0, 1.0])
    solve = torchsde.sdeint_adjoint if "adjoint_method" in options else torchsde.sdeint
    return calls(process, lambda: (solve(process, start, ts, dt=1.0 / problem.steps, **options)[-1] ** 2).mean())


def by_hand(problem: Problem) -> tuple[Callable[[], Any], Callable[[], Any]]:
    process, start, h = Process(problem, "ito"), torch.tensor(problem.start()), 1.0 / problem.steps

    def loss() -> torch.Tensor:
        y = start
        for _ in range(problem.steps):
            y = y + process.f(0.0, y) * h + process.g(0.0, y) * h**0.5 * torch.randn_like(y)
        return (y**2).mean()

    return calls(process, loss)
