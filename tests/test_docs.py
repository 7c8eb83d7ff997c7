"""What the pages promise: commands that parse, targets that exist, links that lead somewhere, names that are there."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from cyclopts.exceptions import CycloptsError

import neuralsde
from neuralsde.cli.app import app
from neuralsde.cli.entry import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path, program: str) -> list[list[str]]:
    """The lines of a page's plain or shell blocks that start a program, continuation lines joined, comments cut."""
    lines = "\n".join(blocks(page, "", "sh", "bash", "console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip().startswith(program + " ")]


@every_page
def test_commands_parse(page: Path):
    for tokens in commands(page, "neuralsde"):
        assert tokens[0] in {"--help", "--version", *(name for name, _ in COMMANDS)}, tokens
        try:
            app.parse_args(tokens, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"neuralsde {shlex.join(tokens)}: {error}")


@every_page
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {tokens[0] for tokens in commands(page, "make")} <= targets


@every_page
def test_links_resolve(page: Path):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target


@every_page
def test_python_blocks_name_what_exists(page: Path):
    for body in blocks(page, "python"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(body))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nsde"
        }
        assert used <= set(neuralsde.__all__)


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = set(re.findall(r"[\w/.-]+\.md", repr(nav)))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}


def test_the_overview_lists_every_command():
    assert {name for name, _ in COMMANDS} <= set(app)
    for name, _ in COMMANDS:
        assert app[name].help, f"{name} says nothing about itself"


def test_the_lock_holds_every_dependency_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(d for e in ("test", "lint", "docs", "build", "shots") for d in extras[e])]
    names = {re.match(r"[\w-]+", dependency)[0] for dependency in asked}  # type: ignore[index]
    assert names <= set(re.findall(r"^([\w-]+)==", lock, re.MULTILINE))
    assert not re.search(r"//|^\s*--(?!hash)", lock, re.MULTILINE)
    pinned = re.findall(r"^[\w-]+==(?:.*\\\n)+.*sha256:\w{64}", lock, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[\w-]+==", lock, re.MULTILINE))
