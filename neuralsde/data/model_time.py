"""The time in which a model lives: gaps of about one, the same numbers whatever the unit of the table.

Model time is (t - t_first) / tau in units of the typical gap tau, snapped to multiples of 2**-30: a table in seconds
and the same in hours then give the same bits, and so the same forecasts. The snap needs tau itself to be free of the
unit's rounding; a median gap is not, as it is the difference of two large numbers. So

    tau = total span / round(total span / median gap),

which lies next to the median (within the share 1/2k, for k gaps) and is as exact as the times themselves.
"""

from __future__ import annotations

import numpy as np

from neuralsde.data.trajectories import Trajectories

TICK = 2.0**-30
"""Model times are multiples of this."""


def time_unit(data: Trajectories) -> float:
    """The typical gap tau, in clock units; 1 when no series has two rows."""
    span = sum(float(s.times[-1] - s.times[0]) for s in data)
    if span <= 0:
        return 1.0
    return span / max(1, round(span / data.typical_gap()))


def to_model_time(times: np.ndarray, origin: float, tau: float) -> np.ndarray:
    """Clock times (n,) as model time from `origin`, float64, snapped."""
    return np.round((np.asarray(times, np.float64) - origin) / tau / TICK) * TICK
