"""Scores as a table for machines and as text for readers."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from neuralsde.evaluate.content import METRICS, Coverage, Score


def scores_table(scores: Sequence[Score], coverage: Sequence[Coverage]) -> pl.DataFrame:
    """metric, variable, lead, method, value, low, high, and how much worse than the model (`worse`, with its ends)."""
    rows = [
        {
            "metric": s.metric, "variable": s.column, "lead": s.lead, "method": s.method,
            "value": float(s.value), "low": float(s.low), "high": float(s.high),
            "worse": None if s.gain is None else float(s.gain.value),
            "worse_low": None if s.gain is None else float(s.gain.low),
            "worse_high": None if s.gain is None else float(s.gain.high),
        }
        for s in scores
    ]  # fmt: skip
    rows += [
        {
            "metric": f"coverage-{c.level}", "variable": c.column, "lead": c.lead, "method": "neural SDE",
            "value": float(c.value), "low": float(c.low), "high": float(c.high),
            "worse": None, "worse_low": None, "worse_high": None,
        }
        for c in coverage
    ]  # fmt: skip
    floats = ("value", "low", "high", "worse", "worse_low", "worse_high")
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(floats, pl.Float64), infer_schema_length=None)


def scores_text(scores: Sequence[Score], coverage: Sequence[Coverage], model: str, about: str) -> str:
    """Tables of one metric each: a line per column and lead, a column per method, the best marked with a star."""
    methods = list(dict.fromkeys(s.method for s in scores))
    lines = [about]
    for metric in dict.fromkeys(s.metric for s in scores):
        rows = [s for s in scores if s.metric == metric]
        lines += ["", METRICS[metric].title + " (lower is better; 95 % interval of the model's)"]
        lines.append(f"  {'':<12}{'lead':>9}" + "".join(f"{m:>16}" for m in methods))
        for column, lead in dict.fromkeys((s.column, s.lead) for s in rows):
            found = {s.method: s for s in rows if (s.column, s.lead) == (column, lead)}
            best = min(s.value for s in found.values())
            cells = "".join(f"{found[m].value:>15.4g}{'*' if found[m].value == best else ' '}" for m in methods)
            own = found[model]
            lines.append(f"  {column or 'all':<12}{lead:>9}{cells}  [{own.low:.4g}, {own.high:.4g}]")
    levels = list(dict.fromkeys(c.level for c in coverage))
    lines += ["", "Coverage (95 % interval)", f"  {'':<12}{'lead':>9}" + "".join(f"{v:>13} %      " for v in levels)]
    for column, lead in dict.fromkeys((c.column, c.lead) for c in coverage):
        found = {c.level: c for c in coverage if (c.column, c.lead) == (column, lead)}
        lines.append(f"  {column:<12}{lead:>9}" + "".join(_share(found[level]) for level in levels))
    return "\n".join(lines)


def _share(row: Coverage) -> str:
    return f"{100 * row.value:>9.1f} [{100 * row.low:.0f}, {100 * row.high:.0f}]"
