"""A process that was quick with its film and in which all went well takes the next one too; no other does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.child_scripts import Children, children_of, film_order, is_alive, open_descriptors, result_of, wait_until

from pipeline.jobs import processes as processes_module
from pipeline.jobs.messages import Ended
from pipeline.jobs.processes import QUICK_S


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before, children = open_descriptors(), set(children_of(os.getpid()))
    yield
    assert open_descriptors() <= before
    assert set(children_of(os.getpid())) <= children  # no zombie either


def ended(**values: object) -> Ended:
    return Ended(result=result_of(**values))  # type: ignore[arg-type]


def test_quick_films_share_a_process_which_goes_at_the_end(tmp_path: Path) -> None:
    films = Children(tmp_path, ended_b=ended(status="skipped", name="b"))
    with films.processes:
        assert [films.work(name).status for name in "abc"] == ["done", "skipped", "done"]
        assert len(set(films.pids())) == 1 and is_alive(films.pids()[0])
    assert not is_alive(films.pids()[0])


@pytest.mark.parametrize(
    "values",
    [
        {"status": "damaged"},
        {"status": "failed", "failure": "input"},
        {"status": "failed", "failure": "crash"},
        {"status": "held"},
        {"status": "stopped"},
        {"elapsed_s": QUICK_S},
    ],
    ids=lambda values: "-".join(str(value) for value in values.values()),
)
def test_what_did_not_go_well_or_took_long_ends_its_process(tmp_path: Path, values: dict[str, object]) -> None:
    films = Children(tmp_path, ended_a=ended(**values))
    with films.processes:
        films.work("a")
        assert not is_alive(films.pids()[0])
        assert films.work("b").status == "done" and len(set(films.pids())) == 2


def test_a_process_that_was_asked_to_stop_takes_no_other_film(tmp_path: Path) -> None:
    """The request may reach it only when the film is over."""
    films = Children(
        tmp_path, "signal.signal(signal.SIGUSR1, lambda *_: None)\nsend('ready')\ntime.sleep(0.6)\nsend('ended')"
    )
    with films.processes:
        assert films.work("a", tick=films.stop.stop).status == "done"
        assert not is_alive(films.pids()[0])


def test_a_process_that_waits_goes_when_no_film_follows_at_once(tmp_path: Path) -> None:
    films = Children(tmp_path)
    with films.processes:
        films.work("a")
        films.processes.rest()
        assert not is_alive(films.pids()[0])
        films.processes.rest()
        assert films.work("b").status == "done" and len(set(films.pids())) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_died_while_it_waited_costs_no_film(tmp_path: Path, number: signal.Signals) -> None:
    films = Children(tmp_path)
    with films.processes:
        films.work("a")
        os.kill(films.pids()[0], number)
        assert wait_until(lambda: not is_alive(films.pids()[0]))
        assert films.work("b").status == "done" and len(set(films.pids())) == 2


def test_a_process_that_dies_with_a_later_film_has_done_the_earlier_ones(tmp_path: Path) -> None:
    films = Children(
        tmp_path,
        "print(film, 'speaks', file=sys.stderr, flush=True)\n"
        "if film == 'b': os.kill(os.getpid(), signal.SIGKILL)\nsend('ready', 'ended')",
    )
    with films.processes:
        assert films.work("a").status == "done"
        result = films.work("b")
        assert (result.name, result.status, result.failure) == ("b", "failed", "crash")
        assert films.work("c").status == "done"
    first, second, third = films.pids()
    assert first == second != third


def test_nothing_works_on_films_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "MOST_FILMS", 2)
    films = Children(tmp_path)
    with films.processes:
        for name in "abcde":
            films.work(name)
    pids = films.pids()
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


@pytest.mark.parametrize(("failure", "count"), [("internal", 2), ("setup", 2), ("input", 1), ("memory", 1)])
def test_what_may_come_from_other_films_is_tried_once_more_without_them(
    tmp_path: Path, failure: str, count: int
) -> None:
    films = Children(tmp_path, ended_b=ended(status="failed", failure=failure, name="b"))
    with films.processes:
        assert films.work("a").status == "done"
        assert films.work("b").failure == failure
        first, *others = films.pids()
        assert len(others) == count and others[0] == first and first not in others[1:]
        assert films.work("b").failure == failure
        assert len(films.pids()) == 2 + count  # in a process of its own it is the film's


def test_an_order_that_was_not_read_to_its_end_is_followed_by_no_other(tmp_path: Path) -> None:
    """A program that answers before it has listened."""
    films = Children(tmp_path)
    program = tmp_path / "child.py"
    code = program.read_text()
    program.write_text(code.partition("import json")[0] + "send('ended_')\nsys.stdin.buffer.read()\n")
    with films.processes:
        order = replace(film_order(tmp_path), taken=((tmp_path / ("x" * 200_000), "name"),))
        result = films.processes.work(order, display=films.display, stop=films.stop, log=films.log("a"), deadline_s=10)
        assert result.status == "done" and children_of(os.getpid()) == []
