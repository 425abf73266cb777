"""The fault matrix: {source, each transform, sink} x {first, middle, last, flush, cleanup} x what can happen there.

That is: raise, run out of memory, hang in a pool, in a channel or in a registered wait, be slow, return early, and an
abort or a stop from outside.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest
from helpers.fakes import CollectSink, CountingPool, CountSource, Forward, Item, release
from helpers.faults import ActAt, FailAt, Fault, HangAt, Moment, ReturnAt, SlowEvery

from pipeline.errors import GraphFailed, StageInterrupted, StallError
from pipeline.graph.channel import Aborted, Channel
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.runtime import StopToken, run_graph

COUNT = 12
STAGES = ("source", "first", "second", "sink")
MOMENTS: tuple[Moment, ...] = (0, COUNT // 2, COUNT - 1, "flush", "cleanup")

every_stage = pytest.mark.parametrize("stage", STAGES)
every_moment = pytest.mark.parametrize("moment", MOMENTS)


class Bench:
    """A source, two transforms and a sink with one fault among them."""

    def __init__(self, *, capacity: int = 2) -> None:
        self.stop = StopToken()
        self.pool = CountingPool(8)
        self.dry = CountingPool(1, name="dry")
        self.dry_lease = self.dry.acquire()
        self.indices: list[int] = []
        self.capacity = capacity

    def run(
        self, stage: str, fault: Fault, *, stall_timeout_s: float = 30.0, boundary_every: int | None = None
    ) -> GraphSnapshot:
        faults = {name: fault if name == stage else Fault() for name in STAGES}
        sink = CollectSink(name="sink", fault=faults["sink"])
        self.indices = sink.indices
        began_s = time.perf_counter()
        try:
            return run_graph(
                [
                    CountSource(COUNT, name="source", pool=self.pool, fault=faults["source"]),
                    Forward(name="first", fault=faults["first"]),
                    Forward(name="second", lookahead=2, fault=faults["second"]),
                    sink,
                ],
                capacities=self.capacity,
                pools=(self.pool, self.dry),
                stop=self.stop,
                drop=release,
                is_boundary=(lambda item: item.index % boundary_every == 0) if boundary_every else None,
                stall_timeout_s=stall_timeout_s,
            )
        finally:
            assert time.perf_counter() - began_s < 5
            assert not [t.name for t in threading.enumerate() if t.name.startswith(("stage:", "abort-hooks"))]
            assert self.indices == list(range(len(self.indices))), "the output must be an in-order prefix"

    def assert_leases_back(self) -> None:
        assert self.pool.out_count == 0

    def assert_pool_aborted(self) -> None:
        with pytest.raises(Aborted):
            self.pool.acquire()


def expected_note(stage: str, moment: Moment) -> str:
    """What the note of a failure says: the last item that passed."""
    last = COUNT - 1 if isinstance(moment, str) else moment - (stage == "source")
    passed = "before the first item" if last < 0 else f"after item {last} (pts {last * 40})"
    return f"stage '{stage}', {passed}"


@every_stage
@every_moment
@pytest.mark.parametrize("error_type", [ValueError, MemoryError])
def test_one_error_with_its_stage_and_item_ends_the_run(
    stage: str, moment: Moment, error_type: type[Exception]
) -> None:
    bench, error = Bench(), error_type("injected")
    with pytest.raises(GraphFailed) as caught:
        bench.run(stage, FailAt(moment, error))
    assert list(caught.value.exceptions) == [error]
    assert error.__notes__ == [expected_note(stage, moment)]
    assert expected_note(stage, moment) in str(caught.value)
    bench.assert_pool_aborted()


@every_stage
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), Aborted("not of this run")])
def test_what_is_no_exception_fails_the_run_too(stage: str, error: BaseException) -> None:
    with pytest.raises(GraphFailed) as caught:
        Bench().run(stage, FailAt(COUNT // 2, error))
    (member,) = caught.value.exceptions
    assert isinstance(member, StageInterrupted)
    assert member.__cause__ is error
    assert stage in member.__notes__[0]


def in_pool(bench: Bench) -> Callable[[], object]:
    return bench.dry.acquire


def in_channel(bench: Bench) -> Callable[[], object]:
    def wait() -> None:
        private: Channel[int] = Channel("private", 1)
        with bench.stop.on_abort(private.abort):
            private.receive()

    return wait


def in_registered_wait(bench: Bench) -> Callable[[], object]:
    def wait() -> None:
        event = Event()
        with bench.stop.on_abort(event.set):
            event.wait()

    return wait


@every_stage
@every_moment
@pytest.mark.parametrize("place", [in_pool, in_channel, in_registered_wait])
def test_a_hang_becomes_a_stall_error_and_every_thread_ends(
    stage: str, moment: Moment, place: Callable[[Bench], Callable[[], object]]
) -> None:
    bench = Bench()
    with pytest.raises(GraphFailed) as caught:
        bench.run(stage, HangAt(moment, wait=place(bench)), stall_timeout_s=0.15)
    root = caught.value.exceptions[0]
    assert isinstance(root, StallError)
    assert len(caught.value.exceptions) == 1
    assert len(root.states) == len(STAGES) + len(STAGES) - 1
    bench.assert_pool_aborted()


@every_stage
def test_a_slow_stage_changes_nothing(stage: str) -> None:
    bench = Bench()
    snapshot = bench.run(stage, SlowEvery(3, sleep_s=0.01))
    assert bench.indices == list(range(COUNT))
    assert [s.state for s in snapshot.stages] == ["done"] * 4
    bench.assert_leases_back()


@every_stage
@every_moment
def test_an_early_return_cuts_upstream_and_drains_downstream(stage: str, moment: Moment) -> None:
    bench = Bench()
    snapshot = bench.run(stage, ReturnAt(moment))
    states = {s.name: s.state for s in snapshot.stages}
    place = STAGES.index(stage)
    assert all(states[name] in {"done", "cut"} for name in STAGES[:place])
    assert all(states[name] == "done" for name in STAGES[place:])
    lookahead = 2 if stage == "second" else 0
    assert len(bench.indices) == (max(0, moment - lookahead) if isinstance(moment, int) else COUNT)
    bench.assert_leases_back()


@every_stage
@every_moment
def test_an_abort_from_outside_ends_the_run_or_finds_it_complete(stage: str, moment: Moment) -> None:
    bench = Bench()
    try:
        bench.run(stage, ActAt(moment, bench.stop.abort))
    except Aborted:
        bench.assert_pool_aborted()
    else:
        assert bench.indices == list(range(COUNT))
        bench.assert_leases_back()


@every_stage
@every_moment
@pytest.mark.parametrize("boundary_every", [None, 1, 4])
def test_a_stop_ends_at_a_boundary_and_everything_sent_arrives(
    stage: str, moment: Moment, boundary_every: int | None
) -> None:
    bench = Bench()
    snapshot = bench.run(stage, ActAt(moment, bench.stop.stop), boundary_every=boundary_every)
    assert len(bench.indices) == snapshot.stages[0].items_out
    assert snapshot.stages[0].state == ("cut" if snapshot.was_stopped else "done")
    if snapshot.was_stopped:
        assert len(bench.indices) % (boundary_every or 1) == 0
    else:
        assert len(bench.indices) == COUNT
    bench.assert_leases_back()


@every_stage
def test_an_abort_outweighs_what_stages_raise_because_of_it(stage: str) -> None:
    """A wait that the abort ends with an error is not the cause; the note keeps it."""
    bench = Bench()

    def wait() -> None:
        event = Event()
        with bench.stop.on_abort(event.set):
            bench.stop.abort()
            event.wait()
            raise ConnectionError("killed")

    with pytest.raises(Aborted) as caught:
        bench.run(stage, ActAt(COUNT // 2, wait))
    assert any("killed" in note for note in caught.value.__notes__)


def test_errors_in_cleanup_follow_the_cause() -> None:
    """The first error stays the first; what cleanup raises on the way out comes after it."""

    class FailTwice(Fault):
        def at(self, moment: Moment) -> bool:
            if moment in {5, "cleanup"}:
                raise ValueError(f"at {moment}")
            return False

    class SourceFailsInCleanup(CountSource):
        def run(self) -> Iterator[object]:  # type: ignore[override]
            try:
                yield from super().run()
            finally:
                raise LookupError("source cleanup")

    sink = CollectSink(fault=FailAt(3, ValueError("cause")))
    with pytest.raises(GraphFailed) as caught:
        run_graph([SourceFailsInCleanup(1000), Forward(), sink])
    cause, secondary = caught.value.exceptions
    assert str(cause) == "cause"
    assert isinstance(secondary, LookupError)
    assert "raised while the run was being aborted" in secondary.__notes__


def test_a_stage_cannot_swallow_an_abort_by_catching_exceptions() -> None:
    """Nor does one that catches even more, and flushes, make a whole run of an aborted one."""

    class CatchesExceptions(Forward):
        def run(self, items: Iterator[Item]) -> Iterator[Item]:
            try:
                yield from super().run(items)
            except Exception:  # noqa: BLE001 - that is the point
                yield Item(index=-1)

    class CatchesEverything(Forward):
        def run(self, items: Iterator[Item]) -> Iterator[Item]:
            try:
                yield from items
            except Aborted:
                return

    for kind in (CatchesExceptions, CatchesEverything):
        sink = CollectSink(fault=FailAt(5, ValueError("cause")))
        with pytest.raises(GraphFailed, match="stage 'sink'"):
            run_graph([CountSource(1000), kind(), sink])
        assert sink.indices == list(range(5))
        stop = StopToken()
        sink = CollectSink(fault=ActAt(5, stop.abort))
        with pytest.raises(Aborted):
            run_graph([CountSource(10**9), kind(), sink], stop=stop)
        assert sink.indices == list(range(len(sink.indices)))


class Jitter(Fault):
    """Sleeps a little now and then."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = random.Random(rng.random())

    def at(self, moment: Moment) -> bool:
        if self._rng.random() < 0.2:
            time.sleep(self._rng.random() * 5e-4)
        return False


