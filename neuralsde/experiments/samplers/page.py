"""The results as markdown: what was asked beside what was measured, then every figure beside the published one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from neuralsde.experiments.samplers import ladder
from neuralsde.experiments.samplers.ladder import ERROR_NFE, FAR_NFE, LAW_NFE, Cell, half_unit
from neuralsde.experiments.samplers.law import ENTROPY
from neuralsde.experiments.samplers.rows import Row, rows

_EXACT = 1e-10
"""Errors below this are rounding, and have no order."""


def page(facts: dict[str, Any]) -> str:
    """Everything that is known so far."""
    known, size = facts["known"], facts["size"]
    floor, trivial = known["floor"], known["trivial"]
    lines = [
        "# Samplers on a law whose score is known",
        "",
        f"Written by `{facts['command']}` in {facts['seconds']} s. Eight Gaussians (radius 4, s.d. 0.3, weights 1 to "
        f"8), VP with β from 0.1 to 20, t from 1 to 0.001, exact starts; {facts['asked']} seeds that differ in "
        f"starts, noise and the real draws; {size['points']:,} points for errors, {size['samples']:,} samples for "
        "laws. NFE: evaluations of the score a sample, counted by the code. Cells are means over seeds ± standard "
        "error / published (ratio); a law without ± is of the first seed alone.",
        "",
        f"Sliced W2 of real draws from real draws (the floor): {floor['w2']['mean']:.3f}, 95 % below "
        f"{floor['w2']['quantile']:.3f}; excess cross-entropy of real draws: {floor['excess']['mean']:.4f}, 95 % "
        f"below {floor['excess']['quantile']:.4f} nats ({floor['w2']['pairs']} pairs). Trivial, one Gaussian with the "
        f"right mean and covariance: {trivial['w2']:.3f} [{trivial['excess']:.2f} nats]; trivial for a path, the "
        f"law's mean for every start: median error {trivial['median']:.2f}. The exact flow by {size['reference']:,} "
        f"steps of RK4 is off by {known['reference']['off']:.0e} (from twice the step). Entropy: "
        f"{np.mean(known['entropy']):.4f} by real draws, {ENTROPY} published.",
        "",
        "![median error and excess cross-entropy](samplers.png)",
        "",
        "## What was asked",
        "",
        "| asked | measured | |",
        "|---|---|---|",
        *(f"| {asked} | {told} | {'yes' if held else '**no**'} |" for asked, told, held in verdicts(facts)),
        "",
    ]
    for part in (_medians, _rms, _laws, _moments, _erring):
        lines += [*part(facts), ""]
    return "\n".join(lines)


# -- verdicts ----------------------------------------------------------------------------------------------------


def cells(facts: dict[str, Any], figure: str) -> Iterator[tuple[str, int, Cell, bool]]:
    """Every cell of the ladder that was measured: row, NFE, cell, and whether it is reproduced or beaten."""
    published = {"median": ladder.MEDIAN, "w2": ladder.SLICED_W2, "excess": ladder.EXCESS}[figure]
    budgets = ERROR_NFE if figure == "median" else LAW_NFE
    floor = 0.0 if figure == "median" else facts["known"]["floor"][figure]["quantile"]
    for label, values in published.items():
        for nfe, value in zip(budgets, values, strict=True):
            measured = facts["found"].get(label, {}).get(str(nfe), {}).get(figure)
            if measured:
                mean, error = over(measured)
                cell = Cell(abs(mean), error, value, half_unit(value, None if figure == "median" else 3))
                yield label, nfe, cell, cell.held(floor)


def verdicts(facts: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(asked, measured, held)."""
    names = {"median": "median error", "w2": "sliced W2", "excess": "excess cross-entropy"}
    for figure, name in names.items():
        every = list(cells(facts, figure))
        lost = [f"{label} at {nfe}: {cell.ratio:.2f} times" for label, nfe, cell, held in every if not held]
        beaten = sum(cell.ratio < 1 - ladder.ALLOWED for _, _, cell, _ in every)
        told = f"{len(every) - len(lost)} of {len(every)} cells, {beaten} of them by more than 5 %"
        yield f"{name}: every cell of the ladder reproduced or beaten at equal NFE", _and(told, lost), not lost
    yield _orders_held(facts, ERROR_NFE[-4:])
    yield _orders_held(facts, (*ERROR_NFE[-2:], *FAR_NFE))
    yield _moments_held(facts)
    label, nfe, asked = ladder.MEDIAN_ASKED
    if values := facts["found"].get(label, {}).get(str(nfe), {}).get("median"):
        mean, error = over(values)
        told = f"{_pm(mean, error, '.2e')}; to the digits of the ladder {mean:.1e}"
        yield f"{label}: median error at most {asked:.1e} at {nfe}", told, mean <= asked
        yield _any_below(facts, nfe, asked)
    label, nfe = ladder.FLOOR_ASKED
    if values := facts["found"].get(label, {}).get(str(nfe), {}).get("w2"):
        mean, error = over(values)
        top = facts["known"]["floor"]["w2"]["quantile"]
        told = f"{_pm(mean, error, '.3f')} against {top:.3f}"
        yield f"{label}: sliced W2 inside the floor's 95 % by {nfe}", told, mean <= top
        yield _on_the_floor(facts, nfe)


