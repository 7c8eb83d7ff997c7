"""From scores of single windows to rows of a table: averages with block-bootstrap intervals, and paired differences.

Two methods scored on the same windows share most of their luck, so "better" is judged by the interval of the paired
difference, not by whether two intervals overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neuralsde.errors import InputError
from neuralsde.evaluate.bootstrap import block_bootstrap
from neuralsde.evaluate.content import Coverage, Score
from neuralsde.evaluate.scores import Floats, Numbers


def compare(
    metric: str,
    values: Mapping[str, Floats],
    *,
    columns: Sequence[str],
    lead: str,
    blocks: Numbers,
    model: str,
    n_boot: int = 1000,
    seed: int = 0,
) -> tuple[Score, ...]:
    """Table rows of one metric at one lead: `values[method]` is `(n, d)`, or `(n,)` for a score over all columns.

    Rows that any method lacks (NaN) are left out for all, so that every average is over the same windows.
    """
    if model not in values:
        raise InputError(f"scores of {', '.join(values)}", f"'{model}' is not among them", "the model's own scores")
    tables = {name: np.asarray(v, np.float64).reshape(len(v), -1) for name, v in values.items()}
    missing = np.logical_or.reduce([np.isnan(table) for table in tables.values()])
    tables = {name: np.where(missing, np.nan, table) for name, table in tables.items()}
    names = list(columns) if np.ndim(values[model]) == 2 else [""]
    rows: list[Score] = []
    for name, table in tables.items():
        own = block_bootstrap(table, blocks, n_boot=n_boot, seed=seed)
        gain = None if name == model else block_bootstrap(table - tables[model], blocks, n_boot=n_boot, seed=seed)
        for i, column in enumerate(names):
            ends = (float(own.value[i]), float(own.low[i]), float(own.high[i]))
            rows.append(Score(metric, column, lead, name, *ends, None if gain is None else gain.at(i)))
    return tuple(rows)


def coverage_rows(
    shares: Mapping[int, Floats],
    *,
    columns: Sequence[str],
    lead: str,
    blocks: Numbers,
    n_boot: int = 1000,
    seed: int = 0,
) -> tuple[Coverage, ...]:
    """Table rows of coverage at one lead: `shares[level]` is `(n, d)` from `scores.inside` or `scores.covered`."""
    rows: list[Coverage] = []
    for level, share in shares.items():
        estimate = block_bootstrap(share, blocks, n_boot=n_boot, seed=seed)
        for i, column in enumerate(columns):
            one = estimate.at(i)
            rows.append(Coverage(column, lead, level, float(one.value), float(one.low), float(one.high)))
    return tuple(rows)
