"""A GPU of Python: ``engines.gpu``'s protocols over host memory, as lazy and as strict as the real thing may be.

Nothing that is put into a stream happens before somebody waits for it, so a missing wait gives wrong bytes every time
and not once a week. Every access is checked against what happened before it, so that a missing order between two
streams is an error even when the bytes are right. What is used after it was freed, freed while it is in use, or never
freed, is an error.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import InferenceFailed, OutOfDeviceMemory

ALIGNMENT_BYTES = 256
POISON = 0xFF
"""Fills fresh and freed memory: NaN as float16 and float32."""
HOST = 0
"""Clock of the host's own thread; streams count from 1."""

DEFAULT_STREAMS = (0, 1, 2)
"""Handles of the default stream, as CUDA numbers them: 0, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD."""

Span = tuple[int, int]
"""Device address and length."""


class GpuMisuse(AssertionError):
    """The code under test did what breaks, or may break, on a real GPU."""


@dataclass(slots=True, eq=False)
class Allocation:
    start: int
    content: NDArray[np.uint8]
    pinned: bool = False
    written: tuple[int, int] | None = None
    """Stream and tick of the last write."""
    read: dict[int, int] = field(default_factory=dict)
    """Tick of the last read by stream."""
    pending: int = 0
    """Operations in streams that will touch it."""


@dataclass(slots=True, eq=False)
class Operation:
    run: Callable[[], None]
    touches: tuple[Allocation, ...]


