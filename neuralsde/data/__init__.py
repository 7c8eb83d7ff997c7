"""Tables of sequences: reading, cleaning, encoding, splitting.

    read, from_frame, from_arrays   a file, a data frame, arrays  ->  Trajectories      (tables.py)
    future                          known future covariates of a run                   (tables.py)
    Trajectories, Series            ragged sequences as they are, in data units         (trajectories.py)
    Clock, CALENDAR                 what the times are; calendar features               (clock.py)
    Layout                          which column plays which part                       (layout.py)
    Encoder, Rows                   data units <-> what a model reads                   (encode.py)
    Split                           which rows are fitted and which are held out        (split.py)
    LastPart, SomeSeries, ...       the rules for that                                  (rules.py)
    Points, points, read_points     independent points and images, not sequences        (images.py, read_points.py)
    Scale, SomePoints               their units and their held-out rule                 (images.py)
    digits, embedded.weather        data that come with the package                     (embedded/)
    pusht.read_demonstrations       demonstrations of Push-T, by their own name         (pusht/)

On the way: `files`, `arrays`, `cells`, `labels`, `stamps`, `duration` and `long` read; `choose` and `clean` decide;
`transforms`, `rounding` and `model_time` are the parts of the encoder; `windows` cuts rows into what a training step
sees.
"""

from neuralsde.data.clock import CALENDAR, Clock
from neuralsde.data.embedded import digits
from neuralsde.data.encode import Encoder
from neuralsde.data.images import Points, Scale, SomePoints, points
from neuralsde.data.layout import Layout
from neuralsde.data.read_points import read_points
from neuralsde.data.rows import Rows
from neuralsde.data.rules import LastDaysOfMonth, LastPart, Nothing, SomeSeries
from neuralsde.data.split import TEST, TRAIN, VALIDATION, Split
from neuralsde.data.tables import from_arrays, from_frame, future, read
from neuralsde.data.trajectories import Series, Trajectories

__all__ = [
    "CALENDAR",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Clock",
    "Encoder",
    "LastDaysOfMonth",
    "LastPart",
    "Layout",
    "Nothing",
    "Points",
    "Rows",
    "Scale",
    "Series",
    "SomePoints",
    "SomeSeries",
    "Split",
    "Trajectories",
    "digits",
    "from_arrays",
    "from_frame",
    "future",
    "points",
    "read",
    "read_points",
]
