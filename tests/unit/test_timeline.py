"""Promises of pipeline.decode.timeline: the source's times where it has them, always increasing."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode.timeline import Timeline

MS = Fraction(1, 1000)


def place_all(times, *, duration: int = 40, **options):
    timeline = Timeline(time_base=MS, nominal_ticks=40, **options)
    return [timeline.place(pts, duration=duration) for pts in times], timeline


@given(st.lists(st.integers(-(10**9), 10**9), unique=True).map(sorted))
def test_increasing_times_are_kept_exactly(times):
    placed, timeline = place_all(times)
    assert placed == times
    assert timeline.notes == ()


@given(st.lists(st.one_of(st.none(), st.integers(-(10**6), 10**6))))
def test_any_times_come_out_strictly_increasing(times):
    placed, _ = place_all(times)
    assert all(a < b for a, b in itertools.pairwise(placed))


def test_missing_times_follow_the_frame_before():
    placed, timeline = place_all([None, None, 100, None], first_pts=7)
    assert placed == [7, 47, 100, 140]
    assert "3 frames without a timestamp" in timeline.notes[0]


def test_missing_time_uses_the_nominal_rate_when_no_duration_is_known():
    assert place_all([0, None, None], duration=0)[0] == [0, 40, 80]


def test_repeated_time_moves_one_tick_on():
    placed, timeline = place_all([0, 40, 40, 80])
    assert placed == [0, 40, 41, 80]
    assert "1 timestamp not increasing" in timeline.notes[0]


def test_clock_set_back_goes_on_without_a_gap():
    placed, timeline = place_all([5000, 5040, 0, 40, 80])
    assert placed == [5000, 5040, 5080, 5120, 5160]
    assert "set back 1 time:" in timeline.notes[0]


def test_decode_order_times_are_given_out_smallest_first():
    timeline = Timeline(time_base=MS, nominal_ticks=1, is_in_decode_order=True)
    for pts in (1, 4, 2, 3):
        timeline.feed(pts)
    timeline.drop(3)
    assert [timeline.place(pts, duration=1) for pts in (1, 2, 4)] == [1, 2, 4]