def _orders_held(facts: dict[str, Any], budgets: Sequence[int]) -> tuple[str, str, bool]:
    found = {row.label: (fitted(facts, row.label, budgets), row.sampler.order) for row in _with_order(facts)}
    lost = [f"{label}: {seen:.2f} for {theory:g}" for label, (seen, theory) in found.items()
            if abs(seen - theory) > ladder.ORDER_TOLERANCE]  # fmt: skip
    told = f"{len(found) - len(lost)} of {len(found)} samplers"
    where = "the last four rows" if budgets[-1] == ERROR_NFE[-1] else "beyond the ladder"
    asked = f"order of the path within 0.15 of theory, NFE {budgets[0]} to {budgets[-1]:,} ({where})"
    return asked, _and(told, lost), not lost


def _moments_held(facts: dict[str, Any]) -> tuple[str, str, bool]:
    lost, count = [], 0
    for row in _rows(facts):
        found, theory = facts["moments"].get(row.label), row.sampler.order
        if not found or theory is None:
            continue
        for figure in ("mean", "cov"):
            seen = moment_order(found, figure)
            count += 1
            if seen is not None and abs(seen - theory) > ladder.ORDER_TOLERANCE:
                lost.append(f"{row.label}, {figure}: {seen:.2f} for {theory:g}")
    told = f"{count - len(lost)} of {count} (exact ones count)"
    return "order of mean and covariance within 0.15 of theory, by the Gaussian recursion", _and(told, lost), not lost


def _any_below(facts: dict[str, Any], nfe: int, asked: float) -> tuple[str, str, bool]:
    below = {label: np.mean(found[str(nfe)]["median"]) for label, found in facts["found"].items()
             if "median" in found.get(str(nfe), {})}  # fmt: skip
    told = ", ".join(f"{label} {value:.1e}" for label, value in sorted(below.items(), key=lambda x: x[1])[:4])
    return f"some sampler with a median error at most {asked:.1e} at {nfe}", told, bool(min(below.values()) <= asked)


def _on_the_floor(facts: dict[str, Any], nfe: int) -> tuple[str, str, bool]:
    top = facts["known"]["floor"]["w2"]["quantile"]
    inside = [label for label, found in facts["found"].items()
              if np.mean(found.get(str(nfe), {}).get("w2", np.inf)) <= top]  # fmt: skip
    return f"which others are inside it at {nfe}", ", ".join(inside) or "none", bool(inside)


# -- tables ------------------------------------------------------------------------------------------------------


def _medians(facts: dict[str, Any]) -> list[str]:
    told = (
        f"Distance from the end of the exact flow. Orders are least squares: on {ERROR_NFE[-4]} to {ERROR_NFE[-1]}, "
        f"the last four columns, and on {ERROR_NFE[-2]} to {FAR_NFE[-1]:,} (first seed). The published fit is that "
        "of the last two."
    )
    lines = ["## Median error of the end point", "", told, ""]
    lines += [
        *_heading(
            "sampler",
            [f"NFE {n}" for n in ERROR_NFE],
            f"order on {ERROR_NFE[-4]}-{ERROR_NFE[-1]}",
            f"on {ERROR_NFE[-2]}-{FAR_NFE[-1]}",
            "theory",
            "published",
        )
    ]
    measured = {(label, nfe): cell for label, nfe, cell, _ in cells(facts, "median")}
    for row in _rows(facts):
        found = facts["found"][row.label]
        if row.sampler.stochastic or row.spacing is None:
            continue
        shown = [_error_cell(found.get(str(n)), measured.get((row.label, n))) for n in ERROR_NFE]
        theory = row.sampler.order
        seen = ladder.ORDER_SEEN.get(row.label)
        near, far = (fitted(facts, row.label, n) for n in (ERROR_NFE[-4:], (*ERROR_NFE[-2:], *FAR_NFE)))
        orders = [
            f"{near:.2f}",
            f"{far:.2f}",
            f"{theory if theory is not None else '-'}",
            f"{seen:.2f}" if seen else "",
        ]
        lines.append(f"| {row.label} | " + " | ".join([*shown, *orders]) + " |")
    adaptive = [row for row in _rows(facts) if row.spacing is None and not row.sampler.stochastic]
    told = ", ".join(f"rtol {row.tolerance:g}: {_pm(*over(found['median']), '.1e')} at {np.mean(found['nfe']):.0f}"
                     for row in adaptive for found in [facts["found"][row.label]["0"]])  # fmt: skip
    return [*lines, *(["", f"Adaptive, median error at the evaluations it took: {told}."] if told else [])]


