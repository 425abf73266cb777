"""A night, driven from outside: whatever happens to a run, each film is done once and is what it would have been."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from helpers.overnight import (
    Undisturbed,
    assert_clean,
    assert_result,
    hook_into,
    lines_of,
    make_place,
    soak_runs,
    statuses,
    undisturbed,
    wait_for,
)
from helpers.tool_modules import TOOLS, load_tool

soak = load_tool("soak")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Forty segments of the usual length here."""
    return undisturbed(tmp_path_factory.mktemp("film") / "it", frame_count=400)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """One segment."""
    return undisturbed(tmp_path_factory.mktemp("tiny") / "it", frame_count=6, size=32, seed=2)


@pytest.fixture
def places() -> Any:
    """Whatever is started in these ends with the test."""
    made: list[Any] = []
    yield made
    for place in made:
        place.end_all()


def segments_at_least(place: Any, count: int, program: Any) -> None:
    """Wait until some work is done."""
    wait_for(lambda: program.is_over() or len(place.segments(place.films[0])) >= count, what="segments")


def has_moved(place: Any, program: Any) -> Callable[[], bool]:
    """Whether a film got on since now: another segment, or its result on its way; or its run is over."""
    (copy,) = place.films
    before = len(place.segments(copy))

    def look() -> bool:
        segments = len(place.segments(copy))
        return (
            program.is_over()
            or segments > before
            or any(place.work_of(copy).glob("result.*"))
            or place.result_of(copy).exists()
        )

    return look


def kill_again_and_again(place: Any, truth: Undisturbed, *, kills: int, seed: int) -> int:
    """Kill runs over a film until that has been done often enough; then let one end. Returns how often it was begun."""
    pick = random.Random(seed)
    (copy,) = place.films
    begun = 1
    for _ in range(kills):
        program = place.start()
        longest_s = 1.2  # of half of them wherever they are then: mostly while they start
        if pick.random() < 0.5:
            longest_s = 0.4
            wait_for(has_moved(place, program), what="work")
        soak_runs.sleep_random(pick, 0.0, longest_s, or_over=program)
        if pick.random() < 0.5:
            program.kill_all()
        else:
            program.send(signal.SIGKILL)  # the film's process follows by itself
        place.expect_alone()
        if place.result_of(copy).exists() and not place.work_of(copy).exists():
            assert_result(place, copy, truth)
            shutil.rmtree(place.out)
            begun += 1
    ending = place.start().wait()
    assert ending.code == 0, ending.err
    assert_result(place, copy, truth)
    assert_clean(place)
    return begun


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(
    kills: int, tmp_path: Path, film: Undisturbed, places: list[Any]
) -> None:
    lanes = [make_place(tmp_path / f"lane {seed}", film.film) for seed in range(2)]
    places += lanes
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(kill_again_and_again, place, film, kills=kills // 2, seed=seed)
            for seed, place in enumerate(lanes)
        ]
        for run in runs:
            run.result()


def test_ctrl_c_leaves_a_run_that_goes_on_where_it_was(tmp_path: Path, film: Undisturbed, places: list[Any]) -> None:
    places.append(place := make_place(tmp_path / "it", film.film))
    program = place.start()
    segments_at_least(place, 3, program)
    program.send(signal.SIGINT)
    ending = program.wait(within_s=120)
    assert ending.code == 130, ending.err
    assert (
        ending.out == b"" and "after the segment in work" in ending.err and "the next run goes on there" in ending.err
    )
    place.expect_alone()
    kept = len(place.segments(place.films[0]))
    assert kept >= 3 and not place.result_of(place.films[0]).exists()
    assert place.summary(program)["was_stopped"] and place.state(program) == "over"

    again = place.start()
    ending = again.wait()
    assert ending.code == 0 and f"in {kept} segments are there" in ending.err, ending.err
    assert_result(place, place.films[0], film)
    assert_clean(place)
    (job,) = place.summary(again)["jobs"]
    assert job["frames_resumed"] == place.summary(program)["jobs"][0]["frames_done"] > 0
    assert job["frames_done"] == 400


