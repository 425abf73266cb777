"""From a plan to stages that can run: makes the pools and the five stages, and says how they are joined.

The job runs what this returns; tools run parts of it. Whoever enters ``open_wiring`` owns the pools until it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines import Runner
from pipeline.blending import BlendPlan, plan_blend
from pipeline.decode import open_decoder
from pipeline.decode.base import Decoder
from pipeline.device.pools import DevicePool
from pipeline.device.stitcher import DeviceStitcher
from pipeline.device.tiler import DeviceTiler
from pipeline.device.upscaler import DeviceUpscaler
from pipeline.device.wiring import (
    DeviceStages,
    KernelMaker,
    make_frame_kernels,
    open_device_stages,
    open_planned_device,
)
from pipeline.errors import SetupError
from pipeline.graph.pool import BufferPool, Pool
from pipeline.lane_plan import decoder_threads
from pipeline.plan import JobPlan
from pipeline.resample import ResamplePlan, plan_resample
from pipeline.segments import SegmentWriter
from pipeline.stages import DecodeSource, EncodeSink, Stitcher, Tiler, Upscaler

if TYPE_CHECKING:
    from engines.gpu import Device
    from pipeline.decode.frame_index import FrameIndex

GpuOpener = Callable[[JobPlan], "tuple[Device, KernelMaker]"]
"""Opens the GPU of a plan and says what makes its kernels: a tool that watches a run hands in its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transforms:
    """The stages between decoder and encoder, on the host or on a GPU, and their pools."""

    tiler: Tiler | DeviceTiler
    upscaler: Upscaler | DeviceUpscaler
    stitcher: Stitcher | DeviceStitcher
    pools: tuple[Pool, ...]
    device: Device | None = None
    """The GPU on which frames are; None for the host."""
    surfaces: DevicePool | None = None
    """Where a hardware decoder puts its frames; None without one."""
    encoder_device: Device | None = None
    """The GPU in whose memory finished frames are handed on; None for the host's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """A graph, ready to run once."""

    source: DecodeSource
    tiler: Tiler | DeviceTiler
    upscaler: Upscaler | DeviceUpscaler
    stitcher: Stitcher | DeviceStitcher
    sink: EncodeSink
    capacities: tuple[int, int, int, int]
    pools: tuple[Pool, ...]

    @property
    def stages(
        self,
    ) -> tuple[DecodeSource, Tiler | DeviceTiler, Upscaler | DeviceUpscaler, Stitcher | DeviceStitcher, EncodeSink]:
        """All stages in order."""
        return (self.source, self.tiler, self.upscaler, self.stitcher, self.sink)


@contextmanager
def open_wiring(plan: JobPlan, runner: Runner, *, work: Path, open_gpu: GpuOpener | None = None) -> Iterator[Wiring]:
    """Allocate the pools of a plan and make its stages.

    Args:
        plan: What to run.
        runner: Opened for the plan's tiles; stays the caller's.
        work: Folder for the segments; exists, unless nothing is written.
        open_gpu: Used where frames are on a GPU; None: the plan's GPU and this program's kernels.

    Yields:
        The wiring. The pools are closed when the context is left.

    Raises:
        SetupError: The pools do not fit into memory, or frames are to be on a GPU that the runner does not take them
            from.
    """
    with open_transforms(plan, runner, open_gpu=open_gpu) as transforms:
        device = transforms.encoder_device
        yield Wiring(
            source=DecodeSource(planned_decoder(plan, transforms=transforms)),
            tiler=transforms.tiler,
            upscaler=transforms.upscaler,
            stitcher=transforms.stitcher,
            sink=EncodeSink(
                lambda: SegmentWriter(work, plan.encode, segment_frames=plan.segment_frames, device=device)
            ),
            capacities=planned_capacities(plan),
            pools=transforms.pools,
        )


@contextmanager
def open_transforms(plan: JobPlan, runner: Runner, *, open_gpu: GpuOpener | None = None) -> Iterator[Transforms]:
    """Make the stages between decoder and encoder, where the plan wants the frames, with their pools.

    Args:
        plan: What to run.
        runner: Opened for the plan's tiles; stays the caller's.
        open_gpu: As ``open_wiring`` says.

    Yields:
        The stages. Their pools are closed when the context is left.

    Raises:
        SetupError: As ``open_wiring`` says.
    """
    if plan.is_on_gpu:
        with _open_on_gpu(plan, runner, open_gpu=open_gpu) as stages:
            yield Transforms(
                tiler=stages.tiler,
                upscaler=stages.upscaler,
                stitcher=stages.stitcher,
                pools=stages.pools,
                device=stages.device,
                surfaces=stages.surfaces,
                encoder_device=stages.device if plan.encodes_on_gpu else None,
            )
        return
    with ExitStack() as stack:
        tiles_in, tiles_out, frames_out = (
            stack.enter_context(BufferPool(pool.name, shape=pool.shape, dtype=pool.dtype, count=pool.count))
            for pool in plan.pools
        )
        yield Transforms(
            tiler=Tiler(plan.grid, pool=tiles_in, seen=plan.seen.curve),
            upscaler=Upscaler(runner, pool=tiles_out),
            stitcher=make_stitcher(plan, pool=frames_out),
            pools=(tiles_in, tiles_out, frames_out),
        )


@contextmanager
def _open_on_gpu(plan: JobPlan, runner: Runner, *, open_gpu: GpuOpener | None) -> Iterator[DeviceStages]:
    """The GPU forms of the stages."""
    if not runner.spec.takes_device_arrays:
        raise SetupError(
            f"frames are to stay on the GPU, but {runner.spec.backend} on {runner.spec.device} takes tiles from the "
            "host only",
            missing="an engine that takes frames on the GPU",
            hint="set run.frames_on: cpu, or infer.backend: tensorrt or torch",
        )
    blend, resample = plan_joining(plan)
    device, make_kernels = (open_gpu or open_planned_gpu)(plan)
    with open_device_stages(
        plan,
        runner,
        device=device,
        make_kernels=make_kernels,
        blend=blend,
        resample=resample,
    ) as stages:
        yield stages


def open_planned_gpu(plan: JobPlan) -> tuple[Device, KernelMaker]:
    """The GPU that a plan's network runs on, and what makes its kernels there.

    Raises:
        BackendUnavailable: There is no such GPU, or cuda-bindings is missing.
    """
    return open_planned_device(plan), make_frame_kernels()


def planned_capacities(plan: JobPlan) -> tuple[int, int, int, int]:
    """How many items may wait between two stages of a plan."""
    queues = plan.config.queues
    return (queues.decoded_frames, queues.tile_batches, queues.upscaled_batches, queues.stitched_frames)


def planned_decoder(
    plan: JobPlan, *, index: FrameIndex | None = None, transforms: Transforms | None = None
) -> Callable[[], AbstractContextManager[Decoder]]:
    """A function that opens the decoder of a plan.

    Args:
        plan: What to run.
        index: Of the film, for a decoder that begins anywhere.
        transforms: Which take its frames, on the GPU where they have surfaces for them; None: it gives host frames.
    """
    threads = decoder_threads(plan)
    device = None if transforms is None else transforms.device
    surfaces = None if transforms is None else transforms.surfaces
    return lambda: open_decoder(
        plan.decoder.kind,
        info=plan.info,
        threads=threads,
        index=index,
        device=device,
        pool=surfaces,
        deinterlacing=plan.deinterlacing,
    )


def make_stitcher(plan: JobPlan, *, pool: BufferPool) -> Stitcher:
    """The stitching stage of a plan on the host, with finished frames in buffers of ``pool``."""
    blend, resample = plan_joining(plan)
    return Stitcher(
        blend,
        resample=resample,
        format=plan.encode.format,
        height=plan.height,
        width=plan.width,
        pool=pool,
        dither=plan.config.encode.dither,
        seen=plan.seen.curve,
    )


def plan_joining(plan: JobPlan) -> tuple[BlendPlan, ResamplePlan | None]:
    """How the enlarged tiles of a plan become one picture, and how that gets the output size; None if it has it."""
    resample = None
    if plan.resamples:
        resample = plan_resample(
            height=plan.grid.height * plan.engine_scale,
            width=plan.grid.width * plan.engine_scale,
            out_height=plan.height,
            out_width=plan.width,
            light=plan.config.scale.light,
            transfer=plan.info.video.tags.transfer,
            seen=plan.seen.curve,
        )
    blend = plan_blend(
        plan.grid,
        scale=plan.engine_scale,
        mode=plan.config.tile.blend,
        margin_px=min(plan.model.receptive_px, plan.overlap_px // 2),
    )
    return blend, resample
