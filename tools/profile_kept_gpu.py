"""A network whose results were kept in the GPU's memory: in a run it takes next to no time then, and encoders get the
pictures that they get in the whole run. What an encoder takes for a picture depends on it and the one before: on the
few pictures that buffers hold, over and over, it is faster than on a film.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from engines import Runner
from engines.gpu import Device, DeviceBuffer, Stream
from engines.runner import Completion, FinishedCompletion
from pipeline.device.streams import open_stream
from pipeline.frames import TileBatch, TileSlot
from pipeline.graph.stage import Stage, Transform
from pipeline.plan import JobPlan
from pipeline.stages import DecodeSource
from pipeline.wiring import GpuOpener, open_planned_gpu, open_transforms, planned_decoder
from tools.wrapped import WrappedRunner

ROOM_SHARE = 2
"""What results are kept in: one of so many parts of the memory that a run leaves free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTiles:
    """What the network made of the tiles of the first frames."""

    device: Device
    buffers: tuple[DeviceBuffer, ...]
    """One for each frame."""
    tile_bytes: int

    def pointer(self, slot: TileSlot) -> int:
        """Where the result for a tile is; frames behind the last that was kept begin again."""
        return self.buffers[slot.stamp.index % len(self.buffers)].pointer + slot.tile * self.tile_bytes


@contextmanager
def keep_tiles(
    plan: JobPlan, runner: Runner, *, frame_count: int, least_count: int, open_gpu: GpuOpener | None = None
) -> Iterator[KeptTiles | None]:
    """Run the stages up to the network for the first frames, and keep its results for as many as there is room for.

    Args:
        plan: With frames on the GPU.
        runner: Opened for it, idle.
        frame_count: Frames at most.
        least_count: Frames at least.
        open_gpu: As ``record_run`` has it.

    Yields:
        The results, which are freed when the context is left; None if there is no room for enough.
    """
    device, make_kernels = (open_gpu or open_planned_gpu)(plan)
    device.make_current()
    pool = plan.pool("tiles out")
    tile_bytes = pool.bytes // pool.count // pool.shape[0]
    frame_bytes = tile_bytes * len(plan.grid.tiles)
    room_bytes = device.free_bytes() - plan.lanes * (plan.device_pool_bytes + plan.resampling_bytes)
    count = min(frame_count, room_bytes // ROOM_SHARE // frame_bytes)
    if count < min(least_count, frame_count):
        yield None
        return
    with ExitStack() as stack:
        buffers = [device.allocate(frame_bytes) for _ in range(count)]
        for buffer in buffers:
            stack.callback(buffer.close)
        kept = KeptTiles(device=device, buffers=tuple(buffers), tile_bytes=tile_bytes)
        _fill(kept, replace(plan, lanes=1), runner, open_gpu=lambda _: (device, make_kernels))
        yield kept


def _fill(kept: KeptTiles, plan: JobPlan, runner: Runner, *, open_gpu: GpuOpener) -> None:
    with open_transforms(plan, runner, open_gpu=open_gpu) as transforms, ExitStack() as stack:
        stream = stack.enter_context(open_stream(kept.device))
        source: Any = DecodeSource(planned_decoder(plan, transforms=transforms)).run()
        frames = stack.enter_context(closing(source))
        cut: Any = transforms.tiler.run(islice(frames, len(kept.buffers)))
        upscaled: Any = transforms.upscaler.run(stack.enter_context(closing(cut)))
        for batch in stack.enter_context(closing(upscaled)):
            stream.wait_for(batch.ready)
            for row, slot in enumerate(batch.slots):
                pointer = batch.tiles.pointer + row * kept.tile_bytes
                stream.copy(pointer, kept.pointer(slot), bytes=kept.tile_bytes)
            batch.release(after=stream.record())


class KeptRunner(WrappedRunner):
    """Copies what was kept in place of computing it. See ``engines.runner.Runner``.

    Args:
        inner: The network; stays the caller's.
        kept: Its results.
    """

    def __init__(self, inner: Runner, kept: KeptTiles) -> None:
        super().__init__(inner)
        self._kept = kept
        self._threads = threading.local()

    def told(self, stage: Stage) -> Stage:
        """The upscaling stage of a lane, which says of which tiles the batches are that it hands to the network."""
        return _ToldUpscaler(stage, threads=self._threads)  # type: ignore[arg-type]

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> Completion:  # noqa: ARG002 - its results are known
        """See ``engines.runner.Runner``."""
        target: Stream = self._kept.device.wrap_stream(stream)
        pointer = int(out.__cuda_array_interface__["data"][0])
        for row, slot in enumerate(self._threads.slots):
            at = pointer + row * self._kept.tile_bytes
            target.copy(self._kept.pointer(slot), at, bytes=self._kept.tile_bytes)
        return FinishedCompletion()


class _ToldUpscaler:
    """A stage that calls its network in its own thread, right after it has taken a batch."""

    def __init__(self, inner: Transform[TileBatch, TileBatch], *, threads: threading.local) -> None:
        self.name = inner.name
        self.lookahead = inner.lookahead
        self._inner = inner
        self._threads = threads

    def run(self, items: Iterator[TileBatch]) -> Iterator[TileBatch]:
        """Yield what the stage yields."""
        results: Any = self._inner.run(self._tell(items))
        with closing(results):
            yield from results

    def _tell(self, items: Iterator[TileBatch]) -> Iterator[TileBatch]:
        for batch in items:
            self._threads.slots = batch.slots
            yield batch


class FirstTimeRunner(WrappedRunner):
    """A network that fills every buffer once and leaves it as it is from then on: for frames on a GPU that has no room
    for more.

    Args:
        inner: The network; stays the caller's.
    """

    def __init__(self, inner: Runner) -> None:
        super().__init__(inner)
        self._filled: set[int] = set()

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> Completion:
        """See ``engines.runner.Runner``."""
        pointer = int(out.__cuda_array_interface__["data"][0]) if stream is not None else int(out.ctypes.data)
        if pointer in self._filled:
            return FinishedCompletion()
        self._filled.add(pointer)
        return self._inner.infer(tiles, out=out, stream=stream)
