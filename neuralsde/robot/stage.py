"""Many episodes at once: each plan is played in every episode that still runs, in this process or in several.

What is read of the simulators is gathered, so that rewards and observations of all episodes are one numpy expression
each. Pictures, the slowest part, are drawn only where the next plan will look at them. Worker processes are spawned,
hold their share of the episodes from beginning to end and never load JAX: plans come from the parent.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from neuralsde.errors import InputError, NeuralSDEError, RunFailed
from neuralsde.robot.coverage import SUCCESS, coverage
from neuralsde.robot.environment import Conditions, PushT, observed


@dataclass(frozen=True)
class Scene:
    """What is to be played: starts (n, 5), one seed for each, and how many observations a policy looks back.

    record: episodes of which pictures of `size` are kept.
    """

    starts: np.ndarray
    seeds: np.ndarray
    kind: str
    n_obs: int
    conditions: Conditions
    record: tuple[int, ...] = ()
    size: int = 256

    def part(self, rows: np.ndarray) -> Scene:
        """The scene of some of its episodes."""
        record = tuple(int(at) for at in np.flatnonzero(np.isin(rows, self.record)))
        return replace(self, starts=self.starts[rows], seeds=self.seeds[rows], record=record)


@dataclass(frozen=True)
class Played:
    """What became of plans of k actions in m episodes; NaN after the step at which an episode was done.

    histories: (m, n_obs, features) for the next plan. states: (m, k, 5) and rewards: (m, k) after each action.
    done: (m,) the block covers the goal.
    """

    histories: Float[np.ndarray, "m n_obs features"]
    states: Float[np.ndarray, "m k 5"]
    rewards: Float[np.ndarray, "m k"]
    done: Bool[np.ndarray, " m"]


@runtime_checkable
class Stage(Protocol):
    """Episodes in some process: `begin` once, `play` as often as needed, `close`."""

    def begin(self) -> Played:
        """Histories of the first observation alone; states (n, 1, 5) at the start, rewards NaN."""
        ...

    def play(self, rows: Int[np.ndarray, " m"], plans: Float[np.ndarray, "m k 2"]) -> Played: ...

    def frames(self) -> dict[int, UInt8[np.ndarray, "steps size size 3"]]: ...

    def close(self) -> None: ...


class Here:
    """The episodes of a scene in this process."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.episodes = [PushT(scene.kind, scene.conditions, scene.size) for _ in scene.starts]
        self._goal = np.array(scene.conditions.goal)
        self._seen = np.empty((0, scene.n_obs, 0), np.float32)
        self._frames: dict[int, list[np.ndarray]] = {row: [] for row in scene.record}

    def begin(self) -> Played:
        for episode, start, seed in zip(self.episodes, self.scene.starts, self.scene.seeds, strict=True):
            episode.place(start, int(seed))
        states = np.array([episode.state for episode in self.episodes])
        self._seen = np.repeat(observed(self.episodes, states)[:, None], self.scene.n_obs, 1)
        self._draw(range(len(states)))
        nothing = np.full((len(states), 1), np.nan)
        return Played(self._seen, states[:, None], nothing, np.zeros(len(states), bool))

    def play(self, rows: Int[np.ndarray, " m"], plans: Float[np.ndarray, "m k 2"]) -> Played:
        count, length = plans.shape[:2]
        states, rewards = np.full((count, length, 5), np.nan), np.full((count, length), np.nan)
        done = np.zeros(count, bool)
        for k in range(length):
            alive = np.flatnonzero(~done)
            if not len(alive):
                break
            episodes = [self.episodes[rows[i]] for i in alive]
            for i, episode in zip(alive, episodes, strict=True):
                episode.advance(plans[i, k])
            now = np.array([episode.state for episode in episodes])
            covered = coverage(now[:, 2:], self._goal)
            states[alive, k], rewards[alive, k] = now, np.minimum(covered / SUCCESS, 1.0)
            done[alive] = covered > SUCCESS
            if k >= length - self.scene.n_obs:
                seen = self._seen[rows[alive]]
                self._seen[rows[alive]] = np.concatenate([seen[:, 1:], observed(episodes, now)[:, None]], 1)
            self._draw(rows[alive])
        return Played(self._seen[rows], states, rewards, done)

    def frames(self) -> dict[int, UInt8[np.ndarray, "steps size size 3"]]:
        return {row: np.array(pictures) for row, pictures in self._frames.items()}

    def close(self) -> None:
        return None

    def _draw(self, rows: Any) -> None:
        for row in rows:
            if int(row) in self._frames:
                self._frames[int(row)].append(self.episodes[row].render())


