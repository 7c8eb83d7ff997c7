"""Ring 2: models. Each is a distribution, a loss and a way to sample, one family a file or a folder.

sequence_sde/       the sequence neural SDE (arXiv 2501.18871)
physics/            an SDE that the user states, with parameters to be found and perhaps a residual network
marginal_score.py   the score of a process' own marginals: its time reversal and its probability flow
"""
