"""Figures: meters, shares, windows, and which stage limits a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph.metrics import (
    ChannelSnapshot,
    GraphSnapshot,
    StageSnapshot,
    WaitMeter,
    find_bottleneck,
    window_between,
)


def make_stage(name: str, *, load: float = 0.5, elapsed_s: float = 10.0, waits_for: str = "in") -> StageSnapshot:
    idle_s = (1 - load) * elapsed_s
    return StageSnapshot(
        name=name,
        state="running",
        items_in=5,
        items_out=5,
        elapsed_s=elapsed_s,
        wait_in_s=idle_s if waits_for == "in" else 0.0,
        wait_out_s=idle_s if waits_for == "out" else 0.0,
        wait_buffer_s=idle_s if waits_for == "buffer" else 0.0,
    )


def make_channel(name: str, *, occupancy: float = 0.5, received: int = 5, open_s: float = 10.0) -> ChannelSnapshot:
    return ChannelSnapshot(
        name=name,
        capacity=4,
        depth=0,
        peak=4,
        sent=received,
        received=received,
        occupancy=occupancy,
        full=occupancy / 2,
        open_s=open_s,
    )


def make_graph(*loads: float, occupancies: tuple[float, ...], received: int = 5) -> GraphSnapshot:
    limit = max(range(len(loads)), key=loads.__getitem__)
    return GraphSnapshot(
        elapsed_s=10,
        stages=tuple(
            make_stage(f"s{i}", load=load, waits_for="out" if i < limit else "in") for i, load in enumerate(loads)
        ),
        channels=tuple(make_channel(f"c{i}", occupancy=o, received=received) for i, o in enumerate(occupancies)),
    )


def test_the_stage_with_a_full_inbox_and_an_empty_outbox_limits_the_run() -> None:
    verdict = find_bottleneck(make_graph(0.2, 0.97, 0.3, occupancies=(0.95, 0.05)))
    assert (verdict.stage, verdict.load) == ("s1", pytest.approx(0.97))
    assert verdict.text == (
        "s1 limits the run: it works 97% of the time; s0 waits for the next stage 80%; s2 waits for work 70%."
    )


def test_a_source_always_has_work_and_a_sink_is_never_held_up() -> None:
    assert find_bottleneck(make_graph(0.99, 0.2, occupancies=(0.02,))).stage == "s0"
    assert find_bottleneck(make_graph(0.2, 0.99, occupancies=(0.98,))).stage == "s1"


def test_a_source_that_was_done_early_is_not_what_limits() -> None:
    """The decoder of a photo works all of its time, which is a hundredth of the run's."""
    graph = make_graph(0.2, 0.9, 0.3, occupancies=(0.02, 0.02))
    early = make_stage("s0", load=1.0, elapsed_s=0.1)
    verdict = find_bottleneck(GraphSnapshot(elapsed_s=10, stages=(early, *graph.stages[1:]), channels=graph.channels))
    assert verdict.stage == "s1" and verdict.text.startswith("No stage limits the run alone; s1 comes nearest")


def test_without_a_clear_limit_the_busiest_stage_is_named_as_such() -> None:
    verdict = find_bottleneck(make_graph(0.4, 0.6, 0.5, occupancies=(0.5, 0.5)))
    assert verdict.stage == "s1"
    assert verdict.text.startswith("No stage limits the run alone; s1 comes nearest, working 60% of the time")


def test_waiting_for_buffers_is_named() -> None:
    graph = make_graph(0.2, 0.97, occupancies=(0.95,))
    blocked = make_stage("s0", load=0.2, waits_for="buffer")
    assert (
        "s0 waits for a free buffer 80%"
        in find_bottleneck(GraphSnapshot(elapsed_s=10, stages=(blocked, graph.stages[1]), channels=graph.channels)).text
    )


def test_busy_stages_are_not_said_to_wait() -> None:
    assert find_bottleneck(make_graph(0.95, 0.97, occupancies=(0.95,))).text == (
        "s1 limits the run: it works 97% of the time."
    )


@pytest.mark.parametrize(
    "graph",
    [make_graph(0.5, 0.5, occupancies=(0.5,), received=0), GraphSnapshot(elapsed_s=0, stages=(), channels=())],
)
def test_no_verdict_before_an_item_reached_the_last_stage(graph: GraphSnapshot) -> None:
    verdict = find_bottleneck(graph)
    assert (verdict.stage, verdict.load) == ("", 0)
    assert verdict.text


def test_load_is_a_share_even_where_clocks_disagree() -> None:
    assert make_stage("a", elapsed_s=0).load == 0
    over = StageSnapshot(
        name="a", state="waiting", items_in=0, items_out=0, elapsed_s=1, wait_in_s=1.1, wait_out_s=0, wait_buffer_s=0
    )
    assert over.load == over.busy_s == 0


def test_a_window_has_the_shares_of_its_own_time() -> None:
    """Occupied for 2 of the first 10 s and for 9 of the next 10 s: the window says 90 %, not the mean."""
    earlier = GraphSnapshot(
        elapsed_s=10,
        stages=(make_stage("a", load=0.2), make_stage("b")),
        channels=(make_channel("a->b", occupancy=0.2),),
    )
    later = GraphSnapshot(
        elapsed_s=20,
        stages=(make_stage("a", load=0.6, elapsed_s=20), make_stage("b", elapsed_s=20)),
        channels=(make_channel("a->b", occupancy=0.55, received=12, open_s=20),),
    )
    window = window_between(earlier, later=later)
    assert window.elapsed_s == 10
    assert window.stages[0].load == pytest.approx(1.0)
    assert window.channels[0].occupancy == pytest.approx(0.9)
    assert (window.channels[0].received, window.channels[0].open_s) == (7, 10)


def test_a_window_without_time_has_no_shares() -> None:
    graph = make_graph(0.5, 0.5, occupancies=(0.5,))
    window = window_between(graph, later=graph)
    assert (window.channels[0].occupancy, window.stages[0].load) == (0, 0)


def test_a_window_needs_two_snapshots_of_one_graph() -> None:
    with pytest.raises(ValueError, match="different graphs"):
        window_between(make_graph(0.5, occupancies=()), later=make_graph(0.5, 0.5, occupancies=(0.5,)))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_right_to_an_eighth(waits_us: list[int], share: float) -> None:
    """Never below the true quantile, and at most 12.5 % and 1 us above it."""
    meter = WaitMeter()
    with pytest.MonkeyPatch.context() as patch:
        now_s = 0.0
        patch.setattr("pipeline.graph.metrics.time.perf_counter", lambda: now_s)
        for wait_us in waits_us:
            now_s = 0.0
            meter.start()
            now_s = (wait_us + 0.5) / 1e6
            meter.stop()
    exact_us = sorted(waits_us)[math.ceil(share * len(waits_us)) - 1] + 0.5
    found_us = meter.quantile_s(share, calls=len(waits_us)) * 1e6
    assert exact_us <= found_us * (1 + 1e-9)
    assert found_us <= exact_us * 1.125 + 1.0001


def test_calls_that_did_not_block_count_as_zero() -> None:
    meter = WaitMeter()
    meter.start()
    meter.stop()
    assert meter.quantile_s(0.5, calls=10) == 0
    assert meter.quantile_s(1.0, calls=10) > 0
    assert WaitMeter().quantile_s(0.99, calls=0) == 0


def test_a_meter_cannot_be_stopped_before_it_was_started() -> None:
    with pytest.raises(RuntimeError, match="without start"):
        WaitMeter().stop()
