"""The bounded hand-off between two stages: the only place where a stage's thread waits for another stage.

One sender, one receiver. The end of the stream, "the receiver wants no more" and "the run is aborted" are states of the
channel, never items in it, and either end can end it: the other wakes at once. There are no time-outs.

==================== ============================= ===========================================
state                ``send(item)``                ``receive()``
==================== ============================= ===========================================
open, room / item    enqueues, ownership moves     returns the oldest item
open, full / empty   blocks                        blocks
finished by sender   ``RuntimeError`` (a bug)      drains what is queued, then ``EndOfStream``
closed by receiver   ``ReceiverClosed``            ``RuntimeError`` (a bug)
aborted              ``Aborted``                   ``Aborted``
==================== ============================= ===========================================

A later row wins over an earlier one. Transitions can be repeated, never undone, and wake both sides. Items still queued
when a channel is closed or aborted go to ``drop``, outside the lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from enum import IntEnum
from threading import Condition, Lock
from typing import Generic, TypeVar

from pipeline.graph.metrics import ChannelSnapshot, WaitMeter

T = TypeVar("T")


class EndOfStream(Exception):
    """The sender has finished and everything it sent was received."""


class ReceiverClosed(Exception):
    """The receiver wants no more items."""


class Aborted(BaseException):
    """The run was aborted. No ``Exception``, so that a stage's own ``except Exception`` cannot swallow it."""


class _State(IntEnum):
    """In order of precedence: a channel only ever moves to a higher state."""

    OPEN = 0
    FINISHED = 1
    CLOSED = 2
    ABORTED = 3


