"""The record of a run's threads: complete, in agreement with the counters, and the named bottleneck follows from it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from helpers.sleeping_stages import STAGES, Sink, Source, line

from pipeline.errors import GraphFailed
from pipeline.graph.metrics import GraphSnapshot, find_bottleneck
from pipeline.graph.pool import BufferPool
from pipeline.graph.runtime import run_graph
from pipeline.graph.stage import Stage
from pipeline.graph.tracing import GraphTrace, StageTrace, Tracer
from tools.profile_shares import KINDS, pieces_of, service_times, snapshot_of, spent_s, steady_window


def traced(stages: list[Stage], **options: object) -> tuple[GraphTrace, GraphSnapshot]:
    tracer = Tracer()
    snapshot = run_graph(stages, tracer=tracer, **options)  # type: ignore[arg-type]
    (graph,) = tracer.graphs
    return graph, snapshot


def waits(stage: StageTrace) -> list[tuple[float, float]]:
    return sorted([*stage.starved, *stage.blocked, *stage.unbuffered])


def test_the_shares_of_every_thread_add_up_to_its_whole_time() -> None:
    with BufferPool("frames", shape=(1,), dtype=np.uint8, count=2) as pool:
        stages = line(30, slow={"stitch": 2}, step_s=0.002)
        stages[0] = Source(30, seconds=0.001, pool=pool)
        graph, snapshot = traced(stages, capacities=2, pools=[pool])
    for stage, counted in zip(graph.lanes[0].stages, snapshot.stages, strict=True):
        pieces = pieces_of(stage)
        assert pieces[0].start_s == stage.started_s
        assert pieces[-1].stop_s == stage.ended_s
        assert all(before.stop_s == after.start_s for before, after in pairwise(pieces))
        spent = spent_s(pieces, start_s=stage.started_s, stop_s=stage.ended_s)
        assert sum(spent.values()) == pytest.approx(stage.ended_s - stage.started_s, rel=1e-9)
        # what the thread's waits are must not depend on how they were cut up: the counters know them too
        assert spent["starved"] == pytest.approx(counted.wait_in_s, abs=1e-6)
        assert spent["blocked"] == pytest.approx(counted.wait_out_s, abs=1e-6)
        assert spent["unbuffered"] == pytest.approx(counted.wait_buffer_s, abs=1e-6)
        assert spent["work"] == pytest.approx(counted.busy_s, abs=1e-6)
    assert spent_s(pieces_of(graph.lanes[0].stages[0]), start_s=0, stop_s=1e12)["unbuffered"] > 0


def test_waits_of_one_thread_never_overlap() -> None:
    graph, _ = traced(line(30, step_s=0.001), capacities=1)
    for stage in graph.lanes[0].stages:
        assert all(before[1] <= after[0] for before, after in pairwise(waits(stage)))
        assert all(stage.started_s <= start <= stop <= stage.ended_s for start, stop in waits(stage))


def test_shares_of_a_window_add_up_too() -> None:
    graph, _ = traced(line(30, step_s=0.001))
    start_s, stop_s, frames = steady_window(graph)
    assert frames == 24
    for stage in graph.lanes[0].stages:
        start, stop = max(start_s, stage.started_s), min(stop_s, stage.ended_s)
        spent = spent_s(pieces_of(stage), start_s=start, stop_s=stop)
        assert set(spent) == set(KINDS)
        assert sum(spent.values()) == pytest.approx(stop - start, rel=1e-9)


def test_service_times_are_those_of_each_stage_and_frame() -> None:
    graph, _ = traced(line(20, slow={"upscale": 3}, step_s=0.004))
    for stage in graph.lanes[0].stages:
        times = service_times(pieces_of(stage))
        assert times.frame_count == 20
        least_s = 0.012 if stage.name == "upscale" else 0.004
        assert least_s <= times.p50_s <= times.p90_s <= times.p99_s
        assert times.p50_s < 2 * least_s  # half of the frames at least are undisturbed even on a busy machine


def test_every_change_of_a_channel_is_kept() -> None:
    graph, snapshot = traced(line(25, step_s=0.001), capacities=3)
    for channel, counted in zip(graph.lanes[0].channels, snapshot.channels, strict=True):
        depths = [0, *(depth for _, depth in channel.depths)]
        assert all(abs(after - before) == 1 for before, after in pairwise(depths))
        assert (max(depths), depths[-1]) == (counted.peak, 0)
        assert len(depths) - 1 == counted.sent + counted.received == 50
        assert all(before[0] <= after[0] for before, after in pairwise(channel.depths))


def test_a_window_of_the_record_says_what_the_counters_say() -> None:
    graph, counted = traced(line(25, step_s=0.002, slow={"tile": 2}))
    whole = snapshot_of(graph, start_s=graph.started_s, stop_s=graph.ended_s)
    for ours, theirs in zip(whole.stages, counted.stages, strict=True):
        assert (ours.name, ours.items_in, ours.items_out) == (theirs.name, theirs.items_in, theirs.items_out)
        assert ours.busy_s == pytest.approx(theirs.busy_s, abs=1e-6)
    for ours, theirs in zip(whole.channels, counted.channels, strict=True):
        assert (ours.name, ours.sent, ours.received, ours.peak) == (
            theirs.name,
            theirs.sent,
            theirs.received,
            theirs.peak,
        )
        # theirs ends with the stream, ours with the run
        assert ours.occupancy * ours.open_s == pytest.approx(theirs.occupancy * theirs.open_s, abs=1e-3)


def test_lanes_are_kept_apart() -> None:
    tracer = Tracer()
    run_graph(line(8, step_s=0.001), more_lanes=[line(8, step_s=0.001, first=8)], tracer=tracer)
    (graph,) = tracer.graphs
    assert [[mark[1] for mark in lane.stages[-1].marks] for lane in graph.lanes] == [
        list(range(8)),
        list(range(8, 16)),
    ]
    assert len({stage.thread_id for lane in graph.lanes for stage in lane.stages}) == 10
    assert [stage.name for stage in graph.lanes[1].stages] == list(STAGES)


def test_a_run_that_fails_leaves_its_record() -> None:
    tracer = Tracer()
    stages = line(10, step_s=0.001)
    stages[-1] = Sink(seconds=0, fails_at=4)
    with pytest.raises(GraphFailed):
        run_graph(stages, tracer=tracer, drop=lambda item: item.release())
    (graph,) = tracer.graphs
    assert [mark[1] for mark in graph.lanes[0].stages[-1].marks] == [0, 1, 2, 3, 4]


def test_without_a_tracer_nothing_is_kept() -> None:
    with BufferPool("frames", shape=(1,), dtype=np.uint8, count=1) as pool:
        stages = line(5, step_s=0.0005)
        stages[0] = Source(5, seconds=0, pool=pool)
        threads: list[object] = []
        run_graph(stages, pools=[pool], time_base=Fraction(1, 25), on_snapshot=lambda _: threads.append(None))
        assert all(meter.spans() == () for meter in pool._waits.values())


@pytest.mark.parametrize("factor", [2, 10])
@pytest.mark.parametrize("name", STAGES)
def test_a_slowed_stage_is_named_as_the_bottleneck(name: str, factor: int) -> None:
    graph, counted = traced(line(40 if factor == 2 else 20, slow={name: factor}), capacities=2)
    start_s, stop_s, _ = steady_window(graph)
    assert find_bottleneck(snapshot_of(graph, start_s=start_s, stop_s=stop_s)).stage == name
    assert find_bottleneck(counted).stage == name


@pytest.mark.parametrize(("count", "rate"), [(60, 20), (12, None)])
def test_a_run_is_steady_until_its_first_lane_is_through(count: int, rate: float | None) -> None:
    """Two lanes of ten a second; where one is through at once, what is left is taken as it is."""
    graph, _ = traced(line(2))
    lanes = []
    for frames in (100, count):
        marks = tuple((2.0 + n / 10, n, n) for n in range(frames))
        last = replace(graph.lanes[0].stages[-1], marks=marks)
        lanes.append(replace(graph.lanes[0], stages=(*graph.lanes[0].stages[:-1], last)))
    start_s, stop_s, frames = steady_window(replace(graph, lanes=tuple(lanes)))
    assert stop_s == pytest.approx(2.0 + (count - 1) / 10 if rate else 2.0 + (0.9 * 112 - 12) / 10, abs=0.15)
    assert rate is None or frames / (stop_s - start_s) == pytest.approx(rate, rel=0.03)


@pytest.mark.parametrize(("burst", "count"), [(1, 24), (4, 24), (8, 24), (8, 48), (3, 100)])
def test_frames_that_come_in_bursts_are_as_many_a_second_as_those_that_come_one_by_one(burst: int, count: int) -> None:
    """Ten a second; the first ones took longer."""
    marks = tuple((2.0 + (n // burst) * burst / 10 + (n % burst) * 0.001, n, n) for n in range(count))
    graph, _ = traced(line(2))
    last = replace(graph.lanes[0].stages[-1], marks=marks)
    lane = replace(graph.lanes[0], stages=(*graph.lanes[0].stages[:-1], last))
    start_s, stop_s, frames = steady_window(replace(graph, lanes=(lane,)))
    assert frames / (stop_s - start_s) == pytest.approx(10, rel=0.01)
