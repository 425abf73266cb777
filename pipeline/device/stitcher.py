"""Enlarged tiles on a GPU to finished frames, in page-locked host memory or where they are."""

from __future__ import annotations

from collections.abc import Iterator

from engines.gpu import Device, Stream
from pipeline.device.arrays import DeviceArray
from pipeline.device.held import Held
from pipeline.device.kernels import Kernels
from pipeline.device.layout import PlaneLayout
from pipeline.device.pools import DevicePool, PinnedPool
from pipeline.device.streams import open_stream
from pipeline.frames import Frame, FrameStamp, SampleFormat, TileBatch


class DeviceStitcher:
    """Join tiles into frames at the output size on a GPU: (N, 3, s*h, s*w) R'G'B' -> integer planes.

    For an encoder on the host, finished planes are copied there on a stream of their own, while the next frame is
    joined. For one on the GPU they stay. Nothing is waited for: a frame's ``ready`` says when its planes may be read.

    Args:
        tile_count: Tiles of a frame.
        format: Sample format of the frames made.
        height, width: Output size in pixels.
        device: The GPU.
        kernels: The film's; no other stitcher may use them.
        canvas: One buffer of ``kernels.canvas_bytes``; None where a frame is one tile.
        planes: Blocks on the GPU for frames laid out as ``PlaneLayout`` says; two or more for overlap.
        pool: The same in page-locked memory: what is handed on. None: the blocks on the GPU are, laid out as surfaces.
    """

    name = "stitch"

    def __init__(
        self,
        *,
        tile_count: int,
        format: SampleFormat,
        height: int,
        width: int,
        device: Device,
        kernels: Kernels,
        canvas: DevicePool | None,
        planes: DevicePool,
        pool: PinnedPool | None,
    ) -> None:
        if tile_count > 1 and canvas is None:
            raise ValueError(f"{tile_count} tiles need a canvas to be joined on")
        self._tile_count = tile_count
        self._layout = PlaneLayout(format=format, height=height, width=width, is_surface=pool is None)
        self._device = device
        self._kernels = kernels
        self._canvas = canvas
        self._planes = planes
        self._pool = pool
        self.lookahead = 0

    def run(self, items: Iterator[TileBatch]) -> Iterator[Frame]:
        """Yield a frame whenever its last tile has arrived; the GPU may still be making it."""
        with Held() as held, open_stream(self._device) as copies, open_stream(self._device) as stream:
            canvas: int | None = None
            if self._canvas is not None and self._tile_count > 1:
                canvas = held.keep(self._canvas.acquire()).array.pointer
            for batch in items:
                held.keep(batch)
                if batch.ready is not None:
                    stream.wait_for(batch.ready)
                tiles: DeviceArray = batch.tiles
                row = 0
                while row < len(batch.slots):
                    slot, tile = batch.slots[row], tiles.pointer + row * tiles.row_bytes
                    # Tiles of a frame come in order, one after the other: those in this batch are joined together.
                    count = min(self._tile_count - slot.tile, len(batch.slots) - row)
                    if canvas is not None:
                        self._kernels.blend(tile, tile=slot.tile, count=count, canvas=canvas, stream=stream)
                    if slot.tile + count == self._tile_count:
                        image = tile if canvas is None else canvas
                        yield self._finish(image, slot.stamp, held=held, copies=copies, stream=stream)
                    row += count
                held.part(batch).release(after=stream.record())

    def _finish(self, image: int, stamp: FrameStamp, *, held: Held, copies: Stream, stream: Stream) -> Frame:
        """Enqueue the last step of a frame, and its copy to the host if it goes there."""
        planes = held.keep(self._planes.acquire())
        planes.order(stream)
        is_canvas = self._tile_count > 1
        out = self._layout.on_device(planes.array.pointer)
        self._kernels.finish(image, is_canvas=is_canvas, out=out, stream=stream)
        if self._pool is None:
            made = stream.record()
            return Frame(
                stamp=stamp,
                format=self._layout.format,
                height=self._layout.height,
                width=self._layout.width,
                planes=out.planes,
                lease=held.part(planes),
                ready=made,
                msb_aligned=out.msb_aligned,
            )
        copies.wait_for(stream.record())
        frame = held.keep(self._pool.acquire())
        frame.order(copies)
        copies.download(planes.array.pointer, frame.array)
        ready = copies.record()
        held.part(planes).release(after=ready)
        return Frame(
            stamp=stamp,
            format=self._layout.format,
            height=self._layout.height,
            width=self._layout.width,
            planes=self._layout.on_host(frame.array),
            lease=held.part(frame),
            ready=ready,
        )
