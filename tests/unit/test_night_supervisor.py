"""The loop over all films: what a run does next, what it waits for, and how it ends."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import get_args

import pytest
from helpers.children import run_python
from helpers.night_runs import EVENING, FakeClock, Night, film_job, film_result
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.failures import FailureKind
from pipeline.graph.stop import StopToken
from pipeline.inputs.job import Job
from pipeline.night.retry import DISK_ATTEMPTS, WAITS_S, wait_before_retry
from pipeline.night.supervisor import NAP_S

PASSING = sorted(WAITS_S)
LASTING = sorted(set(get_args(FailureKind)) - set(WAITS_S))


def statuses(night: Night) -> list[str]:
    assert night.supervisor is not None
    return [film.result.status for film in night.supervisor.films if film.result is not None]


def test_films_are_worked_on_in_order_and_each_is_told_once() -> None:
    night = Night()
    supervisor = night.run(("a", "b", "c"))
    assert night.worker.calls == ["a", "b", "c"]
    assert statuses(night) == ["done"] * 3
    assert [record.index for record in night.reporter.over] == [0, 1, 2]
    assert [end.name for end in night.display.told("job_finished")] == ["a", "b", "c"]
    assert supervisor.waits == [] and not supervisor.is_stopping
    assert night.clock.slept_s == 30  # not a moment longer than the work


@pytest.mark.parametrize(("kind", "words"), [("asked", "asked"), ("hours", "hours"), ("disk", "disk")])
def test_an_obstacle_lets_the_segment_end_and_the_film_go_on_afterwards(kind: str, words: str) -> None:
    night = Night()
    night.permission.obstacles = [(3.0, 60.0, kind)]  # type: ignore[list-item]
    supervisor = night.run(("a", "b"))
    assert night.worker.calls == ["a", "a", "b"]
    assert statuses(night) == ["done", "done"]
    assert [attempt.result.status for attempt in supervisor.films[0].attempts] == ["stopped", "done"]
    notes = night.display.told("note")
    assert notes == [f"{words} until 60; the segment in work is finished first", f"{words} until 60", "going on"]
    (wait,) = supervisor.waits
    assert wait.started_at == EVENING + timedelta(seconds=4)  # the segment that ends at 4 s
    assert wait.ended_at == EVENING + timedelta(seconds=60)
    assert night.clock.slept_s == 56 + 20


def test_an_obstacle_that_is_gone_before_the_segment_ends_costs_no_wait() -> None:
    night = Night()
    night.permission.obstacles = [(3.0, 3.5, "asked")]
    supervisor = night.run(("a",))
    assert night.worker.calls == ["a", "a"] and supervisor.waits == [] and night.clock.slept_s == 10


def test_obstacles_that_follow_each_other_are_told_one_by_one() -> None:
    night = Night()
    night.permission.obstacles = [(0.0, 5.0, "hours"), (5.0, 9.0, "disk")]
    supervisor = night.run(("a",))
    assert [wait.obstacle.kind for wait in supervisor.waits] == ["hours", "disk"]
    assert night.display.told("note") == ["hours until 5", "disk until 9", "going on"]


def test_others_may_look_while_the_run_waits() -> None:
    night = Night()
    night.permission.obstacles = [(0.0, 10.0, "hours")]
    night.run(("a",))
    assert night.reporter.ticks >= 2 * 10 / NAP_S
    assert night.reporter.states[0] == (False, False) and night.reporter.states[-1] == (True, False)


def test_before_it_waits_for_whatever_it_is_a_run_lets_go_of_what_it_keeps() -> None:
    night = Night()
    night.worker.endings = {"b": ["crash"]}
    night.permission.obstacles = [(30.0, 31.0, "hours")]
    night.run(("a", "b", None, "c"))
    assert night.worker.calls == ["a", "b", "b", "c"]
    assert night.waits == [15.0 + NAP_S * count for count in range(20)] + [30.0 + NAP_S * count for count in range(4)]


def test_no_film_now_is_a_nap_and_not_the_end() -> None:
    night = Night()
    night.run((None, None, "a", None, "b"))
    assert night.worker.calls == ["a", "b"] and night.clock.slept_s == 20 + 3 * NAP_S


def test_a_request_to_stop_lets_the_segment_end_and_begins_no_other_film() -> None:
    night = Night()
    night.permission.stop_at_s = 3.0
    supervisor = night.run(("a", "b"))
    assert supervisor.is_stopping and statuses(night) == ["stopped"] and night.worker.done_s == {"a": 4.0}
    assert night.display.told("note") == ["stopping after the segment in work; once more: stop at once"]


@pytest.mark.parametrize("kind", ["asked", "hours", "disk"])
def test_a_request_to_stop_ends_a_wait(kind: str) -> None:
    night = Night()
    night.permission.obstacles = [(0.0, 1e9, kind)]  # type: ignore[list-item]
    night.permission.stop_at_s = 5.0
    supervisor = night.run(("a", "b"))
    assert night.clock.slept_s == 5.0 and night.worker.calls == [] and statuses(night) == ["stopped"]
    assert len(supervisor.waits) == 1
    assert night.display.told("note")[-1] == "stopping"


def test_a_second_request_aborts() -> None:
    night = Night()
    supervisor = night.prepare()

    def press(job: Job, done_s: float) -> None:
        if done_s in (2.5, 3.0):
            supervisor.request_stop()

    night.worker.on_step = press
    night.run(("a", "b"))
    assert night.worker.done_s == {"a": 3.0}  # in the middle of a segment
    assert statuses(night) == ["stopped"]
    assert [note.split()[1] for note in night.display.told("note")] == ["after", "at"]


def test_signals_that_come_before_the_film_has_its_token_count_all_the_same() -> None:
    night = Night()
    supervisor = night.prepare()
    seen: list[StopToken] = []

    def find_obstacle() -> None:
        supervisor.request_stop()
        supervisor.request_stop()

    night.permission.find_obstacle = find_obstacle  # type: ignore[method-assign,assignment]
    supervisor._worker = lambda job, *, index, stop, tick: (seen.append(stop), film_result(job, "stopped"))[1]
    night.run(("a",))
    assert statuses(night) == ["stopped"] and seen == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_signals_of_the_system_are_requests(count: int) -> None:
    done = run_python(
        """
        import os, signal
        from helpers.night_runs import Night
        count = int(sys.argv[1])
        night = Night()
        before = signal.getsignal(signal.SIGINT)
        def press(job, done_s):
            if done_s == 0.25:
                os.kill(os.getpid(), signal.SIGINT)
            elif done_s == 0.5:
                for _ in range(count - 1):
                    os.kill(os.getpid(), signal.SIGTERM)
        night.worker.on_step = press
        night.run(("a", "b"))
        assert signal.getsignal(signal.SIGINT) is before
        print(night.worker.done_s)
        """,
        str(count),
    )
    assert done.returncode == (130 if count == 3 else 0), done.stderr
    assert done.stdout == {1: "{'a': 2.0}\n", 2: "{'a': 0.5}\n", 3: ""}[count]


@pytest.mark.parametrize("kind", PASSING)
def test_what_can_pass_is_tried_again(kind: FailureKind) -> None:
    night = Night()
    night.worker.endings = {"a": [kind]}
    supervisor = night.run(("a", "b"))
    assert night.worker.calls == ["a", "a", "b"] and statuses(night) == ["done", "done"]
    assert supervisor.films[0].attempts[0].next_wait_s == WAITS_S[kind][0]
    assert supervisor.films[0].attempts[1].next_wait_s is None
    assert night.clock.slept_s == 5 + WAITS_S[kind][0] + 10 + 10
    (warning,) = night.display.told("warning")
    assert warning.startswith("a: ") and "trying again in 0:" in warning
    assert (False, True) in night.reporter.states


@pytest.mark.parametrize("kind", LASTING)
def test_what_cannot_pass_is_not_tried_again(kind: FailureKind) -> None:
    night = Night()
    night.worker.endings = {"a": [kind]}
    night.run(("a", "b"))
    assert night.worker.calls == ["a", "b"] and statuses(night) == ["failed", "done"]


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
@pytest.mark.parametrize("kind", sorted(set(PASSING) - {"disk"}))
def test_no_more_attempts_than_the_config_says(kind: FailureKind, max_attempts: int) -> None:
    night = Night(max_attempts=max_attempts)
    night.worker.endings = {"a": [kind] * 99}
    night.run(("a",))
    assert len(night.worker.calls) == max_attempts and statuses(night) == ["failed"]


def test_a_full_disk_does_not_use_up_attempts_but_does_not_go_on_for_ever() -> None:
    night = Night(max_attempts=2)
    night.worker.endings = {"a": ["disk", "crash", "disk"], "b": ["disk"] * 99}
    night.run(("a", "b"))
    assert statuses(night) == ["done", "failed"]
    assert night.worker.calls.count("b") == DISK_ATTEMPTS


def test_waits_belong_to_the_kind_of_failure() -> None:
    def ask(kind: FailureKind, of_kind: int, counted: int) -> float | None:
        return wait_before_retry(kind, failures_of_kind=of_kind, failures_counted=counted, max_attempts=9)

    assert ask("memory", 1, 4) == 10.0 and ask("memory", 2, 5) == 60.0 and ask("memory", 3, 6) == 60.0
    assert ask("stall", 1, 3) == 5.0 and ask("stall", 2, 9) is None
    assert wait_before_retry(None, failures_of_kind=1, failures_counted=1, max_attempts=9) is None


def test_a_stop_while_waiting_for_another_attempt_leaves_a_film_that_can_go_on() -> None:
    night = Night()
    night.worker.endings = {"a": ["io"]}
    night.permission.stop_at_s = 6.0
    supervisor = night.run(("a", "b"))
    (film,) = supervisor.films
    assert film.result is not None
    assert (film.result.status, film.result.code, film.result.errors) == ("stopped", 130, ("error: io",))
    assert night.clock.slept_s == 6.0


def test_a_failure_stops_the_run_if_the_config_says_so() -> None:
    night = Night(stops_on_error=True)
    night.worker.endings = {"a": ["crash"], "b": ["input"]}
    supervisor = night.run(("a", "b", "c"))
    assert statuses(night) == ["done", "failed"] and not supervisor.is_stopping


def test_a_film_that_others_stop_is_not_begun_again_for_ever() -> None:
    night = Night(max_attempts=3)
    supervisor = night.prepare()
    supervisor._worker = lambda job, *, index, stop, tick: film_result(job, "stopped")
    night.run(("a",))
    (film,) = supervisor.films
    assert len(film.attempts) == 3 and film.result is not None and film.result.failure == "crash"
    assert "not by this run" in film.result.errors[0]


def test_a_clock_that_is_set_back_changes_no_span() -> None:
    class Jumping(FakeClock):
        def now(self):  # type: ignore[no-untyped-def]
            return super().now() - timedelta(hours=2 if self.slept_s > 3 else 0)

    night = Night(clock=Jumping())
    night.permission.obstacles = [(2.0, 30.0, "asked")]
    supervisor = night.run(("a",))
    assert [(attempt.ended_at - attempt.started_at).total_seconds() for attempt in supervisor.films[0].attempts] == [
        2.0,
        8.0,
    ]
    assert [(wait.ended_at - wait.started_at).total_seconds() for wait in supervisor.waits] == [28.0]


def test_signals_are_given_back_when_a_worker_breaks() -> None:
    night = Night()
    supervisor = night.prepare()
    before = signal.getsignal(signal.SIGTERM)

    def broken(job: Job, **_: object) -> None:
        os.kill(os.getpid(), 0)
        raise ZeroDivisionError

    supervisor._worker = broken  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        supervisor.run([film_job("a")])
    assert signal.getsignal(signal.SIGTERM) is before and not supervisor.is_working


endings = st.lists(st.sampled_from([*PASSING, *LASTING, "done"]), max_size=8)
spans = st.lists(
    st.tuples(st.floats(0, 200), st.floats(0, 100), st.sampled_from(["asked", "hours", "disk"])), max_size=5
)


@settings(max_examples=60, deadline=None)
@given(
    films=st.lists(endings, min_size=1, max_size=4),
    spans=spans,
    stops=st.lists(st.floats(0, 200), max_size=2),
    max_attempts=st.integers(1, 4),
    stops_on_error=st.booleans(),
)
def test_whatever_happens_a_run_ends_and_each_film_has_one_end(films, spans, stops, max_attempts, stops_on_error):  # type: ignore[no-untyped-def]
    night = Night(max_attempts=max_attempts, stops_on_error=stops_on_error)
    names = [f"film{index}" for index in range(len(films))]
    night.worker.endings = dict(zip(names, films, strict=True))
    night.permission.obstacles = [(start, start + span, kind) for start, span, kind in spans]
    supervisor = night.prepare()
    due = sorted(stops)

    def press(job: Job, done_s: float) -> None:
        while due and night.clock.slept_s >= due[0]:
            due.pop(0)
            supervisor.request_stop()

    night.worker.on_step = press
    night.run(names)
    assert all(film.result is not None for film in supervisor.films)
    assert [film.job.name for film in supervisor.films] == names[: len(supervisor.films)]
    assert [id(record) for record in night.reporter.over] == [id(film) for film in supervisor.films]
    assert len(night.display.told("job_finished")) == len(supervisor.films)
    failed = any(status == "failed" for status in statuses(night))
    if len(supervisor.films) < len(names):
        assert supervisor.is_stopping or (stops_on_error and failed)
    for film in supervisor.films:
        counted = [one for one in film.attempts if one.result.status == "failed" and one.result.failure != "disk"]
        assert len(counted) <= max_attempts
        assert all(one.started_at <= one.ended_at for one in film.attempts)
    assert max(night.clock.naps, default=0) <= NAP_S
