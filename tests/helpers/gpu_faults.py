"""Fake GPUs for the stages: one on which some waits do nothing, so that a race or wrong bytes show what they order, and
one for several threads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from typing import Any

from helpers.gpu_double import FakeBuffer, FakeEvent, FakeGpu, FakePinned, FakeStream

from engines.errors import OutOfDeviceMemory

ORDERING_MODULES = ("pipeline/device/", "pipeline/stages.py")


def waiting_place() -> str:
    """Which line of the code under test waits now: the innermost one in a stage, not in a lease's or helper's code."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        inside = any(part in path for part in ORDERING_MODULES)
        if inside and not path.endswith(("leases.py", "streams.py", "held.py")):
            name = path.rsplit("/", 1)[-1].removesuffix(".py")
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class ForgetfulGpu(FakeGpu):
    """A fake GPU that knows where it was told to wait.

    Args:
        forgets: Places, as ``tiler:85``, in whose lines waiting does nothing.
    """

    def __init__(self, *, forgets: Collection[str] = ()) -> None:
        super().__init__()
        self.forgets = frozenset(forgets)
        self.places: set[str] = set()
        """Every line that waited."""

    def make_stream(self) -> FakeStream:
        stream = ForgetfulStream(self, next(self._handles))
        self.streams[stream.handle] = stream
        self.clocks[stream.handle] = {}
        return stream

    def skips(self) -> bool:
        place = waiting_place()
        self.places.add(place)
        return place in self.forgets


class ForgetfulStream(FakeStream):
    gpu: ForgetfulGpu

    def wait_for(self, event: Any) -> None:
        if not self.gpu.skips():
            super().wait_for(event)

    def record(self) -> FakeEvent:
        super().record()
        return ForgetfulEvent(self)


class ForgetfulEvent(FakeEvent):
    def wait(self) -> None:
        if not self.stream.gpu.skips():  # type: ignore[attr-defined]
            super().wait()


class LockedGpu(FakeGpu):
    """A fake GPU that several threads may use, one call at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()

    def make_stream(self) -> FakeStream:
        with self.lock:
            stream = LockedStream(self, next(self._handles))
            self.streams[stream.handle] = stream
            self.clocks[stream.handle] = {}
            return stream

    def enqueue(self, *arguments: Any, **options: Any) -> None:
        with self.lock:
            super().enqueue(*arguments, **options)


class LockedStream(FakeStream):
    gpu: LockedGpu

    def upload(self, source: Any, pointer: int) -> None:
        with self.gpu.lock:
            super().upload(source, pointer)

    def download(self, pointer: int, target: Any) -> None:
        with self.gpu.lock:
            super().download(pointer, target)

    def record(self) -> FakeEvent:
        with self.gpu.lock:
            super().record()
            return LockedEvent(self)

    def wait_for(self, event: Any) -> None:
        with self.gpu.lock:
            super().wait_for(event)

    def close(self) -> None:
        with self.gpu.lock:
            super().close()


class LockedEvent(FakeEvent):
    def wait(self) -> None:
        with self.stream.gpu.lock:  # type: ignore[attr-defined]
            super().wait()


class ShortGpu(LockedGpu):
    """A fake GPU that refuses some allocations, of its own memory or of page-locked memory.

    Args:
        refuses: Numbers of the allocations, from 0.
    """

    def __init__(self, *, refuses: Collection[int] = ()) -> None:
        super().__init__()
        self.refuses = frozenset(refuses)
        self.allocated_count = 0
        self.places: list[tuple[str, int]] = []
        """Kind and size of every allocation that was asked for."""

    def allocate(self, count: int) -> FakeBuffer:
        with self.lock:
            self._count("device", count)
            return super().allocate(count)

    def allocate_pinned(self, count: int) -> FakePinned:
        with self.lock:
            self._count("pinned", count)
            return super().allocate_pinned(count)

    def _count(self, kind: str, count: int) -> None:
        number, self.allocated_count = self.allocated_count, self.allocated_count + 1
        self.places.append((kind, count))
        if number in self.refuses:
            raise OutOfDeviceMemory(f"allocation {number} is refused", needed_bytes=count, free_bytes=0)
