"""What a run leaves for others: status, hooks, summary and page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from helpers.night_runs import FakeClock, FakePermission, FakeWorker, RecordingDisplay, film_job

from pipeline.config import Config
from pipeline.config.load import make_config
from pipeline.graph.metrics import GraphSnapshot, Verdict
from pipeline.graph.stop import StopToken
from pipeline.inputs.job import Job
from pipeline.night import reporting
from pipeline.night.reporting import NightReporter
from pipeline.night.status import RunStatus, read_status
from pipeline.night.supervisor import Supervisor
from pipeline.night.watching import WatchingDisplay
from pipeline.results import JobResult
from pipeline.show.morning.summary import read_summary
from pipeline.show.progress import JobProgress, JobStart

NOTHING = GraphSnapshot(elapsed_s=0.0, stages=(), channels=())


@dataclass
class TellingWorker:
    """Works as ``FakeWorker`` does, and says how far it is: a frame for every quarter of a second."""

    clock: FakeClock
    display: WatchingDisplay
    look: Callable[[], None]

    def __call__(self, job: Job, *, index: int, stop: StopToken, tick: Callable[[], None]) -> JobResult:
        self.display.job_started(JobStart(name=job.name, index=index, count=2, frame_count_estimated=40))

        def step(job: Job, done_s: float) -> None:
            frames = int(4 * done_s)
            verdict = Verdict(stage="upscale", load=0.9, text="upscale limits the run")
            self.display.job_progress(
                JobProgress(
                    frames_done=frames,
                    elapsed_s=done_s,
                    fps=4.0,
                    eta_s=(40 - frames) / 4,
                    graph=NOTHING,
                    verdict=verdict,
                )
            )
            self.look()

        return FakeWorker(self.clock, on_step=step)(job, index=index, stop=stop, tick=tick)


class ReportedNight:
    """Two films, reported into a folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **run: Any) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.display = RecordingDisplay()
        self.statuses: list[RunStatus] = []
        monkeypatch.setattr(reporting.time, "monotonic", self.clock.steady_s)
        config: Config = make_config(
            {"input": {"paths": ["a", "b"]}, "output": {"dir": str(folder)}, "run": run}, folder=folder
        )
        watching = WatchingDisplay(cast(Any, self.display))
        self.reporter = NightReporter(
            folder, config=config, config_path=None, display=watching, film_count=2, source_bytes=(100, 300)
        )
        self.night = Supervisor(
            worker=TellingWorker(self.clock, watching, self.look),
            allowance=FakePermission(self.clock),
            display=watching,
            reporter=self.reporter,
            max_attempts=3,
            stops_on_error=False,
            clock=self.clock,
        )

    def look(self) -> None:
        if (self.folder / "status.json").exists():
            self.statuses.append(read_status(self.folder))

    def run(self) -> None:
        self.night.run((film_job("a"), film_job("b")))
        self.reporter.finish(self.night, exit_code=0, was_stopped=False)


def test_the_status_says_how_far_a_run_is_and_when_it_will_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = ReportedNight(tmp_path, monkeypatch)
    night.run()
    first = next(status for status in night.statuses if status.film == "a" and status.frames_done >= 20)
    assert (first.state, first.film_index, first.frame_count, first.film_count) == ("working", 0, 40, 2)
    # the second film has three times the bytes: three times as long as the first, which takes ten seconds
    assert first.film_eta_s is not None and first.run_eta_s == pytest.approx(first.film_eta_s + 30)
    last = night.statuses[-1]
    assert (last.film, last.done_count, last.bottleneck) == ("b", 1, "upscale limits the run")
    assert last.run_eta_s == last.film_eta_s
    over = read_status(tmp_path)
    assert (over.state, over.done_count, over.failed_count) == ("over", 2, 0)


def test_the_summary_and_the_page_tell_of_every_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = ReportedNight(tmp_path, monkeypatch)
    night.run()
    summary = read_summary(tmp_path / "summary.json")
    assert [(job.number, job.name, job.status, len(job.attempts)) for job in summary.jobs] == [
        (1, "a", "done", 1),
        (2, "b", "done", 1),
    ]
    assert "All 2 films are done" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_hooks_get_the_result_and_one_that_fails_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = ReportedNight(
        tmp_path, monkeypatch, on_job_done=f"cat >> '{tmp_path}/films.json'", on_run_done="cat >/dev/null; exit 3"
    )
    night.run()
    decoder, text, found = json.JSONDecoder(), (tmp_path / "films.json").read_text().lstrip(), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value["name"])
        text = text[end:].lstrip()
    assert found == ["a", "b"]
    assert any("ended with code 3" in text for text in night.display.told("warning"))


def test_a_status_that_cannot_be_written_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = ReportedNight(tmp_path, monkeypatch)

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reporting, "write_status", refuse)
    night.run()
    assert [text for text in night.display.told("warning") if "status cannot be written" in text] == [
        f"the status cannot be written to {tmp_path}: No space left on device"
    ]
