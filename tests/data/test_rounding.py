"""The rounding step of columns whose step is known, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from neuralsde.data.rounding import resolution


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0, 2.0])
def test_the_rounding_step_is_found(step: float) -> None:
    x = np.round(np.random.default_rng(0).normal(size=1000) / step) * step
    assert resolution(x) == pytest.approx(step)
    assert resolution(x + 1017.3) == pytest.approx(step)


def test_the_step_of_degrees_that_were_converted_twice() -> None:
    fahrenheit = np.round(np.random.default_rng(0).normal(55, 18, 8000))
    celsius = np.round((fahrenheit - 32) / 1.8, 1)
    assert resolution(celsius * 1.8 + 32) == pytest.approx(1.0, rel=0.01)


def test_what_is_not_rounded() -> None:
    rng = np.random.default_rng(0)
    dry = np.where(rng.random(2000) < 0.8, 0.0, rng.gamma(1.0, 1.0, 2000))
    assert resolution(rng.normal(size=20_000)) == 0.0
    assert resolution(rng.normal(size=20_000).astype(np.float32).astype(np.float64)) == 0.0
    assert resolution(dry) == 0.0
    assert resolution(np.array([])) == resolution(np.array([1.0])) == 0.0
    assert resolution(rng.integers(0, 2, 100).astype(np.float64)) == 1.0