class Both(Fault):
    """One fault after another."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = faults

    def at(self, moment: Moment) -> bool:
        answers = [fault.at(moment) for fault in self._faults]  # all of them, whatever the first says
        return any(answers)


@pytest.mark.parametrize("seed", range(8))
def test_random_pipelines_end_with_one_cause_and_a_prefix(seed: int) -> None:
    """0 to 4 transforms, capacity 1 to 4, jitter, any fault anywhere: no hang, no lost buffer, no wrong order."""
    rng = random.Random(seed)
    for _ in range(40):
        count, transform_count = rng.randint(0, 20), rng.randint(0, 4)
        lookaheads = [rng.randint(0, 2) for _ in range(transform_count)]
        pool = CountingPool(sum(lookaheads) + 1 + rng.randint(0, 4))
        stop, error = StopToken(), ValueError("injected")
        moment: Moment = rng.choice([rng.randint(0, 20), "flush", "cleanup"])
        kind, fault = rng.choice(
            [
                ("clean", Fault()),
                ("fail", FailAt(moment, error)),
                ("return", ReturnAt(moment)),
                ("abort", ActAt(moment, stop.abort)),
                ("stop", ActAt(moment, stop.stop)),
            ]
        )
        victim = rng.randint(0, transform_count + 1)
        faults = [Both(Jitter(rng), fault if i == victim else Fault()) for i in range(transform_count + 2)]
        sink = CollectSink(fault=faults[-1])
        stages = [
            CountSource(count, pool=pool, fault=faults[0]),
            *(Forward(name=f"t{i}", lookahead=n, fault=faults[i + 1]) for i, n in enumerate(lookaheads)),
            sink,
        ]
        is_whole = True
        try:
            run_graph(stages, capacities=rng.randint(1, 4), pools=[pool], stop=stop, drop=release)
        except GraphFailed as group:
            assert kind == "fail"
            assert list(group.exceptions) == [error]
            is_whole = False
        except Aborted:
            assert kind == "abort"
            is_whole = False
        else:
            assert kind != "fail" or (isinstance(moment, int) and moment >= count)
            assert pool.out_count == 0
        assert sink.indices == list(range(len(sink.indices)))
        if is_whole and kind in {"clean", "abort"}:
            assert len(sink.indices) == count
    assert not [t.name for t in threading.enumerate() if t.name.startswith("stage:")]
