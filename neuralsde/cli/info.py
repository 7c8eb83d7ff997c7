"""`neuralsde info`: what a report of a problem should hold."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from neuralsde import __version__
from neuralsde.cli.entry import function

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy", "polars", "narwhals", "matplotlib")


def info() -> None:
    """Print the versions of this package and of what it stands on, and the devices that JAX sees."""
    facts = [
        ("neuralsde", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((package, installed(package)) for package in PACKAGES),
        ("compiled programs", os.environ.get("JAX_COMPILATION_CACHE_DIR", "not kept")),
        ("processor cores", str(os.cpu_count())),
        *(("device", f"{device.platform}:{device.id}, {device.device_kind}") for device in function("jax:devices")()),
    ]
    for name, text in facts:
        print(f"{name:<18} {text}")


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
