"""Buffers that are allocated before the first frame and bound the memory of a run, in bytes.

Channels bound how many items wait; only a pool bounds memory, because it also counts what stages hold. A stage that
produces arrays acquires a lease for each; the last user of the array releases it, exactly once. ``acquire`` blocks
while all buffers are out: that is the back-pressure.

`Pool` is what the runtime and the stages use; `BufferPool` is host memory. A pool in device memory is another `Pool`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Lock, Thread, current_thread
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import SetupError
from pipeline.graph.channel import Aborted
from pipeline.graph.metrics import WaitMeter

logger = logging.getLogger(__name__)

ALIGNMENT_BYTES = 64
"""Buffers start at a multiple of this: a cache line and the widest vector register of x86-64 (AVX-512)."""


class Lease(Protocol):
    """The right to use one buffer until it is released."""

    @property
    def array(self) -> Any:
        """The buffer. Its content is undefined at first; it must not be touched after `release`."""
        ...

    def release(self) -> None:
        """Give the buffer back. Exactly once, by its last user, from any thread."""
        ...


class Pool(Protocol):
    """A fixed set of equal buffers, shared by the stages of a run."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    @property
    def bytes(self) -> int:
        """Memory allocated."""
        ...

    @property
    def free_count(self) -> int:
        """Buffers that nobody holds now."""
        ...

    def acquire(self) -> Lease:
        """Take a buffer; blocks until one is free. Raises `Aborted` once the pool was aborted."""
        ...

    def abort(self) -> None:
        """Make every `acquire`, waiting or yet to come, raise `Aborted`. Leases need not come back then."""
        ...

    def close(self) -> None:
        """Free the memory once no stage runs any more. Can be called twice."""
        ...

    def waited_s(self, thread: Thread) -> float:
        """Seconds that ``thread`` was blocked in `acquire`, the wait that is under way included."""
        ...

    def is_waiting(self, thread: Thread) -> bool:
        """Whether ``thread`` is blocked in `acquire` now."""
        ...

    def keep_waits(self) -> None:
        """From now on keep when each thread was blocked. Before any thread was."""
        ...

    def kept_waits(self, thread: Thread) -> tuple[tuple[float, float], ...]:
        """When ``thread`` was blocked in `acquire`, ``perf_counter`` seconds; nothing without `keep_waits`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferCount:
    """How many buffers a pool needs for a line of stages."""

    minimum: int
    """Fewer, and the run can stall: a stage holds all of them back while it waits for one more."""
    full_overlap: int
    """More would never be used: every stage works on one, every channel is full, every lookahead is filled."""


def plan_buffer_count(*, lookaheads: Sequence[int], capacities: Sequence[int]) -> BufferCount:
    """Buffers for items that pass from a producer through channels to the stage that releases them.

    Args:
        lookaheads: ``lookahead`` of each stage that touches the items, the producer first (0 for it).
        capacities: Capacity of each channel that they pass, ``len(lookaheads) - 1`` of them.

    Returns:
        The least count that cannot stall, and the greatest that helps. Source: STYLE 3.5, checked there on 1,500 random
        pipelines.

    Raises:
        ValueError: The numbers do not fit together.
    """
    if len(capacities) != len(lookaheads) - 1:
        raise ValueError(
            f"{len(lookaheads)} stages are joined by {len(lookaheads) - 1} channels, not {len(capacities)}"
        )
    minimum = sum(lookaheads) + 1
    return BufferCount(minimum=minimum, full_overlap=minimum + sum(capacities) + len(lookaheads))


class BufferLease:
    """One buffer of a `BufferPool`, until it is released."""

    __slots__ = ("_array", "_give_back")

    def __init__(self, array: NDArray[Any], *, give_back: Callable[[BufferLease], None]) -> None:
        self._array: NDArray[Any] | None = array
        self._give_back = give_back

    @property
    def array(self) -> NDArray[Any]:
        """The buffer, C-contiguous, of the pool's shape and dtype; content undefined at first.

        Raises:
            RuntimeError: The lease was released.
        """
        if self._array is None:
            raise RuntimeError("this lease was released: another stage may own its buffer by now")
        return self._array

    def release(self) -> None:
        """Give the buffer back; wakes one `BufferPool.acquire`. From any thread.

        Raises:
            RuntimeError: The lease was released before.
        """
        self._give_back(self)

    def detach(self) -> NDArray[Any]:
        """The pool's part of `release`, under its lock: take the buffer out of the lease.

        Raises:
            RuntimeError: The lease was released before.
        """
        array, self._array = self.array, None
        return array


class BufferPool:
    """Equal arrays in host memory, all allocated and touched when the pool is made.

    As a context manager it is closed at the end.

    Args:
        name: For reports and errors.
        shape: Shape of each buffer.
        dtype: numpy dtype of each buffer.
        count: Number of buffers, at least 1.

    Raises:
        SetupError: There is not enough memory; the message has the arithmetic.
        ValueError: ``count`` is below 1 or ``shape`` has a negative length.
    """

    def __init__(self, name: str, *, shape: tuple[int, ...], dtype: DTypeLike, count: int) -> None:
        if count < 1:
            raise ValueError(f"pool {name!r} needs at least 1 buffer, not {count}")
        if any(length < 0 for length in shape):
            raise ValueError(f"pool {name!r}: shape {shape} has a negative length")
        self.name = name
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.count = count
        self.bytes = count * math.prod(shape) * self.dtype.itemsize
        self._is_free = Condition(Lock())
        self._is_aborted = False
        self._is_closed = False
        self._waits: WeakKeyDictionary[Thread, WaitMeter] = WeakKeyDictionary()
        self._keeps_waits = False
        self._free = self._allocate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def free_count(self) -> int:
        """Buffers that nobody holds now; 0 once closed."""
        return len(self._free)

    def acquire(self) -> BufferLease:
        """Take a buffer; blocks until one is free. The caller owns the lease.

        Raises:
            Aborted: The run was aborted, before or while waiting.
            RuntimeError: The pool was closed.
        """
        with self._is_free:
            if not self._free and self._is_usable:
                meter = self._waits.setdefault(current_thread(), WaitMeter(keeps=self._keeps_waits))
                meter.start()
                try:
                    while not self._free and self._is_usable:
                        self._is_free.wait()
                finally:
                    meter.stop()
            if self._is_aborted:
                raise Aborted(f"pool {self.name} was aborted")
            if self._is_closed:
                raise RuntimeError(f"acquire() on pool {self.name} after close()")
            return BufferLease(self._free.pop(), give_back=self._take_back)

    def abort(self) -> None:
        """Make every `acquire`, waiting or yet to come, raise `Aborted`. Leases need not come back then."""
        with self._is_free:
            self._is_aborted = True
            self._is_free.notify_all()

    def close(self) -> None:
        """Forget the buffers once no stage runs any more; each is freed when nothing refers to it. Can be repeated.

        Buffers that are still out, although nothing was aborted, are a leak in a stage; the log says so.
        """
        with self._is_free:
            missing = 0 if self._is_closed or self._is_aborted else self.count - len(self._free)
            self._is_closed = True
            self._free.clear()
            self._is_free.notify_all()
        if missing:
            logger.warning("pool %s: %d of %d buffers were never released", self.name, missing, self.count)

    def waited_s(self, thread: Thread) -> float:
        """Seconds that ``thread`` was blocked in `acquire`, the wait that is under way included."""
        with self._is_free:
            meter = self._waits.get(thread)
            return meter.total_s() if meter is not None else 0.0

    def is_waiting(self, thread: Thread) -> bool:
        """Whether ``thread`` is blocked in `acquire` now."""
        with self._is_free:
            meter = self._waits.get(thread)
            return meter is not None and meter.is_waiting

    def keep_waits(self) -> None:
        """From now on keep when each thread was blocked. Before any thread was."""
        self._keeps_waits = True

    def kept_waits(self, thread: Thread) -> tuple[tuple[float, float], ...]:
        """When ``thread`` was blocked in `acquire`, ``perf_counter`` seconds; nothing without `keep_waits`."""
        with self._is_free:
            meter = self._waits.get(thread)
            return meter.spans() if meter is not None else ()

    @property
    def _is_usable(self) -> bool:
        """Whether waiting for a buffer makes sense."""
        return not (self._is_aborted or self._is_closed)

    def _take_back(self, lease: BufferLease) -> None:
        """Put a lease's buffer back among the free ones, unless the pool is closed: then it is freed."""
        with self._is_free:
            array = lease.detach()
            if not self._is_closed:
                self._free.append(array)
                self._is_free.notify()

    def _allocate(self) -> list[NDArray[Any]]:
        """Allocate and touch all buffers, so that running out of memory happens here and not at some frame."""
        try:
            return [self._allocate_one() for _ in range(self.count)]
        except (MemoryError, ValueError) as exc:  # numpy: ValueError if the size exceeds the address space
            each_bytes = self.bytes // self.count
            raise SetupError(
                f"not enough memory for pool {self.name!r}: {self.count} buffers x {self.shape} {self.dtype} "
                f"({each_bytes / 2**20:.1f} MiB each) = {self.bytes / 2**20:.1f} MiB",
                missing="memory",
                hint="use smaller tiles, a smaller batch or fewer lanes, or close other programs",
            ) from exc

    def _allocate_one(self) -> NDArray[Any]:
        """One zeroed, aligned array."""
        buffer_bytes = math.prod(self.shape) * self.dtype.itemsize
        block = np.empty(buffer_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
        block.fill(0)  # np.zeros would leave the pages to be touched later
        start = -block.ctypes.data % ALIGNMENT_BYTES
        return block[start : start + buffer_bytes].view(self.dtype).reshape(self.shape)
