"""One network for several threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pytest

from engines import find_model
from engines.errors import InferenceFailed
from engines.spec import RunnerSpec
from pipeline.graph.shared_runner import SharedRunner


class FakeCompletion:
    def __init__(self, runner: FakeRunner, number: int) -> None:
        self._runner = runner
        self.number = number
        self.waits = 0

    def wait(self) -> None:
        self.waits += 1
        assert self.waits == 1, "the same inference was waited for twice"
        assert self in self._runner.busy, "waited for an inference whose buffers serve another one"
        time.sleep(0.001)
        if self.number == self._runner.fails_at:
            raise InferenceFailed(f"inference {self.number}")


class FakeRunner:
    """Takes turns on its slots as real ones do, and finds out whether it is used rightly."""

    def __init__(self, slots: int, *, fails_at: int | None = None) -> None:
        self.spec = RunnerSpec(
            model=find_model("nearest-x2"),
            backend="fake",
            device="",
            precision="fp32",
            batch=1,
            height=1,
            width=1,
            scale=2,
            slots=slots,
        )
        self.fails_at = fails_at
        self.busy: deque[FakeCompletion] = deque()
        self.count = 0
        self.streams: list[Any] = []
        self._is_inside = False

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> FakeCompletion:
        assert not self._is_inside, "two threads at once"
        self._is_inside = True
        time.sleep(0.0005)
        if stream is not None:
            self.streams.append(stream)
        elif len(self.busy) == self.spec.slots:
            assert self.busy.popleft().waits == 1, "the oldest inference was not waited for"
        out[...] = tiles
        completion = FakeCompletion(self, self.count)
        self.count += 1
        self.busy.append(completion)
        self._is_inside = False
        return completion


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("lane_count", [1, 2, 5])
def test_lanes_share_the_network_safely_and_evenly(slots: int, lane_count: int) -> None:
    runner = FakeRunner(slots)
    shared = SharedRunner(runner, lane_count=lane_count)  # type: ignore[arg-type]
    order: list[int] = []
    problems: list[BaseException] = []
    together = threading.Barrier(lane_count)

    def work(lane: int) -> None:
        network = shared.open_lane()
        flying: deque[Any] = deque()
        together.wait(20)
        try:
            for number in range(20):
                tile, out = np.full(1, lane * 100 + number), np.zeros(1, int)
                flying.append((network.infer(tile, out=out), out, tile))
                order.append(lane)
                if len(flying) == network.spec.slots:
                    completion, out, tile = flying.popleft()
                    completion.wait()
                    assert out == tile
            for completion, _, _ in flying:
                completion.wait()
        except BaseException as exc:  # noqa: BLE001 - a thread's
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(lane_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not problems
    assert runner.count == 20 * lane_count
    assert -(-slots // lane_count) == shared.lane_spec.slots
    half = order[: len(order) // 2]
    assert all(half.count(lane) >= 3 for lane in range(lane_count)), "one lane was starved"


def test_a_failed_inference_is_its_own_lanes() -> None:
    shared = SharedRunner(FakeRunner(1, fails_at=0), lane_count=2)  # type: ignore[arg-type]
    first, second = shared.open_lane(), shared.open_lane()
    failed = first.infer(np.zeros(1), out=np.zeros(1))
    fine = second.infer(np.zeros(1), out=np.zeros(1))  # its slot was the other's
    fine.wait()
    for _ in range(2):
        with pytest.raises(InferenceFailed, match="inference 0"):
            failed.wait()


def test_what_a_stream_orders_waits_for_nobody() -> None:
    runner = FakeRunner(1)
    network = SharedRunner(runner, lane_count=2).open_lane()  # type: ignore[arg-type]
    for stream in (11, 22, 33):
        network.infer(np.zeros(1), out=np.zeros(1), stream=stream)
    assert runner.streams == [11, 22, 33]
    assert all(completion.waits == 0 for completion in runner.busy)


def test_closing_a_lane_leaves_the_network_open() -> None:
    runner = FakeRunner(1)
    shared = SharedRunner(runner, lane_count=2)  # type: ignore[arg-type]
    with shared.open_lane():
        pass
    shared.open_lane().infer(np.zeros(1), out=np.zeros(1)).wait()
