"""The two processes on the line: their stationary laws, and theory's figures for what is fitted to them."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.experiments import interpolation
from neuralsde.experiments.one_dimension import Line, double_well, ornstein_uhlenbeck

OU = ornstein_uhlenbeck(0.1)


@pytest.mark.parametrize("line", [OU, double_well(0.25)], ids=lambda line: line.name)
def test_the_stationary_law_stays(line: Line) -> None:
    rng = np.random.default_rng(0)
    x = line.states((40_000,), rng)
    later = line.path(x, 2, rng)[-1]
    assert later.var() == pytest.approx(line.variance, rel=0.03)
    assert (later > 0).mean() == pytest.approx(line.right, abs=0.015)
    assert abs(line.drift(x).mean()) < 4 * line.drift(x).std() / 200  # E V' = 0 under it


def test_the_variance_that_theory_has_of_the_wrong_pair_tends_to_a_half() -> None:
    """THEORY 17: .51 for short gaps and a sharp denoiser; the partner on a chord gives one."""
    short = interpolation.expected(ornstein_uhlenbeck(0.001), 100)
    assert short["first row + partner (wrong)"] == pytest.approx(0.5, abs=0.01)
    assert short["bridge"] == pytest.approx(1.0, abs=0.01)
    assert short["chord + partner"] == pytest.approx(1 + interpolation.NOISE**2, abs=0.01)
