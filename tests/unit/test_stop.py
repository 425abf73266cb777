"""Asking a run to end."""

from __future__ import annotations

import pytest

from pipeline.graph.channel import Aborted
from pipeline.graph.stop import AbortHook, StopToken


def test_a_stop_is_no_abort_and_an_abort_is_a_stop() -> None:
    stop = StopToken()
    assert (stop.is_stopping, stop.is_aborted) == (False, False)
    stop.raise_if_aborted()
    stop.stop()
    assert (stop.is_stopping, stop.is_aborted) == (True, False)
    stop.raise_if_aborted()
    stop.abort()
    assert (stop.is_stopping, stop.is_aborted) == (True, True)
    with pytest.raises(Aborted):
        stop.raise_if_aborted()


def test_without_a_run_abort_calls_the_callbacks_itself_once() -> None:
    stop, called = StopToken(), list[str]()
    stop.on_abort(lambda: called.append("a"))
    stop.on_abort(lambda: called.append("b"))
    stop.abort()
    stop.abort()
    assert called == ["a", "b"]


def test_a_cancelled_callback_is_not_called() -> None:
    stop, called = StopToken(), list[str]()
    with stop.on_abort(lambda: called.append("a")) as hook:
        hook.cancel()
    with stop.on_abort(lambda: called.append("b")):
        pass
    stop.abort()
    assert called == []


def test_a_late_registration_is_called_at_once() -> None:
    stop, called = StopToken(), list[str]()
    stop.abort()
    stop.on_abort(lambda: called.append("late"))
    assert called == ["late"]


def test_a_run_that_is_being_aborted_counts_until_it_is_over() -> None:
    stop, called, run = StopToken(), list[str](), object()
    stop.attach(run, wake=lambda: None)
    stop.begin_abort(run)
    stop.on_abort(lambda: called.append("during"))
    stop.detach(run)
    with stop.on_abort(lambda: called.append("after")):
        assert called == ["during"]


def test_with_a_run_abort_wakes_it_and_leaves_the_callbacks_to_it() -> None:
    stop, called, run = StopToken(), list[str](), object()
    stop.attach(run, wake=lambda: called.append("wake"))
    stop.on_abort(lambda: called.append("callback"))
    stop.abort()
    assert called == ["wake"]
    stop.run_hooks()
    stop.run_hooks()
    assert called == ["wake", "callback"]


def test_one_failing_callback_does_not_keep_the_others() -> None:
    stop, called = StopToken(), list[str]()

    def fail() -> None:
        raise LookupError

    stop.on_abort(fail)
    stop.on_abort(lambda: called.append("other"))
    with pytest.raises(LookupError):
        stop.run_hooks()
    assert called == ["other"]


def test_a_callback_that_another_one_cancels_is_not_called() -> None:
    stop, called = StopToken(), list[str]()
    hooks: list[AbortHook] = []

    def cancel_second() -> None:
        hooks[0].cancel()

    stop.on_abort(cancel_second)
    hooks.append(stop.on_abort(lambda: called.append("second")))
    stop.abort()
    assert called == []


def test_silence_is_excused_while_announced_and_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 10.0
    monkeypatch.setattr("pipeline.graph.stop.time.perf_counter", lambda: now_s)
    stop = StopToken()
    assert stop.silent_until_s == 0
    with stop.expect_silence():
        now_s = 20.0
        with stop.expect_silence():
            now_s = 30.0
        now_s = 40.0
        assert stop.silent_until_s == 40
    now_s = 90.0
    assert stop.silent_until_s == 40
