"""Stages that name their threads, so that the processor's time is known by stage, and mark their work for Nsight.

They wrap the real ones and change nothing else. Libraries that a stage opens in its thread start theirs from there, and
a thread inherits its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

from pipeline.graph.stage import Sink, Source, Stage, Transform
from pipeline.graph.tracing import frames_of
from tools.profile_samples import name_this_thread


class Ranges(Protocol):
    """Marks of what a thread does; the module ``nvtx`` is one."""

    def push_range(self, message: str) -> object:
        """Something begins."""
        ...

    def pop_range(self) -> object:
        """What began last is over."""
        ...


def find_ranges() -> tuple[Ranges | None, str]:
    """The NVTX library, and why there is none, a sentence; one of both."""
    try:
        return importlib.import_module("nvtx"), ""
    except ImportError:
        return None, "There are no NVTX ranges for Nsight: pip install nvtx."


def watch_stages(
    stages: Sequence[Stage], *, ranges: Ranges | None, look: Callable[[], None] = lambda: None
) -> tuple[Stage, ...]:
    """Wrap the stages of a lane.

    Args:
        stages: From the source to the sink.
        ranges: Of NVTX; None for no ranges.
        look: Called in each thread before its stage begins, and after it has ended: nobody sees a thread that is gone.
    """
    source, *middle, sink = stages
    return (
        WatchedSource(source, ranges=ranges, look=look),  # type: ignore[arg-type]
        *(WatchedTransform(stage, ranges=ranges, look=look) for stage in middle),  # type: ignore[arg-type]
        WatchedSink(sink, ranges=ranges, look=look),  # type: ignore[arg-type]
    )


@contextmanager
def _named(name: str, look: Callable[[], None]) -> Iterator[None]:
    """A thread while it is a stage's."""
    name_this_thread(name)
    look()
    try:
        yield
    finally:
        look()


class WatchedSource:
    """A source in a thread with its name; a range is the making of one item, waits for a buffer included."""

    def __init__(self, inner: Source[Any], *, ranges: Ranges | None, look: Callable[[], None]) -> None:
        self.name = inner.name
        self._inner = inner
        self._ranges = ranges
        self._look = look

    def run(self) -> Iterator[Any]:
        """Yield what the source yields."""
        items: Any = self._inner.run()
        with _named(self.name, self._look), closing(items):
            if self._ranges is None:
                yield from items
                return
            while True:
                self._ranges.push_range(self.name)
                try:
                    item = next(items, None)
                finally:
                    self._ranges.pop_range()
                if item is None:
                    return
                yield item


class WatchedTransform:
    """A transform in a thread with its name; a range is its work for an item, without the waits for the next one."""

    def __init__(self, inner: Transform[Any, Any], *, ranges: Ranges | None, look: Callable[[], None]) -> None:
        self.name = inner.name
        self.lookahead = inner.lookahead
        self._inner = inner
        self._ranges = ranges
        self._look = look

    def run(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield what the transform yields."""
        with _named(self.name, self._look):
            yield from self._inner.run(items) if self._ranges is None else self._mark(items, self._ranges)

    def _mark(self, items: Iterator[Any], ranges: Ranges) -> Iterator[Any]:
        message = self.name

        def taken() -> Iterator[Any]:
            nonlocal message
            while True:
                ranges.pop_range()  # waiting for the next item is no work
                item = None
                try:
                    item = next(items, None)
                finally:
                    if item is not None:
                        message = f"{self.name} {frames_of(item)[0]}"
                    ranges.push_range(message)
                if item is None:
                    return
                yield item

        results: Any = self._inner.run(taken())
        with closing(results):
            while True:
                ranges.push_range(message)
                try:
                    result = next(results, None)
                finally:
                    ranges.pop_range()
                if result is None:
                    return
                yield result


class WatchedSink:
    """A sink in a thread with its name; a range is its work for an item."""

    def __init__(self, inner: Sink[Any], *, ranges: Ranges | None, look: Callable[[], None]) -> None:
        self.name = inner.name
        self._inner = inner
        self._ranges = ranges
        self._look = look

    def run(self, items: Iterator[Any]) -> None:
        """Take all items."""
        with _named(self.name, self._look):
            self._inner.run(items if self._ranges is None else self._mark(items, self._ranges))

    def _mark(self, items: Iterator[Any], ranges: Ranges) -> Iterator[Any]:
        for item in items:
            ranges.push_range(f"{self.name} {frames_of(item)[0]}")
            try:
                yield item
            finally:
                ranges.pop_range()
