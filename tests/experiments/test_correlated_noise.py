"""Correlated noise: the known laws, what a diagonal must lack, and that a fit with factors does not lack it."""

from __future__ import annotations

import numpy as np

from neuralsde.experiments.correlated_noise import cases, known, log_density


def test_the_stationary_law_stays_and_has_unit_variances() -> None:
    for law in cases():
        np.testing.assert_allclose(law.F @ law.P @ law.F.T + law.Q, law.P, atol=1e-9, err_msg=law.name)
        np.testing.assert_allclose(np.diagonal(law.P), 1.0, atol=1e-9, err_msg=law.name)


def test_the_best_diagonal_lacks_what_is_said(x64: None) -> None:
    """Over many draws the mean log ratio of the true law to that of its variances is ½ (Σ log Q_ii - log det Q)."""
    law, rng = known("d = 3", 3, 2), np.random.default_rng(0)
    noise = rng.standard_normal((100_000, 3)) @ np.linalg.cholesky(law.Q).T
    ratio = log_density(noise, law.Q) - log_density(noise, np.diag(np.diagonal(law.Q)))
    assert abs(ratio.mean() - law.diagonal_regret) < 4 * ratio.std() / np.sqrt(len(ratio))
