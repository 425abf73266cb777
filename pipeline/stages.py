"""The five stages of an upscaling run, as generators: decode, tile, upscale, stitch, encode.

What is here is order and ownership; the work itself is in the modules each stage calls. A stage sees an iterator and
yields, nothing else: it can be run as ``list(stage.run(iter(items)))`` without a thread in sight. Every lease a stage
holds when it is closed early goes back (``finally``); whatever it has yielded belongs to the next stage.

::

    DecodeSource -> Frame -> Tiler -> TileBatch -> Upscaler -> TileBatch -> Stitcher -> Frame -> EncodeSink
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runner import Completion, Runner
from pipeline.blending import BlendPlan
from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.decode.base import Decoder
from pipeline.frames import Frame, FrameStamp, SampleFormat, Samples, TileBatch, TileSlot
from pipeline.graph.pool import Lease, Pool
from pipeline.resample import ResamplePlan
from pipeline.seen import SeenCurve
from pipeline.segments import CommittedSegment, SegmentWriter
from pipeline.tiling import TileGrid


class DecodeSource:
    """Frames of one film in display order.

    Args:
        open_decoder: Opens the decoder; called in the stage's thread, closed when the stage ends.
        start: First frame to give, 0-based.
    """

    name = "decode"

    def __init__(self, open_decoder: Callable[[], AbstractContextManager[Decoder]], *, start: int = 0) -> None:
        self._open_decoder = open_decoder
        self._start = start
        self.damage: str | None = None
        """After the run: what the decoder could not read, None if it read everything."""
        self.notes: tuple[str, ...] = ()
        """After the run: what the decoder repaired without losing a frame, one sentence each."""

    def run(self) -> Iterator[Frame]:
        """Yield every decodable frame once, then say in ``damage`` and ``notes`` what was lost and repaired."""
        with self._open_decoder() as decoder:
            yield from decoder.frames(self._start)
            self.damage, self.notes = decoder.damage, decoder.notes


class Tiler:
    """Cut frames into the engine's batches: Y'CbCr planes -> (N, 3, h, w) float32 R'G'B'.

    Tiles of one frame come in the grid's order; a batch may hold tiles of several frames. The rows of a last batch that
    no tile fills keep what they held before.

    Args:
        grid: The tiles.
        pool: Buffers of the engine's input shape.
        seen: What the network sees of the codes; None: the codes.
    """

    name = "tile"

    def __init__(self, grid: TileGrid, *, pool: Pool, seen: SeenCurve | None = None) -> None:
        self._grid = grid
        self._pool = pool
        self._seen = seen
        self.lookahead = 0

    def run(self, items: Iterator[Frame]) -> Iterator[TileBatch]:
        """Yield a batch whenever one is full, and the rest at the end."""
        from pipeline.cpu.cut import TileCutter

        grid, cutter = self._grid, TileCutter(self._grid)
        scratch = None if len(grid.tiles) == 1 else np.empty((3, grid.height, grid.width), np.float32)
        lease: Lease | None = None
        slots: list[TileSlot] = []
        held: Frame | None = None
        try:
            for frame in items:
                held = frame
                if scratch is not None:
                    self._convert(frame, scratch)
                for index in range(len(grid.tiles)):
                    lease = lease or self._pool.acquire()
                    row = lease.array[len(slots)]
                    if scratch is not None:
                        cutter.cut(scratch, tile=index, out=row)
                    else:
                        self._convert(frame, cutter.inner(row))
                        cutter.pad(row)
                    slots.append(TileSlot(stamp=frame.stamp, tile=index))
                    if len(slots) == len(lease.array):
                        batch = TileBatch(tiles=lease.array, slots=tuple(slots), lease=lease)
                        lease, slots = None, []
                        yield batch
                frame.release()
                held = None
            if lease is not None:
                batch = TileBatch(tiles=lease.array, slots=tuple(slots), lease=lease)
                lease = None
                yield batch
        finally:
            if held is not None:
                held.release()
            if lease is not None:
                lease.release()

    def _convert(self, frame: Frame, out: NDArray[np.float32]) -> None:
        """Write what the network sees of a frame: before it is cut, so that what tiles share is made once."""
        planes_to_rgb(frame.planes, frame.format, out=out)
        if self._seen is not None:
            self._seen.show(out)


class Upscaler:
    """Run the network over batches, several in flight where the backend can: (N, 3, h, w) -> (N, 3, s*h, s*w).

    Args:
        runner: An opened runner; the caller closes it after the run.
        pool: Buffers of ``runner.spec.output_shape``.
    """

    name = "upscale"

    def __init__(self, runner: Runner, *, pool: Pool) -> None:
        self._runner = runner
        self._pool = pool
        self.lookahead = runner.spec.slots

    def run(self, items: Iterator[TileBatch]) -> Iterator[TileBatch]:
        """Yield the batches' results in order, each when the next ones are already under way."""
        flying: deque[tuple[TileBatch, Lease, Completion]] = deque()
        try:
            for batch in items:
                lease = self._pool.acquire()
                flying.append((batch, lease, self._runner.infer(batch.tiles, out=lease.array)))
                if len(flying) == self._runner.spec.slots:
                    yield self._land(flying)
            while flying:
                yield self._land(flying)
        finally:
            for batch, lease, completion in flying:
                completion.wait()  # the backend writes into the buffers until then
                batch.release()
                lease.release()

    @staticmethod
    def _land(flying: deque[tuple[TileBatch, Lease, Completion]]) -> TileBatch:
        flying[0][2].wait()
        batch, lease, _ = flying.popleft()
        batch.release()
        return TileBatch(tiles=lease.array, slots=batch.slots, lease=lease)


