"""Finished frames kept where their encoder reads them, to be encoded over and over: for ``stage_parts.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import numpy as np

from engines import Runner
from engines.gpu import Device, DeviceBuffer, Stream
from pipeline.device.layout import PlaneLayout
from pipeline.device.leases import DeviceLease
from pipeline.device.streams import open_stream
from pipeline.frames import Frame, FrameStamp
from pipeline.plan import JobPlan
from pipeline.stages import DecodeSource
from pipeline.wiring import Transforms, open_transforms, planned_decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRing:
    """A film's first upscaled frames, in memory that is no pool's."""

    frames: tuple[Frame, ...]
    """Without leases."""
    device: Device | None = None
    """The GPU in whose memory they are; None for the host's."""
    buffers: tuple[DeviceBuffer, ...] = ()
    """On a GPU, of each frame."""

    def lend(self, index: int, *, stamp: FrameStamp) -> Frame:
        """A frame under another stamp; on a GPU with a lease, which an encoder can share."""
        frame = replace(self.frames[index], stamp=stamp)
        if not self.buffers:
            return frame
        lease = DeviceLease(self.buffers[index], free_after=None, give_back=lambda _buffer, _event: None)
        return replace(frame, lease=lease)


@contextmanager
def open_ring(plan: JobPlan, runner: Runner, *, count: int) -> Iterator[FrameRing]:
    """Make a film's first upscaled frames, as its encoder gets them.

    Args:
        plan: The run.
        runner: Opened for it, idle.
        count: Frames at most.

    Yields:
        The ring. What it has of a GPU goes back when the context is left; no encoder may hold a frame then.
    """
    with ExitStack() as kept:
        with open_transforms(replace(plan, lanes=1), runner) as transforms, ExitStack() as closed:
            items: Iterator[Any] = DecodeSource(planned_decoder(plan, transforms=transforms)).run()
            items = islice(closed.enter_context(closing(cast(Any, items))), count)
            for stage in (transforms.tiler, transforms.upscaler, transforms.stitcher):
                items = closed.enter_context(closing(cast(Any, stage.run(items))))
            ring = _keep(plan, items, transforms, kept=kept)
        yield ring


def _keep(plan: JobPlan, items: Iterator[Frame], transforms: Transforms, *, kept: ExitStack) -> FrameRing:
    """Copy frames out of the pool; the originals go back."""
    device = transforms.encoder_device
    if device is None:
        return FrameRing(frames=tuple(_copy_on_host(frame) for frame in items))
    layout = PlaneLayout(format=plan.encode.format, height=plan.height, width=plan.width, is_surface=True)
    frames, buffers = [], []
    with open_stream(device) as stream:
        for frame in items:
            buffer = device.allocate(layout.bytes)
            kept.callback(buffer.close)
            buffers.append(buffer)
            frames.append(_copy_on_device(frame, buffer, layout=layout, stream=stream))
    return FrameRing(frames=tuple(frames), device=device, buffers=tuple(buffers))


def _copy_on_host(frame: Frame) -> Frame:
    if frame.ready is not None:
        frame.ready.wait()
    planes = tuple(np.array(plane) for plane in frame.planes)
    frame.release()
    return replace(frame, planes=planes, lease=None, ready=None)


def _copy_on_device(frame: Frame, buffer: DeviceBuffer, *, layout: PlaneLayout, stream: Stream) -> Frame:
    if frame.ready is not None:
        stream.wait_for(cast(Any, frame.ready))
    stream.copy(frame.planes[0].pointer, buffer.pointer, bytes=layout.bytes)
    copied = stream.record()
    copied.wait()
    frame.release(after=copied)
    return replace(frame, planes=layout.on_device(buffer.pointer).planes, lease=None, ready=None)


class RingSource:
    """Frames of a ring, forwards and backwards so that there is no cut, with times that go on.

    Args:
        ring: The frames.
        frame_count: How many to give.
        step: Time from one to the next, in the film's time base.
        first: Where in the ring to begin, so that encoders side by side do not all read the same picture at once.
    """

    name = "decode"

    def __init__(self, ring: FrameRing, *, frame_count: int, step: int, first: int = 0) -> None:
        numbers = range(len(ring.frames))
        self._ring = ring
        self._order = [*numbers, *numbers[-2:0:-1]]
        self._frame_count = frame_count
        self._step = step
        self._first = first

    def run(self) -> Iterator[Frame]:
        """Yield them."""
        for index in range(self._frame_count):
            stamp = FrameStamp(index=index, pts=index * self._step, duration=self._step)
            yield self._ring.lend(self._order[(self._first + index) % len(self._order)], stamp=stamp)
