"""Tiles of a frame: copied out, reflected where a tile reaches past the frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import TileGrid, reflect_indices

RgbArray = NDArray[np.float32] | NDArray[np.float16]


class TileCutter:
    """Copies tiles of one grid into batch slots. Holds no pixels, so threads may share it.

    Args:
        grid: The tiles.
    """

    def __init__(self, grid: TileGrid) -> None:
        self._grid = grid
        self._inner_height = min(grid.height, grid.tile_height)
        self._inner_width = min(grid.width, grid.tile_width)
        self._row_sources = reflect_indices(self._inner_height, grid.tile_height, length=self._inner_height)
        self._column_sources = reflect_indices(self._inner_width, grid.tile_width, length=self._inner_width)

    def cut(self, rgb: RgbArray, *, tile: int, out: RgbArray) -> None:
        """Copy one tile, padded where the frame ends before it does.

        Args:
            rgb: (3, H, W) frame of the grid's size; only read.
            tile: Index into ``TileGrid.tiles``.
            out: (3, tile_height, tile_width), any strides; written. float32 becomes float16 where ``out`` has it.

        Raises:
            ValueError: ``rgb`` has not the grid's frame size.
        """
        grid = self._grid
        if rgb.shape != (3, grid.height, grid.width):
            raise ValueError(f"need a frame of shape {(3, grid.height, grid.width)}, not {rgb.shape}")
        self._check_tile(out)
        top, left = grid.tiles[tile].top, grid.tiles[tile].left
        bottom, right = top + grid.tile_height, left + grid.tile_width
        height, width = min(bottom, grid.height) - top, min(right, grid.width) - left
        out[:, :height, :width] = rgb[:, top : top + height, left : left + width]
        if right > grid.width:
            columns = reflect_indices(grid.width, right, length=grid.width)
            out[:, :height, width:] = rgb[:, top : top + height, columns]
        if bottom > grid.height:
            rows = reflect_indices(grid.height, bottom, length=grid.height)
            columns = reflect_indices(left, right, length=grid.width)
            out[:, height:] = rgb[:, rows[:, None], columns]

    def inner(self, out: RgbArray) -> Any:
        """The part of a tile that holds frame pixels: a view of ``out`` without the padding at the bottom and right.

        A grid of one tile can be filled without a copy: convert the planes into this view, then call ``pad``.
        """
        self._check_tile(out)
        return out[:, : self._inner_height, : self._inner_width]

    def pad(self, out: RgbArray) -> None:
        """Fill a tile's padding, if it has any, from the pixels that ``inner`` covers.

        Args:
            out: (3, tile_height, tile_width), any strides; its padding is written.
        """
        self._check_tile(out)
        if len(self._column_sources):
            inner_rows = out[:, : self._inner_height]
            inner_rows[:, :, self._inner_width :] = inner_rows[:, :, self._column_sources]
        if len(self._row_sources):
            out[:, self._inner_height :] = out[:, self._row_sources]

    def _check_tile(self, out: RgbArray) -> None:
        wanted = (3, self._grid.tile_height, self._grid.tile_width)
        if out.shape != wanted:
            raise ValueError(f"need a tile of shape {wanted}, not {out.shape}")
