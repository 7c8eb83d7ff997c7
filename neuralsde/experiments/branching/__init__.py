"""The fork of the paper: a case whose answer one can see.

fork.py        the data, and what is measured on paths
exact.py       what perfect networks would do, in closed form
ours.py        the sequence SDE, whole and with parts left out
generative.py  DDIM and rectified flow for the next point
experiment.py  `reproduce`
page.py, picture.py
"""

from neuralsde.experiments.branching.experiment import reproduce

__all__ = ["reproduce"]
