"""Super-resolution: the law of points between the rows. `experiment` fits and measures, `laws` has what is exact."""

from neuralsde.experiments.super_resolution.experiment import reproduce

__all__ = ["reproduce"]
