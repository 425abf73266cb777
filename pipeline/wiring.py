"""From a plan to stages that can run: makes the pools and the five stages, and says how they are joined.

The job runs what this returns; tools run parts of it. Whoever enters ``open_wiring`` owns the pools until it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines import Runner
from pipeline.blending import plan_blend
from pipeline.decode import open_decoder
from pipeline.decode.base import Decoder
from pipeline.graph.pool import BufferPool
from pipeline.plan import JobPlan
from pipeline.resample import plan_resample
from pipeline.segments import SegmentWriter
from pipeline.stages import DecodeSource, EncodeSink, Stitcher, Tiler, Upscaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """A graph, ready to run once."""

    source: DecodeSource
    tiler: Tiler
    upscaler: Upscaler
    stitcher: Stitcher
    sink: EncodeSink
    capacities: tuple[int, int, int, int]
    pools: tuple[BufferPool, ...]

    @property
    def stages(self) -> tuple[DecodeSource, Tiler, Upscaler, Stitcher, EncodeSink]:
        """All stages in order."""
        return (self.source, self.tiler, self.upscaler, self.stitcher, self.sink)


@contextmanager
def open_wiring(plan: JobPlan, runner: Runner, *, work: Path) -> Iterator[Wiring]:
    """Allocate the pools of a plan and make its stages.

    Args:
        plan: What to run.
        runner: Opened for the plan's tiles; stays the caller's.
        work: Folder for the segments; exists, unless nothing is written.

    Yields:
        The wiring. The pools are closed when the context is left.

    Raises:
        SetupError: The pools do not fit into memory.
    """
    queues = plan.config.queues
    with ExitStack() as stack:
        tiles_in, tiles_out, frames_out = (
            stack.enter_context(BufferPool(pool.name, shape=pool.shape, dtype=pool.dtype, count=pool.count))
            for pool in plan.pools
        )
        yield Wiring(
            source=DecodeSource(planned_decoder(plan)),
            tiler=Tiler(plan.grid, pool=tiles_in),
            upscaler=Upscaler(runner, pool=tiles_out),
            stitcher=make_stitcher(plan, pool=frames_out),
            sink=EncodeSink(lambda: SegmentWriter(work, plan.encode, segment_frames=plan.segment_frames)),
            capacities=(
                queues.decoded_frames,
                queues.tile_batches,
                queues.upscaled_batches,
                queues.stitched_frames,
            ),
            pools=(tiles_in, tiles_out, frames_out),
        )


def planned_decoder(plan: JobPlan) -> Callable[[], AbstractContextManager[Decoder]]:
    """A function that opens the decoder of a plan."""
    decode = plan.config.decode
    return lambda: open_decoder(plan.decoder.kind, info=plan.info, threads=decode.threads)


def make_stitcher(plan: JobPlan, *, pool: BufferPool) -> Stitcher:
    """The stitching stage of a plan, with finished frames in buffers of ``pool``."""
    resample = None
    if plan.resamples:
        resample = plan_resample(
            height=plan.grid.height * plan.engine_scale,
            width=plan.grid.width * plan.engine_scale,
            out_height=plan.height,
            out_width=plan.width,
            light=plan.config.scale.light,
            transfer=plan.info.video.tags.transfer,
        )
    blend = plan_blend(
        plan.grid,
        scale=plan.engine_scale,
        mode=plan.config.tile.blend,
        margin_px=min(plan.model.receptive_px, plan.overlap_px // 2),
    )
    return Stitcher(
        blend,
        resample=resample,
        format=plan.encode.format,
        height=plan.height,
        width=plan.width,
        pool=pool,
        dither=plan.config.encode.dither,
    )
