"""A fitted model with what is needed to use it on data in their own units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuralsde.data import Encoder, Rows


@dataclass(frozen=True)
class GapLaw:
    """The gaps under which a model was fitted, in units of the typical gap, and its Euler-Maruyama steps a gap.

    One-step coefficients are effective ones for these gaps (THEORY 15), so sampling takes steps of the typical gap.
    """

    shortest: float
    median: float
    longest: float
    substeps: int = 1

    @classmethod
    def of(cls, rows: Rows, start: np.ndarray, substeps: int = 1) -> GapLaw:
        """The law of the gaps after the rows `start`."""
        gaps = rows.gap[start + 1]
        return cls(float(gaps.min()), float(np.median(gaps)), float(gaps.max()), substeps)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Fitted:
    """Model, encoder and gap law.

    model: a `SequenceSDE`; any other with `paths`, which then draws the `tasks.ahead.Ahead` that forecasts and scores
           are made of: `(rows, origins, targets, *, n, seed, substeps)` as in `tasks.ahead.paths_ahead`.
    """

    model: Any
    encoder: Encoder
    law: GapLaw
    paths: Callable[..., Any] | None = None

    @property
    def history(self) -> int:
        """Rows before the present that the coefficients read, and that a baseline is given."""
        return 0 if self.paths else self.model.config.history

    @property
    def past(self) -> int:
        """Rows before the present that a window holds."""
        return self.model.config.past