def _rms(facts: dict[str, Any]) -> list[str]:
    lines = ["## Root mean square error", "", "A few points near the borders of the basins dominate it.", ""]
    lines += [*_heading("sampler", [f"NFE {n}" for n in ERROR_NFE])]
    for row in _rows(facts):
        found = facts["found"][row.label]
        if not row.sampler.stochastic and row.spacing is not None:
            shown = [_pm(*over(found[str(n)]["rms"]), ".1e") if str(n) in found else "" for n in ERROR_NFE]
            lines.append(f"| {row.label} | " + " | ".join(shown) + " |")
    return lines


def _laws(facts: dict[str, Any]) -> list[str]:
    floor, trivial = facts["known"]["floor"], facts["known"]["trivial"]
    told = (
        "Sliced W2 [excess cross-entropy in nats], each ± standard error / published (ratio). At most "
        f"{floor['w2']['quantile']:.3f} is on the floor; an excess below 0 is of points too near the modes."
    )
    lines = ["## The law of the samples", "", told, ""]
    lines += [*_heading("sampler", [f"NFE {n}" for n in LAW_NFE])]
    w2 = {(label, nfe): cell for label, nfe, cell, _ in cells(facts, "w2")}
    excess = {(label, nfe): cell for label, nfe, cell, _ in cells(facts, "excess")}
    for row in _rows(facts):
        found = facts["found"][row.label]
        if row.spacing is not None:
            shown = [_law_cell(found.get(str(n)), w2.get((row.label, n)), excess.get((row.label, n))) for n in LAW_NFE]
            lines.append(f"| {row.label} | " + " | ".join(shown) + " |")
    same = f"{floor['w2']['mean']:.3f} [{floor['excess']['mean']:.4f}]"
    lines += [f"| *floor: real draws* | {same} |" + " |" * (len(LAW_NFE) - 1)]
    lines += [
        f"| *trivial: one Gaussian* | {trivial['w2']:.3f} [{trivial['excess']:.2f}] |" + " |" * (len(LAW_NFE) - 1)
    ]
    adaptive = [(row, facts["found"][row.label]["0"]) for row in _rows(facts) if row.spacing is None]
    if adaptive:
        lines += ["", "| adaptive | NFE it took | sliced W2 [excess] |", "|---|--:|--:|"]
        lines += [
            f"| {row.label} | {np.mean(found['nfe']):.0f} | {_law_cell(found, None, None)} |" for row, found in adaptive
        ]
    return lines


def _moments(facts: dict[str, Any]) -> list[str]:
    told = (
        "Errors of mean and covariance (Frobenius) on Gaussian data, by the exact recursion: no sampling. An error "
        "below 1e-10 is rounding: the mean is exact there."
    )
    lines = ["## Orders of the stochastic samplers", "", told, ""]
    lines += ["| sampler | NFE | error of the mean | order | error of the covariance | order | theory |"]
    lines += ["|---|---|---|--:|---|--:|--:|"]
    for row in _rows(facts):
        found = facts["moments"].get(row.label)
        if found:
            parts = [f"| {row.label} | {', '.join(map(str, found['nfe']))}"]
            for figure in ("mean", "cov"):
                seen = moment_order(found, figure)
                parts.append(", ".join(f"{value:.1e}" for value in found[figure]))
                parts.append("exact" if seen is None else f"{seen:.2f}")
            theory = row.sampler.order
            lines.append(" | ".join([*parts, f"{theory if theory is not None else '-'} |"]))
    return lines


def _erring(facts: dict[str, Any]) -> list[str]:
    lines = [
        "## A score with an error of 5 %",
        "",
        "At every point the score has an error of 5 % of its own length there: in a *smooth* direction that is one "
        "fixed function of (x, log SNR), as a network errs; and apart, in a *white* one that is new at every "
        f"evaluation. First seed, {facts['size']['erring']:,} samples; excess cross-entropy in nats, and in brackets "
        "how far the error moved it. Less is not better here: an error that draws points together hides what too few "
        "steps have spread. Sorted by how far the smooth error moved it, either way, at the larger budget.",
        "",
        *_heading("sampler", ["NFE", "no error", "smooth", "white", "NFE", "no error", "smooth", "white"]),
    ]
    ranked = sorted(
        (row for row in _rows(facts) if row.label in facts["erring"]), key=lambda row: rise(facts, row.label)
    )
    for row in ranked:
        found, parts = facts["erring"][row.label], []
        budgets = sorted(found["none"], key=int)
        for nfe in budgets if len(budgets) > 1 else [*[None] * (2 - len(budgets)), *budgets]:
            parts += _erring_cells(found, nfe)
        lines.append(f"| {row.label} | " + " | ".join(parts) + " |")
    return [*lines, "", *_robust(facts, [row.label for row in ranked])]


