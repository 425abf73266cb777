"""Grids of equal tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tiling import Tile, choose_tile, plan_tiles, reflect_indices, round_up

REPEATABLE = settings(derandomize=True, deadline=None)
sides = st.integers(1, 300)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, int | None]:
    """Any valid set of arguments of ``plan_tiles``."""
    multiple_of = draw(st.integers(1, 9))
    tile_height = draw(st.none() | st.integers(1, 30).map(lambda n: n * multiple_of))
    tile_width = draw(st.none() | st.integers(1, 30).map(lambda n: n * multiple_of))
    smallest = min(side for side in (tile_height, tile_width, 60) if side is not None)
    overlap_px = draw(st.integers(0, (smallest - 1) // multiple_of * multiple_of))
    return {
        "height": draw(sides),
        "width": draw(sides),
        "tile_height": tile_height,
        "tile_width": tile_width,
        "overlap_px": min(overlap_px, smallest - multiple_of),
        "multiple_of": multiple_of,
    }


@REPEATABLE
@given(requests())
def test_equal_tiles_cover_the_frame_and_share_the_overlap(request: dict[str, int]) -> None:
    grid = plan_tiles(**request)
    assert grid.tile_height % request["multiple_of"] == grid.tile_width % request["multiple_of"] == 0
    axes = (
        (grid.tops, grid.tile_height, request["height"], request["tile_height"]),
        (grid.lefts, grid.tile_width, request["width"], request["tile_width"]),
    )
    for origins, tile, length, asked in axes:
        assert tile == (round_up(length, request["multiple_of"]) if asked is None else asked)
        assert origins[0] == 0
        gaps = [later - earlier for earlier, later in pairwise(origins)]
        multiple_of = request["multiple_of"]
        assert all(origin % multiple_of == 0 for origin in origins)
        if gaps:
            assert origins[-1] + tile == round_up(length, multiple_of)
            assert min(gaps) > 0
            assert max(gaps) <= tile - request["overlap_px"]
            assert max(gaps) - min(gaps) <= multiple_of
            shared = round_up(request["overlap_px"], multiple_of)
            fewer_would_do = len(gaps) * (tile - shared) + shared >= round_up(length, multiple_of)
            assert not fewer_would_do
        else:
            assert tile >= length


@REPEATABLE
@given(requests())
def test_tiles_come_in_row_major_order(request: dict[str, int]) -> None:
    grid = plan_tiles(**request)
    assert grid.tiles == tuple(Tile(top=top, left=left) for top in grid.tops for left in grid.lefts)
    assert grid.computed_px == len(grid.tiles) * grid.tile_height * grid.tile_width


def test_a_frame_that_is_the_tile_needs_no_work() -> None:
    assert plan_tiles(height=272, width=640, overlap_px=16).is_whole
    assert plan_tiles(height=272, width=640, tile_height=272, tile_width=640, overlap_px=16).is_whole
    assert not plan_tiles(height=271, width=640, overlap_px=16, multiple_of=2).is_whole
    assert not plan_tiles(height=272, width=640, tile_height=144, overlap_px=16).is_whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "at least 1x1"),
        ({"overlap_px": -1}, "overlap_px >= 0"),
        ({"multiple_of": 0}, "multiple_of >= 1"),
        ({"tile_height": 30, "multiple_of": 4}, "multiple of 4, not 30"),
        ({"tile_width": 0}, "not 0"),
        ({"tile_width": 16, "overlap_px": 16}, "side of 16 pixels, not 16"),
        ({"tile_width": 16, "overlap_px": 13, "multiple_of": 4}, "side of 16 pixels, not 13"),
        ({"tile_width": 16, "min_side_px": 32}, "at least 32, not 16"),
    ],
)
def test_impossible_grids_are_refused_by_value(change: dict[str, int], words: str) -> None:
    request = {"height": 100, "width": 100, "overlap_px": 0, **change}
    with pytest.raises(ValueError, match=words):
        plan_tiles(**request)


@REPEATABLE
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    max_side_px=st.none() | st.integers(1, 45),
    max_area_px=st.none() | st.integers(1, 1700),
    overlap_px=st.integers(0, 8),
    multiple_of=st.integers(1, 5),
    min_side_px=st.integers(1, 20),
)
def test_the_chosen_tile_is_the_cheapest_of_all(
    height: int,
    width: int,
    max_side_px: int | None,
    max_area_px: int | None,
    overlap_px: int,
    multiple_of: int,
    min_side_px: int,
) -> None:
    limits = {"overlap_px": overlap_px, "multiple_of": multiple_of, "min_side_px": min_side_px}
    least, shared = round_up(min_side_px, multiple_of), round_up(overlap_px, multiple_of)
    costs = []
    for tile_height in range(least, round_up(max(height, least), multiple_of) + 1, multiple_of):
        for tile_width in range(least, round_up(max(width, least), multiple_of) + 1, multiple_of):
            is_too_long = max_side_px is not None and max(tile_height, tile_width) > max_side_px
            is_too_large = max_area_px is not None and tile_height * tile_width > max_area_px
            is_too_short = (tile_height <= shared and tile_height < height) or (
                tile_width <= shared and tile_width < width
            )
            if not (is_too_long or is_too_large or is_too_short):
                grid = plan_tiles(height=height, width=width, tile_height=tile_height, tile_width=tile_width, **limits)
                costs.append((grid.computed_px, len(grid.tiles)))
    request = {"height": height, "width": width, "max_side_px": max_side_px, "max_area_px": max_area_px, **limits}
    if not costs:
        with pytest.raises(ValueError, match="no tile covers"):
            choose_tile(**request)
        return
    tile_height, tile_width = choose_tile(**request)
    grid = plan_tiles(height=height, width=width, tile_height=tile_height, tile_width=tile_width, **limits)
    assert (grid.computed_px, len(grid.tiles)) == min(costs)


def test_a_frame_smaller_than_the_network_takes_is_one_padded_tile() -> None:
    assert choose_tile(height=5, width=640, overlap_px=16, multiple_of=4, min_side_px=30) == (32, 640)
    grid = plan_tiles(height=5, width=9, overlap_px=16, min_side_px=30, multiple_of=4)
    assert (grid.tile_height, grid.tile_width, len(grid.tiles), grid.is_whole) == (32, 32, 1, False)


def test_limits_that_exclude_each_other_are_named() -> None:
    with pytest.raises(ValueError, match="sides <= 16, sides >= 32 and sides divisible by 4"):
        choose_tile(height=100, width=100, max_side_px=16, min_side_px=32, overlap_px=0, multiple_of=4)


def test_without_limits_the_frame_is_one_tile() -> None:
    assert choose_tile(height=271, width=640, overlap_px=16, multiple_of=4) == (272, 640)


@REPEATABLE
@given(length=st.integers(1, 12), start=st.integers(-60, 60), count=st.integers(0, 80))
def test_reflection_is_numpys(length: int, start: int, count: int) -> None:
    before, after = max(0, -start), max(0, start + count - length)
    mode = "reflect" if length > 1 else "edge"
    padded = np.pad(np.arange(length), (before, after), mode=mode)
    wanted = padded[start + before : start + before + count]
    assert reflect_indices(start, start + count, length=length).tolist() == wanted.tolist()
