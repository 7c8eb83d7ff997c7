"""Push-T: a policy that is a stochastic process, and five others on the same backbone.

data.py        the demonstrations, and where they are looked for
lines.py       who is compared
cells.py       one measured figure; a table of them that resumes
study.py       trainings, all cells, latencies
page.py        tables, with what was asked
pictures.py    curves, an episode, videos
experiment.py  `reproduce`
choices.py                      `pusht-choices`: what the policy is made of, how each method is asked
images.py, images_page.py       `pusht-images`: a policy that sees, and how it learnt to
inverse.py, inverse_cells.py    `pusht-inverse`: actions inferred from observations
outliers.py, one_step.py        `pusht-outliers`: wrong actions in the demonstrations
trials.py                       policies of these, trained, resumed, compared
"""

from neuralsde.experiments.pusht.experiment import reproduce

__all__ = ["reproduce"]
