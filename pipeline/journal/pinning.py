"""Planning the later attempts at a film like the first: what happened to be free then decides, not what is free now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.budget import limit_tiles
from pipeline.lane_plan import plan_lanes
from pipeline.pool_plan import plan_pools
from pipeline.tiling import plan_tiles

if TYPE_CHECKING:
    from pipeline.plan import JobPlan

LANES_AT_MOST = "run.lanes_at_most"
"""Of ``Resume.pinned``: lanes that memory was enough for; only where it ran out with more."""


def pin_plan(plan: JobPlan, pinned: Mapping[str, Any]) -> JobPlan:
    """Take tiles, batch and encoder threads over from an earlier attempt.

    Args:
        plan: This attempt's, from ``plan_film``.
        pinned: ``Resume.pinned``; nothing of it, nothing is changed.

    Returns:
        The plan with those, and the pools and lanes that go with them. Whether it still fits into memory shows when
        the pools are opened.

    Raises:
        ConfigError: The network and the engine do not take tiles as the config says.
    """
    if not pinned:
        return plan
    infer = plan.config.infer.model_copy(update={"batch_tiles": pinned["infer.batch_tiles"]})
    limits = limit_tiles(plan.config, model=plan.model, backend=plan.backend)
    grid = plan_tiles(
        height=plan.info.video.height,
        width=plan.info.video.width,
        tile_height=pinned["tile.height"],
        tile_width=pinned["tile.width"],
        overlap_px=pinned["tile.overlap_px"],
        multiple_of=limits.multiple_of,
    )
    same_tiles = replace(
        plan,
        config=plan.config.model_copy(update={"infer": infer}),
        grid=grid,
        overlap_px=pinned["tile.overlap_px"],
    )
    replanned = plan_lanes(plan_pools(same_tiles))
    if replanned.lanes > pinned.get(LANES_AT_MOST, replanned.lanes):
        replanned = replace(replanned, lanes=pinned[LANES_AT_MOST], lanes_reason="as memory ran out with more")
    return replace(replanned, encode=replace(replanned.encode, threads=pinned["encode.threads"]))