class FakeGpu:
    """One GPU. See ``engines.gpu.Device``.

    Args:
        total_bytes: Device memory; more is refused.
        compute_capability: What it says it is.
    """

    def __init__(
        self, *, total_bytes: int = 1 << 30, compute_capability: tuple[int, int] = (8, 9), index: int = 0
    ) -> None:
        self.name = "Fake GPU"
        self.index = index
        self.compute_capability = compute_capability
        self.driver_version = "580.0"
        self.total_bytes = total_bytes
        self.failure: str | None = None
        """Once set, every operation fails with it, as after a sticky CUDA error."""
        self.log: list[str] = []
        """What was enqueued and waited for, in the host's order."""
        self.live: dict[int, Allocation] = {}
        self.pinned: list[Allocation] = []
        self.streams: dict[int, FakeStream] = {}
        self.graphs: set[FakeGraph] = set()
        self.clocks: dict[int, dict[int, int]] = {HOST: {}}
        self._addresses = itertools.count(0x7F00_0000_0000, 1 << 32)  # nothing that could be a host address by chance
        self._handles = itertools.count(0x5000, 0x10)

    def make_current(self) -> None:
        """Nothing to do: there is one context."""

    def free_bytes(self) -> int:
        return self.total_bytes - sum(part.content.nbytes for part in self.live.values())

    def allocate(self, count: int) -> FakeBuffer:
        if count > self.free_bytes():
            raise OutOfDeviceMemory("the fake GPU is full", needed_bytes=count, free_bytes=self.free_bytes())
        allocation = Allocation(next(self._addresses), np.full(count, POISON, dtype=np.uint8))
        self.live[allocation.start] = allocation
        return FakeBuffer(self, allocation)

    def allocate_pinned(self, count: int) -> FakePinned:
        allocation = Allocation(0, np.full(count, POISON, dtype=np.uint8), pinned=True)
        self.pinned.append(allocation)
        return FakePinned(self, allocation)

    def is_pinned(self, array: NDArray[Any]) -> bool:
        return self.pinned_allocation(array) is not None

    def make_stream(self) -> FakeStream:
        stream = FakeStream(self, next(self._handles))
        self.streams[stream.handle] = stream
        self.clocks[stream.handle] = {}
        return stream

    def make_timed_event(self) -> FakeTimedEvent:
        return FakeTimedEvent(self)

    def wrap_stream(self, stream: Any) -> WrappedStream:
        handle = stream.__cuda_stream__()[1] if hasattr(stream, "__cuda_stream__") else stream
        return DefaultStream(handle) if handle in DEFAULT_STREAMS else WrappedStream(self.stream_of(handle))

    def stream_of(self, handle: int) -> FakeStream:
        if handle in DEFAULT_STREAMS:
            raise GpuMisuse(f"stream {handle} is a default stream, which waits for all others")
        if handle not in self.streams:
            raise GpuMisuse(f"{handle:#x} is no stream, or one that was closed")
        return self.streams[handle]

    def find(self, pointer: int, count: int) -> Allocation:
        """The live allocation that holds ``count`` bytes from ``pointer``."""
        for allocation in self.live.values():
            if allocation.start <= pointer and pointer + count <= allocation.start + allocation.content.nbytes:
                return allocation
        raise GpuMisuse(f"{count} bytes at {pointer:#x} are not in any live allocation")

    def bytes_at(self, pointer: int, count: int) -> NDArray[np.uint8]:
        """The memory itself, for kernels of other doubles while they run."""
        allocation = self.find(pointer, count)
        offset = pointer - allocation.start
        return allocation.content[offset : offset + count]

    def pinned_allocation(self, array: NDArray[Any]) -> Allocation | None:
        first = array.ctypes.data
        for allocation in self.pinned:
            start = allocation.content.ctypes.data
            if start <= first and first + array.nbytes <= start + allocation.content.nbytes:
                return allocation
        return None

    def enqueue(
        self,
        handle: int,
        run: Callable[[], None],
        *,
        name: str,
        reads: tuple[Span, ...] = (),
        writes: tuple[Span, ...] = (),
        host: tuple[Allocation, ...] = (),
    ) -> None:
        """Put a kernel into a stream.

        Args:
            handle: The stream.
            run: What it does, later.
            name: For ``log``.
            reads, writes: Device memory that it touches.
            host: Pinned memory that it touches.
        """
        self.check_alive()
        stream = self.stream_of(handle)
        read = tuple(self.find(*span) for span in reads)
        written = tuple(self.find(*span) for span in writes)

        def start(target: FakeStream) -> None:
            self.log.append(f"{name}@{target.handle:#x}")
            for span in (*reads, *writes):
                self.find(*span)  # a replayed graph may have outlived its memory
            tick = self.tick(target)
            for allocation in read:
                self._order(allocation, target, writes=False, name=name)
                allocation.read[target.handle] = tick
            for allocation in written:
                self._order(allocation, target, writes=True, name=name)
                allocation.written, allocation.read = (target.handle, tick), {}
            target.push(Operation(run, (*read, *written, *host)))

        stream.take(start)

    def tick(self, stream: FakeStream) -> int:
        """Count one operation of a stream; what the host knows is before it."""
        clock = self.clocks[stream.handle]
        _merge(clock, self.clocks[HOST])
        clock[stream.handle] = clock.get(stream.handle, 0) + 1
        return clock[stream.handle]

    def _order(self, allocation: Allocation, stream: FakeStream, *, writes: bool, name: str) -> None:
        clock = self.clocks[stream.handle]
        before = [] if allocation.written is None else [(*allocation.written, "written")]
        if writes:
            before += [(other, tick, "read") for other, tick in allocation.read.items()]
        for other, tick, verb in before:
            if clock.get(other, 0) < tick:
                raise GpuMisuse(
                    f"race: {name} on stream {stream.handle:#x} touches memory that stream {other:#x} may still have "
                    f"to be {verb}"
                )

    def check_alive(self) -> None:
        if self.failure is not None:
            raise InferenceFailed(f"CUDA failed: {self.failure}")

    def check_clean(self) -> None:
        """Check that everything was given back."""
        left = [f"{part.content.nbytes} device bytes" for part in self.live.values()]
        left += [f"{part.content.nbytes} pinned bytes" for part in self.pinned]
        left += [f"stream {handle:#x}" for handle in self.streams]
        left += ["a graph" for _ in self.graphs]
        if left:
            raise GpuMisuse(f"not given back: {', '.join(left)}")


def _merge(clock: dict[int, int], other: dict[int, int]) -> None:
    for stream, tick in other.items():
        clock[stream] = max(clock.get(stream, 0), tick)


