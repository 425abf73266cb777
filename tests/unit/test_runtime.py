"""What run_graph promises beyond the fault matrix: results, figures, reports, interrupts, deadlines, signals."""

from __future__ import annotations

import gc
import logging
import math
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import CollectSink, CountingPool, CountSource, Forward, Item, ListSource, release
from helpers.faults import ActAt, FailAt, HangAt, ReturnAt, SlowEvery

from pipeline.errors import GraphFailed, StallError
from pipeline.frames import FrameStamp, TileBatch, TileSlot
from pipeline.graph.channel import Aborted
from pipeline.graph.metrics import GraphSnapshot, find_bottleneck
from pipeline.graph.runtime import StopToken, run_graph

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter: for signals and for the end of a process."""
    preamble = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", preamble + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def live_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("stage:", "abort-hooks"))]


class Endless:
    """A source without an end."""

    name = "endless"

    def run(self) -> Iterator[Item]:
        index = 0
        while True:
            yield Item(index=index)
            index += 1


def test_everything_passes_in_order_and_is_counted() -> None:
    pool, sink = CountingPool(3), CollectSink()
    snapshot = run_graph([CountSource(50, pool=pool), Forward(), sink], capacities=(1, 3), pools=[pool], drop=release)
    assert sink.indices == list(range(50))
    assert [(s.name, s.state, s.items_in, s.items_out) for s in snapshot.stages] == [
        ("source", "done", 0, 50),
        ("forward", "done", 50, 50),
        ("sink", "done", 50, 0),
    ]
    assert [(c.name, c.capacity, c.sent, c.received, c.depth) for c in snapshot.channels] == [
        ("source->forward", 1, 50, 50, 0),
        ("forward->sink", 3, 50, 50, 0),
    ]
    assert snapshot.pool_bytes == pool.bytes
    assert not snapshot.was_stopped
    assert (pool.acquired, pool.out_count) == (50, 0)


def test_an_empty_source_is_a_whole_run() -> None:
    sink = CollectSink()
    assert run_graph([CountSource(0), sink]).channels[0].sent == 0
    assert sink.indices == []


def test_a_plain_iterator_will_do_for_a_generator() -> None:
    class Plain(Forward):
        def run(self, items: Iterator[Item]) -> Iterator[Item]:
            return filter(None, items)

    sink = CollectSink()
    run_graph([CountSource(5), Plain(), sink])
    assert sink.indices == list(range(5))


def test_waits_and_work_are_told_apart() -> None:
    """A slow middle: the source waits for room, the sink for work, and the middle is the bottleneck."""
    snapshot = run_graph([CountSource(40), Forward(fault=SlowEvery(1, sleep_s=0.005)), CollectSink()], capacities=4)
    source, middle, sink = snapshot.stages
    assert source.wait_out_s > 0.1
    assert sink.wait_in_s > 0.15
    assert middle.busy_s > 0.19
    assert middle.load > max(source.load, sink.load)
    assert find_bottleneck(snapshot).stage == "forward"


def test_waiting_for_a_buffer_belongs_to_the_stage_that_waits() -> None:
    pool = CountingPool(1)
    sink = CollectSink(fault=SlowEvery(1, sleep_s=0.005))
    snapshot = run_graph([CountSource(20, pool=pool), sink], pools=[pool], drop=release)
    assert snapshot.stages[0].wait_buffer_s > 0.05
    assert snapshot.stages[0].busy_s < 0.05
    assert snapshot.stages[1].wait_buffer_s == 0


def test_figures_stand_still_after_the_end() -> None:
    seen: list[GraphSnapshot] = []
    final = run_graph([CountSource(3), CollectSink()], on_snapshot=seen.append)
    assert seen[-1] == final


def test_reports_come_from_the_calling_thread_at_the_interval() -> None:
    callers: list[tuple[threading.Thread, GraphSnapshot]] = []
    run_graph(
        [CountSource(30), CollectSink(fault=SlowEvery(1, sleep_s=0.01))],
        on_snapshot=lambda snapshot: callers.append((threading.current_thread(), snapshot)),
        report_every_s=0.05,
    )
    assert {thread for thread, _ in callers} == {threading.current_thread()}
    assert 3 <= len(callers) <= 30
    sent = [snapshot.channels[0].sent for _, snapshot in callers]
    assert sent == sorted(sent)
    assert callers[0][1].stages[0].state == "waiting"


def test_a_failed_run_reports_its_end_too() -> None:
    seen: list[GraphSnapshot] = []
    with pytest.raises(GraphFailed):
        run_graph([CountSource(3), CollectSink(fault=FailAt(1, ValueError()))], on_snapshot=seen.append)
    assert seen[-1].stages[-1].state == "failed"


def test_a_report_that_fails_ends_the_run_and_gets_out() -> None:
    def report(_: GraphSnapshot) -> None:
        raise LookupError("display")

    with pytest.raises(LookupError, match="display"):
        run_graph([Endless(), CollectSink()], on_snapshot=report, report_every_s=0.01)
    assert not live_threads()


def test_a_cut_stage_is_told_apart_from_a_finished_one() -> None:
    snapshot = run_graph([Endless(), Forward(), CollectSink(fault=ReturnAt(7))])
    assert [stage.state for stage in snapshot.stages] == ["cut", "cut", "done"]


def test_what_no_stage_gets_is_dropped_once() -> None:
    dropped: list[int] = []
    snapshot = run_graph(
        [CountSource(100), Forward(), CollectSink(fault=ReturnAt(3))], drop=lambda item: dropped.append(item.index)
    )
    sent_first, sent_second = (channel.sent for channel in snapshot.channels)
    received_first, received_second = (channel.received for channel in snapshot.channels)
    refused = len(dropped) - (sent_first - received_first) - (sent_second - received_second)
    assert len(dropped) == len(set(dropped))
    assert 0 <= refused <= 2


def test_an_item_that_cannot_be_dropped_fails_the_run() -> None:
    def drop(item: Item) -> None:
        raise LookupError(f"cannot drop {item.index}")

    with pytest.raises(GraphFailed) as caught:
        run_graph([Endless(), CollectSink(fault=ReturnAt(3))], capacities=1, drop=drop)
    assert all(isinstance(exc, LookupError) for exc in caught.value.exceptions)
    assert not live_threads()


def test_an_item_that_cannot_be_dropped_does_not_stop_the_abort() -> None:
    def drop(item: Item) -> None:
        raise LookupError(f"cannot drop {item.index}")

    with pytest.raises(GraphFailed) as caught:
        run_graph([Endless(), Forward(), CollectSink(fault=FailAt(3, ValueError("cause")))], drop=drop)
    assert str(caught.value.exceptions[0]) == "cause"
    assert not live_threads()


def test_a_sink_that_yields_is_refused_when_it_returns() -> None:
    class Lazy:
        name = "lazy"

        def run(self, items: Iterator[Item]) -> Any:
            return (item for item in items)

    with pytest.raises(GraphFailed) as caught:
        run_graph([CountSource(3), Lazy()])
    assert "run() of sink 'lazy' returned a generator" in str(caught.value.exceptions[0])


def test_a_wrong_graph_is_refused_before_anything_starts() -> None:
    started: list[int] = []
    source = CountSource(1, fault=ActAt(0, lambda: started.append(1)))
    with pytest.raises(ValueError, match="capacities"):
        run_graph([source, CollectSink()], capacities=0)
    with pytest.raises(ValueError, match="report_every_s"):
        run_graph([source, CollectSink()], report_every_s=0)
    assert started == []


def test_notes_give_seconds_where_the_time_base_is_known() -> None:
    with pytest.raises(GraphFailed) as caught:
        run_graph([CountSource(9), CollectSink(fault=FailAt(3, ValueError()))], time_base=Fraction(1, 1000))
    assert caught.value.exceptions[0].__notes__ == ["stage 'sink', after item 3 (pts 0.120 s)"]


def test_notes_name_the_last_frame_of_a_batch() -> None:
    slots = tuple(TileSlot(stamp=FrameStamp(index=i, pts=i * 2), tile=0) for i in (4, 5))

    class Broken:
        name = "broken"

        def run(self, items: Iterator[TileBatch]) -> None:
            next(items)
            raise ValueError

    with pytest.raises(GraphFailed, match=r"stage 'broken', after item 5 \(pts 10\)"):
        run_graph([ListSource([TileBatch(tiles=None, slots=slots)]), Broken()])


def test_notes_count_items_without_a_stamp() -> None:
    class Broken:
        name = "broken"

        def run(self, items: Iterator[int]) -> None:
            for item in items:
                if item == 2:
                    raise ValueError

    with pytest.raises(GraphFailed, match="stage 'broken', after 3 items"):
        run_graph([ListSource([0, 1, 2, 3]), Broken()])


def test_a_stall_tells_what_everyone_did(caplog: pytest.LogCaptureFixture) -> None:
    stop = StopToken()
    gate = threading.Event()

    def hang_here() -> None:
        with stop.on_abort(gate.set):
            gate.wait()

    with caplog.at_level(logging.ERROR), pytest.raises(GraphFailed) as caught:
        run_graph([CountSource(9), CollectSink(fault=HangAt(2, wait=hang_here))], stop=stop, stall_timeout_s=0.15)
    (stall,) = caught.value.exceptions
    assert isinstance(stall, StallError)
    assert "no item moved for 0.15 s" in str(stall)
    assert stall.states[0].startswith("stage source: waiting, 0 in, ")
    assert stall.states[1].startswith("stage sink: running, 3 in, 0 out")
    assert stall.states[2] == "channel source->sink: open, 4 of 4 waiting, 7 sent, 3 received"
    assert "hang_here" in caplog.text
    assert "stage:sink[1]" in caplog.text


def test_a_stage_that_announces_silence_is_not_stalled() -> None:
    stop = StopToken()

    def build_engine() -> None:
        with stop.expect_silence():
            time.sleep(0.3)

    sink = CollectSink(fault=ActAt(2, build_engine))
    run_graph([CountSource(9), sink], stop=stop, stall_timeout_s=0.15)
    assert sink.indices == list(range(9))


def test_the_stall_watch_can_be_turned_off() -> None:
    sink = CollectSink(fault=SlowEvery(1, sleep_s=0.01))
    run_graph([CountSource(5), sink], stall_timeout_s=math.inf)
    assert sink.indices == list(range(5))


def test_an_aborted_token_starts_nothing() -> None:
    stop, sink = StopToken(), CollectSink()
    stop.abort()
    with pytest.raises(Aborted):
        run_graph([CountSource(5), sink], stop=stop)
    assert sink.indices == []


def test_an_abort_is_never_taken_for_a_stop() -> None:
    """However soon the source sees it: the run is aborted, not ended early and whole."""
    for _ in range(100):
        stop = StopToken()
        with pytest.raises(Aborted):
            run_graph([Endless(), CollectSink(fault=ActAt(3, stop.abort))], stop=stop)


def test_one_token_ends_several_runs() -> None:
    stop = StopToken()
    outcomes: list[type[BaseException]] = []

    def run() -> None:
        try:
            run_graph([Endless(), CollectSink()], stop=stop)
        except Aborted:
            outcomes.append(Aborted)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    stop.abort()
    for thread in threads:
        thread.join(5)
    assert outcomes == [Aborted, Aborted]


def test_a_token_can_be_used_again_after_a_failure() -> None:
    stop, sink = StopToken(), CollectSink()
    with pytest.raises(GraphFailed):
        run_graph([CountSource(5), CollectSink(fault=FailAt(1, ValueError()))], stop=stop)
    called: list[int] = []
    with stop.on_abort(lambda: called.append(1)):
        run_graph([CountSource(5), sink], stop=stop)
    assert (sink.indices, called) == ([0, 1, 2, 3, 4], [])


def test_an_abort_callback_that_fails_is_reported_after_the_cause() -> None:
    stop = StopToken()

    def broken() -> None:
        raise LookupError("callback")

    with stop.on_abort(broken), pytest.raises(GraphFailed) as caught:
        run_graph([CountSource(5), CollectSink(fault=FailAt(1, ValueError("cause")))], stop=stop)
    assert [str(exc) for exc in caught.value.exceptions] == ["cause", "callback"]
    assert "calling the abort callbacks" in caught.value.exceptions[1].__notes__


def refuse_threads(monkeypatch: pytest.MonkeyPatch, *, named: str) -> None:
    start = threading.Thread.start

    def refusing(self: threading.Thread) -> None:
        if self.name.startswith(named):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refusing)


def test_a_thread_that_cannot_start_ends_those_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, named="stage:source")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run_graph([CountSource(5), Forward(), CollectSink()])
    assert not live_threads()


def test_abort_callbacks_run_even_without_a_thread_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, named="abort-hooks")
    stop, gate, is_hanging = StopToken(), threading.Event(), threading.Event()

    def hang() -> None:
        with stop.on_abort(gate.set):
            is_hanging.set()
            gate.wait()

    def fail() -> None:
        is_hanging.wait(5)
        raise ValueError("cause")

    with pytest.raises(GraphFailed) as caught:
        run_graph([CountSource(9, fault=HangAt(1, wait=hang)), CollectSink(fault=ActAt(0, fail))], stop=stop)
    assert [str(exc) for exc in caught.value.exceptions] == ["cause"]
    assert gate.is_set()


def test_the_runtime_keeps_no_item_alive_that_it_handed_on() -> None:
    """While a source makes the next item, the last one belongs to the next stage alone."""
    alive: list[int] = []
    consumed = threading.Semaphore(0)
    references: list[weakref.ref[Any]] = []

    class Thing:
        pass

    class Maker:
        name = "maker"

        def run(self) -> Iterator[Thing]:
            for _ in range(5):
                thing = Thing()
                references.append(weakref.ref(thing))
                yield thing
                del thing
                assert consumed.acquire(timeout=5)
                alive.append(sum(reference() is not None for reference in references))

    class Eater:
        name = "eater"

        def run(self, things: Iterator[Thing]) -> None:
            for thing in things:
                del thing
                consumed.release()

    run_graph([Maker(), Eater()])
    assert alive == [0] * 5


def test_a_failed_run_is_freed_with_its_error() -> None:
    gc.collect()
    pool = CountingPool(3)
    reference = weakref.ref(pool)
    with pytest.raises(GraphFailed):
        run_graph([CountSource(9, pool=pool), CollectSink(fault=FailAt(4, ValueError()))], pools=[pool])
    del pool
    gc.collect()
    assert reference() is None


PREAMBLE = """
    import os, signal, threading, time
    from helpers.fakes import CollectSink, CountSource, Forward
    from helpers.faults import ActAt, SlowEvery
    from pipeline.graph.channel import Aborted
    from pipeline.graph.runtime import StopToken, run_graph

    class Endless:
        name = "endless"
        def run(self):
            index = 0
            while True:
                yield index
                index += 1

    class Eater:
        name = "eater"
        def __init__(self, act=lambda index: None):
            self.act, self.count = act, 0
        def run(self, items):
            for index in items:
                self.count += 1
                self.act(index)

    def no_threads():
        assert [t.name for t in threading.enumerate()] == ["MainThread"], threading.enumerate()