class Elsewhere:
    """The episodes of a scene dealt out to `processes` worker processes, each a `Here` of its own."""

    def __init__(self, scene: Scene, processes: int) -> None:
        if processes < 1:
            raise InputError(f"{processes} processes", "", "at least one, or None for this one")
        spawn = multiprocessing.get_context("spawn")
        count = min(processes, len(scene.starts))
        self._shares = [np.arange(len(scene.starts))[k::count] for k in range(count)]
        self._place = np.empty(len(scene.starts), np.int64)
        self._workers, self._pipes = [], []
        for share in self._shares:
            self._place[share] = np.arange(len(share))
            ours, theirs = spawn.Pipe()
            worker = spawn.Process(target=_serve, args=(theirs, scene.part(share)), daemon=True)
            worker.start()
            theirs.close()
            self._workers.append(worker)
            self._pipes.append(ours)

    def begin(self) -> Played:
        parts = self._ask([("begin",) for _ in self._pipes])
        return _merged([(share, part) for share, part in zip(self._shares, parts, strict=True)])

    def play(self, rows: Int[np.ndarray, " m"], plans: Float[np.ndarray, "m k 2"]) -> Played:
        chosen = [np.flatnonzero(rows % len(self._pipes) == k) for k in range(len(self._pipes))]
        parts = self._ask([("play", self._place[rows[at]], plans[at]) if len(at) else None for at in chosen])
        return _merged([(at, part) for at, part in zip(chosen, parts, strict=True) if part is not None])

    def frames(self) -> dict[int, UInt8[np.ndarray, "steps size size 3"]]:
        parts = self._ask([("frames",) for _ in self._pipes])
        return {int(share[row]): part[row] for share, part in zip(self._shares, parts, strict=True) for row in part}

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.join(5)
            if worker.exitcode is None:
                worker.terminate()
                worker.join()

    def _ask(self, questions: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """All questions go out before the first answer is waited for; None asks nothing."""
        try:
            for pipe, question in zip(self._pipes, questions, strict=True):
                if question is not None:
                    pipe.send(question)
            answers = [None if q is None else pipe.recv() for pipe, q in zip(self._pipes, questions, strict=True)]
        except (EOFError, ConnectionError, BrokenPipeError):
            raise RunFailed("a worker process of the environment", "it died", hint="processes=None") from None
        for answer in answers:
            if isinstance(answer, NeuralSDEError):
                raise answer
        return answers


def _serve(pipe: Connection, scene: Scene) -> None:
    """The life of a worker: answer until the other end is closed; its own errors are answers too."""
    stage: Here | None = None
    while True:
        try:
            name, *args = pipe.recv()
        except EOFError:
            return
        try:
            stage = stage or Here(scene)
            answer = {"begin": stage.begin, "play": stage.play, "frames": stage.frames}[name](*args)
        except NeuralSDEError as error:
            answer = error
        pipe.send(answer)


def _merged(parts: Sequence[tuple[np.ndarray, Played]]) -> Played:
    """Parts put back into the order of the rows that they answer for."""
    order = np.argsort(np.concatenate([at for at, _ in parts]))
    joined = [np.concatenate([getattr(part, name) for _, part in parts])[order]
              for name in ("histories", "states", "rewards", "done")]  # fmt: skip
    return Played(joined[0], joined[1], joined[2], joined[3])
