"""The edge of the command line: help without JAX, and one line with the right status for every ending."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuralsde.cli import app as cli
from neuralsde.cli.entry import COMMANDS, overview
from neuralsde.errors import InputError, RunFailed

ROOT = Path(__file__).resolve().parent.parent.parent
MAIN = "from neuralsde.cli import main; main()"


def command(*tokens: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *tokens], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}
    )


def test_no_help_loads_jax():
    check = """
import sys
from neuralsde.cli.app import app
for name in sys.argv[1:]:
    app([name, "--help"], exit_on_error=False, result_action="return_value")
print([m for m in ("jax", "numpy", "polars", "matplotlib") if m in sys.modules], file=sys.stderr)
"""
    names = [name for name, _ in COMMANDS]
    done = subprocess.run([sys.executable, "-c", check, *names], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == "[]"
    assert all(f"neuralsde {name}" in done.stdout for name in names)


def test_no_command_is_the_overview():
    assert command().stdout == command("--help").stdout == overview()


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["forcast", "a"], "no command 'forcast'; did you mean 'forecast'?; see neuralsde --help"),
        (["zzz"], "no command 'zzz'; one of: fit,"),
        (["fit", "a.csv", "--stepz", "3"], "Did you mean --steps?; see neuralsde fit --help"),
        (["fit", "a.csv", "--steps", "many"], 'unable to convert "many" into int'),
        (["fit", "a.csv", "--bounded", "temp", "0"], "--bounded"),
        (["fit", "a.csv", "--held-out", "last-prat=0.2"], "did you mean 'last-part'?"),
        (["fit", "a.csv", "--held-out", "last-part=much"], "'much' is not a number"),
        (["forecast", "run"], "DATA"),
        (["forecast", "run", "a.csv", "--out", "a.xlsx"], "expected .csv or .parquet"),
        (["forecast", "run", "a.csv", "--out", "no/such/a.csv"], "there is no folder no/such"),
        (["reproduce", "brunching"], "did you mean 'branching'?"),
        (["info", "more"], "more"),
    ],
)
def test_misuse_is_one_line_and_status_2(tokens: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    assert cli.run(tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("neuralsde: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InputError("steps=0", expected="at least 1"), 2, "steps=0; expected at least 1"),
        (RunFailed("a state is not finite", hint="a smaller rate"), 1, "a state is not finite; try a smaller rate"),
        (KeyboardInterrupt(), 130, "stopped"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "Permission denied: /x/y"),
        (TypeError("no\nsuch"), 1, "a fault of this program, TypeError: no such; NEURALSDE_TRACEBACK=1 shows where"),
    ],
)
def test_every_ending_has_a_line_and_a_status(error: BaseException, status: int, says: str):
    line, code = cli.ending(error)
    assert code == status
    assert line.startswith(says)
    assert "\n" not in line


def test_a_traceback_only_when_asked():
    tokens = ("forecast", "run", "a.csv", "--out", "a.xlsx")
    assert "Traceback" not in command(*tokens).stderr
    assert "Traceback" in command(*tokens, NEURALSDE_TRACEBACK="1").stderr


def test_a_reader_that_closes_early_is_no_error():
    line = f'{sys.executable} -c "{MAIN}" info | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""


def test_the_entry_names_a_cache_and_keeps_what_the_user_set():
    check = (
        "import os; from neuralsde.cli.entry import prepare; prepare();"
        "print(os.environ['JAX_COMPILATION_CACHE_DIR'], os.environ['EQX_ON_ERROR'])"
    )

    def settings(**env: str) -> str:
        clean = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "EQX_ON_ERROR")}
        done = subprocess.run(
            [sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, env={**clean, **env}, check=True
        )
        return done.stdout.strip()

    assert settings(XDG_CACHE_HOME="/c") == "/c/neuralsde/jax nan"
    assert settings(JAX_COMPILATION_CACHE_DIR="/mine", EQX_ON_ERROR="raise") == "/mine raise"
