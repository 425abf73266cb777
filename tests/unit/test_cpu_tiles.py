"""Cutting frames into tiles and blending enlarged tiles together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.blending import BlendPlan, TileSpan, plan_blend
from pipeline.cpu.blend import TileBlender
from pipeline.cpu.cut import TileCutter
from pipeline.tiling import TileGrid, choose_tile, plan_tiles

REPEATABLE = settings(derandomize=True, deadline=None)


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    multiple_of = draw(st.sampled_from([1, 1, 2, 4]))
    rows, columns = draw(st.integers(1, 30 // multiple_of)), draw(st.integers(1, 30 // multiple_of))
    return plan_tiles(
        height=draw(st.integers(1, 60)),
        width=draw(st.integers(1, 60)),
        tile_height=rows * multiple_of,
        tile_width=columns * multiple_of,
        overlap_px=draw(st.integers(0, min((min(rows, columns) - 1) * multiple_of, 11))),
        multiple_of=multiple_of,
    )


@st.composite
def blended_grids(draw: st.DrawFn) -> tuple[TileGrid, BlendPlan]:
    grid = draw(grids())
    mode: Any = draw(st.sampled_from(["linear", "cut"]))
    return grid, plan_blend(grid, scale=draw(st.integers(1, 3)), mode=mode, margin_px=draw(st.integers(0, 5)))


def random_frame(grid: TileGrid) -> NDArray[np.float32]:
    return np.random.default_rng(grid.height).normal(0.5, 1, (3, grid.height, grid.width)).astype(np.float32)


def enlarged(rgb: Any, scale: int) -> Any:
    return rgb.repeat(scale, axis=-2).repeat(scale, axis=-1)


def stitched(plan: BlendPlan, tiles: list[Any]) -> NDArray[np.float32]:
    """All tiles on a canvas that starts as NaN, so that reading what was never written shows."""
    canvas = np.full((3, plan.height, plan.width), np.nan, np.float32)
    blender = TileBlender(plan)
    for index, tile in enumerate(tiles):
        blender.add(tile, tile=index, canvas=canvas)
    return canvas


def share(span: TileSpan, length: int) -> NDArray[np.float64]:
    """What part of each pixel along one axis a tile is to have."""
    weights = np.zeros(length)
    weights[span.start : span.stop] = 1
    weights[span.start : span.start + len(span.lead)] = span.lead
    weights[span.stop - len(span.trail) : span.stop] -= span.trail
    return weights


@REPEATABLE
@given(blended_grids())
def test_tiles_of_a_frame_become_that_frame_to_the_last_bit(planned: tuple[TileGrid, BlendPlan]) -> None:
    grid, plan = planned
    rgb = random_frame(grid)
    cutter = TileCutter(grid)
    scale = plan.height // grid.height
    tiles = []
    for index in range(len(grid.tiles)):
        out = np.full((3, grid.tile_height, grid.tile_width), np.nan, np.float32)
        cutter.cut(rgb, tile=index, out=out)
        tiles.append(enlarged(out, scale))
    assert np.array_equal(stitched(plan, tiles), enlarged(rgb, scale))


@settings(REPEATABLE, max_examples=40)
@given(blended_grids().filter(lambda planned: 1 < len(planned[0].tiles) <= 30))
def test_each_tile_has_the_share_of_each_pixel_that_its_row_and_column_weights_say(
    planned: tuple[TileGrid, BlendPlan],
) -> None:
    """Which makes the picture continuous: the shares are products of continuous weights, and they sum to 1."""
    grid, plan = planned
    total = np.zeros((plan.height, plan.width))
    shape = (3, plan.tile_height, plan.tile_width)
    for index in range(len(grid.tiles)):
        tiles = [np.full(shape, other == index, np.float32) for other in range(len(grid.tiles))]
        found = stitched(plan, tiles)[0]
        row, column = plan.spans(index)
        assert found == pytest.approx(np.outer(share(row, plan.height), share(column, plan.width)), abs=1e-5)
        total += found
    assert total == pytest.approx(1, abs=1e-5)


@REPEATABLE
@given(grids())
def test_padding_is_a_reflection(grid: TileGrid) -> None:
    rgb = random_frame(grid)
    padded = np.pad(rgb, ((0, 0), (0, 60), (0, 0)), mode="reflect" if grid.height > 1 else "edge")
    padded = np.pad(padded, ((0, 0), (0, 0), (0, 60)), mode="reflect" if grid.width > 1 else "edge")
    out = np.empty((3, grid.tile_height, grid.tile_width), np.float32)
    for index, tile in enumerate(grid.tiles):
        TileCutter(grid).cut(rgb, tile=index, out=out)
        wanted = padded[:, tile.top : tile.top + grid.tile_height, tile.left : tile.left + grid.tile_width]
        assert np.array_equal(out, wanted)


def test_a_single_padded_tile_can_be_filled_in_place() -> None:
    grid = plan_tiles(height=5, width=7, overlap_px=0, multiple_of=4)
    cutter, rgb = TileCutter(grid), random_frame(grid)
    copied, direct = np.empty((2, 3, 8, 8), np.float32)
    cutter.cut(rgb, tile=0, out=copied)
    cutter.inner(direct)[...] = rgb
    cutter.pad(direct)
    assert np.array_equal(copied, direct)


def folded(rgb: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """A network that folds ``factor`` x ``factor`` pixels together, as x2plus does: each becomes their mean."""
    planes, height, width = rgb.shape
    if height % factor or width % factor:
        raise ValueError(f"{width}x{height} cannot be folded by {factor}")
    means = rgb.reshape(planes, height // factor, factor, width // factor, factor).mean((2, 4), dtype=np.float64)
    return enlarged(means.astype(np.float32), factor)


@REPEATABLE
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    factor=st.sampled_from([2, 4]),
    max_side_px=st.sampled_from([None, 12, 20]),
    min_side_px=st.sampled_from([1, 10]),
)
def test_a_network_that_folds_pixels_gives_the_same_on_tiles_as_on_the_whole_padded_frame(
    height: int, width: int, factor: int, max_side_px: int | None, min_side_px: int
) -> None:
    """Odd frames are padded by reflection and cropped again; every tile folds the same pixels as its neighbours."""
    rules = {"overlap_px": 3, "multiple_of": factor, "min_side_px": min_side_px}
    tile_height, tile_width = choose_tile(height=height, width=width, max_side_px=max_side_px, **rules)
    grid = plan_tiles(height=height, width=width, tile_height=tile_height, tile_width=tile_width, **rules)
    rgb, cutter = random_frame(grid), TileCutter(grid)
    tiles = np.empty((len(grid.tiles), 3, grid.tile_height, grid.tile_width), np.float32)
    for index, tile in enumerate(tiles):
        cutter.cut(rgb, tile=index, out=tile)
    result = stitched(plan_blend(grid, scale=1), [folded(tile, factor) for tile in tiles])
    # Reflection never repeats an edge pixel (one pixel alone is repeated): numpy pads in the same way.
    padding = [(0, -side % factor) for side in (height, width)]
    padded = np.pad(rgb, ((0, 0), padding[0], (0, 0)), mode="reflect" if height > 1 else "edge")
    padded = np.pad(padded, ((0, 0), (0, 0), padding[1]), mode="reflect" if width > 1 else "edge")
    assert np.array_equal(result, folded(padded, factor)[:, :height, :width])


def test_half_precision_tiles_are_cut_and_blended() -> None:
    grid = plan_tiles(height=20, width=30, tile_height=12, tile_width=16, overlap_px=4)
    plan = plan_blend(grid, scale=1)
    rgb = random_frame(grid).astype(np.float16).astype(np.float32)
    tiles = np.empty((len(grid.tiles), 3, 12, 16), np.float16)
    for index in range(len(tiles)):
        TileCutter(grid).cut(rgb, tile=index, out=tiles[index])
    assert np.array_equal(stitched(plan, list(tiles)), rgb)


def test_arrays_of_another_grid_are_refused() -> None:
    grid = plan_tiles(height=20, width=30, tile_height=12, tile_width=16, overlap_px=4)
    blender, canvas = TileBlender(plan_blend(grid, scale=2)), np.zeros((3, 40, 60), np.float32)
    with pytest.raises(ValueError, match=r"frame of shape \(3, 20, 30\)"):
        TileCutter(grid).cut(canvas, tile=0, out=np.zeros((3, 12, 16), np.float32))
    with pytest.raises(ValueError, match=r"tile of shape \(3, 12, 16\)"):
        TileCutter(grid).cut(np.zeros((3, 20, 30), np.float32), tile=0, out=np.zeros((3, 12, 17), np.float32))
    with pytest.raises(ValueError, match=r"tile of shape \(3, 24, 32\)"):
        blender.add(np.zeros((3, 12, 16), np.float32), tile=0, canvas=canvas)
    with pytest.raises(ValueError, match=r"canvas of shape \(3, 40, 60\)"):
        blender.add(np.zeros((3, 24, 32), np.float32), tile=0, canvas=canvas[:, 1:])
