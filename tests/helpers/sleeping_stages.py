"""Stages that only take time, and real ones that take more of it than they need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from pipeline.frames import FrameStamp
from pipeline.graph.pool import BufferPool, Lease
from pipeline.graph.stage import Stage

STAGES = ("decode", "tile", "upscale", "stitch", "encode")
STEP_S = 0.006
"""Work of a stage that is not slowed: a hundred times what a thread's wake-up takes."""


@dataclass(frozen=True)
class Item:
    stamp: FrameStamp
    lease: Lease | None = None

    def release(self) -> None:
        if self.lease is not None:
            self.lease.release()


class Source:
    name = STAGES[0]

    def __init__(self, count: int, *, seconds: float, pool: BufferPool | None = None, first: int = 0) -> None:
        self.count, self.seconds, self.pool, self.first = count, seconds, pool, first

    def run(self) -> Iterator[Item]:
        for index in range(self.first, self.first + self.count):
            lease = self.pool.acquire() if self.pool is not None else None
            time.sleep(self.seconds)
            yield Item(FrameStamp(index=index, pts=index), lease)


class Middle:
    lookahead = 0

    def __init__(self, name: str, *, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    def run(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            time.sleep(self.seconds)
            yield item


class Sink:
    name = STAGES[-1]

    def __init__(self, *, seconds: float, fails_at: int | None = None) -> None:
        self.seconds, self.fails_at = seconds, fails_at

    def run(self, items: Iterator[Item]) -> None:
        for item in items:
            if item.stamp.index == self.fails_at:
                raise ValueError("as asked")
            time.sleep(self.seconds)
            item.release()


def line(count: int, *, slow: dict[str, float] | None = None, step_s: float = STEP_S, first: int = 0) -> list[Stage]:
    seconds = {name: step_s * (slow or {}).get(name, 1) for name in STAGES}
    middle = [Middle(name, seconds=seconds[name]) for name in STAGES[1:-1]]
    return [Source(count, seconds=seconds["decode"], first=first), *middle, Sink(seconds=seconds["encode"])]


def slowed(stages: Sequence[Stage], seconds: dict[str, float]) -> list[Stage]:
    """Stages that take so much longer for every item."""

    class Source:
        def __init__(self, inner: Any) -> None:
            self.name, self.inner = inner.name, inner

        def run(self) -> Iterator[Any]:
            with closing(self.inner.run()) as items:
                for item in items:
                    time.sleep(seconds[self.name])
                    yield item

    class Transform(Source):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            self.lookahead = inner.lookahead

        def run(self, items: Iterator[Any]) -> Iterator[Any]:  # type: ignore[override]
            with closing(self.inner.run(items)) as results:
                for result in results:
                    time.sleep(seconds[self.name])
                    yield result

    class Sink(Source):
        def run(self, items: Iterator[Any]) -> None:  # type: ignore[override]
            def late() -> Iterator[Any]:
                for item in items:
                    time.sleep(seconds[self.name])
                    yield item

            self.inner.run(late())

    return [Source(stages[0]), *(Transform(stage) for stage in stages[1:-1]), Sink(stages[-1])]  # type: ignore[list-item]
