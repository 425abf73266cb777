"""Enlarged tiles put on a canvas, each fading into what is there already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.blending import BlendPlan
from pipeline.cpu.kernel import kernel


class TileBlender:
    """Puts the tiles of one plan on a canvas. Holds no pixels, so threads may share it.

    Args:
        plan: Where each tile goes, and with which weight.
    """

    def __init__(self, plan: BlendPlan) -> None:
        self._plan = plan

    def add(
        self, tile_rgb: NDArray[np.float32] | NDArray[np.float16], *, tile: int, canvas: NDArray[np.float32]
    ) -> None:
        """Blend one tile in. After the last tile the canvas is whole; what it held before the first does not matter.

        Args:
            tile_rgb: (3, tile height, tile width) in output pixels, any strides; only read. float16 is converted first.
            tile: Its index in ``TileGrid.tiles``. Tiles of a frame come in that order, all of them.
            canvas: (3, height, width) float32, any strides; the plan's part of it is written.

        Raises:
            ValueError: A shape is not the plan's.
        """
        plan = self._plan
        if tile_rgb.shape != (3, plan.tile_height, plan.tile_width):
            raise ValueError(f"need a tile of shape {(3, plan.tile_height, plan.tile_width)}, not {tile_rgb.shape}")
        if canvas.shape != (3, plan.height, plan.width):
            raise ValueError(f"need a canvas of shape {(3, plan.height, plan.width)}, not {canvas.shape}")
        row, column = plan.spans(tile)
        target = canvas[:, row.start : row.stop, column.start : column.stop]
        source = tile_rgb[
            :,
            row.start - row.origin : row.stop - row.origin,
            column.start - column.origin : column.stop - column.origin,
        ]
        top, left = len(row.lead), len(column.lead)
        # Below and right of the ramps the tile stands alone: numpy's copy is as fast as memory.
        target[:, top:, left:] = source[:, top:, left:]
        if left:
            _fade_columns(target[:, top:, :left], source[:, top:, :left].astype(np.float32), column.lead)
        if top:
            _fade_corner(target[:, :top], source[:, :top].astype(np.float32), row.lead, column.lead, column.trail)


@kernel
def _fade_columns(canvas: Any, tile: Any, weights: Any) -> None:
    """Interpolate from canvas to tile by one weight per column."""
    for plane in range(canvas.shape[0]):
        for y in range(canvas.shape[1]):
            for x in range(canvas.shape[2]):
                held = canvas[plane, y, x]
                canvas[plane, y, x] = held + (tile[plane, y, x] - held) * weights[x]


@kernel
def _fade_corner(canvas: Any, tile: Any, rows: Any, lead: Any, trail: Any) -> None:
    """Interpolate rows in which the row of tiles above still shows.

    The tile's share is to be ``row weight x column weight``, and the share of the row above ``1 - row weight``
    whatever the column. As the tile to the right will scale down all that the canvas holds, this one takes
    ``row x (1 - next) / (1 - row x next)`` where that one's column weight ``next`` is not 0.
    """
    width = canvas.shape[2]
    one = np.float32(1)
    weights = np.empty(width, np.float32)
    for y in range(canvas.shape[1]):
        weights[:] = rows[y]
        for x in range(lead.shape[0]):
            weights[x] = rows[y] * lead[x]
        for x in range(trail.shape[0]):
            weights[width - trail.shape[0] + x] = rows[y] * (one - trail[x]) / (one - rows[y] * trail[x])
        for plane in range(canvas.shape[0]):
            for x in range(width):
                held = canvas[plane, y, x]
                canvas[plane, y, x] = held + (tile[plane, y, x] - held) * weights[x]
