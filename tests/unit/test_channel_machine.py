"""Any sequence of calls on a channel, against a model made of a deque and three flags."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.graph.channel import Aborted, Channel, EndOfStream, ReceiverClosed


class ChannelMachine(RuleBasedStateMachine):
    """Calls that would block are not made: blocking is tested in test_channel."""

    @initialize(capacity=st.integers(1, 4))
    def begin(self, capacity: int) -> None:
        self.capacity = capacity
        self.dropped: list[int] = []
        self.channel: Channel[int] = Channel("model", capacity, self.dropped.append)
        self.queue: deque[int] = deque()
        self.model_dropped: list[int] = []
        self.sent = self.received = self.peak = 0
        self.is_finished = self.is_closed = self.is_aborted = False

    def over(self) -> bool:
        return self.is_finished or self.is_closed or self.is_aborted

    @precondition(lambda self: self.over() or len(self.queue) < self.capacity)
    @rule()
    def send(self) -> None:
        expected: type[BaseException] | None = None
        if self.is_aborted:
            expected = Aborted
        elif self.is_closed:
            expected = ReceiverClosed
        elif self.is_finished:
            expected = RuntimeError
        if expected is not None:
            with pytest.raises(expected):
                self.channel.send(self.sent)
            return
        self.channel.send(self.sent)
        self.queue.append(self.sent)
        self.sent += 1
        self.peak = max(self.peak, len(self.queue))

    @precondition(lambda self: self.over() or self.queue)
    @rule()
    def receive(self) -> None:
        expected: type[BaseException] | None = None
        if self.is_aborted:
            expected = Aborted
        elif self.is_closed:
            expected = RuntimeError
        elif not self.queue:
            expected = EndOfStream
        if expected is not None:
            with pytest.raises(expected):
                self.channel.receive()
            return
        assert self.channel.receive() == self.queue.popleft()
        self.received += 1

    @rule()
    def finish(self) -> None:
        self.channel.finish()
        self.is_finished = True

    @rule()
    def close(self) -> None:
        self.channel.close()
        self.is_closed = True
        self._drop()

    @rule()
    def abort(self) -> None:
        self.channel.abort()
        self.is_aborted = True
        self._drop()

    def _drop(self) -> None:
        self.model_dropped.extend(self.queue)
        self.queue.clear()

    @invariant()
    def counters_agree(self) -> None:
        snapshot = self.channel.snapshot()
        assert (snapshot.sent, snapshot.received, snapshot.depth) == (self.sent, self.received, len(self.queue))
        assert snapshot.peak == self.peak <= self.capacity
        assert 0 <= snapshot.full <= snapshot.occupancy <= 1
        expected = "open"
        for name, holds in (("finished", self.is_finished), ("closed", self.is_closed), ("aborted", self.is_aborted)):
            expected = name if holds else expected
        assert snapshot.state == expected

    @invariant()
    def every_item_has_exactly_one_end(self) -> None:
        assert self.dropped == self.model_dropped
        assert self.sent == self.received + len(self.queue) + len(self.dropped)


ChannelMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)
TestChannelMachine = ChannelMachine.TestCase
