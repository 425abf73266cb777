"""Times of everything that a run asks of a GPU, without a change to the run: what it is given is wrapped.

What `tools.traced_gpu` wraps puts two events with times around each piece of work, into the very stream that the work
goes to, so order, waits and bytes stay as they are. `Trace` collects the pairs and reads their times after the run.

What the times mean. A first event is reached when everything before it in its stream is done, and the work begins
after it; the second is reached right after the work, if the host has put it there by then. Between two calls the host
may lose Python's lock to another thread: then a short piece of work seems longer than it was, never shorter. What is
known is taken off: work does not begin before the host asked for it. The two clocks are tied at the beginning and at
the end of the trace (`ClockTie`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engines.gpu import Device, Stream, TimedEvent
from tools.gpu_overlap import ENGINE, Span, one_after_the_other

TIES = 16
"""Attempts to tie the clocks; the one in which the host was held up the least counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockTie:
    """One moment on both clocks, at the beginning and at the end of a trace."""

    host_start_s: float
    """``time.perf_counter`` at the first moment; the GPU's clock is 0 then."""
    host_stop_s: float
    gpu_stop_s: float
    """The last moment on the GPU's clock."""
    uncertainty_s: float
    """How far the host's time of such a moment may be off; the larger one of both."""

    @property
    def drift_s(self) -> float:
        """By how much the GPU's clock went ahead of the host's in between, the uncertainty included."""
        return self.gpu_stop_s - (self.host_stop_s - self.host_start_s)

    def on_gpu(self, host_s: float) -> float:
        """A time of ``time.perf_counter`` on the GPU's clock, with the drift spread evenly."""
        return (host_s - self.host_start_s) * self.gpu_stop_s / (self.host_stop_s - self.host_start_s)


@dataclass(slots=True)
class Place:
    """What a thread is doing: which stage of which lane, and for which frame."""

    stage: str
    lane: int
    frame: int = -1
    rows: deque[int] = field(default_factory=deque)
    """Frames of the rows of a batch that are still to come."""

    def take(self, item: Any) -> None:
        """Begin with a frame or a batch."""
        self.rows = deque([item.stamp.index] if hasattr(item, "stamp") else [slot.stamp.index for slot in item.slots])
        self.frame = self.rows[0]

    def advance(self) -> None:
        """Go on to the next row of a batch, if there is one."""
        if self.rows:
            self.frame = self.rows.popleft()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Enqueued:
    kind: str
    lane: int
    frame: int
    asked_s: float
    start: TimedEvent
    stop: TimedEvent
    bytes: int


class Trace:
    """Collects the times of one run. Used by all its threads: each only appends. Whoever makes it closes it.

    Args:
        device: The GPU itself.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._threads = threading.local()
        self._enqueued: list[_Enqueued] = []
        self._on_host: list[tuple[str, int, int, float, float]] = []
        device.make_current()
        self._stream = device.make_stream()
        self._base, self._host_start_s, self._uncertainty_s = self._meet()

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Let what this thread does now belong to a place."""
        before = self._place
        self._threads.place = place
        try:
            yield
        finally:
            self._threads.place = before

    def advance(self) -> None:
        """Go on to the next row of the batch that this thread works on."""
        if self._place is not None:
            self._place.advance()

    def time(self, kind: str, stream: Stream, enqueue: Callable[[], Any], *, bytes: int = 0) -> Any:
        """Enqueue something between two events; what no stage asks for, without.

        Args:
            kind: What it is called; in the decoder's thread, ``surface`` stands before it.
            stream: Where it goes.
            enqueue: Puts it there.
            bytes: That a copy moves.

        Returns:
            What ``enqueue`` gives.
        """
        place = self._place
        if place is None:
            return enqueue()
        start, stop = self._device.make_timed_event(), self._device.make_timed_event()
        start.record(stream)
        asked_s = time.perf_counter()
        result = enqueue()
        stop.record(stream)
        kind = f"surface {kind}" if place.stage == "decode" else kind
        self._enqueued.append(
            _Enqueued(
                kind=kind, lane=place.lane, frame=place.frame, asked_s=asked_s, start=start, stop=stop, bytes=bytes
            )
        )
        return result

    def note_host(self, kind: str, place: Place, *, start_s: float, stop_s: float) -> None:
        """Note work of the processor.

        Args:
            kind: What it is called.
            place: Whose.
            start_s, stop_s: Of ``time.perf_counter``.
        """
        self._on_host.append((kind, place.lane, place.frame, start_s, stop_s))

    def finish(self) -> tuple[list[Span], ClockTie]:
        """Read all times, and close. Every stream of the run must be done.

        Returns:
            The spans: those of each kind in the order in which they were asked for.
        """
        self._device.make_current()
        last, host_stop_s, uncertainty_s = self._meet()
        tie = ClockTie(
            host_start_s=self._host_start_s,
            host_stop_s=host_stop_s,
            gpu_stop_s=last.seconds_since(self._base),
            uncertainty_s=max(uncertainty_s, self._uncertainty_s),
        )
        self.close()
        spans = [self._span(item, tie) for item in self._enqueued]
        engine = one_after_the_other(span for span in spans if span.kind == ENGINE)
        others = [span for span in spans if span.kind != ENGINE]
        on_host = [
            Span(
                kind=kind,
                lane=lane,
                frame=frame,
                start_s=tie.on_gpu(start_s),
                stop_s=tie.on_gpu(stop_s),
                is_on_host=True,
            )
            for kind, lane, frame, start_s, stop_s in self._on_host
        ]
        return [*engine, *others, *on_host], tie

    def close(self) -> None:
        """Give the trace's own stream back. Can be called twice."""
        self._stream.close()

    @property
    def _place(self) -> Place | None:
        place: Place | None = getattr(self._threads, "place", None)
        return place

    def _span(self, item: _Enqueued, tie: ClockTie) -> Span:
        stop_s = item.stop.seconds_since(self._base)
        asked_s = tie.on_gpu(item.asked_s) - tie.uncertainty_s
        return Span(
            kind=item.kind,
            lane=item.lane,
            frame=item.frame,
            start_s=min(max(item.start.seconds_since(self._base), asked_s), stop_s),
            stop_s=stop_s,
            bytes=item.bytes,
        )

    def _meet(self) -> tuple[TimedEvent, float, float]:
        """An event in a stream with nothing else in it, the host's time of it, and how far that may be off."""
        best: tuple[TimedEvent, float, float] | None = None
        for _ in range(TIES):
            event = self._device.make_timed_event()
            before_s = time.perf_counter()
            event.record(self._stream)
            event.wait()
            after_s = time.perf_counter()
            if best is None or (after_s - before_s) / 2 < best[2]:
                best = (event, (before_s + after_s) / 2, (after_s - before_s) / 2)
        assert best is not None
        return best