class Stitcher:
    """Join tiles into frames at the output size: (N, 3, s*h, s*w) R'G'B' -> integer planes.

    Args:
        blend: Where each tile goes on the enlarged frame.
        resample: From the enlarged frame to the output size; None if they are the same.
        format: Sample format of the frames made.
        height, width: Output size in pixels.
        pool: One-dimensional uint8 buffers of at least ``format.frame_bytes`` bytes.
        dither: Dither when quantising.
        seen: What the network saw of the codes; None: the codes. Undone at the output size, where there is least to do;
            tiles are joined and resampled before that.
    """

    name = "stitch"

    def __init__(
        self,
        blend: BlendPlan,
        *,
        resample: ResamplePlan | None,
        format: SampleFormat,
        height: int,
        width: int,
        pool: Pool,
        dither: bool = False,
        seen: SeenCurve | None = None,
    ) -> None:
        self._blend = blend
        self._resample = resample
        self._format = format
        self._height = height
        self._width = width
        self._pool = pool
        self._dither = dither
        self._seen = seen
        self.lookahead = 0

    def run(self, items: Iterator[TileBatch]) -> Iterator[Frame]:
        """Yield a frame whenever its last tile has arrived."""
        from pipeline.cpu.blend import TileBlender

        blend, blender = self._blend, TileBlender(self._blend)
        tile_count = len(blend.rows) * len(blend.columns)
        canvas = None if tile_count == 1 else np.empty((3, blend.height, blend.width), np.float32)
        sized = None if self._resample is None else np.empty((3, self._height, self._width), np.float32)
        held: TileBatch | None = None
        try:
            for batch in items:
                held = batch
                for tile_rgb, slot in zip(batch.tiles, batch.slots, strict=False):  # a last batch has unused rows
                    if canvas is not None:
                        blender.add(tile_rgb, tile=slot.tile, canvas=canvas)
                    if slot.tile == tile_count - 1:
                        image = tile_rgb[:, : blend.height, : blend.width] if canvas is None else canvas
                        if self._resample is not None and sized is not None:
                            self._resample.run(image, out=sized)
                            image = sized
                        if self._seen is not None:
                            self._seen.restore(image)  # in place: tile, canvas and picture are this stage's own
                        yield self._quantise(image, slot.stamp)
                batch.release()
                held = None
        finally:
            if held is not None:
                held.release()

    def _quantise(self, image: NDArray[np.float32], stamp: FrameStamp) -> Frame:
        lease = self._pool.acquire()
        planes = planes_in(lease.array, self._format, height=self._height, width=self._width)
        rgb_to_planes(image, self._format, out=planes, dither=self._dither)
        return Frame(
            stamp=stamp, format=self._format, height=self._height, width=self._width, planes=planes, lease=lease
        )


class EncodeSink:
    """Write frames into segments, each closed and verified before the next begins.

    Args:
        open_writer: Opens the writer; called in the stage's thread, closed when the stage ends.
    """

    name = "encode"

    def __init__(self, open_writer: Callable[[], AbstractContextManager[SegmentWriter]]) -> None:
        self._open_writer = open_writer
        self.segments: tuple[CommittedSegment, ...] = ()
        """After the run: every segment, in order."""

    def run(self, items: Iterator[Frame]) -> None:
        """Write every frame; only a normal end commits the last segment."""
        with self._open_writer() as writer:
            for frame in items:
                try:
                    if frame.ready is not None and not frame.is_on_device:
                        frame.ready.wait()  # the one place where the host waits for a frame that a GPU made
                    writer.write(frame)
                finally:
                    frame.release()
            self.segments = writer.finish()


def planes_in(
    buffer: NDArray[np.uint8],
    format: SampleFormat,
    *,
    height: int,
    width: int,
) -> tuple[Samples, Samples, Samples]:
    """Lay the three planes of an image one after the other into a byte buffer.

    Args:
        buffer: 1-D uint8, at least ``format.frame_bytes(height=height, width=width)`` long; stays the owner.
        format: Sample format of the planes.
        height, width: Image size in pixels.

    Returns:
        Three C-contiguous 2-D views of ``format.dtype`` with the shapes of ``format.plane_shapes``.
    """
    planes: list[Any] = []
    offset = 0
    itemsize = np.dtype(format.dtype).itemsize
    for rows, columns in format.plane_shapes(height=height, width=width):
        end = offset + rows * columns * itemsize
        planes.append(buffer[offset:end].view(format.dtype).reshape(rows, columns))
        offset = end
    return (planes[0], planes[1], planes[2])
