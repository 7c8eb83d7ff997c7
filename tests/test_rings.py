"""The house: imports point inwards, never in a circle, never inside a function.

Read with `ast`, so nothing is executed and an import behind an `if` counts too. Exceptions, as the decision record
of the house says: an optional extra may be imported where it is used; `neuralsde/__init__.py` resolves its names
by `__getattr__`, `neuralsde/sde/__init__.py` those that need diffrax; `cli/` names its targets as "module:function".
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RINGS = (
    ("errors", "typing"),
    ("sde",),
    ("noising",),
    ("nets",),
    ("models",),
    ("sampling",),
    ("data",),
    ("train",),
    ("evaluate",),
    ("tasks",),
    ("runs",),
    ("robot",),
    ("experiments",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(RINGS) for name in names}
OPTIONAL = frozenset(
    {"av", "cv2", "gym_pusht", "onnx", "pymunk", "zarr"}
)  # of extras: may be imported inside a function
BY_NAME = ("neuralsde", "neuralsde.sde")  # modules that may import by a name in a string, and
COMMANDS = "neuralsde.cli"  # a package whose modules all may


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file, for every module under a package folder."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def targets(node: ast.Import | ast.ImportFrom, module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules that one import statement names; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        base = ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else []))
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in known else base


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement with whether a function holds it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):  # no expression holds an import
            yield from imports(node, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def loads_by_string(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in ("import_module", "__import__")
        for node in ast.walk(tree)
    )


def ring(module: str) -> int:
    parts = module.split(".")
    return RANK.get(parts[1], len(RINGS)) if len(parts) > 1 else len(RINGS)  # __main__ is outermost


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of modules, or an empty list; depth first, a module on the current trail closes a circle."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for inner in sorted(graph.get(module, ())):
            if found := visit(inner, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def faults(package: Path) -> list[str]:
    """What breaks the rule of the rings, one line each."""
    known, found = modules(package), []
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if loads_by_string(tree) and module not in BY_NAME and not module.startswith(COMMANDS):
            found.append(f"{module}: imports by a name in a string")
        for node, inside in imports(tree):
            for target in targets(node, module, path, known):
                top = target.split(".")[0]
                if inside and top not in OPTIONAL:
                    found.append(f"{module}:{node.lineno}: imports {target} inside a function")
                if top != package.name or module == package.name:
                    continue  # the package's own __init__ names every ring for type checkers
                if target != package.name and ring(target) > ring(module):
                    found.append(f"{module}:{node.lineno}: imports {target}, which lies further out")
                graph.setdefault(module, set()).add(target)
    if circle := cycle(graph):
        found.append("circle: " + " -> ".join(circle))
    return found


def test_every_import_points_inwards():
    assert faults(ROOT / "neuralsde") == []


def test_every_folder_has_a_ring():
    folders = {p.parent.name for p in (ROOT / "neuralsde").glob("*/__init__.py")}
    assert folders <= set(RANK)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"sde/a.py": "from neuralsde.data import b", "data/b.py": ""}, "neuralsde.data.b, which lies further out"),
        ({"sde/a.py": "from ..data.b import c", "data/b.py": "c = 1"}, "neuralsde.data.b, which lies further out"),
        ({"sde/a.py": "def f():\n    import numpy"}, "numpy inside a function"),
        ({"sde/a.py": "from neuralsde.sde import b", "sde/b.py": "from .a import x"}, "circle: neuralsde.sde.a"),
        ({"sde/a.py": "import importlib\nimportlib.import_module('neuralsde.cli')"}, "a name in a string"),
    ],
)
def test_a_broken_house_is_seen(tmp_path: Path, files: dict[str, str], says: str):
    for name, text in {"__init__.py": "", "sde/__init__.py": "", "data/__init__.py": "", **files}.items():
        path = tmp_path / "neuralsde" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert says in "\n".join(faults(tmp_path / "neuralsde"))


def test_importing_the_package_loads_no_jax():
    heavy = ("jax", "matplotlib", "numpy", "polars")
    check = f"import sys, neuralsde, neuralsde.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
