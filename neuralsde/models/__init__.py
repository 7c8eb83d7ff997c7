"""Ring 2: models. Each is a distribution, a loss and a way to sample, one family a file.

window.py           what a sequence model knows at one moment: last values, their ages, the past, the context
sequence_sde.py     the sequence neural SDE (arXiv 2501.18871): Config, SequenceSDE, loss
rollout.py          paths of a sequence SDE over many gaps, and the law of their last step
conditional.py      its paths between observations, through the guided bridge of `sde/`
"""
