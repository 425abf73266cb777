"""From NVDEC's surfaces to frames: copied within the GPU into a pool of ours, or brought to the host.

A surface is copied by its decoder's own stream before the decoder is called again, so it is never read late, and the
decoder never waits for whoever uses the frame.
"""

from __future__ import annotations

from typing import Protocol, Self

from engines.gpu import Device, Stream
from pipeline.decode.nvdec_session import Surface
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.device.pools import DevicePool
from pipeline.frames import Frame, FrameStamp


class Delivery(Protocol):
    """Makes frames of surfaces; a context manager that frees what it holds, but not the frames."""

    def deliver(self, surface: Surface, *, stamp: FrameStamp, stream: Stream) -> Frame:
        """Copy a surface into a frame that the caller owns.

        Args:
            surface: Written in ``stream``; may be overwritten in ``stream`` once this has returned.
            stamp: Of the frame.
            stream: The decoder's.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class DeviceDelivery:
    """Frames in a pool in the GPU's memory: two planes, luma and interleaved chroma, to be read after ``ready``.

    Args:
        layout: Of the surfaces.
        pool: Buffers of ``layout.bytes``; stays the caller's and outlives the frames.

    Raises:
        ValueError: The pool's buffers are too small.
    """

    def __init__(self, layout: SurfaceLayout, *, pool: DevicePool) -> None:
        each = pool.bytes // pool.count
        if each < layout.bytes:
            raise ValueError(f"pool {pool.name!r} has {each} bytes a frame, not {layout.bytes}")
        self._layout = layout
        self._pool = pool

    def deliver(self, surface: Surface, *, stamp: FrameStamp, stream: Stream) -> Frame:
        """See ``Delivery``. Blocks while all buffers are out."""
        lease = self._pool.acquire()
        is_delivered = False
        try:
            block = lease.array
            lease.order(stream)
            stream.copy(surface.pointer, block.pointer, bytes=self._layout.bytes)
            ready = stream.record()
            is_delivered = True
        finally:
            if not is_delivered:
                lease.release()
        return Frame(
            stamp=stamp,
            format=self._layout.format,
            height=self._layout.height,
            width=self._layout.width,
            planes=self._layout.on_device(block.pointer),
            lease=lease,
            ready=ready,
            msb_aligned=self._layout.format.bit_depth > 8,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to free: the pool is the caller's."""


class HostDelivery:
    """Frames in the host's memory, planar as from any decoder; the host waits for each.

    Args:
        layout: Of the surfaces.
        device: The GPU.
    """

    def __init__(self, layout: SurfaceLayout, *, device: Device) -> None:
        self._layout = layout
        self._landing = device.allocate_pinned(layout.bytes)

    def deliver(self, surface: Surface, *, stamp: FrameStamp, stream: Stream) -> Frame:
        """See ``Delivery``."""
        block = self._landing.array[: self._layout.bytes]
        stream.download(surface.pointer, block)
        stream.record().wait()
        return Frame(
            stamp=stamp,
            format=self._layout.format,
            height=self._layout.height,
            width=self._layout.width,
            planes=self._layout.to_planes(block),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._landing.close()
