"""The summary of a run survives JSON exactly, and nothing but a summary is read as one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from helpers import nights

from pipeline.errors import ConfigError, OutputError
from pipeline.show.morning.strict_json import WrongJson
from pipeline.show.morning.summary import (
    JobSummary,
    Problem,
    RunSummary,
    Thumbnails,
    problems_of,
    read_summary,
    write_summary,
)
from pipeline.show.morning.words import Totals, say_verdict, spell_bytes, spell_span

NIGHTS = {
    "eventful": nights.eventful(thumbnails=Thumbnails(before=Path("b.jpg"), after=Path("a.jpg"), caption="frame 1")),
    "hostile": nights.hostile(),
    "empty": nights.run(),
}


@pytest.mark.parametrize("name", NIGHTS)
def test_a_summary_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(path, NIGHTS[name])
    assert read_summary(path) == NIGHTS[name]
    assert path.read_bytes().isascii()


@pytest.mark.parametrize("job", NIGHTS["eventful"].jobs, ids=lambda job: job.status)
def test_a_job_crosses_a_process_border_as_json(job: JobSummary) -> None:
    assert JobSummary.from_json(json.loads(json.dumps(job.as_json(), allow_nan=False))) == job


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    content = json.loads(json.dumps(NIGHTS["eventful"].as_json()))
    change(content)
    return dict(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(schema_version=2), "reads schema_version 1, not 2"),
        (lambda run: run.pop("schema_version"), "not None"),
        (lambda run: run.update(schema_version=True), "not True"),
        (lambda run: run.update(extra=1), "summary: unknown key 'extra'"),
        (lambda run: run.pop("host"), "summary: key 'host' is missing"),
        (lambda run: run["jobs"][2].update(framse=1), r"summary.jobs\[2\]: unknown key 'framse'"),
        (lambda run: run["jobs"][0].update(status="ok"), r"jobs\[0\].status: must be one of done, .*\(got 'ok'\)"),
        (lambda run: run["jobs"][0].update(status=["done"]), r"jobs\[0\].status: must be one of"),
        (lambda run: run["jobs"][0].update(frames_done=1.5), r"frames_done: must be a whole number \(got 1.5\)"),
        (lambda run: run["jobs"][0].update(frames_done=True), r"frames_done: must be a whole number \(got True\)"),
        (lambda run: run["jobs"][0].update(fps=None), r"fps: must be a number \(got None\)"),
        (lambda run: run["jobs"][0].update(source="film"), r"jobs\[0\].source: must be an object \(got 'film'\)"),
        (lambda run: run["jobs"][0]["attempts"][0].pop("status"), r"attempts\[0\]: key 'status' is missing"),
        (lambda run: run.update(started_at="yesterday"), r"started_at: must be a time such as .*\(got 'yesterday'\)"),
        (lambda run: run.update(started_at="2031-03-04T22:40:00"), "started_at: has no time zone"),
        (lambda run: run.update(was_stopped=0), r"was_stopped: must be true or false \(got 0\)"),
        (lambda run: run.update(jobs={}), r"jobs: must be a list \(got {}\)"),
        (lambda run: run.update(notes="one"), r"notes: must be a list \(got 'one'\)"),
        (lambda run: run.update(machine=[]), r"machine: must be an object"),
        (lambda run: run["machine"].update(cpu_count=1.5), r"machine.cpu_count: must be a whole number"),
        (lambda run: run.update(config=7), r"config: must be a path \(got 7\)"),
        (lambda run: run.update(host="x", run_folder=["y" * 500]), r"run_folder: must be a path \(got .{60}\.\.\.\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(change: Callable[[dict[str, Any]], None], message: str) -> None:
    with pytest.raises(WrongJson, match=message):
        RunSummary.from_json(changed(change))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'{"schema_version": 1}'])
def test_a_file_that_is_no_summary_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(WrongJson, match=r"summary\.json: "):
        read_summary(path)


def test_every_field_of_a_job_has_its_key() -> None:
    keys = set(NIGHTS["eventful"].jobs[0].as_json())
    assert keys == {field.name for field in fields(JobSummary)} | {"schema_version"}


def test_a_time_without_a_zone_is_not_written() -> None:
    with pytest.raises(ValueError, match="time zone"):
        replace(NIGHTS["empty"], started_at=datetime(2031, 1, 1)).as_json()


def test_what_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the summary"):
        write_summary(tmp_path / "missing" / "summary.json", NIGHTS["empty"])


def verdict_of(*statuses: str, was_stopped: bool = False) -> tuple[str, str]:
    jobs = [replace(nights.film(i + 1, i, i + 1), status=status) for i, status in enumerate(statuses)]
    verdict = say_verdict(replace(nights.run(*jobs), was_stopped=was_stopped))
    return verdict.tone, verdict.text


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((), ("good", "There was nothing to do.")),
        (("done",), ("good", "The film is done.")),
        (("damaged",), ("mixed", "The film is done: its input is damaged.")),
        (("failed",), ("bad", "The film failed.")),
        (("stopped",), ("stopped", "The film is unfinished.")),
        (("skipped",), ("good", "The film was finished by an earlier run.")),
        (("held",), ("stopped", "The film is held elsewhere.")),
        (("done", "done"), ("good", "All 2 films are done.")),
        (("skipped", "skipped"), ("good", "All 2 films were finished by an earlier run.")),
        (("done", "skipped", "done"), ("good", "All 3 films are done: 1 by an earlier run.")),
        (("done", "failed"), ("mixed", "1 of 2 films is done: 1 failed.")),
        (("failed", "failed"), ("bad", "None of 2 films are done: 2 failed.")),
        (("done", "damaged"), ("mixed", "All 2 films are done: 1 from damaged input.")),
        (("done", "stopped"), ("stopped", "1 of 2 films is done: 1 unfinished and can go on.")),
    ],
)
def test_the_night_is_said_in_one_sentence(statuses: tuple[str, ...], expected: tuple[str, str]) -> None:
    assert verdict_of(*statuses) == expected


def test_a_stopped_run_says_so_first() -> None:
    assert verdict_of("done", "stopped", was_stopped=True)[1].startswith("Stopped before the end. 1 of 2")
    assert verdict_of("done", was_stopped=True)[0] == "stopped"


def test_totals_count_what_this_run_made() -> None:
    first = replace(nights.film(1, 0, 10), frames_done=1000, frames_resumed=400, upscaling_s=60.0)
    second = replace(nights.film(2, 10, 20), status="failed", output=None, frames_done=300, upscaling_s=40.0)
    totals = Totals.of(nights.run(first, second))
    assert (totals.finished, totals.frames, totals.fps) == (1, 900, 9.0)
    assert totals.read_bytes == 734_003_200, "of the finished film alone"
    assert math.isclose(totals.upscaling_s, 100.0)
    assert Totals.of(nights.run()).fps == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0.0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"),
     (29_220, "8 h 07 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_spans_have_two_units(seconds: float, text: str) -> None:
    assert spell_span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.00 KiB"), (1_048_000, "1.00 MiB"),
     (325_058_560, "310 MiB"), (1_524_713_390, "1.42 GiB"), (5 * 2**50, "5120 TiB")],
)  # fmt: skip
def test_sizes_have_three_digits(count: int | None, text: str) -> None:
    assert spell_bytes(count) == text


def test_an_error_becomes_problems_with_its_advice_at_the_end() -> None:
    path = Path("out")
    assert problems_of(OutputError("out is full", path=path, hint="free space")) == (
        Problem(message="out is full", hint="free space"),
    )
    assert problems_of(ConfigError(("a: wrong", "b: wrong"), hint="mend both")) == (
        Problem(message="a: wrong"),
        Problem(message="b: wrong", hint="mend both"),
    )
    assert problems_of(KeyboardInterrupt()) == (Problem(message="stopped"),)
    (defect,) = problems_of(ZeroDivisionError("x"))
    assert defect.message == "internal error: ZeroDivisionError: x" and "defect" in defect.hint
