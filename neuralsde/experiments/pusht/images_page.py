"""The page and the picture of `neuralsde reproduce pusht --obs image`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuralsde.data.pusht import IMAGE
from neuralsde.data.pusht.features import SIDE
from neuralsde.evaluate import style

ASKED = 0.70
"""Mean maximum reward."""
MARKS = (("diffusion policy from images, trained by its authors' code", 0.919), ("in LeRobot", 0.906))
"""Mean maximum reward of 500 episodes, the best of the checkpoints (pull request 41 of huggingface/lerobot, 2024)."""
_TICKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Look:
    """An image (96, 96, 3) of grey levels, found and true keypoints (9, 2), px of the arena."""

    image: np.ndarray
    found: np.ndarray
    truth: np.ndarray


def curve_of(metrics: Path, steps: int, seconds: float) -> list[dict[str, float]]:
    """What was watched, out of metrics.jsonl: a row for each point, with `minutes` of training alone.

    seconds: of all `steps`, watching included; a step takes as long as any other.
    """
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines() if line]
    rows = [{k: v for k, v in line.items() if k != "notes"} for line in lines if "watched" in line]
    training = seconds - sum(row["watched"] for row in rows)
    return [{**row, "minutes": training * row["step"] / steps / 60} for row in rows]


def page(facts: dict[str, Any]) -> str:
    """As markdown."""
    size, curve, seen, true = (facts[name] for name in ("size", "curve", "seen", "true"))
    trivial = facts["trivial"]
    last = curve[-1]
    holds = "yes" if seen["reward"] >= ASKED else "**no**"
    return "\n".join([
        "# Push-T from images",
        "",
        f"Written by `{facts['command']}`: one training seed. A policy of {size['n_obs']} images of 96 x 96 and the "
        f"agent's position, from {facts['episodes']} demonstrations ({facts['rows']} steps) and their mirror images: "
        f"an encoder of {facts['weights']['encoder']} weights that finds nine keypoints, and the neural SDE of the "
        f"main table ({facts['weights']['plan']} weights). Both from nothing, in one training of {size['steps']} steps "
        f"of {size['images']} images and {size['batch']} moments, {last['minutes']:.0f} minutes on the device named "
        "in the JSON file; the averaged weights of the last step.",
        "",
        "**The encoder learns from an auxiliary regression of the demonstrated keypoints and from nothing else**; the "
        "plan is learnt from keypoints with the encoder's errors on them. In an episode the policy is given images "
        "and the agent's position.",
        "",
        f"| {size['starts']} published starts, {size['execute']} of {size['horizon']} actions executed | "
        "mean maximum reward | success | never moves | asked | holds |",
        "|---|--:|--:|--:|--:|--:|",
        f"| from images | {_told(seen)} | {seen['success']:.2f} | {trivial['reward']:.3f} | {ASKED:.2f} | {holds} |",
        f"| the same plan, told the true keypoints | {_told(true)} | {true['success']:.2f} | "
        f"{trivial['reward']:.3f} | | |",
        "",
        "Published, over 500 other starts: " + ", ".join(f"{who} {value:.3f}" for who, value in MARKS) + ", the best "
        "checkpoint of each (pull request 41 of huggingface/lerobot). Those learn end to end from images and actions "
        "alone, without keypoints and without mirror images, so the difference is not one of methods.",
        "",
        "## While it learns",
        "",
        f"Distance of found from true keypoints in held-out images, px of the arena of {SIDE:.0f}; one who always says "
        f"the mean keypoints is off by {trivial['px']:.0f}. Rewards are those of {size['chosen']} starts that are not "
        "among the published ones; rows differ by chance as well.",
        "",
        "![learning curve](pusht-images.png)",
        "",
        "| minutes | steps | mean distance | median | 95 % below | mean maximum reward |",
        "|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {row['minutes']:.1f} | {row['step']} | {row['px']:.2f} | {row['px_median']:.2f} | {row['px_95']:.2f} | "
            f"{row['reward']:.3f} ± {row['reward_error']:.3f} |"
            for row in curve
        ),
    ])  # fmt: skip


def _told(found: dict[str, float]) -> str:
    return f"{found['reward']:.3f} ± {found['error']:.3f}"


def picture(facts: dict[str, Any], looks: Sequence[Look], path: Path) -> None:
    """The learning curve, and some images: crosses where keypoints were found, rings where they are."""
    curve, fig = facts["curve"], style.figure(980, 520)
    minutes = [row["minutes"] for row in curve]
    off, reward = (fig.add_axes((0.06 + 0.49 * k, 0.53, 0.42, 0.38), facecolor="none") for k in range(2))
    off.plot(minutes, [row["px"] for row in curve], "o-", color=style.ACCENT, markersize=5, linewidth=1.3)
    off.axhline(facts["trivial"]["px"], color=style.FAINT, linewidth=0.8)
    off.set_yscale("log")
    off.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    told = [row["reward"] for row in curve], [row["reward_error"] for row in curve]
    reward.errorbar(minutes, told[0], yerr=told[1], fmt="o-", color=style.ACCENT, markersize=5, linewidth=1.3)
    reward.axhline(facts["true"]["reward"], color=style.INK, linewidth=0.8, linestyle=":")
    reward.axhline(ASKED, color=style.FAINT, linewidth=0.8)
    _dressed(off, "distance of found from true keypoints, px (line: mean keypoints)")
    _dressed(reward, "mean maximum reward (dotted: told keypoints; line: asked)")
    for k, look in enumerate(looks):
        ax = fig.add_axes((0.03 + 0.325 * k, 0.01, 0.29, 0.4))
        ax.imshow(look.image)
        (x, y), (u, v) = (points.T * IMAGE[0] / SIDE - 0.5 for points in (look.truth, look.found))
        ax.scatter(x, y, s=30, facecolors="none", edgecolors=style.PAPER, linewidths=1.2)
        ax.scatter(u, v, s=26, marker="x", color=style.INK, linewidths=1.2)
        ax.set_axis_off()
    style.save(fig, path)


def _dressed(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=10, color=style.INK, loc="left")
    ax.set_xlabel("minutes of training", fontsize=10, color=style.MUTED)
    ax.grid(axis="y", color=style.RULE, linewidth=0.9)
    ax.tick_params(length=0, labelsize=9, colors=style.MUTED)
    ax.minorticks_off()
    for spine in ax.spines.values():
        spine.set_visible(False)
