"""Memory: how large tiles can be, and how many buffers a run needs. Arithmetic on a plan; nothing is allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import MediaError
from pipeline.host import available_memory_bytes
from pipeline.tiling import choose_tile, plan_tiles

if TYPE_CHECKING:
    from pipeline.plan import JobPlan

MEMORY_SHARE = 0.7
"""Part of the free memory that ``run.memory_mb: auto`` takes: the rest is for the encoder's own look-ahead and for the
file cache. libx265 at 2160p holds about 1.5 GB by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """One buffer pool to be made."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        """Memory of all its buffers."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize * self.count


def plan_grid(plan: JobPlan) -> JobPlan:
    """Choose the tiles: as large as the config and the memory allow."""
    height, width = plan.info.video.height, plan.info.video.width
    tile = plan.config.tile
    whole = plan_pools(plan)
    budget = (
        int(available_memory_bytes() * MEMORY_SHARE)
        if plan.config.run.memory_mb == "auto"
        else plan.config.run.memory_mb * 2**20
    )
    max_side = None if tile.max_px == "auto" else tile.max_px
    if whole.memory_bytes_estimated <= budget and (max_side is None or max_side >= max(height, width)):
        return plan
    fixed = whole.decoded_bytes + whole.pools[2].bytes
    per_px = (whole.memory_bytes_estimated - fixed - whole.canvas_bytes) / (height * width)
    max_area = max(1, int((budget - fixed - whole.canvas_bytes_if(is_cut=True)) / per_px))
    try:
        tile_height, tile_width = choose_tile(
            height=height, width=width, max_side_px=max_side, max_area_px=max_area, overlap_px=plan.overlap_px
        )
    except ValueError as exc:
        raise MediaError(
            f"{plan.info.path.name}: {width}x{height} cannot be cut into tiles that fit: {exc}",
            path=plan.info.path,
            hint=f"raise run.memory_mb (now {budget // 2**20} MiB) or tile.max_px, or lower tile.overlap_px",
        ) from exc
    grid = plan_tiles(
        height=height, width=width, tile_height=tile_height, tile_width=tile_width, overlap_px=plan.overlap_px
    )
    return replace(plan, grid=grid)


def plan_pools(plan: JobPlan) -> JobPlan:
    """Size the pools so that every stage can work and every queue can be full at once, and no more."""
    queues = plan.config.queues
    batch, grid, scale = plan.config.infer.batch_tiles, plan.grid, plan.engine_scale
    frame_bytes = plan.encode.format.frame_bytes(height=plan.height, width=plan.width)
    held = plan.slots + 1  # in flight, and in the hands of the stage at the other end
    pools = (
        PoolPlan(
            name="tiles in",
            shape=(batch, 3, grid.tile_height, grid.tile_width),
            dtype="float32",
            count=queues.tile_batches + held,
        ),
        PoolPlan(
            name="tiles out",
            shape=(batch, 3, grid.tile_height * scale, grid.tile_width * scale),
            dtype="float32",
            count=queues.upscaled_batches + held,
        ),
        PoolPlan(name="frames out", shape=(frame_bytes,), dtype="uint8", count=queues.stitched_frames + 2),
    )
    return replace(plan, pools=pools)
