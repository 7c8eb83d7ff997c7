"""Fitting a stated SDE (models/physics).

panel.py      a table as series side by side, and which entries count
estimate.py   maximum likelihood by Fisher scoring, information and sandwich intervals
residual.py   a network for what the SDE leaves out, trained with its parameters
paths.py      paths from the filter's belief at a row
run.py        PhysicsRun: parameters, forecast, sample, score, likelihood
fit.py        from a table to a run, and back from a folder
"""

from neuralsde.runs.physics.fit import fit_physics, load_physics
from neuralsde.runs.physics.run import PhysicsRun

__all__ = ["PhysicsRun", "fit_physics", "load_physics"]
