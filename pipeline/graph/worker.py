"""One stage between its two channels: pulls its results, hands them on, keeps its figures, cleans up after it.

No thread and no exception handling of its own: `pipeline.graph.runtime` calls `Worker.body` in a thread, and every call
into the stage goes through ``attempt``, which keeps what it raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from pipeline.frames import FrameStamp
from pipeline.graph.channel import Aborted, Channel, ReceiverClosed
from pipeline.graph.metrics import ChannelSnapshot, StageSnapshot, StageState
from pipeline.graph.stage import Stage
from pipeline.graph.stop import StopToken
from pipeline.graph.tracing import Mark, Span, StageTrace, begun_at, frames_of

_STRENGTH: dict[StageState, int] = {"waiting": 0, "running": 1, "done": 2, "cut": 3, "aborted": 4, "failed": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What all workers of one run have in common."""

    stop: StopToken
    is_boundary: Callable[[Any], bool] | None = None
    """After ``stop.stop()``, the source ends before the first item for which this is true; if None, before the next."""
    drop: Callable[[Any], None] | None = None
    """Releases what an item holds that no stage will get."""
    time_base: Fraction | None = None
    """Seconds per unit of ``item.stamp.pts``."""
    is_traced: bool = False
    """Whether to keep when items came, for a `Tracer`."""


class Attempt(Protocol):
    """Calls something of a stage's and keeps what it raises."""

    def __call__(self, call: Callable[[], object], *, where: Callable[[], str]) -> StageState:
        """``done``, or ``aborted`` if ``call`` gave in to the abort of the run, or ``failed``."""
        ...


