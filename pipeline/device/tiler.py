"""Frames to batches on a GPU: uploaded where they lie on the host, then cut straight into the engine's input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from engines.gpu import Device, Stream
from pipeline.device.arrays import DeviceArray
from pipeline.device.held import Held
from pipeline.device.kernels import Kernels
from pipeline.device.layout import PlaneLayout
from pipeline.device.leases import DeviceLease
from pipeline.device.pools import DevicePool, PinnedPool
from pipeline.device.streams import open_stream
from pipeline.frames import Frame, OrderedLease, SampleFormat, Samples, TileBatch, TileSlot
from pipeline.tiling import TileGrid

if TYPE_CHECKING:
    from pipeline.cuda import DevicePicture


class DeviceTiler:
    """Cut frames into the engine's batches in a GPU's memory: integer planes -> (N, 3, h, w) R'G'B'.

    Frames of the host go through page-locked memory on a stream of their own, so that one is copied while the one
    before is cut; frames on the GPU are read where they are. The host waits for one thing: that page-locked memory was
    uploaded before it is written again, which is as many frames ago as there are such buffers.

    Tiles of one frame come in the grid's order; a batch may hold tiles of several frames. The rows of a last batch that
    no tile fills keep what they held before.

    Args:
        grid: The tiles.
        format: Sample format of the frames.
        device: The GPU.
        kernels: The film's.
        pool: Batches of the engine's input shape.
        uploads: Page-locked blocks for frames laid out as ``PlaneLayout`` says; two or more for overlap.
        sources: The same on the GPU.
    """

    name = "tile"

    def __init__(
        self,
        grid: TileGrid,
        *,
        format: SampleFormat,
        device: Device,
        kernels: Kernels,
        pool: DevicePool,
        uploads: PinnedPool,
        sources: DevicePool,
    ) -> None:
        self._grid = grid
        self._layout = PlaneLayout(format=format, height=grid.height, width=grid.width)
        self._device = device
        self._kernels = kernels
        self._pool = pool
        self._uploads = uploads
        self._sources = sources
        self.lookahead = 0

    def run(self, items: Iterator[Frame]) -> Iterator[TileBatch]:
        """Yield a batch whenever one is full, and the rest at the end; the GPU may still be making them."""
        lease: DeviceLease[DeviceArray] | None = None
        slots: list[TileSlot] = []
        with Held() as held, open_stream(self._device) as copies, open_stream(self._device) as stream:
            for frame in items:
                picture, source = self._take(held.keep(frame), held=held, copies=copies, stream=stream)
                start, total = 0, len(self._grid.tiles)
                while start < total:
                    if lease is None:
                        lease = held.keep(self._pool.acquire())
                        lease.order(stream)
                    stop = min(total, start + lease.array.shape[0] - len(slots))
                    row = lease.array.pointer + len(slots) * lease.array.row_bytes
                    self._kernels.cut(picture, tile=start, count=stop - start, out=row, stream=stream)
                    slots += [TileSlot(stamp=frame.stamp, tile=index) for index in range(start, stop)]
                    start = stop
                    if len(slots) == lease.array.shape[0]:
                        batch = _batch(held.part(lease), slots, stream=stream)
                        lease, slots = None, []
                        yield batch
                held.part(source).release(after=stream.record())
            if lease is not None:
                yield _batch(held.part(lease), slots, stream=stream)

    def _take(
        self, frame: Frame, *, held: Held, copies: Stream, stream: Stream
    ) -> tuple[DevicePicture, Frame | OrderedLease]:
        """Have a frame on the GPU, and ``stream`` wait for it.

        Returns:
            The planes, and what is to be released when they were read; it is held.
        """
        if frame.is_on_device:
            from pipeline.cuda import DevicePicture

            if frame.ready is not None:
                stream.wait_for(frame.ready)
            return DevicePicture(planes=frame.planes, format=frame.format, msb_aligned=frame.msb_aligned), frame
        upload = held.keep(self._uploads.acquire())
        upload.wait()
        if frame.ready is not None:
            frame.ready.wait()
        targets = self._layout.on_host(upload.array)
        if frame.format == self._layout.format:
            for target, plane in zip(targets, frame.planes, strict=True):
                np.copyto(target, plane, casting="no")
        else:
            self._convert(frame, targets)
        held.part(frame).release()
        source = held.keep(self._sources.acquire())
        source.order(copies)
        copies.upload(upload.array, source.array.pointer)
        uploaded = copies.record()
        held.part(upload).release(after=uploaded)
        stream.wait_for(uploaded)
        return self._layout.on_device(source.array.pointer), source

    def _convert(self, frame: Frame, targets: tuple[Samples, ...]) -> None:
        """Write a frame whose matrix or range is not the film's as one that the kernels are made for."""
        from pipeline.colour import planes_to_rgb, rgb_to_planes

        rgb = np.empty((3, frame.height, frame.width), np.float32)
        planes_to_rgb(frame.planes, frame.format, out=rgb)
        rgb_to_planes(rgb, self._layout.format, out=targets)


def _batch(lease: DeviceLease[DeviceArray], slots: list[TileSlot], *, stream: Stream) -> TileBatch:
    return TileBatch(tiles=lease.array, slots=tuple(slots), lease=lease, ready=stream.record())
