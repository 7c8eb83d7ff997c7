"""Ring 3: a fitted model as a folder, and everything one does with it.

fit            a table, or points, become a run                             (fit.py, stages.py)
load           a folder becomes a run                                       (run.py)
Run            forecast, sample, impute, score, diagnose, report            (run.py)
PhysicsRun     a stated SDE: parameters, forecast, sample, score            (physics/)
GenerativeRun  a diffusion model of points or images: sample, score         (generative/)
"""

from neuralsde.runs.fit import fit
from neuralsde.runs.generative import Backbone, GenerativeRun
from neuralsde.runs.physics import PhysicsRun
from neuralsde.runs.run import Run, load

__all__ = ["Backbone", "GenerativeRun", "PhysicsRun", "Run", "fit", "load"]
