"""The supervisor on its own: interrupts while it joins, the deadline, and what it says."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable

import pytest

from pipeline.graph.metrics import ChannelSnapshot, GraphSnapshot, StageSnapshot
from pipeline.graph.watch import EXIT_STUCK, Supervisor, describe_stacks, describe_states, exit_stuck


class FakeRun:
    """A run that is over once its thread is."""

    def __init__(self, body: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=body, name="stage:fake[0]")
        self.is_abort_requested = False
        self.aborted_at_s: float | None = None
        self.moved_at_s = time.perf_counter()
        self.cancelled = 0

    @property
    def threads(self) -> list[threading.Thread]:
        return [self.thread]

    @property
    def is_running(self) -> bool:
        return self.thread.is_alive()

    def snapshot(self) -> GraphSnapshot:
        return GraphSnapshot(elapsed_s=0, stages=(), channels=())

    def cancel(self) -> None:
        self.aborted_at_s = self.aborted_at_s or time.perf_counter()
        self.cancelled += 1
        if self.cancelled == 1:
            raise KeyboardInterrupt

    def fail(self, error: BaseException, *, where: str) -> None:
        raise error


class Exited(BaseException):
    """Stands for the end of the process."""


def make_supervisor(run: FakeRun, *, join_deadline_s: float) -> Supervisor:
    return Supervisor(run, on_snapshot=None, report_every_s=1, stall_timeout_s=60, join_deadline_s=join_deadline_s)


def test_an_interrupt_while_joining_starts_the_abort_again(caplog: pytest.LogCaptureFixture) -> None:
    run = FakeRun(lambda: time.sleep(0.05))
    supervisor = make_supervisor(run, join_deadline_s=5)
    run.thread.start()
    threading.Thread(target=lambda: (run.thread.join(), supervisor.wake())).start()
    supervisor.join()
    assert not run.thread.is_alive()
    assert run.cancelled == 2
    assert "ending already" in caplog.text


def test_past_the_deadline_the_stacks_are_written_and_the_process_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dumped: list[dict[str, object]] = []
    monkeypatch.setattr(faulthandler, "dump_traceback", lambda **arguments: dumped.append(arguments))

    def leave(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(os, "_exit", leave)
    gate = threading.Event()
    run = FakeRun(gate.wait)
    run.thread.start()
    try:
        with pytest.raises(Exited) as caught:
            make_supervisor(run, join_deadline_s=0.05).join()
    finally:
        gate.set()
        run.thread.join(5)
    assert caught.value.args == (EXIT_STUCK,)
    assert dumped == [{"file": 2, "all_threads": True}]
    assert "did not end within 0.05 s of the abort: stage:fake[0]" in caplog.text


def test_the_exit_is_logged_before_it_happens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(faulthandler, "dump_traceback", lambda **_: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    with caplog.at_level(logging.CRITICAL):
        exit_stuck(["stage:a[0]", "stage:b[1]"], deadline_s=30)
    assert codes == [70]
    assert "did not end within 30 s of the abort: stage:a[0], stage:b[1]" in caplog.text


def test_stacks_are_those_of_living_threads_only() -> None:
    gate, is_inside = threading.Event(), threading.Event()

    def wait_in_here() -> None:
        is_inside.set()
        gate.wait()

    living, never = threading.Thread(target=wait_in_here, name="living"), threading.Thread(name="never")
    living.start()
    is_inside.wait(5)
    text = describe_stacks([living, never])
    gate.set()
    living.join(5)
    assert "Thread living:" in text
    assert "wait_in_here" in text
    assert "never" not in text
    assert describe_stacks([living]) == ""


def test_states_have_a_line_per_stage_and_channel() -> None:
    stage = StageSnapshot(
        name="a", state="waiting", items_in=1, items_out=2, elapsed_s=9, wait_in_s=1.26, wait_out_s=2, wait_buffer_s=3
    )
    channel = ChannelSnapshot(
        name="a->b", capacity=4, depth=3, peak=4, sent=8, received=5, occupancy=1, full=0.5, state="open"
    )
    assert describe_states(GraphSnapshot(elapsed_s=9, stages=(stage,), channels=(channel,))) == (
        "stage a: waiting, 1 in, 2 out, waited 1.3 s for input, 2.0 s for room, 3.0 s for a buffer",
        "channel a->b: open, 3 of 4 waiting, 8 sent, 5 received",
    )
