"""Labels: what stands in a column that names things instead of measuring them.

A cell becomes a label, which is text: `Rain` stays as it is; 1, 1.0 and "1" are one label, `True` and `true` another.
The *levels* of a column are its labels in order (numbers by size, then words), and the *code* of a cell is the
number of its level, so that labels travel with the covariates in one array of floats:

    code = place in the levels        NaN where the cell is missing        UNKNOWN where the label is not a level

A model reads a code as an indicator for each level (`Encoder`); an unknown label is none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from neuralsde.data.cells import as_text
from neuralsde.errors import InputError

MISSING = "(missing)"
"""The level of what was never seen: cells before the first label of a series."""
UNKNOWN = -1.0
MOST_LEVELS = 32
"""A column with more labels than this is refused: each is an input of its own, and has to be seen often."""


def labels_of(column: nw.Series[Any]) -> list[str | None]:
    """The cells of a column (n,) as labels, None where missing."""
    return [None if cell is None else label(cell) for cell in as_text(column)]


def label(cell: Any) -> str:
    """One cell as a label."""
    text = str(cell).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    number = number_of(text)
    return text if np.isnan(number) else f"{number:.12g}"


def number_of(label: str) -> float:
    """The number that a label is, NaN for a word."""
    try:
        number = float(label)
    except ValueError:
        return np.nan
    return number + 0.0 if np.isfinite(number) else np.nan


def levels_of(name: str, labels: Iterable[str | None]) -> tuple[str, ...]:
    """The labels in order, and `MISSING` last where a cell is missing; `InputError` when there are none or too many."""
    found = set(labels)
    known = sorted((each for each in found if each is not None), key=_order)
    if not known:
        raise InputError(f"the column {name!r}", "all of its cells are missing", "labels", "leaving it out")
    if len(known) > MOST_LEVELS:
        raise InputError(
            f"the column {name!r} with {len(known)} different labels",
            "each label is an input of its own, and would be seen too rarely",
            f"at most {MOST_LEVELS}",
            "--values or --context when it holds measurements, leaving it out when it is a name",
        )
    return (*known, MISSING) if None in found and MISSING not in known else tuple(known)


def codes_of(labels: Sequence[str | None], levels: Sequence[str]) -> np.ndarray:
    """Codes (n,) float64 of labels."""
    place = {level: float(k) for k, level in enumerate(levels)}
    return np.array([np.nan if each is None else place.get(each, UNKNOWN) for each in labels], np.float64)


def labels_at(codes: np.ndarray, levels: Sequence[str]) -> list[str | None]:
    """The labels of codes (n,); None for what is missing or unknown."""
    named = [None if level == MISSING else level for level in levels]
    return [named[int(code)] if code >= 0 else None for code in codes]


def missing_code(levels: Sequence[str]) -> float:
    """The code of a cell that stays missing."""
    return float(levels.index(MISSING)) if MISSING in levels else UNKNOWN


def _order(label: str) -> tuple[bool, float, str]:
    number = number_of(label)
    return (bool(np.isnan(number)), 0.0 if np.isnan(number) else number, label)
