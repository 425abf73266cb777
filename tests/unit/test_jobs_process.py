"""Whatever a film's process does, there is one result, and nothing of it is left."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.child_scripts import (
    Child,
    children_of,
    film_order,
    is_alive,
    open_descriptors,
    progress_of,
    result_of,
    wait_until,
)

from pipeline.graph.stop import StopToken
from pipeline.jobs import process as process_module
from pipeline.jobs.messages import Noted, Progressed, Started
from pipeline.jobs.processes import work_in_process
from pipeline.show.progress import JobStart

STARTED = Started(job=JobStart(name="film.mkv", index=0, count=1, frame_count_estimated=321))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before, children = open_descriptors(), set(children_of(os.getpid()))
    yield
    assert open_descriptors() <= before
    assert set(children_of(os.getpid())) <= children  # no zombie either


def test_what_it_says_is_shown_and_its_result_returned(tmp_path: Path) -> None:
    child = Child(
        tmp_path,
        "send('ready', 'started', 'progressed', 'noted', 'ended')",
        started=STARTED,
        progressed=Progressed(progress=progress_of(5)),
        noted=Noted(text="look", is_warning=True),
    )
    assert child.work() == result_of()
    assert [kind for kind, _ in child.display.calls] == ["job_started", "job_progress", "warning"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGBUS, signal.SIGABRT])
@pytest.mark.parametrize(
    "before", ["", "send('ready')", "send('ready', 'started')", "os.write(descriptor, b'{\"Ended')"]
)
def test_a_process_that_dies_at_any_moment_is_a_crash(tmp_path: Path, before: str, number: signal.Signals) -> None:
    code = f"print('last words', file=sys.stderr, flush=True)\n{before}\nos.kill(os.getpid(), {int(number)})"
    child = Child(tmp_path, code, started=STARTED)
    result = child.work()
    assert (result.status, result.failure, result.code) == ("failed", "crash", 70)
    assert result.errors[0] == f"error: the process of this film was killed by {number.name}"
    assert "  last words" in result.errors and str(child.log) in result.errors[-1]
    assert ("dmesg" in result.errors[-1]) == (number == signal.SIGKILL)
    assert result.frame_count_estimated == (321 if "started" in before else None)
    assert child.elapsed_s < 5


def test_a_process_that_dies_after_its_last_word_has_ended_well(tmp_path: Path) -> None:
    child = Child(tmp_path, "send('ready', 'ended')\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert child.work().status == "done"


@pytest.fixture
def _short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_END_S", 0.5)


@pytest.mark.usefixtures("_short_end")
def test_a_process_that_does_not_go_after_its_last_word_is_sent_away(tmp_path: Path) -> None:
    child = Child(tmp_path, "send('ready', 'ended')\ntime.sleep(100)")
    assert child.work().status == "done" and child.elapsed_s < 10


@pytest.mark.parametrize(("code", "failure"), [(70, "stall"), (1, "crash"), (0, "crash")])
def test_how_it_ended_without_a_word_says_what_happened(tmp_path: Path, code: int, failure: str) -> None:
    result = Child(tmp_path, f"send('ready')\nos._exit({code})").work()
    assert result.failure == failure and f"ended with code {code}" in result.errors[0]


@pytest.mark.usefixtures("_short_end")
def test_a_process_that_closes_its_pipe_and_stays_is_killed(tmp_path: Path) -> None:
    child = Child(tmp_path, "os.close(descriptor)\ntime.sleep(100)")
    result = child.work()
    assert "had to be killed" in result.errors[0] and "dmesg" not in result.errors[-1] and child.elapsed_s < 15


def test_the_reason_is_looked_for_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "film.log").write_text("of an earlier attempt\n")
    child = Child(
        tmp_path,
        "import faulthandler\nfaulthandler.enable()\nprint('\\x1b[31mred ' + 'x' * 1000, file=sys.stderr)\n"
        "for _ in range(99): print('noise', file=sys.stderr)\nsys.stderr.flush()\nos.kill(os.getpid(), signal.SIGSEGV)",
    )
    result = child.work()
    assert result.errors[1] == "  Fatal Python error: Segmentation fault"
    assert not any("noise" in line or "earlier" in line for line in result.errors)
    plain = Child(tmp_path, "print('\\x1b[31mred ' + 'x' * 1000, flush=True)\nos._exit(3)").work()
    assert plain.errors[1].startswith(r"  \x1b[31mred x") and len(plain.errors[1]) < 250


def test_a_log_that_was_begun_anew_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "film.log").write_text("x" * 10_000)
    child = Child(tmp_path, f"os.truncate({str(tmp_path / 'film.log')!r}, 0)\nprint('late', flush=True)\nos._exit(3)")
    assert "  late" in child.work().errors


def test_what_a_process_leaves_running_goes_with_it(tmp_path: Path) -> None:
    """A grandchild also has the pipe: the parent does not wait for that to close."""
    child = Child(
        tmp_path,
        "import subprocess\nother = subprocess.Popen(['sleep', '100'], pass_fds=[descriptor])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(other.pid))\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert child.work().failure == "crash" and child.elapsed_s < 5
    pid = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: not is_alive(pid))


SIGNALS = """
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append('stop'))
signal.signal(signal.SIGTERM, lambda *_: asked.append('abort'))
"""


@pytest.mark.parametrize("is_early", [True, False])
def test_a_stop_is_asked_for_once_it_can_be_heard(tmp_path: Path, *, is_early: bool) -> None:
    child = Child(
        tmp_path,
        "time.sleep(0.6)\n" + SIGNALS + "send('ready', 'started')\nwhile not asked: time.sleep(0.01)\n"
        "print(asked, flush=True)\nsend('ended')",
        started=STARTED,
        ended=result_ended("stopped"),
    )
    if is_early:
        child.stop.stop()
    result = child.work(tick=lambda: child.stop.stop() if child.display.told("job_started") else None)
    assert result.status == "stopped" and child.log.read_text() == "['stop']\n"


def result_ended(status: str):  # type: ignore[no-untyped-def]
    from pipeline.jobs.messages import Ended

    return Ended(result=result_of(status=status))


def test_an_abort_before_it_can_be_heard_ends_the_process(tmp_path: Path) -> None:
    child = Child(tmp_path, "time.sleep(100)")
    child.stop.abort()
    result = child.work()
    assert (result.status, result.failure, result.code) == ("stopped", None, 130) and child.elapsed_s < 5


def test_an_abort_is_answered_by_the_process_itself(tmp_path: Path) -> None:
    child = Child(
        tmp_path,
        SIGNALS + "send('ready', 'started')\nwhile 'abort' not in asked: time.sleep(0.01)\nsend('ended')",
        started=STARTED,
        ended=result_ended("stopped"),
    )
    ticks = iter(range(100))

    def tick() -> None:
        if child.display.told("job_started"):
            (child.stop.stop if next(ticks) == 0 else child.stop.abort)()

    assert child.work(tick=tick) == result_of(status="stopped")


def test_a_process_that_ignores_an_abort_is_killed_at_the_deadline(tmp_path: Path) -> None:
    child = Child(
        tmp_path,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsend('ready', 'started')\ntime.sleep(100)",
        started=STARTED,
    )
    result = child.work(tick=lambda: child.stop.abort() if child.display.told("job_started") else None, deadline_s=0.5)
    assert result.status == "stopped" and 0.5 < child.elapsed_s < 5


@pytest.mark.parametrize("place", ["tick", "display"])
def test_an_error_of_the_parent_ends_the_process(tmp_path: Path, place: str) -> None:
    child = Child(
        tmp_path,
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nsend('ready', 'progressed')\ntime.sleep(100)",
        progressed=Progressed(progress=progress_of(5)),
    )

    def fail(*_: object) -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise ZeroDivisionError

    child.display._on_progress = fail if place == "display" else lambda progress: None
    with pytest.raises(ZeroDivisionError):
        child.work(tick=fail if place == "tick" else lambda: None)
    assert not is_alive(int((tmp_path / "pid").read_text())) and child.elapsed_s < 5


def test_a_flood_does_not_keep_the_parent_from_looking_around(tmp_path: Path) -> None:
    ticks: list[float] = []
    child = Child(
        tmp_path,
        "until = time.monotonic() + 1.5\nwhile time.monotonic() < until: send('progressed')\nsend('last', 'ended')",
        progressed=Progressed(progress=progress_of(5)),
        last=Progressed(progress=progress_of(6)),
    )
    child.work(tick=lambda: ticks.append(time.monotonic()))
    assert max(after - before for before, after in itertools.pairwise(ticks)) < 1.0
    assert child.display.told("job_progress")[-1].frames_done == 6


def test_a_message_longer_than_the_pipe_arrives(tmp_path: Path) -> None:
    child = Child(tmp_path, "send('noted', 'ended')", noted=Noted(text="x" * 1_000_000, is_warning=False))
    assert child.work().status == "done" and len(child.display.told("note")[0]) == 1_000_000


def test_an_order_longer_than_a_pipe_is_read_when_the_process_likes(tmp_path: Path) -> None:
    """Nobody reads it here: the parent goes on all the same."""
    child = Child(tmp_path, "time.sleep(0.5)\nsend('ended')")
    taken = tuple((tmp_path / f"{number}" / ("x" * 200), "name") for number in range(5000))
    ticks: list[None] = []
    result = work_in_process(
        replace(film_order(tmp_path), taken=taken),
        display=child.display,
        stop=StopToken(),
        log=child.log,
        deadline_s=1,
        tick=lambda: ticks.append(None),
        worker=(sys.executable, "-S", str(child.program)),
    )
    assert result.status == "done" and ticks


def test_a_process_that_cannot_be_started_is_a_film_that_failed(tmp_path: Path) -> None:
    child = Child(tmp_path, "")
    result = work_in_process(
        film_order(tmp_path),
        display=child.display,
        stop=child.stop,
        log=child.log,
        deadline_s=1,
        worker=(str(tmp_path / "no such program"),),
    )
    assert (result.status, result.failure) == ("failed", "io") and "could not be started" in result.errors[0]
    child.log = tmp_path / "none" / "film.log"
    assert child.work().failure == "io"


def test_running_out_of_descriptors_is_a_film_that_failed(tmp_path: Path) -> None:
    child = Child(tmp_path, "send('ended')")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(number) for number in open_descriptors())
    used = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *used) + 1, hard))
        filler = []
        try:
            while True:
                filler.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            result = child.work()
        finally:
            for descriptor in filler:
                os.close(descriptor)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in used:
            os.close(descriptor)
    assert result.status == "failed" and "could not be started" in result.errors[0]