def test_ctrl_c_twice_ends_at_once_and_keeps_the_segments(tmp_path: Path, film: Undisturbed, places: list[Any]) -> None:
    places.append(place := make_place(tmp_path / "it", film.film, output={"segment_s": 3600}))
    program = place.start()
    wait_for(lambda: any(place.work_of(place.films[0]).glob("*.part")), what="a segment begun")
    for _ in range(2):
        program.send(signal.SIGINT)
    started_s = time.monotonic()
    ending = program.wait(within_s=120)
    assert time.monotonic() - started_s < 20
    assert ending.code == 130 and "at once" in ending.err, ending.err
    assert_clean(place)  # no segment was finished, so nothing is worth keeping


def test_a_run_that_is_paused_has_no_process_for_films(tmp_path: Path, film: Undisturbed, places: list[Any]) -> None:
    places.append(place := make_place(tmp_path / "it", film.film))
    program = place.start()
    segments_at_least(place, 1, program)
    assert place.ask("pause").code == 0
    wait_for(lambda: place.state(program) == "paused", what="paused")
    assert program.workers() == [] and not program.is_over()
    assert b"paused" in place.ask("status").out
    assert place.ask("resume").code == 0
    ending = program.wait()
    assert ending.code == 0, ending.err
    assert_result(place, place.films[0], film)
    assert_clean(place)
    assert [pause["kind"] for pause in place.summary(program)["pauses"]] == ["asked"]


def test_two_runs_of_one_folder_do_nothing_twice(tmp_path: Path, film: Undisturbed, places: list[Any]) -> None:
    places.append(place := make_place(tmp_path / "it", film.film))
    first = place.start()
    segments_at_least(place, 1, first)
    (worker,) = first.workers()
    os.kill(worker, signal.SIGSTOP)  # it is not done before the second run comes
    ending = (second := place.start()).wait()
    os.kill(worker, signal.SIGCONT)
    assert ending.code == 1 and statuses(place, second) == {"film1.mkv": "held"}, ending.err
    assert f"process {worker}" in ending.err and str(place.out / ".nightscale/runs") in ending.err
    assert first.wait().code == 0 and statuses(place, first) == {"film1.mkv": "done"}
    assert_result(place, place.films[0], film)
    assert_clean(place)


def test_what_is_finished_is_skipped_until_something_of_it_changes(
    tmp_path: Path, tiny: Undisturbed, places: list[Any]
) -> None:
    places.append(place := make_place(tmp_path / "it", tiny.film, output={"overwrite": True}))
    (source,) = place.films
    result = place.result_of(source)

    def run(**sections: Any) -> str:
        ending = (program := place.start(**sections)).wait()
        assert ending.code == 0, ending.err
        assert_clean(place)
        (status,) = statuses(place, program).values()
        return status

    assert run() == "done"
    written = result.stat()
    (left := place.work_of(source)).mkdir()  # as where a run was killed after its last step but one
    (left / "seg-00000.mp4").touch()
    assert run() == "skipped" and result.stat() == written  # what was read is no change
    os.utime(source)
    assert run() == "done"  # another source, as far as anybody can tell
    assert run(encode={"quality": 30}) == "done"
    assert run(encode={"quality": 30}, run={"report_every_s": 3}) == "skipped"  # changes no result
    result.write_bytes(result.read_bytes()[:-1])
    assert run(encode={"quality": 30}) == "done"


def test_going_on_with_other_settings_is_refused_by_name_and_restart_begins_anew(
    tmp_path: Path, film: Undisturbed, places: list[Any]
) -> None:
    places.append(place := make_place(tmp_path / "it", film.film))
    program = place.start()
    segments_at_least(place, 2, program)
    program.kill_all()
    place.expect_alone()
    before = {path.name: path.read_bytes() for path in place.segments(place.films[0])}
    ending = place.start(encode={"quality": 30}).wait()
    assert ending.code != 0 and "encode.quality" in ending.err and "--restart" in ending.err, ending.err
    assert {path.name: path.read_bytes() for path in place.segments(place.films[0])} == before

    ending = place.start("--restart").wait()
    assert ending.code == 0, ending.err
    assert_result(place, place.films[0], film)
    (aside,) = place.out.glob("*.old-*")
    assert {path.name: path.read_bytes() for path in aside.glob("seg-*") if path.suffix != ".part"} == before
    shutil.rmtree(aside)
    assert_clean(place)


