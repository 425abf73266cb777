"""The timeline of a night: everything is on the line, where it belongs, whatever the clocks did."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from helpers import nights
from hypothesis import given
from hypothesis import strategies as st

from pipeline.show.morning.summary import Interval
from pipeline.show.morning.timeline import MAX_ROWS, MAX_TICKS, plan_timeline


def test_films_and_pauses_lie_where_they_were() -> None:
    timeline = plan_timeline(nights.eventful(), zone=UTC)
    assert timeline is not None
    assert [row.number for row in timeline.rows] == [1, 2, 3, 4, 5, 6], "not the skipped one, not the held one"
    attempt, work = timeline.rows[0].bars
    assert (attempt.start, attempt.stop) == pytest.approx((1 / 510, 65 / 510))
    assert (work.start, work.stop, work.is_work) == pytest.approx((1.3 / 510, 64.5 / 510, True))
    assert [(band.kind, band.start, band.stop) for band in timeline.bands] == [
        ("disk", pytest.approx(330 / 510), pytest.approx(420 / 510)),
        ("hours", pytest.approx(480 / 510), 1.0),
    ]
    assert [text for _, text in timeline.band_words] == ["outside of its hours", "waiting for disk space"]


def test_an_attempt_that_failed_is_marked_where_it_ended_and_its_work_looks_failed() -> None:
    timeline = plan_timeline(nights.eventful(), zone=UTC)
    assert timeline is not None and timeline.has_failure
    retried = timeline.rows[2]
    assert retried.failed_at == pytest.approx((139 / 510,))
    assert [bar.status for bar in retried.bars if bar.is_work] == ["failed", "done"]


def test_ticks_are_full_hours_of_the_zone_and_say_the_day_once() -> None:
    timeline = plan_timeline(nights.eventful(), zone=timezone(timedelta(hours=5, minutes=30)))
    assert timeline is not None
    assert [(tick.label, tick.day) for tick in timeline.ticks] == [
        ("06:00", "Wed 5"), ("08:00", ""), ("10:00", ""), ("12:00", ""),
    ]  # fmt: skip
    assert timeline.ticks[0].at == pytest.approx(110 / 510)


def test_midnight_begins_another_day() -> None:
    night = nights.run(nights.film(1, 1, 200), minutes=200)
    timeline = plan_timeline(night, zone=UTC)
    assert timeline is not None
    assert [(tick.label, tick.day) for tick in timeline.ticks] == [
        ("23:00", "Tue 4"), ("00:00", "Wed 5"), ("01:00", ""), ("02:00", ""),
    ]  # fmt: skip


def test_a_night_in_which_the_clock_is_changed_has_ticks_in_order() -> None:
    shift = timedelta(days=25)  # 2031-03-30: summer time begins in the middle of this night
    film = nights.film(1, 1, 500)
    film = replace(
        film, attempts=(), worked=(Interval(started_at=nights.at(1) + shift, ended_at=nights.at(500) + shift),)
    )
    night = replace(nights.run(film), started_at=nights.at(0) + shift, ended_at=nights.at(510) + shift)
    timeline = plan_timeline(night, zone=ZoneInfo("Europe/Berlin"))
    assert timeline is not None
    places = [tick.at for tick in timeline.ticks]
    assert places == sorted(set(places)) and len(places) >= 3


def test_many_films_share_rows_and_never_lie_on_each_other() -> None:
    timeline = plan_timeline(nights.run(*(nights.film(i + 1, i // 2, i // 2 + 1) for i in range(100))), zone=UTC)
    assert timeline is not None
    assert len(timeline.rows) == 2 < MAX_ROWS
    for row in timeline.rows:
        attempts = [bar for bar in row.bars if not bar.is_work]
        assert len(attempts) == 50 and row.number is None
        assert all(a.stop <= b.start + 1e-9 for a, b in pairwise(attempts))


def test_a_run_that_did_nothing_has_none() -> None:
    assert plan_timeline(nights.run(), zone=UTC) is None
    moment = (Interval(started_at=nights.at(0), ended_at=nights.at(0)),)
    film = replace(nights.film(1, 0, 0), attempts=(), worked=moment)
    assert plan_timeline(nights.run(film, minutes=0), zone=UTC) is None


@given(
    st.lists(st.tuples(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7)), min_size=1, max_size=60),
    st.floats(-1e7, 1e7),
)
def test_whatever_the_clocks_say_all_is_on_the_line(spans: list[tuple[float, float]], minutes: float) -> None:
    timeline = plan_timeline(
        nights.run(*(nights.film(i + 1, start, stop) for i, (start, stop) in enumerate(spans)), minutes=minutes),
        zone=UTC,
    )
    if timeline is None:
        return
    assert len(timeline.ticks) <= MAX_TICKS + 1
    for row in timeline.rows:
        assert all(0 <= bar.start <= bar.stop <= 1 for bar in row.bars)
    assert all(0 <= tick.at <= 1 for tick in timeline.ticks)