class Worker:
    """One stage in its thread, between its two channels.

    Args:
        stage: What to run.
        name: The stage's name, in a run of several lanes with the lane's number: ``encode[1]``.
        inbox, outbox: The channels before and after it; None for a source's and a sink's missing one.
        attempt: Through it goes every call into the stage.
        options: What all workers of the run have in common.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        name: str,
        inbox: Channel[Any] | None,
        outbox: Channel[Any] | None,
        attempt: Attempt,
        options: WorkerOptions,
    ) -> None:
        self.name = name
        self.was_stopped = False
        self._stage: Any = stage
        self._inbox = inbox
        self._outbox = outbox
        self._attempt = attempt
        self._options = options
        self._outputs: Iterator[Any] | None = None
        self._state: StageState = "waiting"
        self._started_s: float | None = None
        self._ended_s: float | None = None
        self._passed = 0
        self._last_stamp: Any = None
        self._marks: list[Mark] | None = [] if options.is_traced else None

    @property
    def has_ended(self) -> bool:
        """Whether `body` has nothing left to do."""
        return self._ended_s is not None

    def body(self, on_end: Callable[[], None]) -> None:
        """Run the stage, clean up after it, and end both channels, whatever happens; ``on_end`` is called last."""
        self._started_s = time.perf_counter()
        self._settle("running")
        try:
            self._settle(self._attempt(self._work, where=self._where))
            self._settle(self._attempt(self._close_outputs, where=self._where))
            if self._outbox is not None:
                self._outbox.finish()
            if self._inbox is not None:
                self._settle(self._attempt(self._inbox.close, where=self._where))
        finally:
            self._ended_s = time.perf_counter()
            on_end()

    def snapshot(
        self, *, inbox: ChannelSnapshot | None, outbox: ChannelSnapshot | None, wait_buffer_s: float, in_pool: bool
    ) -> StageSnapshot:
        """The stage's figures now.

        Args:
            inbox: Of the channel before the stage; None for a source.
            outbox: Of the channel after the stage; None for a sink.
            wait_buffer_s: How long the stage's thread was blocked in pools, seconds.
            in_pool: Whether it is blocked in one now.
        """
        is_starved = inbox is not None and inbox.is_receiver_waiting
        is_held_up = outbox is not None and outbox.is_sender_waiting
        is_blocked = is_starved or is_held_up or in_pool
        ended_s = time.perf_counter() if self._ended_s is None else self._ended_s
        return StageSnapshot(
            name=self.name,
            state="waiting" if self._state == "running" and is_blocked else self._state,
            items_in=inbox.received if inbox is not None else 0,
            items_out=outbox.sent if outbox is not None else 0,
            elapsed_s=ended_s - self._started_s if self._started_s is not None else 0.0,
            wait_in_s=inbox.receive_wait_s if inbox is not None else 0.0,
            wait_out_s=outbox.send_wait_s if outbox is not None else 0.0,
            wait_buffer_s=wait_buffer_s,
        )

    def trace(self, *, thread_id: int | None, waits_in_pools: tuple[Span, ...]) -> StageTrace:
        """What the stage did, once it has ended.

        Args:
            thread_id: The system's number of its thread.
            waits_in_pools: When that was blocked in pools, in any order.
        """
        started_s, ended_s = self._started_s or 0.0, self._ended_s or 0.0
        marks = self._marks or []
        return StageTrace(
            name=self._stage.name,
            thread_id=thread_id,
            started_s=started_s,
            ended_s=ended_s,
            starved=self._inbox.receive_waits() if self._inbox is not None else (),
            blocked=self._outbox.send_waits() if self._outbox is not None else (),
            unbuffered=tuple(sorted(waits_in_pools)),
            marks=begun_at(marks, started_s=started_s) if self._inbox is None else tuple(marks),
        )

    def _work(self) -> None:
        """Pull the stage's results and hand them on; a sink pulls by itself."""
        arguments = () if self._inbox is None else (_Arrivals(self._inbox, note=self._note),)
        results = self._stage.run(*arguments)
        if self._outbox is None:
            if results is not None:
                raise TypeError(f"run() of sink {self.name!r} returned a {type(results).__name__}, not None")
            return
        self._outputs = iter(results)
        for item in self._outputs if self._inbox is not None else self._until_stopped(self._outputs):
            try:
                self._outbox.send(item)
            except ReceiverClosed:
                self._discard(item)
                self._settle("cut")
                return
            except Aborted:
                self._discard(item)
                raise
            if self._inbox is None:
                self._note(item)
            del item  # it has another owner now, who may be waiting for its memory

    def _until_stopped(self, outputs: Iterator[Any]) -> Iterator[Any]:
        """The items of a source, up to where `StopToken.stop` ends it.

        An abort is left to the supervisor: a source that ended here would make a whole run of an aborted one.
        """
        is_boundary = self._options.is_boundary
        while True:
            if is_boundary is None and self._is_to_stop():
                break
            try:
                item = next(outputs)
            except StopIteration:
                return
            if is_boundary is not None and self._is_to_stop() and is_boundary(item):
                self._discard(item)
                break
            yield item
            del item
        self.was_stopped = True
        self._settle("cut")

    def _is_to_stop(self) -> bool:
        """Whether a graceful end was asked for, and no abort."""
        stop = self._options.stop
        return stop.is_stopping and not stop.is_aborted

    def _close_outputs(self) -> None:
        """Run what the stage's generator has in its ``with`` and ``finally`` blocks, unless it ran already."""
        outputs, self._outputs = self._outputs, None
        close = getattr(outputs, "close", None)  # a plain iterator has none
        if close is not None:
            close()

    def _discard(self, item: Any) -> None:
        """Drop an item that the next stage will not get."""
        if self._options.drop is not None:
            self._options.drop(item)

    def _settle(self, state: StageState) -> None:
        """Change the state, never back to a weaker one."""
        if _STRENGTH[state] > _STRENGTH[self._state]:
            self._state = state

    def _note(self, item: Any) -> None:
        """Remember which item passed last: its stamp, not the item, which would keep its memory."""
        self._passed += 1
        if self._marks is not None:
            self._marks.append((time.perf_counter(), *frames_of(item)))
        slots = getattr(item, "slots", None)  # a batch of tiles has a stamp per tile
        self._last_stamp = getattr(slots[-1] if slots else item, "stamp", None)

    def _where(self) -> str:
        """Which stage this is and how far it got."""
        if not self._passed:
            return f"stage {self.name!r}, before the first item"
        if not isinstance(self._last_stamp, FrameStamp):
            return f"stage {self.name!r}, after {self._passed} items"
        pts, time_base = self._last_stamp.pts, self._options.time_base
        at = f"{pts}" if time_base is None else f"{float(pts * time_base):.3f} s"
        return f"stage {self.name!r}, after item {self._last_stamp.index} (pts {at})"


class _Arrivals(Iterator[Any]):
    """A stage's input: the channel's items, each noted as it arrives. A class for the reason of `ChannelIterator`."""

    __slots__ = ("_items", "_note")

    def __init__(self, inbox: Channel[Any], *, note: Callable[[Any], None]) -> None:
        self._items = iter(inbox)
        self._note = note

    def __next__(self) -> Any:
        item = next(self._items)
        self._note(item)
        return item
