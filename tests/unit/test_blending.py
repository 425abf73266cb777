"""Which pixels come from which tile, and with which weight."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.blending import TileSpan, plan_blend
from pipeline.tiling import plan_tiles

REPEATABLE = settings(derandomize=True, deadline=None)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """A line of tiles (one axis says everything: both are treated alike) and how to blend them."""
    tile = draw(st.integers(1, 60))
    return {
        "width": draw(st.integers(1, 300)),
        "tile": tile,
        "overlap_px": draw(st.integers(0, tile - 1)),
        "scale": draw(st.integers(1, 4)),
        "mode": draw(st.sampled_from(["linear", "cut"])),
        "margin_px": draw(st.integers(0, 30)),
    }


def columns(request: dict[str, Any]) -> tuple[TileSpan, ...]:
    grid = plan_tiles(height=1, width=request["width"], tile_width=request["tile"], overlap_px=request["overlap_px"])
    plan = plan_blend(grid, scale=request["scale"], mode=request["mode"], margin_px=request["margin_px"])
    assert (plan.height, plan.width) == (request["scale"], request["width"] * request["scale"])
    return plan.columns


@REPEATABLE
@given(plans())
def test_every_pixel_comes_from_one_tile_or_fades_between_two_neighbours(request: dict[str, Any]) -> None:
    spans = columns(request)
    width, tile = request["width"] * request["scale"], request["tile"] * request["scale"]
    assert spans[0].start == 0 and len(spans[0].lead) == 0
    assert spans[-1].stop == width and len(spans[-1].trail) == 0
    for span in spans:
        assert span.origin <= span.start < span.stop <= min(span.origin + tile, width)
        assert len(span.lead) + len(span.trail) <= span.stop - span.start
    for earlier, later in pairwise(spans):
        assert earlier.stop == later.start + len(later.lead)
        assert np.array_equal(earlier.trail, later.lead)


@REPEATABLE
@given(plans())
def test_weights_rise_in_equal_steps_from_0_to_1(request: dict[str, Any]) -> None:
    for span in columns(request):
        count = len(span.lead)
        if request["mode"] == "cut":
            assert count == 0
        if count:
            ramp = np.concatenate([[0], span.lead, [1]])
            steps = np.diff(ramp)
            assert steps[[0, -1]] == pytest.approx(0.5 / count, abs=1e-6)
            assert steps[1:-1] == pytest.approx(1 / count, abs=1e-6)


@REPEATABLE
@given(plans())
def test_the_ramp_lies_in_the_middle_and_spares_the_margin(request: dict[str, Any]) -> None:
    spans, scale = columns(request), request["scale"]
    for earlier, later in pairwise(spans):
        shared = earlier.origin + request["tile"] * scale - later.origin
        before = later.start - later.origin
        after = shared - before - len(later.lead)
        assert abs(before - after) <= 1
        assert min(before, after) >= min(request["margin_px"], shared // scale // 4) * scale


def test_an_odd_overlap_is_cut_within_half_a_pixel_of_its_middle() -> None:
    first, second = columns({"width": 17, "tile": 10, "overlap_px": 3, "scale": 1, "mode": "cut", "margin_px": 0})
    assert (first.stop, second.start) == (8, 8)


def test_spans_of_a_tile_are_its_rows_and_its_columns() -> None:
    plan = plan_blend(plan_tiles(height=50, width=90, tile_height=30, tile_width=40, overlap_px=8), scale=2)
    assert (len(plan.rows), len(plan.columns)) == (2, 3)
    assert plan.spans(4) == (plan.rows[1], plan.columns[1])
    assert (plan.tile_height, plan.tile_width) == (60, 80)


@pytest.mark.parametrize("change", [{"scale": 0}, {"margin_px": -1}])
def test_nonsense_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="scale >= 1 and margin_px >= 0"):
        plan_blend(plan_tiles(height=4, width=4, overlap_px=0), **{"scale": 1, **change})
