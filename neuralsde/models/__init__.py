"""Ring 2: models. Each is a distribution, a loss and a way to sample, one family a file or a folder.

sequence_sde/   the sequence neural SDE (arXiv 2501.18871)
"""
