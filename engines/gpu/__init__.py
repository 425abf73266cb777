"""The little of CUDA that an engine needs: memory, streams, events, captured graphs. One protocol, two implementations:
``engines.gpu.cuda`` on a GPU, and a double in the tests that checks lifetimes and order.

Every object belongs to who made it and is closed by it. Addresses are plain integers, as TensorRT takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray


class DeviceBuffer(Protocol):
    """Linear memory on the device, at least 256-byte aligned."""

    pointer: int
    """Device address."""
    bytes: int
    """Length."""

    def close(self) -> None:
        """Give the memory back; nothing may be using it. Can be called twice."""
        ...


class PinnedBuffer(Protocol):
    """Page-locked host memory, which copies without the processor."""

    array: NDArray[Any]
    """The memory as a one-dimensional uint8 array."""

    def close(self) -> None:
        """Give the memory back. Can be called twice."""
        ...


class Event(Protocol):
    """A point in a stream."""

    def wait(self) -> None:
        """Block the calling thread, sleeping, until the point was reached.

        Raises:
            InferenceFailed: Something before it failed on the device.
        """
        ...


class TimedEvent(Event, Protocol):
    """A point in a stream whose time the GPU notes: for tools that look at what it does. Can be recorded anew.

    A plain event notes no time, and waiting for it costs less: what runs films takes those.
    """

    def record(self, stream: Stream) -> None:
        """Mark the point that ``stream`` has come to; what the event said before is forgotten."""
        ...

    def seconds_since(self, earlier: TimedEvent) -> float:
        """Seconds on the GPU's clock between an event and this one, also of another stream of the same device.

        Args:
            earlier: Reached, as this one: both were waited for, or something behind them was.

        Raises:
            InferenceFailed: One was not recorded, or not reached yet, or something failed on the device.
        """
        ...


class Graph(Protocol):
    """Work that was captured from a stream; launched as a whole."""

    def launch(self, stream: Stream) -> None:
        """Enqueue the captured work."""
        ...

    def close(self) -> None:
        """Give the graph back; it must not be running. Can be called twice."""
        ...


class Stream(Protocol):
    """An ordered queue of work on the device."""

    handle: int
    """``CUstream`` as an integer."""

    def upload(self, source: NDArray[Any], pointer: int) -> None:
        """Enqueue a copy of a contiguous host array, best pinned, to device memory."""
        ...

    def download(self, pointer: int, target: NDArray[Any]) -> None:
        """Enqueue a copy from device memory to a contiguous host array, best pinned."""
        ...

    def copy(self, source: int, target: int, *, bytes: int) -> None:
        """Enqueue a copy within the device."""
        ...

    def record(self) -> Event:
        """Mark this point."""
        ...

    def wait_for(self, event: Event) -> None:
        """Let what is enqueued from now on begin only after ``event``."""
        ...

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """Record what ``enqueue`` puts into this stream, without running it."""
        ...

    def synchronize(self) -> None:
        """Block until everything enqueued is done.

        Raises:
            InferenceFailed: It failed on the device.
        """
        ...

    def close(self) -> None:
        """Wait for what is in flight and give the stream back. Can be called twice."""
        ...


class Device(Protocol):
    """One GPU, in the primary context that it shares with every other library of the process."""

    name: str
    """``NVIDIA H200`` ..."""
    index: int
    """CUDA ordinal."""
    compute_capability: tuple[int, int]
    """(9, 0) ..."""
    driver_version: str
    """Of the display driver where known, otherwise the CUDA version that the driver supports."""

    def make_current(self) -> None:
        """Make the device's context current in the calling thread."""
        ...

    def free_bytes(self) -> int:
        """Free device memory."""
        ...

    def allocate(self, count: int) -> DeviceBuffer:
        """Take ``count`` bytes of device memory.

        Raises:
            OutOfDeviceMemory: There is not as much.
        """
        ...

    def allocate_pinned(self, count: int) -> PinnedBuffer:
        """Take ``count`` bytes of page-locked host memory."""
        ...

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether CUDA can copy straight to and from a host array, without a staging copy by the processor."""
        ...

    def make_stream(self) -> Stream:
        """A stream of its own, which does not wait for the default stream."""
        ...

    def make_timed_event(self) -> TimedEvent:
        """An event with a time, not recorded yet."""
        ...

    def wrap_stream(self, stream: Any) -> Stream:
        """The caller's stream: an integer handle or an object with ``__cuda_stream__``. Closing it does nothing."""
        ...
