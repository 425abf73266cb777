"""The stages of a plan that work on a GPU, with their pools and kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines import Runner
from engines.gpu import Device, Stream
from pipeline.device.choice import device_index
from pipeline.device.kernels import Kernels
from pipeline.device.memory import check_device_memory
from pipeline.device.pools import DevicePool, PinnedPool
from pipeline.device.stitcher import DeviceStitcher
from pipeline.device.streams import open_stream
from pipeline.device.tiler import DeviceTiler
from pipeline.device.upscaler import DeviceUpscaler

if TYPE_CHECKING:
    from pipeline.blending import BlendPlan
    from pipeline.plan import JobPlan
    from pipeline.resample import ResamplePlan

KernelMaker = Callable[..., Kernels]
"""Makes the kernels of a film: ``pipeline.cuda.FrameKernels``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStages:
    """The three stages between decoder and encoder, and their pools."""

    tiler: DeviceTiler
    upscaler: DeviceUpscaler
    stitcher: DeviceStitcher
    pools: tuple[DevicePool | PinnedPool, ...]
    device: Device
    surfaces: DevicePool | None
    """Where a hardware decoder puts its frames; None without one."""


def open_planned_device(plan: JobPlan) -> Device:
    """Open the GPU that a plan's network runs on, in the context that both share.

    Raises:
        BackendUnavailable: There is no such GPU, or cuda-bindings is missing.
    """
    from engines.gpu.cuda import open_device

    return open_device(device_index(plan.backend))


def make_frame_kernels() -> KernelMaker:
    """The kernels for a GPU."""
    from pipeline.cuda import FrameKernels

    return FrameKernels


@contextmanager
def open_device_stages(
    plan: JobPlan,
    runner: Runner,
    *,
    device: Device,
    make_kernels: KernelMaker,
    blend: BlendPlan,
    resample: ResamplePlan | None,
) -> Iterator[DeviceStages]:
    """Allocate the pools of a plan, compile its kernels, and make its stages on a GPU.

    Args:
        plan: With frames on the GPU.
        runner: Opened for the plan's tiles on that GPU; stays the caller's.
        device: The GPU.
        make_kernels: Called with the arguments of ``pipeline.cuda.FrameKernels``.
        blend, resample: How the plan's tiles become a frame of the output size.

    Yields:
        The stages. Their memory goes back when the context is left; no stage may be running then.

    Raises:
        SetupError: The pools do not fit into the memory of the GPU or of the host.
    """
    check_device_memory(plan, free_bytes=device.free_bytes())
    with ExitStack() as stack:
        with open_stream(device) as stream:
            kernels = stack.enter_context(
                closing(_make(plan, runner, device=device, make=make_kernels, parts=(blend, resample), stream=stream))
            )
        on_device = {
            pool.name: stack.enter_context(
                DevicePool(
                    pool.name,
                    device=device,
                    shape=(kernels.canvas_bytes,) if pool.name == "canvas" else pool.shape,  # whose rows they may pad
                    dtype="uint8" if pool.name == "canvas" else pool.dtype,
                    count=pool.count,
                )
            )
            for pool in plan.pools
            if pool.place == "device"
        }
        pinned = {
            pool.name: stack.enter_context(
                PinnedPool(pool.name, device=device, shape=pool.shape, dtype=pool.dtype, count=pool.count)
            )
            for pool in plan.pools
            if pool.place == "pinned"
        }
        yield DeviceStages(
            tiler=DeviceTiler(
                plan.grid,
                format=plan.info.video.format,
                device=device,
                kernels=kernels,
                pool=on_device["tiles in"],
                uploads=pinned["uploads"],
                sources=on_device["planes in"],
            ),
            upscaler=DeviceUpscaler(runner, device=device, pool=on_device["tiles out"]),
            stitcher=DeviceStitcher(
                tile_count=len(plan.grid.tiles),
                format=plan.encode.format,
                height=plan.height,
                width=plan.width,
                device=device,
                kernels=kernels,
                canvas=on_device.get("canvas"),
                planes=on_device["planes out"],
                pool=pinned.get("frames out"),
            ),
            pools=(*on_device.values(), *pinned.values()),
            device=device,
            surfaces=on_device.get("surfaces"),
        )


def _make(
    plan: JobPlan,
    runner: Runner,
    *,
    device: Device,
    make: KernelMaker,
    parts: tuple[BlendPlan, ResamplePlan | None],
    stream: Stream,
) -> Kernels:
    """The kernels of a plan; their tables are on the GPU once ``stream`` is done."""
    blend, resample = parts
    return make(
        device,
        source=plan.info.video.format,
        grid=plan.grid,
        blend=blend,
        resample=resample,
        target=plan.encode.format,
        height=plan.height,
        width=plan.width,
        dither=plan.config.encode.dither,
        io_dtype=runner.spec.io_dtype,
        stream=stream,
        seen=plan.seen.curve,
    )
