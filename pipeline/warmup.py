"""Compiling the pixel kernels before the clock starts.

numba compiles a kernel on its first call with new types: seconds on a machine's first run, milliseconds from its disk
cache later. Inside a stage that would look like work, and the first report would name the wrong bottleneck.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.blending import plan_blend
from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.resample import plan_resample
from pipeline.tiling import plan_tiles

if TYPE_CHECKING:
    from pipeline.frames import SampleFormat
    from pipeline.plan import JobPlan

logger = logging.getLogger(__name__)

_SIDE_PX = 16
"""Of the picture that goes through the kernels: what is compiled depends on types, not on sizes."""


def compile_kernels(plan: JobPlan) -> None:
    """Put a tiny grey picture through every kernel of the processor that a plan's stages will call."""
    if plan.is_on_gpu:
        return
    start_s = time.perf_counter()
    rgb = np.zeros((3, _SIDE_PX, _SIDE_PX), np.float32)
    planes_to_rgb(_empty_planes(plan.info.video.format), plan.info.video.format, out=rgb)
    if plan.seen.curve is not None:
        plan.seen.curve.show(rgb)
        plan.seen.curve.restore(rgb)
    if len(plan.grid.tiles) > 1:
        from pipeline.cpu.blend import TileBlender

        grid = plan_tiles(height=_SIDE_PX, width=_SIDE_PX, tile_height=12, tile_width=12, overlap_px=4)
        blender = TileBlender(plan_blend(grid, scale=1, mode=plan.config.tile.blend))
        for index in range(len(grid.tiles)):
            blender.add(rgb[:, :12, :12], tile=index, canvas=rgb.copy())
    if plan.resamples:
        resample = plan_resample(
            height=_SIDE_PX,
            width=_SIDE_PX,
            out_height=_SIDE_PX - 1,
            out_width=_SIDE_PX + 1,
            light=plan.config.scale.light,
            transfer=plan.info.video.tags.transfer,
            seen=plan.seen.curve,
        )
        resample.run(rgb, out=np.empty((3, _SIDE_PX - 1, _SIDE_PX + 1), np.float32))
    target = plan.encode.format
    rgb_to_planes(rgb, target, out=_empty_planes(target), dither=plan.config.encode.dither)
    logger.info("pixel kernels ready after %.1f s", time.perf_counter() - start_s)


def _empty_planes(sample_format: SampleFormat) -> tuple[Any, ...]:
    shapes = sample_format.plane_shapes(height=_SIDE_PX, width=_SIDE_PX)
    return tuple(np.zeros(shape, sample_format.dtype) for shape in shapes)
