"""How a frame is cut into equal tiles: pure geometry, no pixels.

Invariants: all tiles of a grid have one size; neighbours share at least the overlap asked for; the last row and column
end exactly at the frame's edge. Where a network needs sides that are multiples of something, the edge is that of the
frame rounded up, and tiles begin at multiples too: a network that folds pixels together then folds the same ones in
every tile. What a tile covers beyond the frame, at the bottom and the right, is padded by reflection. How the tiles
become one picture again is ``pipeline.blending``.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from math import inf

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Where a tile's top left corner lies in the frame."""

    top: int
    """Input pixels from the frame's top."""
    left: int
    """Input pixels from the frame's left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """An even grid of equal tiles over one frame. Made by ``plan_tiles``."""

    height: int
    """Frame height, input pixels."""
    width: int
    """Frame width, input pixels."""
    tile_height: int
    """Height of every tile, input pixels; more than ``height`` if the frame has to be padded."""
    tile_width: int
    """Width of every tile, input pixels."""
    tops: tuple[int, ...]
    """Top edge of each row of tiles, increasing; the first is 0."""
    lefts: tuple[int, ...]
    """Left edge of each column of tiles, increasing; the first is 0."""
    tiles: tuple[Tile, ...]
    """All tiles in row-major order, which is the order in which they are blended."""

    @property
    def is_whole(self) -> bool:
        """Whether the one tile is the frame itself: nothing to cut, pad or blend."""
        return len(self.tiles) == 1 and (self.tile_height, self.tile_width) == (self.height, self.width)

    @property
    def computed_px(self) -> int:
        """Input pixels that the network has to process for one frame, overlaps and padding included."""
        return len(self.tiles) * self.tile_height * self.tile_width


def plan_tiles(
    *,
    height: int,
    width: int,
    tile_height: int | None = None,
    tile_width: int | None = None,
    overlap_px: int,
    multiple_of: int = 1,
    min_side_px: int = 1,
) -> TileGrid:
    """Cover a frame with as few equal tiles as possible that overlap by at least ``overlap_px``.

    Args:
        height, width: Frame size in pixels, both >= 1.
        tile_height, tile_width: Exact tile size in pixels, multiples of ``multiple_of``. A tile may be larger than the
            frame, which is then padded. None: the frame's own size, at least ``min_side_px``, rounded up to
            ``multiple_of``.
        overlap_px: Least number of pixels that neighbours share, >= 0; rounded up to ``multiple_of``, and then smaller
            than the tile wherever more than one tile is needed. Above half a tile, pixels lie in more than two tiles of
            a row; that works, but is slow.
        multiple_of: What the network needs the tile's sides to be divisible by.
        min_side_px: Shortest side of a tile that the network takes.

    Returns:
        The grid. Gaps between tiles differ by at most ``multiple_of`` pixels.

    Raises:
        ValueError: A size is not positive, a tile is no multiple of ``multiple_of`` or shorter than ``min_side_px``, or
            the overlap leaves no progress.
    """
    if min(height, width) < 1:
        raise ValueError(f"a frame has at least 1x1 pixels, not {width}x{height}")
    if overlap_px < 0 or multiple_of < 1:
        raise ValueError(f"need overlap_px >= 0 and multiple_of >= 1, not {overlap_px} and {multiple_of}")
    tile_h = round_up(max(height, min_side_px), multiple_of) if tile_height is None else tile_height
    tile_w = round_up(max(width, min_side_px), multiple_of) if tile_width is None else tile_width
    for side in (tile_h, tile_w):
        if side < 1 or side % multiple_of:
            raise ValueError(f"tile side must be a positive multiple of {multiple_of}, not {side}")
        if side < min_side_px:
            raise ValueError(f"tile side must be at least {min_side_px}, not {side}")
    tops = _origins(length=height, tile=tile_h, overlap_px=overlap_px, multiple_of=multiple_of)
    lefts = _origins(length=width, tile=tile_w, overlap_px=overlap_px, multiple_of=multiple_of)
    return TileGrid(
        height=height,
        width=width,
        tile_height=tile_h,
        tile_width=tile_w,
        tops=tops,
        lefts=lefts,
        tiles=tuple(Tile(top=top, left=left) for top in tops for left in lefts),
    )


def choose_tile(
    *,
    height: int,
    width: int,
    tile_height: int | None = None,
    tile_width: int | None = None,
    max_side_px: int | None = None,
    max_area_px: int | None = None,
    overlap_px: int,
    multiple_of: int = 1,
    min_side_px: int = 1,
) -> tuple[int, int]:
    """Pick the tile size with which the network has the fewest pixels to compute.

    Args:
        height, width: Frame size in pixels, both >= 1.
        tile_height, tile_width: The only side a tile may have; None for any.
        max_side_px: Longest side a tile may have; None for any.
        max_area_px: Most pixels a tile may have, for a memory budget; None for any.
        overlap_px: As in ``plan_tiles``.
        multiple_of: As in ``plan_tiles``.
        min_side_px: As in ``plan_tiles``.

    Returns:
        (tile height, tile width) for ``plan_tiles``: the size with the least ``TileGrid.computed_px``; of several, the
        one with the fewest tiles.

    Raises:
        ValueError: No tile within the limits is larger than the overlap, so the frame cannot be covered.
    """
    rules = {"overlap_px": overlap_px, "multiple_of": multiple_of, "min_side_px": min_side_px}
    wide = _sides(length=width, only=tile_width, **rules)
    # cheapest[i]: the least to compute per row of pixels, and the count, of wide[i] and everything narrower.
    cheapest = list(accumulate(((side * count, count, side) for count, side in reversed(wide)), min))[::-1]
    best: tuple[tuple[int, int], tuple[int, int]] | None = None
    for row_count, tile_h in _sides(length=height, only=tile_height, **rules):
        widest = inf if max_side_px is None else max_side_px
        if tile_h > widest:
            continue
        if max_area_px is not None:
            widest = min(widest, max_area_px // tile_h)
        first_allowed = bisect_left(wide, -widest, key=lambda option: -option[1])
        if first_allowed == len(wide):
            continue
        row_px, column_count, tile_w = cheapest[first_allowed]
        cost = (row_count * tile_h * row_px, row_count * column_count)
        if best is None or cost < best[0]:
            best = (cost, (tile_h, tile_w))
    if best is None:
        wanted = [f"an overlap of {overlap_px} pixels"]
        wanted += [f"a height of {tile_height}"] if tile_height is not None else []
        wanted += [f"a width of {tile_width}"] if tile_width is not None else []
        wanted += [f"sides <= {max_side_px}"] if max_side_px is not None else []
        wanted += [f"an area <= {max_area_px} pixels"] if max_area_px is not None else []
        wanted += [f"sides >= {min_side_px}"] if min_side_px > 1 else []
        wanted += [f"sides divisible by {multiple_of}"] if multiple_of > 1 else []
        raise ValueError(f"no tile covers {width}x{height} with {', '.join(wanted[:-1])} and {wanted[-1]}")
    return best[1]


def reflect_indices(start: int, stop: int, *, length: int) -> NDArray[np.intp]:
    """Source coordinates for ``start`` to ``stop`` (exclusive) on an axis of ``length`` pixels continued by reflection.

    The edge pixel is not repeated (0 1 2 | 1 0 1 2 ...), as often as needed; one pixel alone is repeated.
    """
    if length == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(folded, period - folded)


def round_up(length: int, multiple_of: int) -> int:
    """The smallest multiple of ``multiple_of`` that is not less than ``length``."""
    return -(-length // multiple_of) * multiple_of


def _origins(*, length: int, tile: int, overlap_px: int, multiple_of: int) -> tuple[int, ...]:
    """Even tile positions along one axis: as few as the overlap allows, the last ending at ``length`` rounded up."""
    if tile >= length:
        return (0,)
    # Everything in units of multiple_of, so that all positions are multiples.
    whole, side, shared = (-(-value // multiple_of) for value in (length, tile, overlap_px))
    if shared >= side:
        raise ValueError(f"overlap_px must be less than the tile's side of {tile} pixels, not {overlap_px}")
    gaps = -(-(whole - side) // (side - shared))
    return tuple(index * (whole - side) // gaps * multiple_of for index in range(gaps + 1))


def _sides(
    *, length: int, only: int | None, overlap_px: int, multiple_of: int, min_side_px: int
) -> list[tuple[int, int]]:
    """(count, side) of every split of an axis that ``choose_tile`` has to look at, sides decreasing."""
    if only is None:
        return _even_sides(length=length, overlap_px=overlap_px, multiple_of=multiple_of, min_side_px=min_side_px)
    return [(len(_origins(length=length, tile=only, overlap_px=overlap_px, multiple_of=multiple_of)), only)]


def _even_sides(*, length: int, overlap_px: int, multiple_of: int, min_side_px: int) -> list[tuple[int, int]]:
    """(count, side) of every useful even split of an axis: sides decreasing, each with the least count for it."""
    whole, shared, least = (-(-value // multiple_of) for value in (length, overlap_px, max(1, min_side_px)))
    sides: list[tuple[int, int]] = []
    count = 1
    while True:
        side = max(least, -(-(whole + (count - 1) * shared) // count))
        sides.append((count, side * multiple_of))
        if side - 1 <= shared or side == least:
            return sides
        # The first count with which the side shrinks: whole <= count * (side - 1 - shared) + shared.
        count = -(-(whole - shared) // (side - 1 - shared))
