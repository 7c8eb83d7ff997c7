"""Which network, as plain settings: chosen by the shape of a point and the device where nothing is said.

mlp        points of a table; small images
patches    images on a CPU: matrix products only
unet       images on a GPU
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
from jaxtyping import Array, Key

from neuralsde.errors import InputError, closest
from neuralsde.nets import Patches, TimeMLP, UNet

NETS = ("auto", "mlp", "patches", "unet")
_DEFAULTS = {"mlp": (128, 3), "patches": (64, 3), "unet": (64, 3)}
_RANK = 6
"""Numbers through which the tokens of patches speak, for each number of a token."""
_FEWEST_TOKENS = 16


@dataclass(frozen=True)
class Backbone:
    """The network of a diffusion model.

    net:   mlp, patches, unet, or auto: mlp for tables, for images unet on a GPU and patches elsewhere.
    width: of its layers; for unet of the full resolution, twice that below. depth: layers, blocks, or levels.
    patch: side of a patch; rank: through how many numbers patches speak. 0 in these: chosen for the net and the shape.
    """

    net: str = "auto"
    width: int = 0
    depth: int = 0
    patch: int = 0
    rank: int = 0

    def __post_init__(self) -> None:
        if self.net not in NETS:
            raise InputError(f"net={self.net!r}", "there is none of that name", hint=closest(self.net, NETS))
        for name in ("width", "depth", "patch", "rank"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{name}={value!r}", expected="a whole number, 0 for the default")

    def resolved(self, shape: tuple[int, ...]) -> Backbone:
        """The same with every choice made: what config.json holds, so that a run loads on any device."""
        net = self.net
        if net == "auto":
            net = "mlp" if len(shape) < 2 else "unet" if _on_gpu() and _halvings(shape) else "patches"
            net = "mlp" if net == "patches" and self.patch == 0 and _patch(shape) == 0 else net
        if len(shape) < 2 and net != "mlp":
            raise InputError(f"net={net} for points of shape {shape}", "they are no images", "net=mlp")
        width, depth = _DEFAULTS[net]
        patch = (self.patch or _patch(shape)) if net == "patches" else 0
        if net == "patches" and patch == 0:
            raise InputError(f"net=patches for images of shape {shape}", "no patch size divides both sides", "net=mlp")
        depth = self.depth or (min(depth, 1 + _halvings(shape)) if net == "unet" else depth)
        width = self.width or width
        rank = (self.rank or _RANK * width) if net == "patches" else 0
        return replace(self, net=net, width=width, depth=depth, patch=patch, rank=rank)

    def build(self, shape: tuple[int, ...], classes: int, *, key: Key[Array, ""]) -> Callable[..., Array]:
        """The network (x, t, label=None) -> like x, of a resolved choice."""
        if self.net == "mlp":
            return TimeMLP(shape, width=self.width, depth=self.depth, classes=classes, key=key)
        if self.net == "unet":
            channels = [self.width] + [2 * self.width] * (self.depth - 1)
            return UNet(shape, channels=channels, classes=classes, key=key)
        sizes = {"patch": self.patch, "width": self.width, "depth": self.depth, "rank": self.rank}
        return Patches(shape, **sizes, classes=classes, key=key)


def _patch(shape: tuple[int, ...]) -> int:
    """4, or the next smaller side that divides both and leaves 16 tokens; 0 when none does."""
    h, w = shape[:2]
    fits = [p for p in (4, 3, 2) if h % p == 0 and w % p == 0 and (h // p) * (w // p) >= _FEWEST_TOKENS]
    return fits[0] if fits else 0


def _halvings(shape: tuple[int, ...]) -> int:
    """How often both sides can be halved, down to 4 pixels."""
    side = math.gcd(*shape[:2])
    return next(k for k in range(10) if (side >> k) % 2 or (min(shape[:2]) >> (k + 1)) < 4)


def _on_gpu() -> bool:
    return jax.default_backend() == "gpu"
