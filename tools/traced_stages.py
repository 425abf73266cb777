"""Stages that tell a `Trace` for which frame they work, and when the processor does. They wrap the real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from pipeline.frames import Frame
from pipeline.graph.pool import Pool
from pipeline.graph.stage import Sink, Source, Transform
from tools.gpu_trace import Place, Trace


class TracedSource:
    """A source whose work for each frame is noted on the host's clock, without its waits in pools."""

    def __init__(self, inner: Source[Any], *, trace: Trace, lane: int, pools: Sequence[Pool]) -> None:
        self.name = inner.name
        self._inner = inner
        self._trace = trace
        self._lane = lane
        self._pools = pools

    def run(self) -> Iterator[Any]:
        """Yield what the source yields."""
        place = Place(self.name, self._lane, frame=0)
        items: Any = self._inner.run()
        with closing(items):
            while True:
                waited_s, start_s = self._waited_s(), time.perf_counter()
                with self._trace.at(place):
                    item = next(items, None)
                if item is None:
                    return
                stop_s = time.perf_counter() - (self._waited_s() - waited_s)
                self._trace.note_host(self.name, place, start_s=start_s, stop_s=stop_s)
                yield item
                place.frame += 1

    def _waited_s(self) -> float:
        thread = threading.current_thread()
        return sum(pool.waited_s(thread) for pool in self._pools)


class TracedTransform:
    """A stage whose GPU work is noted for the frames that it takes."""

    def __init__(self, inner: Transform[Any, Any], *, trace: Trace, lane: int) -> None:
        self.name = inner.name
        self.lookahead = inner.lookahead
        self._inner = inner
        self._trace = trace
        self._lane = lane

    def run(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield what the stage yields."""
        place = Place(self.name, self._lane)

        def taken() -> Iterator[Any]:
            for item in items:
                place.take(item)
                yield item

        results: Any = self._inner.run(taken())
        with closing(results):
            while True:
                with self._trace.at(place):
                    result = next(results, None)
                if result is None:
                    return
                yield result


class TracedSink:
    """A sink whose work for each frame is noted on the host's clock, from when the frame is there."""

    def __init__(self, inner: Sink[Any], *, trace: Trace, lane: int) -> None:
        self.name = inner.name
        self._inner = inner
        self._trace = trace
        self._lane = lane

    def run(self, items: Iterator[Frame]) -> None:
        """Take all frames."""
        place = Place(self.name, self._lane)

        def taken() -> Iterator[Frame]:
            for frame in items:
                place.take(frame)
                if frame.ready is not None and not frame.is_on_device:
                    frame.ready.wait()  # as the sink is going to
                start_s = time.perf_counter()
                yield frame
                self._trace.note_host(self.name, place, start_s=start_s, stop_s=time.perf_counter())

        with self._trace.at(place):
            self._inner.run(taken())