class FakeBuffer:
    def __init__(self, gpu: FakeGpu, allocation: Allocation) -> None:
        self._gpu = gpu
        self._allocation = allocation
        self.pointer = allocation.start
        self.bytes = allocation.content.nbytes

    def close(self) -> None:
        if self._gpu.live.pop(self._allocation.start, None) is None:
            return
        if self._allocation.pending:
            raise GpuMisuse(f"device memory at {self.pointer:#x} is freed while work that uses it is in flight")
        self._allocation.content[:] = POISON


class FakePinned:
    def __init__(self, gpu: FakeGpu, allocation: Allocation) -> None:
        self._gpu = gpu
        self._allocation = allocation
        self.array = allocation.content

    def close(self) -> None:
        if self._allocation not in self._gpu.pinned:
            return
        if self._allocation.pending:
            raise GpuMisuse("pinned memory is freed while work that uses it is in flight")
        self._gpu.pinned.remove(self._allocation)
        self._allocation.content[:] = POISON


class FakeEvent:
    """A point in a stream: the operations before it, and what is known to be over then."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self.position = stream.pushed
        self.clock = dict(stream.gpu.clocks[stream.handle])

    def wait(self) -> None:
        self.stream.gpu.check_alive()
        self.stream.gpu.log.append(f"host waits@{self.stream.handle:#x}")
        self.stream.drain(self.position)
        _merge(self.stream.gpu.clocks[HOST], self.clock)


class FakeTimedEvent:
    """A point in a stream that notes when it was reached, on the host's clock."""

    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu = gpu
        self._point: FakeEvent | None = None
        self._reached_s: float | None = None

    def record(self, stream: Any) -> None:
        target = self._gpu.stream_of(stream.handle)
        target.record()  # checks that it may be
        self._reached_s = None
        target.push(Operation(self._note_time, ()))
        self._point = target.record()

    def wait(self) -> None:
        if self._point is not None:
            self._point.wait()

    def seconds_since(self, earlier: FakeTimedEvent) -> float:
        if self._reached_s is None or earlier._reached_s is None:
            raise InferenceFailed("CUDA failed: the time of an event is asked for that was not reached")
        return self._reached_s - earlier._reached_s

    def __getattr__(self, name: str) -> Any:
        """What a stream that waits for it looks at: ``stream``, ``position`` and ``clock``."""
        if self._point is None:
            raise GpuMisuse("an event is used that was not recorded")
        return getattr(self._point, name)

    def _note_time(self) -> None:
        self._reached_s = time.perf_counter()


class FakeGraph:
    """What was captured; each launch checks and runs it anew, on the stream of the launch."""

    def __init__(self, gpu: FakeGpu, steps: list[Callable[[FakeStream], None]]) -> None:
        self._gpu = gpu
        self._steps = steps
        gpu.graphs.add(self)

    def launch(self, stream: Any) -> None:
        if self not in self._gpu.graphs:
            raise GpuMisuse("a closed graph is launched")
        self._gpu.check_alive()
        target = self._gpu.stream_of(stream.handle)
        self._gpu.log.append(f"graph@{stream.handle:#x}")
        for step in self._steps:
            target.take(step)

    def close(self) -> None:
        self._gpu.graphs.discard(self)


