"""Ring 3: a fitted model as a folder, and everything one does with it.

fit         a table becomes a run                                        (fit.py, stages.py)
load        a folder becomes a run                                       (run.py)
Run         forecast, sample, impute, score, diagnose, report            (run.py)
PhysicsRun  a stated SDE: parameters, forecast, sample, score            (physics/)
"""

from neuralsde.runs.fit import fit
from neuralsde.runs.physics import PhysicsRun
from neuralsde.runs.run import Run, load

__all__ = ["PhysicsRun", "Run", "fit", "load"]
