"""Pools in a GPU's memory and in page-locked host memory, allocated before the first frame.

They bound memory as ``BufferPool`` does, but a buffer comes back with an event instead of when the GPU has finished:
the host never waits for the GPU in order to give something back. Buffers go round in turn, the longest free one first,
so that the next user finds the last one's work done: taking the newest would put both into one line.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, OutOfDeviceMemory
from engines.gpu import Device, Event
from pipeline.device.arrays import DeviceArray
from pipeline.device.leases import DeviceLease
from pipeline.errors import SetupError
from pipeline.graph.pool import BufferLease, BufferPool

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Memory(Protocol):
    def close(self) -> None: ...


class TurnPool(Generic[T]):
    """Equal buffers that go round in turn, each with the event after which it may be used. A ``Pool``.

    As a context manager it is closed at the end. Made by ``DevicePool`` and ``PinnedPool``.

    Args:
        name: For reports and errors.
        bytes: Of all buffers.
        buffers: As they are handed out.
        memory: What they lie in; given back by ``close``.
    """

    def __init__(self, name: str, *, bytes: int, buffers: Sequence[T], memory: Sequence[_Memory]) -> None:
        self.name = name
        self.bytes = bytes
        self.count = len(buffers)
        self._free: deque[tuple[T, Event | None]] = deque((buffer, None) for buffer in buffers)
        # Waiting, aborting and counting are BufferPool's: whoever has one of its buffers may take one of ours.
        self._turns = BufferPool(name, shape=(1,), dtype=np.uint8, count=len(buffers))
        self._memory = tuple(memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def free_count(self) -> int:
        """Buffers that nobody holds now, whatever the GPU still has to do with them; 0 once closed."""
        return self._turns.free_count

    def acquire(self) -> DeviceLease[T]:
        """Take the buffer that has been free for longest; blocks until there is one. The caller owns the lease.

        Raises:
            Aborted: The run was aborted, before or while waiting.
            RuntimeError: The pool was closed.
        """
        turn = self._turns.acquire()
        buffer, free_after = self._free.popleft()  # a turn is given back after its buffer, so there is one

        def give_back(buffer: T, after: Event | None) -> None:
            self._give_back(turn, buffer, after=after)

        return DeviceLease(buffer, free_after=free_after, give_back=give_back)

    def abort(self) -> None:
        """Make every `acquire`, waiting or yet to come, raise `Aborted`. Leases need not come back then."""
        self._turns.abort()

    def close(self) -> None:
        """Give the memory back once no stage runs and no stream uses it any more. Can be called twice.

        What a GPU that failed does not take back is left to its driver, and the log says so.
        """
        self._turns.close()
        memory, self._memory = self._memory, ()
        self._free.clear()
        for block in memory:
            try:
                block.close()
            except EngineError as exc:
                logger.warning("pool %s: memory was not given back: %s", self.name, exc)

    def waited_s(self, thread: Any) -> float:
        """Seconds that ``thread`` was blocked in `acquire`, the wait that is under way included."""
        return self._turns.waited_s(thread)

    def is_waiting(self, thread: Any) -> bool:
        """Whether ``thread`` is blocked in `acquire` now."""
        return self._turns.is_waiting(thread)

    def keep_waits(self) -> None:
        """From now on keep when each thread was blocked. Before any thread was."""
        self._turns.keep_waits()

    def kept_waits(self, thread: Any) -> tuple[tuple[float, float], ...]:
        """When ``thread`` was blocked in `acquire`, ``perf_counter`` seconds; nothing without `keep_waits`."""
        return self._turns.kept_waits(thread)

    def _give_back(self, turn: BufferLease, buffer: T, *, after: Event | None) -> None:
        self._free.append((buffer, after))
        turn.release()


class DevicePool(TurnPool[DeviceArray]):
    """Equal arrays in a GPU's memory.

    Args:
        name: For reports and errors.
        device: Whose memory.
        shape: Shape of each buffer.
        dtype: numpy's name of the type.
        count: Number of buffers, at least 1.

    Raises:
        SetupError: The GPU has not as much memory; the message has the arithmetic.
    """

    def __init__(self, name: str, *, device: Device, shape: tuple[int, ...], dtype: str, count: int) -> None:
        each = DeviceArray(pointer=0, shape=shape, dtype=dtype).bytes
        with ExitStack() as undo:
            memory = []
            try:
                for _ in range(count):
                    memory.append(device.allocate(each))
                    undo.callback(memory[-1].close)
            except OutOfDeviceMemory as exc:
                raise SetupError(
                    f"not enough memory on {device.name} for pool {name!r}: {count} buffers x {shape} {dtype} "
                    f"({each / 2**20:.1f} MiB each) = {count * each / 2**20:.1f} MiB, "
                    f"{device.free_bytes() / 2**20:.1f} MiB are left after {len(memory)} of them",
                    missing="GPU memory",
                    hint="use smaller tiles (tile.max_px), a smaller batch or run.frames_on: cpu, or free the GPU",
                ) from exc
            arrays = [DeviceArray(pointer=block.pointer, shape=shape, dtype=dtype) for block in memory]
            super().__init__(name, bytes=count * each, buffers=arrays, memory=memory)
            undo.pop_all()


class PinnedPool(TurnPool[NDArray[Any]]):
    """Equal arrays in page-locked host memory, which a GPU copies from and to without the processor.

    Args:
        name: For reports and errors.
        device: Which makes the memory.
        shape: Shape of each buffer.
        dtype: numpy's name of the type.
        count: Number of buffers, at least 1.

    Raises:
        SetupError: The system does not lock as much memory.
    """

    def __init__(self, name: str, *, device: Device, shape: tuple[int, ...], dtype: str, count: int) -> None:
        each = math.prod(shape) * np.dtype(dtype).itemsize
        with ExitStack() as undo:
            memory = []
            try:
                for _ in range(count):
                    memory.append(device.allocate_pinned(each))
                    undo.callback(memory[-1].close)
            except (OutOfDeviceMemory, MemoryError) as exc:
                raise SetupError(
                    f"not enough page-locked memory for pool {name!r}: {count} buffers of {each / 2**20:.1f} MiB each "
                    f"= {count * each / 2**20:.1f} MiB, refused after {len(memory)} of them",
                    missing="memory",
                    hint="use run.frames_on: cpu, a smaller queues.stitched_frames, or close other programs",
                ) from exc
            arrays = [block.array[:each].view(dtype).reshape(shape) for block in memory]
            super().__init__(name, bytes=count * each, buffers=arrays, memory=memory)
            undo.pop_all()
