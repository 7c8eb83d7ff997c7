"""The page on samplers: its code runs as it stands, and its table is that of the samplers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from neuralsde.sampling import SAMPLERS, sampler_named

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "bridge" / "sampling.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs_and_its_two_spellings_agree(x64: None) -> None:
    """The reverse SDE in the loop and through `sde.simulate`, from one key, with a method that draws W and H."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["points"].shape == (1_000, 2)
    assert names["evaluations"] == 32
    np.testing.assert_allclose(names["one"].x, names["two"].ys[-1], rtol=1e-12, atol=1e-12)
    assert names["one"].nfe == 200
    assert 0.6 < names["chain"].accepted <= 1


def test_the_table_of_the_page_is_that_of_the_samplers() -> None:
    rows = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and "`" in cells[0]:
            listed = re.findall(r"`([\w-]+)`", cells[0])
            for k, name in enumerate(listed):
                rows[name] = [part.split(", ")[min(k, part.count(", "))] for part in cells[2:4]] + cells[4:7]
    assert set(rows) == set(SAMPLERS)
    for name, (order, cost, draws, grid, clean) in rows.items():
        sampler = sampler_named(name)
        assert order == {None: "" if sampler.adaptive else "none"}.get(sampler.order, f"{sampler.order or 0:g}"), name
        assert cost.removesuffix(" a try") == ("1 + 1" if name == "pc" else str(sampler.cost)), name
        assert (draws == "yes") == sampler.stochastic, name
        assert clean.startswith("yes") == sampler.clean, name
        if not sampler.adaptive and name != "pc":
            assert grid.startswith({"uniform": "uniform", "log-snr": "log SNR", "edm": "EDM"}[sampler.spacing]), name
