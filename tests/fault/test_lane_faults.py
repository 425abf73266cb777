"""Several lanes are one run: one cause, one stop, one watch for stalls, all threads joined, whatever goes wrong."""

from __future__ import annotations

import threading
import time

import pytest
from helpers.fakes import CollectSink, CountingPool, CountSource, Forward, release
from helpers.faults import ActAt, FailAt, Fault, HangAt, Moment, ReturnAt, SlowEvery

from pipeline.errors import GraphFailed, StallError
from pipeline.graph.channel import Aborted
from pipeline.graph.metrics import GraphSnapshot, find_bottleneck, window_between
from pipeline.graph.runtime import StopToken, run_graph

COUNT = 12
STAGES = ("source", "middle", "sink")
MOMENTS: tuple[Moment, ...] = (0, COUNT // 2, COUNT - 1, "flush", "cleanup")

every_place = pytest.mark.parametrize(
    ("lanes", "lane", "stage"), [(n, lane, stage) for n in (2, 3) for lane in range(n) for stage in STAGES]
)
every_moment = pytest.mark.parametrize("moment", MOMENTS)


class Bench:
    """Lanes of a source, a transform and a sink, with one fault among them."""

    def __init__(self, lanes: int) -> None:
        self.stop = StopToken()
        self.pools = [CountingPool(4, name=f"pool {lane}") for lane in range(lanes)]
        self.dry = CountingPool(1, name="dry")
        self.dry_lease = self.dry.acquire()
        self.seen: list[list[int]] = []

    def run(self, lane: int, stage: str, fault: Fault, *, stall_timeout_s: float = 30.0) -> GraphSnapshot:
        lines, sinks = [], []
        for number, pool in enumerate(self.pools):
            faults = {name: fault if (number, name) == (lane, stage) else Fault() for name in STAGES}
            sink = CollectSink(name="sink", fault=faults["sink"])
            sinks.append(sink)
            source = CountSource(COUNT, name="source", pool=pool, fault=faults["source"])
            lines.append([source, Forward(name="middle", lookahead=1, fault=faults["middle"]), sink])
        began_s = time.perf_counter()
        try:
            return run_graph(
                lines[0],
                more_lanes=lines[1:],
                capacities=2,
                pools=[*self.pools, self.dry],
                stop=self.stop,
                drop=release,
                stall_timeout_s=stall_timeout_s,
            )
        finally:
            assert time.perf_counter() - began_s < 5
            assert not [t.name for t in threading.enumerate() if t.name.startswith(("stage:", "abort-hooks"))]
            self.seen = [sink.indices for sink in sinks]
            assert all(indices == list(range(len(indices))) for indices in self.seen)


@every_place
@every_moment
def test_a_failure_in_any_lane_ends_all(lanes: int, lane: int, stage: str, moment: Moment) -> None:
    bench, error = Bench(lanes), ValueError("injected")
    with pytest.raises(GraphFailed) as caught:
        bench.run(lane, stage, FailAt(moment, error))
    assert list(caught.value.exceptions) == [error]
    assert f"stage '{stage}[{lane}]'" in error.__notes__[0]
    for pool in bench.pools:
        with pytest.raises(Aborted):
            pool.acquire()


@every_place
def test_an_abort_ends_all_lanes_or_finds_them_complete(lanes: int, lane: int, stage: str) -> None:
    bench = Bench(lanes)
    try:
        bench.run(lane, stage, ActAt(COUNT // 2, bench.stop.abort))
    except Aborted:
        return
    assert bench.seen == [list(range(COUNT))] * lanes


@every_place
def test_one_lane_that_hangs_is_a_stall_once_the_others_are_done(lanes: int, lane: int, stage: str) -> None:
    bench = Bench(lanes)
    with pytest.raises(GraphFailed) as caught:
        bench.run(lane, stage, HangAt(COUNT // 2, wait=bench.dry.acquire), stall_timeout_s=0.15)
    (stall,) = caught.value.exceptions
    assert isinstance(stall, StallError)
    assert len(stall.states) == lanes * (len(STAGES) + len(STAGES) - 1)
    assert any(f"stage {stage}[{lane}]" in state for state in stall.states)


@every_place
def test_an_early_return_concerns_its_own_lane(lanes: int, lane: int, stage: str) -> None:
    bench = Bench(lanes)
    bench.run(lane, stage, ReturnAt(4))
    assert [len(indices) == COUNT for indices in bench.seen] == [number != lane for number in range(lanes)]
    assert all(pool.out_count == 0 for pool in bench.pools)


@pytest.mark.parametrize("lane", [0, 1])
def test_a_stop_ends_every_source_and_everything_sent_arrives(lane: int) -> None:
    bench = Bench(2)
    snapshot = bench.run(lane, "sink", ActAt(2, bench.stop.stop))
    assert sum(len(indices) for indices in bench.seen) == snapshot.stages[0].items_out
    assert all(pool.out_count == 0 for pool in bench.pools)


def test_the_figures_are_those_of_all_lanes_and_of_each() -> None:
    bench = Bench(3)
    snapshot = bench.run(1, "middle", SlowEvery(1, sleep_s=0.01))
    assert [(s.name, s.state, s.items_in, s.items_out) for s in snapshot.stages] == [
        ("source", "done", 0, 36),
        ("middle", "done", 36, 36),
        ("sink", "done", 36, 0),
    ]
    assert [(c.name, c.capacity, c.sent) for c in snapshot.channels] == [
        ("source->middle", 6, 36),
        ("middle->sink", 6, 36),
    ]
    assert [s.name for s in snapshot.lanes[2].stages] == ["source[2]", "middle[2]", "sink[2]"]
    assert snapshot.lanes[0].channels[0].name == "source[0]->middle[0]"
    assert snapshot.pool_bytes == sum(pool.bytes for pool in bench.pools) + bench.dry.bytes
    assert find_bottleneck(snapshot.lanes[1]).stage == "middle[1]"
    nothing = window_between(snapshot, later=snapshot)
    assert [lane.stages[0].items_out for lane in nothing.lanes] == [0, 0, 0]


def test_threads_carry_the_lane_in_their_names() -> None:
    names: set[str] = set()
    bench = Bench(2)
    bench.run(1, "sink", ActAt(3, lambda: names.add(threading.current_thread().name)))
    assert names == {"stage:sink[1]"}


def test_lanes_of_different_stages_are_refused_before_anything_starts() -> None:
    line = [CountSource(3), CollectSink()]
    with pytest.raises(ValueError, match="lane 1 has"):
        run_graph(line, more_lanes=[[CountSource(3), Forward(), CollectSink()]])
    with pytest.raises(ValueError, match="stages of its own"):
        run_graph(line, more_lanes=[[CountSource(3), line[1]]])
