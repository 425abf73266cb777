"""Stages and pools small enough to see through, for tests of the runtime and of anything that runs under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from helpers.faults import Fault

from pipeline.frames import FrameStamp
from pipeline.graph.pool import BufferLease, BufferPool, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something with an index, and with a buffer if it came out of a pool."""

    index: int
    lease: Lease | None = None

    @property
    def stamp(self) -> FrameStamp:
        return FrameStamp(index=self.index, pts=self.index * 40)

    def release(self) -> None:
        if self.lease is not None:
            self.lease.release()


def release(item: Item) -> None:
    """For ``run_graph(drop=...)``."""
    item.release()


class CountingPool(BufferPool):
    """A pool of tiny buffers that counts what leaves and what comes back."""

    def __init__(self, count: int, *, name: str = "buffers") -> None:
        super().__init__(name, shape=(4,), dtype=np.uint8, count=count)
        self._counter_lock = Lock()
        self.acquired = 0

    def acquire(self) -> BufferLease:
        lease = super().acquire()
        with self._counter_lock:
            self.acquired += 1
        return lease

    @property
    def out_count(self) -> int:
        return self.count - self.free_count


class ListSource:
    """Yields what it was given."""

    def __init__(self, items: Sequence[Any], *, name: str = "source") -> None:
        self.name = name
        self._items = items

    def run(self) -> Iterator[Any]:
        yield from self._items


class CountSource:
    """Yields items 0 .. count - 1, each with a buffer if there is a pool."""

    def __init__(
        self, count: int, *, name: str = "source", pool: CountingPool | None = None, fault: Fault | None = None
    ) -> None:
        self.name = name
        self._count = count
        self._pool = pool
        self._fault = fault or Fault()

    def run(self) -> Iterator[Item]:
        try:
            for index in range(self._count):
                if self._fault.at(index):
                    return
                yield Item(index=index, lease=self._pool.acquire() if self._pool else None)
            self._fault.at("flush")
        finally:
            self._fault.at("cleanup")


class Forward:
    """Hands on what it gets, in order, holding back up to ``lookahead`` items."""

    def __init__(self, *, name: str = "forward", lookahead: int = 0, fault: Fault | None = None) -> None:
        self.name = name
        self.lookahead = lookahead
        self._fault = fault or Fault()

    def run(self, items: Iterator[Item]) -> Iterator[Item]:
        held: list[Item] = []
        try:
            for item in items:
                held.append(item)
                if self._fault.at(item.index):
                    return
                if len(held) > self.lookahead:
                    yield held.pop(0)
            self._fault.at("flush")
            while held:
                yield held.pop(0)
        finally:
            for item in held:
                item.release()
            self._fault.at("cleanup")


class CollectSink:
    """Keeps the indices of what arrives and gives the buffers back."""

    def __init__(self, *, name: str = "sink", fault: Fault | None = None) -> None:
        self.name = name
        self.indices: list[int] = []
        self._fault = fault or Fault()

    def run(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                try:
                    if self._fault.at(item.index):
                        return
                    self.indices.append(item.index)
                finally:
                    item.release()
            self._fault.at("flush")
        finally:
            self._fault.at("cleanup")