def test_a_film_whose_process_crashes_is_tried_again_and_done(
    tmp_path: Path, film: Undisturbed, tiny: Undisturbed, places: list[Any]
) -> None:
    hooks = tmp_path / "hooks", tmp_path / "end"
    commands = {"on_job_done": hook_into(hooks[0]), "on_run_done": hook_into(hooks[1])}
    places.append(place := make_place(tmp_path / "it", film.film, tiny.film, run=commands))
    program = place.start()
    segments_at_least(place, 2, program)
    for pid in program.workers():
        os.kill(pid, signal.SIGSEGV)
    ending = program.wait()
    assert ending.code == 0, ending.err
    assert "its process died; trying again" in ending.err and "SIGSEGV" in ending.err
    for source, truth in zip(place.films, (film, tiny), strict=True):
        assert_result(place, source, truth)
    assert_clean(place)
    summary = place.summary(program)
    told = [{key: value for key, value in job.items() if key != "schema_version"} for job in lines_of(hooks[0])]
    assert told == summary["jobs"] and lines_of(hooks[1]) == [summary]
    crashed, other = summary["jobs"]
    assert [one["status"] for one in crashed["attempts"]] == ["failed", "done"] and len(other["attempts"]) == 1


@pytest.mark.slow
def test_a_run_waits_for_room_on_the_disk_and_goes_on(tmp_path: Path) -> None:
    """On a small file system of its own, which is the soak tool's to mount."""
    if subprocess.run(
        [*soak.NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True
    ).returncode:
        pytest.skip("nothing can be mounted here")
    found = tmp_path / "found.json"
    command = [sys.executable, str(TOOLS / "soak.py"), "--only", "disk-low", "--seed", "1", "--number", "1"]
    done = subprocess.run([*command, "--json", str(found)], check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(found.read_text())["counts"] == {"disk-low": 1}


NAMES = (
    b'it\'s "a" film\nof {stem} %d [*]: caf\xe9 \xff.mkv',  # quotes, a line feed, a pattern, no UTF-8
    b"x" * 246 + b".mkv",
    b"-v.mkv",
)


def test_films_may_have_any_name(tmp_path: Path, tiny: Undisturbed, places: list[Any]) -> None:
    """Links too: the result has the link's name."""
    place = make_place(tmp_path / "it", *(tiny.film for _ in NAMES), names=[os.fsdecode(name) for name in NAMES])
    places.append(place)
    link = place.folder / "films" / "link.mkv"
    link.symlink_to(tiny.film)
    place.films = (*place.films, link)
    hook = tmp_path / "hook"
    program = place.start(input={"paths": [str(place.folder / "films")]}, run={"on_job_done": hook_into(hook)})
    ending = program.wait()
    assert ending.code == 0, ending.err
    for source in place.films:
        assert_result(place, source, tiny)
        assert os.fsencode(place.result_of(source)) + b"\n" in ending.out
    assert len(lines_of(hook)) == len(place.films)
    place.expect_alone()
    assert place.ask("status").code == 0
    assert place.start(input={"paths": [str(place.folder / "films")]}).wait().err.count(": skipped") == len(place.films)


@pytest.mark.slow
def test_between_tiny_films_a_run_does_next_to_nothing(tmp_path: Path, tiny: Undisturbed, places: list[Any]) -> None:
    """Its own processor time per film, and the time that no film is worked on. The promise is 50 ms on a quiet machine;
    here that is five times as much, and ``status`` may take 200 ms of the processor meanwhile."""
    count = 10
    place = make_place(tmp_path / "it", *(tiny.film for _ in range(count)), names=[f"{n:02}.mkv" for n in range(count)])
    places.append(place)
    program = place.start()
    worked: dict[int, float] = {}
    asked_s = []
    while not program.is_over():
        for status in place.statuses():
            worked.setdefault(status["done_count"], processor_s(program.pid))
        if len(worked) % 4 == 2:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert place.ask("status").code == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            asked_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        time.sleep(0.05)
    assert program.wait().code == 0
    jobs = place.summary(program)["jobs"]
    attempts = [job["attempts"][0] for job in jobs]
    gaps_s = [
        (datetime.fromisoformat(later["started_at"]) - datetime.fromisoformat(one["ended_at"])).total_seconds()
        for one, later in pairwise(attempts)
    ]
    (first, *_, last) = sorted(set(worked) - {0})
    per_film_s = (worked[last] - worked[first]) / (last - first)
    assert last - first > count // 2
    assert per_film_s < 0.25, per_film_s
    assert median(gaps_s) < 0.25, gaps_s
    assert min(asked_s) < 0.2, asked_s


def processor_s(pid: int) -> float:
    """Processor time of a process alone, without that of its children; 0 if it is gone. Source: proc_pid_stat(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