class FakeStream:
    """See ``engines.gpu.Stream``."""

    def __init__(self, gpu: FakeGpu, handle: int) -> None:
        self.gpu = gpu
        self.handle = handle
        self.pushed = 0
        self.captured: list[Callable[[FakeStream], None]] | None = None
        self._done = 0
        self._waiting: deque[Operation] = deque()

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.handle)

    def take(self, start: Callable[[FakeStream], None]) -> None:
        """Begin an operation now, or keep it for the graph that is being captured."""
        if self.captured is None:
            start(self)
        else:
            self.captured.append(start)

    def push(self, operation: Operation) -> None:
        for allocation in operation.touches:
            allocation.pending += 1
        self._waiting.append(operation)
        self.pushed += 1

    def drain(self, position: int) -> None:
        """Do everything up to a position."""
        while self._done < position:
            operation = self._waiting.popleft()
            self._done += 1
            operation.run()
            for allocation in operation.touches:
                allocation.pending -= 1

    def upload(self, source: NDArray[Any], pointer: int) -> None:
        _check_contiguous(source)
        pinned = self.gpu.pinned_allocation(source)
        # pageable memory is staged by the driver before the call returns; pinned memory is read when the copy runs
        content = source if pinned is not None else source.copy()

        def run() -> None:
            self.gpu.bytes_at(pointer, content.nbytes)[:] = content.reshape(-1).view(np.uint8)

        span = (pointer, source.nbytes)
        self.gpu.enqueue(self.handle, run, name="upload", writes=(span,), host=(pinned,) if pinned else ())

    def download(self, pointer: int, target: NDArray[Any]) -> None:
        _check_contiguous(target)
        pinned = self.gpu.pinned_allocation(target)

        def run() -> None:
            target.reshape(-1).view(np.uint8)[:] = self.gpu.bytes_at(pointer, target.nbytes)

        span = (pointer, target.nbytes)
        self.gpu.enqueue(self.handle, run, name="download", reads=(span,), host=(pinned,) if pinned else ())

    def copy(self, source: int, target: int, *, bytes: int) -> None:
        def run() -> None:
            self.gpu.bytes_at(target, bytes)[:] = self.gpu.bytes_at(source, bytes)

        self.gpu.enqueue(self.handle, run, name="copy", reads=((source, bytes),), writes=((target, bytes),))

    def record(self) -> FakeEvent:
        self.gpu.check_alive()
        self._check_open()
        if self.captured is not None:
            raise GpuMisuse("this double takes no events into a graph")
        return FakeEvent(self)

    def wait_for(self, event: FakeEvent) -> None:
        self._check_open()
        self.gpu.log.append(f"{self.handle:#x} waits for {event.stream.handle:#x}")
        _merge(self.gpu.clocks[self.handle], event.clock)
        self.push(Operation(lambda: event.stream.drain(event.position), ()))

    def capture(self, enqueue: Callable[[], None]) -> FakeGraph:
        self._check_open()
        self.captured = []
        try:
            enqueue()
            return FakeGraph(self.gpu, self.captured)
        finally:
            self.captured = None

    def synchronize(self) -> None:
        if self.captured is not None:
            raise GpuMisuse("a stream that is being captured cannot be waited for")
        self.record().wait()

    def close(self) -> None:
        if self.gpu.streams.get(self.handle) is self:
            self.drain(self.pushed)
            _merge(self.gpu.clocks[HOST], self.gpu.clocks[self.handle])
            del self.gpu.streams[self.handle]

    def _check_open(self) -> None:
        self.gpu.stream_of(self.handle)


class WrappedStream(FakeStream):
    """The caller's stream: the same queue, but closing it does nothing."""

    def __init__(self, stream: FakeStream) -> None:
        self._stream = stream

    def __getattribute__(self, name: str) -> Any:
        if name == "close":
            return lambda: None
        return getattr(object.__getattribute__(self, "_stream"), name)


@dataclass(frozen=True, slots=True)
class DefaultStream:
    """One of CUDA's default streams: it can be named, but anything put into it is misuse."""

    handle: int


class FakeDeviceArray:
    """An array in the fake GPU's memory, as other libraries hand theirs over.

    Args:
        gpu: Whose memory.
        array: What it holds at first.
    """

    def __init__(self, gpu: FakeGpu, array: NDArray[Any]) -> None:
        self._gpu = gpu
        self._shape, self._dtype = array.shape, array.dtype
        self.buffer = gpu.allocate(array.nbytes)
        gpu.bytes_at(self.buffer.pointer, array.nbytes)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._shape,
            "typestr": self._dtype.str,
            "data": (self.buffer.pointer, False),
            "strides": None,
            "version": 3,
        }

    def peek(self) -> NDArray[Any]:
        """What the memory holds now, whoever may still have to write it."""
        content = self._gpu.bytes_at(self.buffer.pointer, self.buffer.bytes)
        return content.view(self._dtype).reshape(self._shape).copy()


def _check_contiguous(array: NDArray[Any]) -> None:
    if not array.flags.c_contiguous:
        raise GpuMisuse("only contiguous arrays can be copied")