class Channel(Generic[T]):
    """A bounded first-in-first-out hand-off between one sending and one receiving thread.

    Args:
        name: ``<producer>-><consumer>``, for reports.
        capacity: Items that may wait, at least 1.
        drop: Called with each item that was sent but will never be received; it releases what the item holds.
        keeps_history: Whether to keep when items came and went and both sides waited, for a `Tracer`.
    """

    def __init__(
        self, name: str, capacity: int, drop: Callable[[T], None] | None = None, *, keeps_history: bool = False
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity of channel {name!r} must be at least 1, not {capacity}")
        self.name = name
        self.capacity = capacity
        self._drop = drop
        self._lock = Lock()
        self._has_item = Condition(self._lock)
        self._has_room = Condition(self._lock)
        self._items: deque[T] = deque()
        self._state = _State.OPEN
        self._sent = 0
        self._received = 0
        self._peak = 0
        self._send_waits = WaitMeter(keeps=keeps_history)
        self._receive_waits = WaitMeter(keeps=keeps_history)
        self._depths: list[tuple[float, int]] | None = [] if keeps_history else None
        self._open_s = 0.0
        self._occupied_s = 0.0
        self._full_s = 0.0
        self._timed_at_s = self._moved_at_s = time.perf_counter()

    @property
    def moved_at_s(self) -> float:
        """When an item was last sent or received, ``perf_counter`` seconds; at first, when the channel was made."""
        return self._moved_at_s

    def send(self, item: T) -> None:
        """Hand ``item`` over; blocks while the channel is full. The sender must not touch the item afterwards.

        Raises:
            ReceiverClosed: The receiver wants no more. The sender still owns the item; so with all that follow.
            Aborted: The run was aborted, before or while waiting.
            RuntimeError: The sender had called `finish`.
        """
        with self._lock:
            if len(self._items) >= self.capacity and self._state is _State.OPEN:
                self._send_waits.start()
                try:
                    while len(self._items) >= self.capacity and self._state is _State.OPEN:
                        self._has_room.wait()
                finally:
                    self._send_waits.stop()
            if self._state is _State.ABORTED:
                raise Aborted(f"channel {self.name} was aborted")
            if self._state is _State.CLOSED:
                raise ReceiverClosed(f"the receiver of channel {self.name} has closed it")
            if self._state is _State.FINISHED:
                raise RuntimeError(f"send() on channel {self.name} after finish()")
            self._moved_at_s = self._time_depth()
            self._items.append(item)
            self._sent += 1
            self._peak = max(self._peak, len(self._items))
            if self._depths is not None:
                self._depths.append((self._moved_at_s, len(self._items)))
            self._has_item.notify()

    def receive(self) -> T:
        """Take the oldest item; blocks while the channel is empty. The receiver owns the item from then on.

        Raises:
            EndOfStream: The sender has finished and nothing is left; again at every later call.
            Aborted: The run was aborted, before or while waiting; queued items are gone.
            RuntimeError: The receiver had called `close`.
        """
        with self._lock:
            if not self._items and self._state is _State.OPEN:
                self._receive_waits.start()
                try:
                    while not self._items and self._state is _State.OPEN:
                        self._has_item.wait()
                finally:
                    self._receive_waits.stop()
            if self._state is _State.ABORTED:
                raise Aborted(f"channel {self.name} was aborted")
            if self._state is _State.CLOSED:
                raise RuntimeError(f"receive() on channel {self.name} after close()")
            if not self._items:
                raise EndOfStream(f"channel {self.name} has ended")
            self._moved_at_s = self._time_depth()
            item = self._items.popleft()
            self._received += 1
            if self._depths is not None:
                self._depths.append((self._moved_at_s, len(self._items)))
            self._has_room.notify()
            return item

    def __iter__(self) -> Iterator[T]:
        """The items until the end of the stream; see `ChannelIterator`."""
        return ChannelIterator(self)

    def finish(self) -> None:
        """Sender: nothing follows. What is queued can still be received."""
        self._advance(_State.FINISHED)

    def close(self) -> None:
        """Receiver: nothing more is wanted. What is queued is dropped."""
        self._drop_all(self._advance(_State.CLOSED))

    def abort(self) -> None:
        """Anyone: the run ends now. What is queued is dropped; both sides get `Aborted`."""
        self._drop_all(self._advance(_State.ABORTED))

    def snapshot(self) -> ChannelSnapshot:
        """The counters now, waits that are under way included."""
        with self._lock:
            self._time_depth()
            return ChannelSnapshot(
                name=self.name,
                capacity=self.capacity,
                depth=len(self._items),
                peak=self._peak,
                sent=self._sent,
                received=self._received,
                occupancy=self._occupied_s / self._open_s if self._open_s > 0 else 0.0,
                full=self._full_s / self._open_s if self._open_s > 0 else 0.0,
                state=self._state.name.lower(),
                open_s=self._open_s,
                send_wait_s=self._send_waits.total_s(),
                receive_wait_s=self._receive_waits.total_s(),
                send_wait_p50_s=self._send_waits.quantile_s(0.5, calls=self._sent),
                send_wait_p99_s=self._send_waits.quantile_s(0.99, calls=self._sent),
                receive_wait_p50_s=self._receive_waits.quantile_s(0.5, calls=self._received),
                receive_wait_p99_s=self._receive_waits.quantile_s(0.99, calls=self._received),
                is_sender_waiting=self._send_waits.is_waiting,
                is_receiver_waiting=self._receive_waits.is_waiting,
            )

    def depths(self) -> tuple[tuple[float, int], ...]:
        """When the number of waiting items changed, and the number from then on; nothing without a history."""
        return tuple(self._depths or ())

    def send_waits(self) -> tuple[tuple[float, float], ...]:
        """When the sender was blocked; nothing without a history."""
        return self._send_waits.spans()

    def receive_waits(self) -> tuple[tuple[float, float], ...]:
        """When the receiver was blocked; nothing without a history."""
        return self._receive_waits.spans()

    def _advance(self, state: _State) -> list[T]:
        """Enter ``state`` unless a stronger one holds, wake both sides, and return the items that nobody will get.

        Both sides are woken even if nothing changed: a call that an exception cut short can be repeated.
        """
        with self._lock:
            self._time_depth()
            self._state = max(self._state, state)
            dropped: list[T] = []
            if self._state >= _State.CLOSED:
                dropped.extend(self._items)
                self._items.clear()
                if self._depths is not None and dropped:
                    self._depths.append((self._timed_at_s, 0))
            self._has_item.notify_all()
            self._has_room.notify_all()
            return dropped

    def _drop_all(self, items: Iterable[T]) -> None:
        """Give each item to ``drop``, oldest first, all of them even if one call raises."""
        if self._drop is None:
            return
        with ExitStack() as calls:
            for item in reversed(list(items)):
                calls.callback(self._drop, item)

    def _time_depth(self) -> float:
        """Add the time since the last change to the shares. Called under the lock before depth or state change.

        Time in which nothing could pass any more (closed, aborted, finished and drained) belongs to no share.
        """
        now_s = time.perf_counter()
        depth = len(self._items)
        if self._state is _State.OPEN or (self._state is _State.FINISHED and depth):
            span_s = now_s - self._timed_at_s
            self._open_s += span_s
            if depth:
                self._occupied_s += span_s
            if depth >= self.capacity:
                self._full_s += span_s
        self._timed_at_s = now_s
        return now_s


class ChannelIterator(Iterator[T]):
    """The items of a channel until the end of the stream; `Aborted` passes through, at every later call again.

    A class and not a generator: a generator that has raised answers ``StopIteration`` from then on, which a stage would
    take for the end of the stream, and flush a film that is cut short.
    """

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel[T]) -> None:
        self._channel = channel

    def __next__(self) -> T:
        try:
            return self._channel.receive()
        except EndOfStream:
            raise StopIteration from None
