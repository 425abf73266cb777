"""Runs of the GPU forms of the stages over a fake GPU, beside the same run on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers.gpu_double import FakeGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from numpy.typing import NDArray

from engines import open_runner
from engines.spec import RunnerSpec
from pipeline.config.load import make_config
from pipeline.device.choice import FramesChoice
from pipeline.device.wiring import DeviceStages, KernelMaker, open_device_stages
from pipeline.frames import Frame, FrameStamp
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.pool_plan import plan_pools
from pipeline.stages import Tiler, Upscaler
from pipeline.tiling import plan_tiles
from pipeline.wiring import open_transforms, plan_joining, planned_decoder

Picture = tuple[FrameStamp, list[NDArray[Any]]]


def host_plan(folder: Path, *, tile_px: int = 0, frame_count: int = 12, batch: int = 1, **sections: Any) -> JobPlan:
    """A plan on the processor for a small computed film, 40x24 unless said otherwise, enlarged twice by repetition.

    Args:
        folder: Where the config is.
        tile_px: Side of the tiles, which overlap by 4; 0 for whole frames.
        frame_count: Frames of the film.
        batch: Tiles per call.
        sections: More of the config.
    """
    film = {"height": 24, "width": 40, "frame_count": frame_count, **sections.pop("film", {})}
    config = make_config(
        {
            "decode": {"kind": "synthetic", "synthetic": film},
            "infer": {"model": "nearest-x2", "batch_tiles": batch},
            "encode": {"kind": "null", **sections.pop("encode", {})},
            "queues": {"decoded_frames": 1, "tile_batches": 1, "upscaled_batches": 1, "stitched_frames": 16},
            **sections,
        },
        folder=folder,
    )
    plan = plan_film(config, probe_film(config, None))
    if tile_px:
        size = {"height": plan.grid.height, "width": plan.grid.width}
        grid = plan_tiles(**size, tile_height=tile_px, tile_width=tile_px, overlap_px=4)
        plan = plan_pools(replace(plan, grid=grid, overlap_px=4))
    return plan


def gpu_plan(plan: JobPlan) -> JobPlan:
    """The same with frames on a GPU."""
    backend = replace(plan.backend, device_id="cuda:0", device="Fake GPU", device_memory_bytes=1 << 30)
    frames = FramesChoice(place="gpu", reason="stay on the GPU")
    return plan_pools(replace(plan, backend=backend, frames=frames, pools=()))


def runner_spec(plan: JobPlan) -> RunnerSpec:
    """What the fake network takes."""
    return RunnerSpec(
        model=plan.model,
        backend="fake",
        device="Fake GPU",
        precision="fp32",
        batch=plan.config.infer.batch,
        height=plan.grid.tile_height,
        width=plan.grid.tile_width,
        scale=plan.engine_scale,
        takes_device_arrays=True,
        slots=plan.slots,
    )


def decoded(plan: JobPlan) -> Iterator[Frame]:
    """The film's frames."""
    with planned_decoder(plan)() as decoder:
        yield from decoder.frames()


def host_pictures(plan: JobPlan) -> list[Picture]:
    """What the CPU path makes of a film."""
    with (
        open_runner(
            model=plan.model,
            backend="resize",
            height=plan.grid.tile_height,
            width=plan.grid.tile_width,
            batch=plan.config.infer.batch,
        ) as runner,
        open_transforms(plan, runner) as stages,
    ):
        assert isinstance(stages.tiler, Tiler)
        assert isinstance(stages.upscaler, Upscaler)
        return copies(stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan)))))


def device_pictures(
    plan: JobPlan,
    gpu: FakeGpu,
    *,
    frames: Callable[[], Iterator[Frame]] | None = None,
    is_late: bool = True,
) -> list[Picture]:
    """What the GPU path makes of it.

    Args:
        plan: From ``gpu_plan``.
        gpu: On which.
        frames: Instead of the decoder's.
        is_late: Whether nobody waits for a frame before the last one was enqueued.
    """
    source = decoded(plan) if frames is None else frames()
    with open_stages(plan, gpu) as stages, ExitStack() as closed:
        finished: Iterator[Any] = source
        for stage in (stages.tiler, stages.upscaler, stages.stitcher):
            finished = closed.enter_context(closing(stage.run(finished)))
        result = copies(iter(list(finished)) if is_late else finished)
        assert [pool.free_count for pool in stages.pools] == [pool.count for pool in stages.pools]
    gpu.check_clean()
    return result


def open_stages(
    plan: JobPlan, gpu: FakeGpu, *, network: FakeNetwork | None = None, make_kernels: KernelMaker = HostKernels
) -> AbstractContextManager[DeviceStages]:
    """The stages of a plan over a fake GPU."""
    blend, resample = plan_joining(plan)
    runner: Any = network or FakeNetwork(gpu, runner_spec(plan))
    return open_device_stages(plan, runner, device=gpu, make_kernels=make_kernels, blend=blend, resample=resample)


def copies(frames: Iterator[Frame]) -> list[Picture]:
    """Frames as an encoder sees them: waited for, read, given back."""
    result = []
    for frame in frames:
        if frame.ready is not None:
            frame.ready.wait()
        result.append((frame.stamp, [np.array(plane) for plane in frame.planes]))
        frame.release()
    return result


def assert_same(found: list[Picture], wanted: list[Picture]) -> None:
    """Check that frames are equal to the last bit."""
    assert [stamp for stamp, _ in found] == [stamp for stamp, _ in wanted]
    for (stamp, planes), (_, others) in zip(found, wanted, strict=True):
        for plane, other in zip(planes, others, strict=True):
            assert plane.dtype == other.dtype
            assert np.array_equal(plane, other), f"frame {stamp.index} differs"
