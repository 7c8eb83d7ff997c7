"""Wrong readings in the training rows: robust losses against the Gaussian one.

ways.py        the losses that are compared, their limits with endless data (M-estimators), their efficiency
known.py       an Ornstein-Uhlenbeck process, where bias and calibration are known beforehand; a skewed one
tables.py      the fork and the weather, with scores on clean rows
experiment.py  `reproduce`: tables and picture
"""

from neuralsde.experiments.outliers.experiment import reproduce

__all__ = ["reproduce"]
