"""How enlarged tiles become one picture again: which pixels come from which tile, and with which weight. No pixels.

Tiles are put on the canvas in row-major order by linear interpolation between what the canvas holds and the tile, so
equal content in an overlap stays equal to the last bit, and weights need no normalising.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import TileGrid

BlendMode = Literal["linear", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileSpan:
    """What one row or column of tiles contributes to the canvas along its axis. All values are output pixels."""

    origin: int
    """Canvas coordinate of the tile's first pixel."""
    start: int
    """First canvas coordinate that the tile writes."""
    stop: int
    """End (exclusive) of what the tile writes: the frame's edge or the end of the next tile's ramp."""
    lead: NDArray[np.float32]
    """Weights of this tile from ``start`` on, in (0, 1), increasing; behind them the weight is 1."""
    trail: NDArray[np.float32]
    """The next tile's ``lead``, which covers the last ``len(trail)`` pixels before ``stop``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlendPlan:
    """Which pixels each tile of a grid contributes to the output canvas, and with which weight. See ``plan_blend``."""

    height: int
    """Canvas height, output pixels."""
    width: int
    """Canvas width, output pixels."""
    tile_height: int
    """Height of an enlarged tile, output pixels."""
    tile_width: int
    """Width of an enlarged tile, output pixels."""
    rows: tuple[TileSpan, ...]
    """One span per row of tiles."""
    columns: tuple[TileSpan, ...]
    """One span per column of tiles."""

    def spans(self, tile: int) -> tuple[TileSpan, TileSpan]:
        """The row's and the column's span of a tile, by its index in ``TileGrid.tiles``."""
        row, column = divmod(tile, len(self.columns))
        return self.rows[row], self.columns[column]


def plan_blend(grid: TileGrid, *, scale: int, mode: BlendMode = "linear", margin_px: int = 0) -> BlendPlan:
    """Decide which output pixels come from which tile, and how neighbours fade into each other.

    Between two tiles of a row (column), the later one's weight rises linearly from 0 to 1 across a ramp in the middle
    of what both share. Pixels outside the ramps come from one tile alone. The ramp keeps ``margin_px`` away from both
    tiles' edges, where a network lacks context, as far as it stays at least half as wide as the overlap.

    Args:
        grid: The tiles.
        scale: Enlargement from tile to output, >= 1.
        mode: ``linear`` as above; ``cut`` switches from one tile to the next in the middle of the overlap.
        margin_px: The network's receptive field, input pixels, >= 0.

    Returns:
        The spans of all rows and columns of tiles.

    Raises:
        ValueError: ``scale`` or ``margin_px`` is out of range.
    """
    if scale < 1 or margin_px < 0:
        raise ValueError(f"need scale >= 1 and margin_px >= 0, not {scale} and {margin_px}")
    rows = _spans(grid.tops, length=grid.height, tile=grid.tile_height, scale=scale, mode=mode, margin_px=margin_px)
    columns = _spans(grid.lefts, length=grid.width, tile=grid.tile_width, scale=scale, mode=mode, margin_px=margin_px)
    return BlendPlan(
        height=grid.height * scale,
        width=grid.width * scale,
        tile_height=grid.tile_height * scale,
        tile_width=grid.tile_width * scale,
        rows=rows,
        columns=columns,
    )


def _spans(
    origins: tuple[int, ...], *, length: int, tile: int, scale: int, mode: BlendMode, margin_px: int
) -> tuple[TileSpan, ...]:
    """Spans of the tiles along one axis."""
    narrowest_gap = min((right - left for left, right in pairwise(origins)), default=0)
    ramps: list[tuple[int, int]] = []
    for earlier, later in pairwise(origins):
        shared = earlier + tile - later
        kept = min(margin_px, shared // 4)
        # Never wider than a step of the grid, so that at most two tiles of a row mix in any pixel.
        ramp = min(shared - 2 * kept, narrowest_gap) * scale if mode == "linear" else 0
        start = (2 * later + shared) * scale // 2 - ramp // 2
        ramps.append((start, start + ramp))
    leads = [_ramp(stop - start) for start, stop in ramps]
    none = _ramp(0)
    return tuple(
        TileSpan(
            origin=origin * scale,
            start=ramps[index - 1][0] if index else 0,
            stop=ramps[index][1] if index < len(ramps) else length * scale,
            lead=leads[index - 1] if index else none,
            trail=leads[index] if index < len(ramps) else none,
        )
        for index, origin in enumerate(origins)
    )


def _ramp(count: int) -> NDArray[np.float32]:
    """Weights at the centres of ``count`` pixels of a straight line from 0 to 1."""
    weights = ((np.arange(count) + 0.5) / max(count, 1)).astype(np.float32)
    weights.flags.writeable = False
    return weights
