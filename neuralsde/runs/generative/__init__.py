"""Runs on independent points and images: diffusion models, flows and energies.

families.py   the models by name, their settings as plain values
backbone.py   which network
plan.py       everything that fixes a run, as JSON
fit.py        points become a run; a folder becomes a run again
run.py        samples and the likelihood of held-out points
"""

from neuralsde.runs.generative.backbone import Backbone
from neuralsde.runs.generative.families import FAMILIES
from neuralsde.runs.generative.fit import fit_points, load_points
from neuralsde.runs.generative.run import GenerativeRun, open_points

__all__ = ["FAMILIES", "Backbone", "GenerativeRun", "fit_points", "load_points", "open_points"]
