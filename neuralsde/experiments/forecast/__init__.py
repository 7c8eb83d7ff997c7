"""Forecasts of four real tables, against five others: CRPS and calibration by horizon.

data.py       the tables, and where they are looked for
case.py       origins, targets, scale: one table made ready
law.py        a forecast and its scores
baselines.py  persistence, climatology, vector autoregression
gru.py        a recurrent network in the manner of DeepAR; gru_fit.py trains it
ours.py       the sequence SDE: settings of each table, fit, paths
peers.py      AutoARIMA, from a file of the benchmarks
harness.py    all methods on one table
verdict.py    asked and measured
report.py     JSON, table, picture
experiment.py `reproduce`
"""

from neuralsde.experiments.forecast.experiment import reproduce

__all__ = ["reproduce"]