def _erring_cells(found: dict[str, Any], nfe: str | None) -> list[str]:
    if nfe is None:
        return [""] * 4
    clean = found["none"][nfe]["excess"]
    parts = [f"{found['none'][nfe]['nfe']:.0f}", f"{clean:.3f}"]
    return [*parts, *(f"{found[kind][nfe]['excess']:.3f} ({found[kind][nfe]['excess'] - clean:+.3f})"
                      for kind in ("smooth", "white"))]  # fmt: skip


def rise(facts: dict[str, Any], label: str, kind: str = "smooth") -> float:
    """How far an error of the score moved the cross-entropy at the larger budget, either way."""
    found = facts["erring"][label]
    nfe = max(found["none"], key=int)
    return abs(found[kind][nfe]["excess"] - found["none"][nfe]["excess"])


def _robust(facts: dict[str, Any], ranked: Sequence[str]) -> list[str]:
    if not ranked:
        return []
    kinds = {row.label: row.sampler.stochastic for row in _rows(facts)}
    lines = []
    for kind in ("smooth", "white"):
        noisy, still = ([rise(facts, one, kind) for one in ranked if kinds[one] is which] for which in (True, False))
        if not noisy or not still:
            continue
        order = sorted(ranked, key=lambda one: rise(facts, one, kind))
        told = "; ".join(
            f"{one} {rise(facts, one, kind):.4f} (place {order.index(one) + 1} of {len(order)})"
            for one in ranked if one.startswith(("EDM Heun with churn", "predictor-corrector"))
        )  # fmt: skip
        lines.append(
            f"- {kind} error: it moved the median stochastic sampler by {np.median(noisy):.4f} nats and the median "
            f"deterministic one by {np.median(still):.4f}; least {order[0]} ({rise(facts, order[0], kind):.4f}), most "
            f"{order[-1]} ({rise(facts, order[-1], kind):.4f})." + (f" Expected to win: {told}." if told else "")
        )
    return lines


# -- small things ------------------------------------------------------------------------------------------------


def over(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error over seeds."""
    spread = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(np.mean(values)), spread


def fitted(facts: dict[str, Any], label: str, budgets: Sequence[int]) -> float:
    """Order of the median error over these budgets: of the mean over seeds, or of the first where there is but one."""
    found = {**facts["found"][label], **facts["far"].get(label, {})}
    rows = [found[str(n)] for n in budgets if str(n) in found]
    seeds = min(len(row["median"]) for row in rows)
    return slope([row["nfe"][0] for row in rows], [np.mean(row["median"][:seeds]) for row in rows])


def slope(nfe: Any, error: Any) -> float:
    """Least-squares order of error in evaluations."""
    return float(-np.polyfit(np.log(np.asarray(nfe, float)), np.log(np.asarray(error, float)), 1)[0])


def moment_order(found: dict[str, Any], figure: str) -> float | None:
    """None for a moment that is exact."""
    return None if max(found[figure]) < _EXACT else slope(found["nfe"], found[figure])


def _rows(facts: dict[str, Any]) -> list[Row]:
    return [row for row in rows(tuple(facts["size"]["names"])) if row.label in facts["found"]]


def _with_order(facts: dict[str, Any]) -> list[Row]:
    return [row for row in _rows(facts)
            if not row.sampler.stochastic and row.spacing is not None and row.sampler.order is not None]  # fmt: skip


def _heading(first: str, columns: Sequence[str], *last: str) -> tuple[str, str]:
    every = [*columns, *last]
    return f"| {first} | " + " | ".join(every) + " |", "|---|" + "--:|" * len(every)


def _pm(mean: float, error: float, form: str) -> str:
    return f"{mean:{form}}" + (f" ± {error:{form if form.endswith('f') else '.0e'}}" if error else "")


def _error_cell(found: dict[str, Any] | None, cell: Cell | None) -> str:
    if not found:
        return ""
    told = _pm(*over(found["median"]), ".2e")
    return told + (f" / {cell.published:.1e} ({cell.ratio:.2f})" if cell else "")


def _law_cell(found: dict[str, Any] | None, w2: Cell | None, excess: Cell | None) -> str:
    if not found or "w2" not in found:
        return ""
    first = _pm(*over(found["w2"]), ".3f") + (f" / {w2.published:.3f} ({w2.ratio:.2f})" if w2 else "")
    second = _pm(*over(found["excess"]), ".4f") + (f" / {excess.published:g} ({excess.ratio:.2f})" if excess else "")
    return f"{first} [{second}]"


def _and(told: str, lost: Sequence[str]) -> str:
    return told + ("; not " + "; not ".join(lost) if lost else "")