"""


def test_ctrl_c_ends_everything_and_is_raised_again() -> None:
    result = run_python(
        PREAMBLE
        + """
    sink = Eater(lambda index: os.kill(os.getpid(), signal.SIGINT) if index == 50 else None)
    try:
        run_graph([Endless(), sink])
    except KeyboardInterrupt:
        no_threads()
        print("interrupted")
    """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\n", "")


def test_a_second_ctrl_c_does_not_leave_threads_behind() -> None:
    """It comes while the first one waits for a stage that needs its time to end."""
    result = run_python(
        PREAMBLE
        + """
    class Slow(Eater):
        def run(self, items):
            try:
                super().run(items)
            finally:
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
    try:
        run_graph([Endless(), Slow(lambda index: os.kill(os.getpid(), signal.SIGINT) if index == 50 else None)])
    except KeyboardInterrupt:
        no_threads()
        print("interrupted")
    """
    )
    assert (result.returncode, result.stdout) == (0, "interrupted\n")
    assert "ending already" in result.stderr


@pytest.mark.parametrize(("method", "outcome"), [("stop", "stopped True"), ("abort", "aborted")])
def test_signal_handlers_can_end_a_run_while_it_reports(method: str, outcome: str) -> None:
    """A shower of signals over a main thread that takes every lock it can: no deadlock, whatever it interrupts."""
    result = run_python(
        PREAMBLE
        + f"""
    stop, seen = StopToken(), []
    def handler(number, frame):
        seen.append(number)
        with stop.on_abort(lambda: None):
            pass
        if len(seen) >= 200:
            stop.{method}()
    signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    def shower():
        while not done.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)
            time.sleep(1e-4)
    done = threading.Event()
    thread = threading.Thread(target=shower)
    thread.start()
    try:
        result = run_graph([Endless(), Eater()], stop=stop, on_snapshot=lambda s: None, report_every_s=1e-4)
        print("stopped", result.was_stopped)
    except Aborted:
        print("aborted")
    done.set()
    thread.join()
    no_threads()
    """
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, outcome, "")


def test_an_abort_from_a_signal_handler_wakes_a_run_where_nothing_moves() -> None:
    result = run_python(
        PREAMBLE
        + """
    stop = StopToken()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.abort())
    class Stuck:
        name = "stuck"
        def run(self):
            gate = threading.Event()
            with stop.on_abort(gate.set):
                os.kill(os.getpid(), signal.SIGTERM)
                gate.wait()
            yield 1
    began_s = time.perf_counter()
    try:
        run_graph([Stuck(), Eater()], stop=stop)
    except Aborted:
        print("aborted", time.perf_counter() - began_s < 2)
    no_threads()
    """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "aborted True\n", "")


STUCK: dict[str, str] = {
    "stage": """
    run_graph([Endless(), Eater(stuck_here)], join_deadline_s=0.3, stall_timeout_s=0.1)
    """,
    "callback": """
    def fail(index):
        raise ValueError
    with stop.on_abort(lambda: stuck_here(0)):
        run_graph([Endless(), Eater(fail)], stop=stop, join_deadline_s=0.3)
    """,
}


@pytest.mark.parametrize("case", STUCK.values(), ids=STUCK.keys())
def test_threads_that_do_not_end_cost_the_process_its_life(case: str) -> None:
    """Exit code 70 with all stacks, a little after the deadline."""
    result = run_python(
        PREAMBLE
        + """
    stop = StopToken()
    def stuck_here(index):
        while True:
            time.sleep(0.05)
    """
        + textwrap.indent(textwrap.dedent(case), "    ")
    )
    assert result.returncode == 70
    assert "did not end within 0.3 s of the abort" in result.stderr
    assert "in stuck_here" in result.stderr


def test_stage_threads_are_never_daemons() -> None:
    """Not even where the caller is one."""
    daemons: list[bool] = []
    sink = CollectSink(fault=ActAt(0, lambda: daemons.append(threading.current_thread().daemon)))
    thread = threading.Thread(target=lambda: run_graph([CountSource(1), sink]), daemon=True)
    thread.start()
    thread.join(5)
    assert daemons == [False]
