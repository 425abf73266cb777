"""The channel's table of states, and what it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pipeline.graph.channel import Aborted, Channel, EndOfStream, ReceiverClosed

WAIT_S = 5.0


@contextmanager
def blocked(call: Callable[[], object], *, until: Callable[[], bool]) -> Iterator[list[object]]:
    """Run ``call`` in a thread, enter once it is blocked, and leave once it ended; the list gets what came of it."""
    outcome: list[object] = []

    def body() -> None:
        try:
            outcome.append(call())
        except (Aborted, EndOfStream, ReceiverClosed, RuntimeError) as exc:
            outcome.append(type(exc))

    thread = threading.Thread(target=body)
    thread.start()
    deadline_s = time.perf_counter() + WAIT_S
    while not until():
        assert time.perf_counter() < deadline_s, "the call did not block"
        time.sleep(0.001)
    yield outcome
    thread.join(WAIT_S)
    assert not thread.is_alive()


def full_channel(drop: Callable[[int], None] | None = None) -> Channel[int]:
    channel: Channel[int] = Channel("a->b", 2, drop)
    channel.send(1)
    channel.send(2)
    return channel


def sender_waits(channel: Channel[int]) -> Callable[[], bool]:
    return lambda: channel.snapshot().is_sender_waiting


def receiver_waits(channel: Channel[int]) -> Callable[[], bool]:
    return lambda: channel.snapshot().is_receiver_waiting


def test_items_arrive_in_order_and_the_end_is_final() -> None:
    channel = full_channel()
    channel.finish()
    assert [channel.receive(), channel.receive()] == [1, 2]
    for _ in range(2):
        with pytest.raises(EndOfStream):
            channel.receive()


def test_iterating_ends_with_the_stream_every_time() -> None:
    channel = full_channel()
    channel.finish()
    items = iter(channel)
    assert list(items) == [1, 2]
    assert list(items) == []


def test_an_aborted_iterator_never_looks_like_the_end() -> None:
    channel = full_channel()
    items = iter(channel)
    assert next(items) == 1
    channel.abort()
    for _ in range(3):
        with pytest.raises(Aborted):
            next(items)


def test_no_except_exception_catches_an_abort() -> None:
    assert not issubclass(Aborted, Exception)


def test_a_full_channel_blocks_the_sender_until_there_is_room() -> None:
    channel = full_channel()
    with blocked(lambda: channel.send(3), until=sender_waits(channel)) as outcome:
        assert channel.receive() == 1
    assert outcome == [None]
    assert [channel.receive(), channel.receive()] == [2, 3]


def test_an_empty_channel_blocks_the_receiver_until_something_comes() -> None:
    channel: Channel[int] = Channel("a->b", 1)
    with blocked(channel.receive, until=receiver_waits(channel)) as outcome:
        channel.send(7)
    assert outcome == [7]


@pytest.mark.parametrize(
    ("transition", "expected"), [("close", ReceiverClosed), ("abort", Aborted), ("finish", RuntimeError)]
)
def test_every_transition_wakes_a_blocked_sender(transition: str, expected: type[BaseException]) -> None:
    channel = full_channel()
    with blocked(lambda: channel.send(3), until=sender_waits(channel)) as outcome:
        getattr(channel, transition)()
    assert outcome == [expected]


@pytest.mark.parametrize(
    ("transition", "expected"), [("finish", EndOfStream), ("abort", Aborted), ("close", RuntimeError)]
)
def test_every_transition_wakes_a_blocked_receiver(transition: str, expected: type[BaseException]) -> None:
    channel: Channel[int] = Channel("a->b", 1)
    with blocked(channel.receive, until=receiver_waits(channel)) as outcome:
        getattr(channel, transition)()
    assert outcome == [expected]


def test_sending_after_finish_is_a_bug() -> None:
    channel: Channel[int] = Channel("a->b", 1)
    channel.finish()
    with pytest.raises(RuntimeError, match=r"send\(\) on channel a->b after finish"):
        channel.send(1)


def test_receiving_after_close_is_a_bug() -> None:
    channel: Channel[int] = Channel("a->b", 1)
    channel.close()
    with pytest.raises(RuntimeError, match=r"receive\(\) on channel a->b after close"):
        channel.receive()


def test_closed_outweighs_finished_and_aborted_outweighs_both() -> None:
    channel: Channel[int] = Channel("a->b", 1)
    channel.finish()
    channel.close()
    with pytest.raises(ReceiverClosed):
        channel.send(1)
    channel.abort()
    channel.close()
    channel.finish()
    for call in (lambda: channel.send(1), channel.receive):
        with pytest.raises(Aborted):
            call()


@pytest.mark.parametrize("transition", ["close", "abort"])
def test_what_nobody_will_receive_is_dropped_once_oldest_first(transition: str) -> None:
    dropped: list[int] = []
    channel = full_channel(dropped.append)
    getattr(channel, transition)()
    getattr(channel, transition)()
    channel.abort()
    assert dropped == [1, 2]


def test_dropping_happens_outside_the_lock() -> None:
    depths: list[int] = []
    channel: Channel[int] = Channel("a->b", 2, lambda _: depths.append(channel.snapshot().depth))
    channel.send(1)
    channel.close()
    assert depths == [0]


def test_an_item_that_cannot_be_dropped_does_not_keep_the_others() -> None:
    dropped: list[int] = []

    def drop(item: int) -> None:
        dropped.append(item)
        if item == 1:
            raise LookupError(item)

    channel = full_channel(drop)
    with pytest.raises(LookupError):
        channel.abort()
    assert dropped == [1, 2]


def test_a_refused_item_stays_with_the_sender() -> None:
    dropped: list[int] = []
    channel: Channel[int] = Channel("a->b", 1, dropped.append)
    channel.close()
    with pytest.raises(ReceiverClosed):
        channel.send(1)
    assert dropped == []


def test_a_channel_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Channel("a->b", 0)


def test_counts_depth_and_peak() -> None:
    channel = full_channel()
    channel.receive()
    snapshot = channel.snapshot()
    assert (snapshot.name, snapshot.capacity, snapshot.state) == ("a->b", 2, "open")
    assert (snapshot.sent, snapshot.received, snapshot.depth, snapshot.peak) == (2, 1, 1, 2)


def test_shares_of_time_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty for 1 s, one item for 2 s, full for 3 s, one item for 4 s; what follows the drained end does not count."""
    now_s = 100.0
    monkeypatch.setattr("pipeline.graph.channel.time.perf_counter", lambda: now_s)
    channel: Channel[int] = Channel("a->b", 2)
    now_s += 1
    channel.send(1)
    now_s += 2
    channel.send(2)
    now_s += 3
    channel.receive()
    channel.finish()
    now_s += 4
    assert channel.moved_at_s == 106
    channel.receive()
    now_s += 50
    snapshot = channel.snapshot()
    assert snapshot.open_s == pytest.approx(10)
    assert snapshot.occupancy == pytest.approx(0.9)
    assert snapshot.full == pytest.approx(0.3)


