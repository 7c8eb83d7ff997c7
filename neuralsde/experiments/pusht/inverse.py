"""Learning from observations alone: actions are inferred by inverse dynamics that saw a small labelled share.

    100, 25, 10, 5 % of the episodes are labelled    ->  inverse dynamics  ->  actions of all the others  ->  a policy
    all are, with noise on every label               ->  inverse dynamics  ->  their own actions anew     ->  a policy

beside policies that learn from the recorded actions of all episodes (the full reward), from the labelled episodes alone
and from the noisy labels themselves (the trivial ways). Asked: 10 % labelled keep 90 % of the full reward. Rolled out
from starts that no published table has.

    NEURALSDE_DATA=/path/to/data neuralsde reproduce pusht-inverse
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import StrMethodFormatter

from neuralsde.data.pusht import Demonstrations
from neuralsde.evaluate import style
from neuralsde.experiments.asked import Asked, experiment
from neuralsde.experiments.pusht import inverse_cells as of
from neuralsde.experiments.pusht.data import demonstrations
from neuralsde.experiments.pusht.inverse_cells import FULL, HELD_OUT, LINEAR, NETWORK, NEXT, PHYSICS, Labels, Size
from neuralsde.experiments.pusht.trials import Rewards, rewards, seed_by_seed, trained, training_of
from neuralsde.robot.agent import FORGETTING
from neuralsde.robot.starts import CHOICES

NAME = "pusht-inverse"
ASKED = 0.9
"""Of the full reward, with 10 % labelled."""
ASKED_AT = 10


# -- the whole of it ---------------------------------------------------------------------------------------------------


@experiment(NAME, Size(), FULL)
def reproduce(asked: Asked[Size], *, data: Path | None = None) -> Iterator[str]:
    """Infer, train, roll out; write pusht-inverse.json, .md and .png into `out`; yields lines as they become known.

    seeds: times the policies of the size. data: the demonstrations, instead of `$NEURALSDE_DATA/pusht`.
    A run that was stopped goes on where it stopped.
    """

    def fits(known: Demonstrations, held: Demonstrations, seed: int, found: dict[str, Any]) -> Iterator[str]:
        return _fits(asked, Labels(known, held, seed, asked.size), found)

    return seed_by_seed(asked, demonstrations(data).split(0, HELD_OUT), fits, page, _picture)


def _fits(asked: Asked[Size], labels: Labels, found: dict[str, Any]) -> Iterator[str]:
    """Fill `found` in, part by part; one line each."""
    size = asked.size
    if "errors" not in found:
        found["errors"] = of.errors(labels)
        told = {share: each[NETWORK]["rms"] for share, each in found["errors"]["share"].items()}
        yield f"seed {labels.seed}: inferred actions err by " + ", ".join(
            f"{px:.3g} px ({share} % labelled)" for share, px in told.items()
        )
    done = found.setdefault("rewards", {})
    for name, source in of.cells(size).items():
        if name not in done:
            training = training_of(size.steps, size.batch, labels.seed)
            policy = trained(asked, name, source(labels), of.policy_config(size), training)
            got = rewards(policy, size.starts, seed=labels.seed, max_steps=size.max_steps)
            done[name] = got.to_json()[0]
            yield f"seed {labels.seed}, {name}: {got}"


def collected(facts: dict[str, Any], cell: str) -> Rewards:
    """Of all policies of a cell."""
    return Rewards.from_json([fit["rewards"][cell] for fit in facts["fits"].values()])


# -- what is written ---------------------------------------------------------------------------------------------------


def page(facts: dict[str, Any]) -> str:
    """The results as markdown."""
    size, data = facts["size"], facts["data"]
    ratio, error = collected(facts, of.inferred(ASKED_AT)).over(collected(facts, of.FULL_REWARD))
    holds = "they do" if ratio >= ASKED else "**they do not**"
    lines = [
        "# Push-T from observations: inverse dynamics",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. {data['episodes']} episodes ({data['rows']:,} "
        f"steps) to learn from, {data['held out']} held out to compare inferred actions with recorded ones. Every "
        f"policy is the same neural SDE on keypoints (width {size['width']}, {size['blocks']} blocks, "
        f"{size['steps']:,} steps of batch {size['batch']}, mirror images too), "
        f"{len(facts['fits'])} a cell; its figure is the greatest reward of an episode, mean over {size['starts']} "
        f"starts from seed {CHOICES} on ± standard error, one evaluation an action. Ratios are over the same starts. "
        "The policy is fitted to whole actions with a mean-square flow, in a short training, and draws all of its "
        "noise: not that of the main table.",
        "",
        f"Asked: with {ASKED_AT} % of the episodes labelled the policy keeps {ASKED:.0%} of the full reward: {holds}, "
        f"{ratio:.3f} ± {error:.3f}.",
        "",
        "## Errors of inferred actions",
        "",
        *_errors_by_share(facts),
        "",
        *_errors_by_past(facts),
        "",
        *_errors_by_noise(facts),
        "",
        "## Rewards",
        "",
        *_rewards(facts),
    ]
    return "\n".join(lines)


def _found(facts: dict[str, Any], *path: str) -> list[float]:
    """One figure of every fit."""
    values = []
    for fit in facts["fits"].values():
        value: Any = fit["errors"]
        for name in path:
            value = value[name]
        values.append(value)
    return values


def _px(facts: dict[str, Any], *path: str) -> str:
    """To three digits: errors are of very different sizes."""
    found = np.array(_found(facts, *path))
    error = f" ± {found.std(ddof=1) / np.sqrt(len(found)):.1g}" if len(found) > 1 else ""
    return f"{found.mean():.3g}{error}"


def _errors_by_share(facts: dict[str, Any]) -> list[str]:
    size, heads = facts["size"], [f"{share} % labelled" for share in of.SHARES]
    lines = [
        "Px, root mean square of a coordinate on held-out episodes. Networks read the whole observation of "
        f"{size['past'] + 2} rows, least squares the agent's moves in them; expected of it: the same at every share, "
        "since the agent is linear. *Said*: the spread that the networks give themselves; 99 %: what 99 of 100 actions "
        "keep within.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---|" + "--:|" * len(heads),
        f"| floor: {PHYSICS}, no label | " + " | ".join([_px(facts, PHYSICS, "rms")] * len(heads)) + " |",
        f"| trivial: {NEXT}, no label | " + " | ".join([_px(facts, NEXT, "rms")] * len(heads)) + " |",
    ]
    expected = float(np.mean(_found(facts, "share", "100", LINEAR, "rms")))
    for way, what, title in (
        (LINEAR, "rms", f"{LINEAR} ({expected:.3g})"),
        (NETWORK, "rms", NETWORK),
        (NETWORK, "said", f"{NETWORK}, said"),
        (NETWORK, "99 %", f"{NETWORK}, 99 %"),
    ):
        cells = [_px(facts, "share", f"{share}", way, what) for share in of.SHARES]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def _errors_by_past(facts: dict[str, Any]) -> list[str]:
    heads = [f"{past} rows back" for past in of.PASTS]
    first = float(np.mean(_found(facts, "past", "1", "rms")))
    told = [_px(facts, "past", f"{past}", "rms") for past in of.PASTS]
    expected = ["" if past < 2 else f" ({first * abs(FORGETTING) ** (past - 1):.3g})" for past in of.PASTS]
    return [
        f"Least squares with 10 % labelled, by how far back it reads beside the present row and the next; in brackets "
        f"what is expected from one row back: a factor of {abs(FORGETTING):.3f} a row. A single labelled episode is "
        f"enough for such a map: {_px(facts, 'one episode', 'rms')} px at {facts['size']['past']} rows back. The agent "
        "of this task pushes and is not pushed, which is why so few labels do.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---|" + "--:|" * len(heads),
        f"| {LINEAR} | " + " | ".join(a + b for a, b in zip(told, expected, strict=True)) + " |",
    ]


def _errors_by_noise(facts: dict[str, Any]) -> list[str]:
    clean = float(np.mean(_found(facts, "share", "100", LINEAR, "rms")))
    lines = [
        "All labels with noise: what it leaves in the inferred actions. Expected of least squares: what theory has for "
        f"these rows (`experiments/pusht/inverse_cells.py`) beside the error without noise; measured over {of.DRAWS} "
        "draws of the noise, of the networks over one. The spread said is expected to be the noise of the labels.",
        "",
        "| noise of the labels, px | " + " | ".join(f"{sd:g}" for sd in of.NOISES) + " |",
        "|---|" + "--:|" * len(of.NOISES),
        "| trivial: the labels themselves | " + " | ".join(f"{sd:g}" for sd in of.NOISES) + " |",
    ]
    for way, what in ((LINEAR, "rms"), (NETWORK, "rms"), (NETWORK, "said")):
        cells = []
        for sd in of.NOISES:
            expected = sd if what == "said" else np.hypot(clean, np.mean(_found(facts, "noise", f"{sd:g}", "expected")))
            bracket = f" ({expected:.3g})" if way == LINEAR or what == "said" else ""
            cells.append(_px(facts, "noise", f"{sd:g}", way, what) + bracket)
        lines.append(f"| {way}{', said' if what == 'said' else ''} | " + " | ".join(cells) + " |")
    return lines


def _rewards(facts: dict[str, Any]) -> list[str]:
    full, reference = collected(facts, of.FULL_REWARD), facts["reference"]
    lines = [
        f"Most is 1; the demonstrations themselves reach {reference['demonstrations']:.4f}; an agent that stays where "
        f"it is {Rewards.from_json(reference['resting'])}. Expected of inferred actions, whose errors are small beside "
        "the steps of a hand: the full reward.",
        "",
        "| the policy learns from | reward | success | of the full reward | expected |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in next(iter(facts["fits"].values()))["rewards"]:
        got = collected(facts, name)
        ratio, error = got.over(full)
        share = "1" if name == of.FULL_REWARD else f"{ratio:.3f} ± {error:.3f}"
        expected = f"asked {ASKED:.2f}, expected 1" if name == of.inferred(ASKED_AT) else ""
        expected = expected or ("1" if name.startswith("inferred") else "")
        lines.append(f"| {name} | {got} | {got.success:.0%} | {share} | {expected} |")
    return lines


def _picture(facts: dict[str, Any], path: Path) -> None:
    """Errors by share; rewards by share and by noise, inferred beside the trivial way; dotted: what was asked."""
    fig = style.figure(900, 270)
    ax = style.axes(fig, left=50, right=620, top=30, bottom=44)
    at = np.arange(len(of.SHARES))
    for way, colour in ((LINEAR, style.MUTED), (NETWORK, style.ACCENT)):
        told = [np.mean(_found(facts, "share", f"{share}", way, "rms")) for share in of.SHARES]
        ax.plot(at, told, "o-", color=colour, markersize=4, linewidth=1.2, label=way)
    ax.axhline(float(np.mean(_found(facts, NEXT, "rms"))), color=style.FAINT, linewidth=1.2, label=f"{NEXT} (trivial)")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.minorticks_off()
    _framed(ax, at, [f"{share} %" for share in of.SHARES], "labelled episodes", "error of inferred actions, px")
    noises = [0.0, *facts["size"]["noises"]]
    full = [of.FULL_REWARD]
    panels = (
        (350, 310, [f"{share} %" for share in of.SHARES], "labelled episodes", {
            "inferred": [of.inferred(share) for share in of.SHARES],
            "labelled alone": full + [of.alone(share) for share in of.SHARES if share < 100],
        }),
        (660, 10, [f"{sd:g}" for sd in noises], "noise of the labels, px", {
            "inferred": [of.inferred(100)] + [of.denoised(sd) for sd in noises[1:]],
            "the labels themselves": full + [of.direct(sd) for sd in noises[1:]],
        }),
    )  # fmt: skip
    for left, right, names, below, ways in panels:
        ax = style.axes(fig, left=left, right=right, top=30, bottom=44)
        for (way, some), colour in zip(ways.items(), (style.ACCENT, style.FAINT), strict=True):
            told = [collected(facts, name) for name in some]
            ax.errorbar(
                np.arange(len(told)), [one.mean for one in told], [one.standard_error for one in told], fmt="o-",
                color=colour, markersize=4, linewidth=1.2, label=way,
            )  # fmt: skip
        # what was asked
        ax.axhline(ASKED * collected(facts, of.FULL_REWARD).mean, color=style.MUTED, linewidth=1.0, linestyle=":")
        _framed(ax, np.arange(len(names)), names, below, "reward")
    style.save(fig, path)


def _framed(ax: Any, at: np.ndarray, names: list[str], below: str, title: str) -> None:
    ax.set_xticks(at, names)
    ax.set_xlabel(below)
    ax.set_title(title, fontsize=11, color=style.INK)
    ax.legend(fontsize=9, frameon=False)
