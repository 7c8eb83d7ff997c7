"""Screenshots of a report in a real browser: `python docs/shots.py runs/demo/report.html`, or `make shots`.

Needs Debian's chromium and the Python package playwright (its own browser is not needed); says so and stops
with status 0 when one of them is not there, since nothing else depends on these pictures.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
# name, width, height (0: the whole page), colour scheme, section to start from
SHOTS = (
    ("report", 1280, 1240, "light", ""),
    ("report-scores", 1280, 1100, "light", "scores"),
    ("report-calibration", 1280, 1100, "light", "calibration"),
    ("report-dark", 1280, 1100, "dark", ""),
    ("report-phone", 420, 900, "light", ""),
    ("report-full", 1280, 0, "light", ""),
    ("report-phone-full", 420, 0, "dark", ""),
)
COMMITTED = 5  # the whole pages are for looking at, not for the repository


def browser_path() -> str | None:
    """CHROMIUM from the environment, or the first chromium on the path."""
    named = os.environ.get("CHROMIUM")
    return named or next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


def shoot(report: Path, out: Path, *, whole: bool = False) -> list[Path]:
    """Writes the pictures to `out` and returns their paths."""
    playwright: Any = importlib.import_module("playwright.sync_api")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=browser_path(), args=FLAGS)
        for name, width, height, scheme, section in SHOTS if whole else SHOTS[:COMMITTED]:
            scale = 2 if width < 600 else 1.5
            page = browser.new_page(
                viewport={"width": width, "height": height or 1000},
                device_scale_factor=scale,
                color_scheme=scheme,
                reduced_motion="reduce",  # no smooth scrolling while the picture is taken
            )
            page.goto(report.resolve().as_uri() + (f"#{section}" if section else ""))
            page.wait_for_timeout(700)
            page.screenshot(path=str(out / f"{name}.png"), full_page=not height)
            page.close()
            written.append(out / f"{name}.png")
        browser.close()
    return written


def newest(runs: Path) -> Path | None:
    """The latest report of any run in the folder."""
    return max(runs.glob("*/report.html"), key=lambda path: path.stat().st_mtime, default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Screenshots of a report.html.")
    parser.add_argument("report", type=Path, nargs="?", help="a report.html; the newest under runs/ by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img")
    parser.add_argument("--whole", action="store_true", help="also the whole pages, wide and narrow")
    options = parser.parse_args()
    report = options.report or newest(Path(__file__).parent.parent / "runs")
    if report is None or not report.is_file():
        print(f"no report at {report or 'runs/*/report.html'}: make one first, with `make demo`", file=sys.stderr)
        return 2
    if importlib.util.find_spec("playwright") is None or browser_path() is None:
        print("no screenshots: they need chromium (apt-get install chromium) and playwright (pip install playwright)")
        return 0
    for path in shoot(report, options.out, whole=options.whole):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