def test_shares_of_a_channel_that_had_no_time_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.graph.channel.time.perf_counter", lambda: 1.0)
    snapshot = Channel[int]("a->b", 1).snapshot()
    assert (snapshot.occupancy, snapshot.full) == (0, 0)


def test_waits_are_counted_while_they_last_and_after() -> None:
    channel: Channel[int] = Channel("a->b", 1)
    with blocked(channel.receive, until=receiver_waits(channel)):
        time.sleep(0.02)
        during_s = channel.snapshot().receive_wait_s
        assert during_s >= 0.02
        channel.send(1)
    after = channel.snapshot()
    assert after.receive_wait_s >= during_s
    assert not after.is_receiver_waiting
    assert after.receive_wait_p50_s >= after.receive_wait_s
    assert after.receive_wait_p50_s == pytest.approx(after.receive_wait_s, rel=0.125, abs=2e-6)
    assert after.send_wait_s == after.send_wait_p99_s == 0


def test_two_threads_pass_everything_in_order() -> None:
    channel: Channel[int] = Channel("a->b", 3)

    def produce() -> None:
        for item in range(5000):
            channel.send(item)
        channel.finish()

    thread = threading.Thread(target=produce)
    thread.start()
    assert list(channel) == list(range(5000))
    thread.join(WAIT_S)
    assert not thread.is_alive()
