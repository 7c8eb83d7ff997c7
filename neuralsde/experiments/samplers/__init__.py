"""Every sampler on a law whose score is known: orders, errors and laws at equal numbers of evaluations.

law       eight Gaussians under VP, their score, the exact flow, and a score that errs
ladder    the published figures, and when a cell counts as reproduced
rows      which samplers run on which grid
measure   paths in blocks; error, sliced W2, cross-entropy and their floor
experiment, page, picture: the run, its table, its figure

    neuralsde reproduce samplers
"""

from neuralsde.experiments.samplers.experiment import FULL, SMALL, Size, reproduce

__all__ = ["FULL", "SMALL", "Size", "reproduce"]
