"""Ring 2: models. Each is a distribution, a loss and a way to sample, one family a file or a folder.

sequence_sde/       the sequence neural SDE (arXiv 2501.18871)
physics/            an SDE that the user states, with parameters to be found and perhaps a residual network
marginal_score.py   the score of a process' own marginals: its time reversal and its probability flow
score.py            diffusion models: the score of noised data, by denoising, sliced or implicit score matching
flow_matching.py    a velocity along straight lines from data to noise, pairs independent or by optimal transport
energy/             energies: contrastive divergence, noise-contrastive estimation, score matching
mcmc.py             HMC, MALA and Langevin on a density known up to a factor
flow.py             a continuous normalising flow by exact maximum likelihood
times.py, transport.py, divergence.py   their parts: noise levels of a batch, the pairing of points, ∇·v
"""
