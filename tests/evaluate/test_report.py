"""The report stands alone, shows every part, escapes what it is given, and survives what is missing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from neuralsde.evaluate.bootstrap import Estimate
from neuralsde.evaluate.compare import compare, coverage_rows
from neuralsde.evaluate.content import Fan, Paths, Pit, ReportContent, Score, Training
from neuralsde.evaluate.diagnostics import ColumnDiagnosis, Diagnostics
from neuralsde.evaluate.plots import FARTHEST, score_curves, score_dots
from neuralsde.evaluate.report import headline, render, write_report
from neuralsde.evaluate.sections_leads import few, positions

VOID = {"meta", "link", "br", "wbr"}
SECTIONS = ["forecasts", "scores", "calibration", "paths", "field", "training", "facts"]


class Page(HTMLParser):
    """Checks that tags close in order, and gathers ids, links and attributes that could load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.sections: list[str | None] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "action", "data", "srcset", "poster"):
                self.loads.append(value or "")
        if tag == "section":
            self.sections.append(dict(attrs).get("id"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture(scope="module")
def page(fake_content: Callable[..., ReportContent]) -> str:
    return render(fake_content(n=240, windows=2))


def test_stands_alone(page: str):
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", page)
    parsed = Page(page)
    assert parsed.open == []
    assert parsed.loads
    assert all(target.startswith("#") for target in parsed.loads)
    assert "default-src 'none'" in page


def test_ids_are_unique_and_every_reference_is_there(page: str):
    ids = Page(page).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_every_section_is_there_with_its_figures(page: str):
    parsed = Page(page)
    assert parsed.sections == SECTIONS
    # fans, score dots and the marks of their legend, reliability, coverage, PIT, paths, field, training
    assert page.count("<svg") == 8 + 6 + 3 + 3 + 12 + 4 + 1 + 2
    for name in ("neural SDE", "persistence", "climatology", "linear AR", "1048.36", "--steps 4000"):
        assert name in page


def test_figures_follow_the_theme(page: str):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert not re.search(r"#[0-9a-fA-F]{6}\b", re.sub(r'(?:href="|url\()#[^")]*', "", drawings))
    assert "var(--accent)" in drawings
    assert "font-family" not in drawings


def test_same_content_same_bytes(fake_content: Callable[..., ReportContent]):
    def one() -> str:
        full = fake_content(n=24, windows=1)
        return render(ReportContent("One column", "", ("temp",), fans=full.fans, training=full.training))

    assert one() == one()


def test_names_are_escaped_everywhere(fake_content: Callable[..., ReportContent]):
    evil = '<script>alert("$x$")</script>&'
    content = fake_content(n=60, windows=1)
    content = dataclasses.replace(
        content,
        title=evil,
        summary=evil,
        kicker=evil,
        columns=(evil, "b$_", "c", "d"),
        units={evil: evil},
        model=evil,
        time_unit=evil,
        facts={evil: {evil: evil}},
        notes=(evil,),
        command=evil,
        footer=evil,
        fans=tuple(dataclasses.replace(fan, label=evil) for fan in content.fans),
        pit=tuple(dataclasses.replace(row, column=evil, lead=evil) for row in content.pit),
        coverage=tuple(dataclasses.replace(row, column=evil, lead=evil) for row in content.coverage),
        scores=tuple(dataclasses.replace(row, column=evil, lead=evil, method=evil) for row in content.scores),
        paths=tuple(dataclasses.replace(bundle, label=evil) for bundle in content.paths),
        field=content.field,
    )
    page = render(content)
    assert page.count("<script") == 1
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert Page(page).open == []


def test_an_empty_report_says_what_is_not_there():
    page = render(ReportContent("An empty run", "Nothing yet.", ("x",)))
    assert Page(page).sections == [name for name in SECTIONS if name != "field"]
    assert "nothing to score" in page
    assert "<svg" not in page
    assert headline(ReportContent("An empty run", "", ("x",))) == ()


def test_missing_values_and_short_arrays_are_drawn_without_complaint():
    nothing, none = np.full((3, 1), np.nan), np.zeros(0)
    fan = Fan("w", none, np.zeros((0, 1)), np.arange(1.0, 4.0), nothing, nothing, {90: (nothing, nothing)})
    content = ReportContent(
        "Hollow",
        "",
        ("x",),
        fans=(fan,),
        training=Training(np.array([1.0]), np.array([np.nan]), none, none),
        pit=(Pit("x", "1", np.array([np.nan])),),
        scores=(Score("crps", "x", "1", "neural SDE", np.nan, np.nan, np.nan),),
        paths=(Paths("p", np.arange(3.0), np.zeros((0, 3, 1)), nothing),),
    )
    assert Page(render(content)).open == []


def test_headline_counts_and_averages():
    rows = []
    for lead, model, base in (("1", 0.8, 1.0), ("2", 1.0, 0.8)):
        rows += [Score("crps", "x", lead, "m", model, 0, 2), Score("crps", "x", lead, "b", base, 0, 2)]
    first, second = headline(ReportContent("", "", ("x",), model="m", scores=tuple(rows)))
    assert first.value == "1 of 2"
    assert second.value == "+0.0 %"


def test_a_difference_that_is_not_resolved_is_marked():
    def gain(low: float, high: float) -> Estimate:
        return Estimate(np.asarray((low + high) / 2), np.asarray(low), np.asarray(high))

    rows = (
        Score("crps", "x", "1", "neural SDE", 1.0, 0.9, 1.1),
        Score("crps", "x", "1", "close", 1.01, 0.9, 1.1, gain(-0.1, 0.12)),
        Score("crps", "x", "1", "better", 0.5, 0.4, 0.6, gain(-0.6, -0.4)),
        Score("crps", "x", "1", "worse", 2.0, 1.9, 2.1, gain(0.8, 1.2)),
    )
    page = render(ReportContent("", "", ("x",), scores=rows))
    cells = dict(zip(("model", "close", "better", "worse"), re.findall(r"<td>(.*?)<small>", page), strict=True))
    assert "≈" in cells["close"]
    assert "◂" in cells["better"]
    assert "<b>" in cells["better"]
    assert cells["worse"] == "2.000"


def test_scores_of_one_lead_stand_in_one_row_a_column():
    rows = tuple(Score("nll", column, "1 h", method, 1.0, 0.9, 1.1) for method in ("b", "m") for column in ("x", "y"))
    page = render(ReportContent("", "", ("x", "y"), model="m", scores=rows))
    table = page[page.index("Negative log-likelihood") :]
    assert '<span class="unit">1 h ahead</span>' in table
    assert re.findall(r'<th scope="col"[^>]*>(\w+)</th>', table) == ["m", "b"]
    assert re.findall(r'<th scope="row">(\w+)</th>', table) == ["x", "y"]
    several = tuple(dataclasses.replace(row, lead=lead) for lead in ("1 h", "6 h") for row in rows)
    page = render(ReportContent("", "", ("x", "y"), model="m", scores=several))
    assert re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', page) == ["1 h", "6 h"]


def test_numbers_on_the_axes_keep_their_digits():
    values = np.array([0.22325, 0.22340, 0.22400])
    steps = np.array([100.0, 200.0, 300.0])
    page = render(ReportContent("", "", ("x",), training=Training(steps, values, steps, values)))
    labels = [float(label) for label in re.findall(r">(0\.22\d*)<", page)]
    assert any(label not in (0.22, 0.23) for label in labels)


def test_what_is_missing_is_explained():
    page = render(ReportContent("", "", ("x",), missing="the table is gone"))
    assert page.count("Reason: the table is gone.") == 1


def test_a_hopeless_baseline_stands_at_the_edge():
    rows = (Score("crps", "x", "1", "m", 1.0, 0.9, 1.1), Score("crps", "x", "1", "b", 1.0, 0.9, 1.1))
    far = (*rows, Score("crps", "x", "1", "c", 500.0, 400.0, 600.0))
    _, high = score_dots(far, ("x",), ("m", "b", "c"), "m").axes[0].get_xlim()
    assert FARTHEST < high < 2 * FARTHEST


def test_written_in_one_move(tmp_path: Path):
    path = write_report(ReportContent("An empty run", "", ("x",)), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_comparison_is_paired_and_over_the_same_rows():
    rng = np.random.default_rng(0)
    hard = rng.exponential(size=(240, 1)) * 5  # how hard a window is, for everyone
    model, other = hard.repeat(2, axis=1), hard.repeat(2, axis=1) + 0.1
    model[:10, 0] = np.nan
    blocks = np.arange(240) // 20
    rows = compare("crps", {"m": model, "b": other}, columns=("x", "y"), lead="1 h", blocks=blocks, model="m")
    assert [(row.method, row.column) for row in rows] == [("m", "x"), ("m", "y"), ("b", "x"), ("b", "y")]
    assert rows[2].value - rows[0].value == pytest.approx(0.1)
    assert rows[2].low < rows[0].high  # the intervals overlap, and yet
    assert rows[2].gain is not None
    assert rows[2].gain.low == pytest.approx(0.1)
    whole = compare("energy", {"m": model[:, 1], "b": other[:, 1]}, columns=(), lead="1 h", blocks=blocks, model="m")
    assert [row.column for row in whole] == ["", ""]


def test_coverage_rows():
    share = np.tile([[1.0, 0.0]], (40, 1))
    rows = coverage_rows({80: share}, columns=("x", "y"), lead="1 h", blocks=np.arange(40) // 10)
    assert [(row.column, row.level, row.value, row.low) for row in rows] == [("x", 80, 1.0, 1.0), ("y", 80, 0.0, 0.0)]


# -- many leads, diagnostics --------------------------------------------------------------------------------------


def many_leads(content: ReportContent, leads: int) -> ReportContent:
    """The first lead's scores again and again, as a backtest would have them."""
    first = content.scores[0].lead
    again = [
        {
            "scores": [dataclasses.replace(r, lead=f"{k} h") for r in content.scores if r.lead == first],
            "coverage": [dataclasses.replace(r, lead=f"{k} h") for r in content.coverage if r.lead == first],
            "pit": [dataclasses.replace(r, lead=f"{k} h") for r in content.pit if r.lead == first],
        }
        for k in range(1, leads + 1)
    ]  # fmt: skip
    rows = {name: tuple(row for part in again for row in part[name]) for name in ("scores", "coverage", "pit")}
    return dataclasses.replace(content, leads=tuple(map(float, range(1, leads + 1))), **rows)


def test_panels_stop_at_four_leads_and_curves_take_over(fake_content: Callable[..., ReportContent]) -> None:
    content = fake_content(n=120, windows=1)
    kept = {name: tuple(row for row in getattr(content, name) if row.column in ("temp", "dewp"))
            for name in ("scores", "coverage", "pit")}  # fmt: skip
    content = dataclasses.replace(content, columns=("temp", "dewp"), fans=(), paths=(), **kept)
    pages = {leads: render(many_leads(content, leads)) for leads in (4, 24)}
    for leads, page in pages.items():
        Page(page)
        assert len(re.findall(r"<title>CRPS at ", page)) == 4
        assert len(re.findall(r"<title>Observed against nominal coverage at ", page)) == 4
        assert len(re.findall(r"<title>PIT histogram of ", page)) == 4 * len(content.columns)
        curves = len(content.columns) if leads > 4 else 0
        assert len(re.findall(r"<title>CRPS of \w+ against the lead", page)) == curves
        assert len(re.findall(r"<title>Coverage of \w+ over the lead", page)) == curves
    assert "Below, and in the panels: 1 h, 3 h, 8 h, 24 h." in pages[24]
    assert len(pages[24]) < 1.35 * len(pages[4])  # a page does not grow with the number of leads


def test_few_leads_are_spread_from_the_first_to_the_last() -> None:
    assert few(["a", "b", "c"]) == ["a", "b", "c"]
    for n in range(5, 60):
        chosen = few([str(k) for k in range(1, n + 1)])
        assert (chosen[0], chosen[-1], len(set(chosen))) == ("1", str(n), 4)


def test_curves_stand_where_the_leads_do(fake_content: Callable[..., ReportContent]) -> None:
    content = many_leads(fake_content(n=120, windows=1), 6)
    apart = dataclasses.replace(content, leads=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0))
    names = [f"{k} h" for k in range(1, 7)]
    assert list(positions(apart, names).values()) == [1, 2, 4, 8, 16, 32]
    assert list(positions(dataclasses.replace(content, leads=()), names).values()) == [1, 2, 3, 4, 5, 6]
    mine = [row for row in apart.scores if row.metric == "crps" and row.column == "temp"]
    (ax,) = score_curves(mine, positions(apart, names), ["neural SDE", "persistence"], "neural SDE").axes
    for line in ax.lines[::2]:
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 4, 8, 16, 32])
    drawn = np.asarray(ax.lines[-1].get_ydata(), np.float64)
    np.testing.assert_allclose(drawn, [float(r.value) for r in mine if r.method == "neural SDE"])


def diagnosed(**wrong: object) -> Diagnostics:
    one = Estimate(np.array(1.02), np.array(0.95), np.array(1.1))
    line = np.array([0.03, -0.05, *[0.0] * 8])
    good = ColumnDiagnosis("<temp>", 900, one, 0.2, line, np.full(10, 0.07), 0.4, -0.2, np.nan, one, 0.0, 0.08, -0.15)
    return Diagnostics(
        (good, dataclasses.replace(good, column="wind", **wrong)), "24 steps", about="900 rows", bound=7.0
    )


def test_the_diagnostics_are_a_section_of_their_own() -> None:
    """A report without them, that of `page`, has no such section."""
    well, ill = (
        render(ReportContent("", "", ("<temp>", "wind"), diagnostics=found))
        for found in (diagnosed(), diagnosed(log_sigma=-6.9))
    )
    for page in (well, ill):
        assert "diagnostics" in Page(page).sections
        assert "&lt;temp&gt;" in page
        assert "<temp>" not in page
        assert "would move by 0.08 of its s.d." in page
        assert "change by −15 %" in page
        assert len(re.findall("<title>Autocorrelation of the residuals of ", page)) == 2
    assert "Nothing was found wrong on 900 rows." in well
    assert "wind: the diffusion has collapsed" in ill
