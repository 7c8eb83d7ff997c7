"""Joint against decoupled objectives: when does decoupling help?

problems.py    five problems with held-out rows, four of them with a known law
experiment.py  `reproduce`
report.py      page and picture
"""

from neuralsde.experiments.ablation.experiment import reproduce

__all__ = ["reproduce"]
