"""How many buffers a run needs, and where. Arithmetic on a plan; nothing is allocated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.decode.surfaces import SurfaceLayout
from pipeline.device.layout import FLOAT_ROW_PX, PlaneLayout
from pipeline.device.upscaler import FEWEST_IN_FLIGHT
from pipeline.encode.held_pictures import count_held_pictures
from pipeline.tiling import round_up

if TYPE_CHECKING:
    from pipeline.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """One buffer pool to be made."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    place: Literal["host", "pinned", "device"] = "host"
    """``pinned``: page-locked memory of the host. ``device``: the GPU that the network runs on."""

    @property
    def bytes(self) -> int:
        """Memory of all its buffers."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize * self.count


def plan_pools(plan: JobPlan) -> JobPlan:
    """Size the pools so that every stage can work and every queue can be full at once, and no more."""
    queues = plan.config.queues
    batch, grid, scale = plan.config.infer.batch, plan.grid, plan.engine_scale
    if plan.is_on_gpu:
        return replace(plan, pools=_device_pools(plan))
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


COPIED_AT_ONCE = 2
"""Blocks on each side of a copy to or from the GPU: one is copied while the other one is read or written."""


def _device_pools(plan: JobPlan) -> tuple[PoolPlan, ...]:
    """Pools for frames on the GPU: page-locked ones where frames come and go, the others on the GPU."""
    queues = plan.config.queues
    batch, grid, scale = plan.config.infer.batch, plan.grid, plan.engine_scale
    source = PlaneLayout(format=plan.info.video.format, height=grid.height, width=grid.width)
    held = max(plan.slots, FEWEST_IN_FLIGHT) + 1  # in flight, and in the hands of the stage at the other end
    surfaces: tuple[PoolPlan, ...] = ()
    if plan.decoder.kind == "nvdec":
        surface_bytes = SurfaceLayout.of(plan.info.video).bytes
        count = queues.decoded_frames + 2  # waiting, and one in the hands of decoder and tiler each
        surfaces = (PoolPlan(name="surfaces", shape=(surface_bytes,), dtype="uint8", count=count, place="device"),)
    return (
        *surfaces,
        PoolPlan(name="uploads", shape=(source.bytes,), dtype="uint8", count=COPIED_AT_ONCE, place="pinned"),
        PoolPlan(name="planes in", shape=(source.bytes,), dtype="uint8", count=COPIED_AT_ONCE, place="device"),
        PoolPlan(
            name="tiles in",
            shape=(batch, 3, grid.tile_height, grid.tile_width),
            dtype="float32",
            count=queues.tile_batches + held,
            place="device",
        ),
        PoolPlan(
            name="tiles out",
            shape=(batch, 3, grid.tile_height * scale, grid.tile_width * scale),
            dtype="float32",
            count=queues.upscaled_batches + held,
            place="device",
        ),
        *canvas_pool(plan, is_cut=len(grid.tiles) > 1),
        *_finished_pools(plan),
    )


def _finished_pools(plan: JobPlan) -> tuple[PoolPlan, ...]:
    """Where finished frames are: on the GPU until they are copied, or until an encoder there has read them."""
    moving = plan.config.queues.stitched_frames + 2  # waiting, and one in the hands of stitcher and encoder each
    layout = PlaneLayout(
        format=plan.encode.format, height=plan.height, width=plan.width, is_surface=plan.encodes_on_gpu
    )
    if plan.encodes_on_gpu:
        count = moving + count_held_pictures(plan.encode)
        return (PoolPlan(name="planes out", shape=(layout.bytes,), dtype="uint8", count=count, place="device"),)
    return (
        PoolPlan(name="planes out", shape=(layout.bytes,), dtype="uint8", count=COPIED_AT_ONCE, place="device"),
        PoolPlan(name="frames out", shape=(layout.bytes,), dtype="uint8", count=moving, place="pinned"),
    )


def canvas_pool(plan: JobPlan, *, is_cut: bool) -> tuple[PoolPlan, ...]:
    """Where the tiles of a frame are joined on the GPU; nothing where it is one tile."""
    if not is_cut:
        return ()
    width = round_up(plan.grid.width * plan.engine_scale, FLOAT_ROW_PX)
    shape = (3, plan.grid.height * plan.engine_scale, width)
    return (PoolPlan(name="canvas", shape=shape, dtype="float32", count=1, place="device"),)
