"""The last look at a GPU's memory, before the pools of a plan are made on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.errors import SetupError
from pipeline.tiling import choose_tile

if TYPE_CHECKING:
    from pipeline.plan import JobPlan


def check_device_memory(plan: JobPlan, *, free_bytes: int) -> None:
    """See that the pools of a plan fit beside the network, which is loaded already.

    Args:
        plan: With frames on the GPU.
        free_bytes: Free memory of the GPU now.

    Raises:
        SetupError: They do not; the message has every pool, the hint the largest tile with which they would.
    """
    needed_bytes = plan.device_pool_bytes + plan.resampling_bytes
    if needed_bytes <= free_bytes:
        return
    parts = [f"{pool.count} x {pool.name} {pool.bytes / 2**20:.1f}" for pool in plan.pools if pool.place == "device"]
    if plan.resampling_bytes:
        parts.append(f"resampling {plan.resampling_bytes / 2**20:.1f}")
    raise SetupError(
        f"frames on the GPU need {needed_bytes / 2**20:.1f} MiB beside the network, {free_bytes / 2**20:.1f} MiB are "
        f"free: {' + '.join(parts)} MiB",
        missing="GPU memory",
        hint=_remedy(plan, free_bytes=free_bytes),
    )


def _remedy(plan: JobPlan, *, free_bytes: int) -> str:
    """The largest tile with which the pools would fit, or what else helps."""
    from pipeline.budget import limit_tiles

    fewer = f"run.lanes below {plan.lanes} or " if plan.lanes > 1 else ""
    otherwise = f"set {fewer}run.frames_on: cpu, or free memory of the GPU"
    tile_bytes = sum(plan.pool(name).bytes for name in ("tiles in", "tiles out"))
    canvas_bytes = 3 * 4 * plan.grid.height * plan.grid.width * plan.engine_scale**2
    moving = ("tiles in", "tiles out", "canvas")
    held_bytes = sum(pool.bytes for pool in plan.pools if pool.place == "device" and pool.name not in moving)
    room_bytes = free_bytes - canvas_bytes - held_bytes - plan.resampling_bytes
    area_px = plan.grid.tile_height * plan.grid.tile_width * room_bytes // tile_bytes
    limits = limit_tiles(plan.config, model=plan.model, backend=plan.backend)
    if area_px < 1:
        return otherwise
    side_px = min(math.isqrt(area_px), limits.max_side_px or area_px)  # what tile.max_px limits is a side
    try:
        height, width = choose_tile(
            height=plan.grid.height,
            width=plan.grid.width,
            tile_height=limits.height,
            tile_width=limits.width,
            max_side_px=side_px,
            max_area_px=area_px,
            **limits.rules,
        )
    except ValueError:
        return otherwise
    return f"tiles of {width}x{height} would fit: set tile.max_px: {side_px}; or {otherwise}"
