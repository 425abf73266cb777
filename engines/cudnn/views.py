"""Values with six axes, between the Reshape and Transpose nodes that together are a pixel shuffle or unshuffle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engines.cudnn.layers import Layer

_TO_SPACE = (0, 1, 4, 2, 5, 3)
"""From (N, C, r, c, H, W) to (N, C, H, r, W, c): the transposition of a pixel shuffle."""

_TO_DEPTH = (0, 1, 3, 5, 2, 4)
"""From (N, C, H, r, W, c) to (N, C, r, c, H, W): the transposition of a pixel unshuffle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A value with six axes, on the way to or from a pixel shuffle."""

    kind: Literal["channels", "space", "pixels", "depth", "base"]
    """Axes (N, C, r, c, H, W) before a shuffle; (N, C, H, r, W, c) after it; the same of an image to be unshuffled;
    (N, C, r, c, H, W) of that; (N, C, H, 1, W, 1), repeated where it is added."""
    value: int
    """The layer it is a view of."""
    factor: int
    """Of the shuffle."""

    def transposed(self, order: tuple[int, ...]) -> View | None:
        """The view after a Transpose; None if that is no step of a shuffle."""
        if self.kind == "channels" and order == _TO_SPACE:
            return replace(self, kind="space")
        if self.kind == "pixels" and order == _TO_DEPTH:
            return replace(self, kind="depth")
        return None


def split_view(layer: Layer, *, value: int, target: list[int]) -> View | None:
    """The view that a Reshape of a layer's value to six axes is; None if it is none.

    Args:
        layer: The layer.
        value: Its index.
        target: The shape asked for.
    """
    if len(target) != 6:
        return None
    _, *sizes = target
    channels, height, width = layer.channels, layer.height, layer.width
    depth, space = sizes[1], sizes[2]
    by_sizes: tuple[tuple[Literal["channels", "pixels", "base"], int, list[int]], ...] = (
        ("base", 1, [channels, height, 1, width, 1]),
        ("channels", depth, [channels // max(depth, 1) ** 2, depth, depth, height, width]),
        ("pixels", space, [channels, height // max(space, 1), space, width // max(space, 1), space]),
    )
    for kind, factor, expected in by_sizes:
        if sizes == expected:
            return View(kind=kind, value=value, factor=factor)
    return None
