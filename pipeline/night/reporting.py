"""What a run leaves for others: its status while it runs, hooks at each film's end, and the morning report."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engines.gpu.driver import has_nvidia_driver
from pipeline.errors import OutputError
from pipeline.night.disk import measure_room
from pipeline.night.folder import bound_log, film_log
from pipeline.night.gpu_health import GpuHealth
from pipeline.night.hooks import run_hook
from pipeline.night.status import RunState, RunStatus, write_status
from pipeline.night.watching import WatchingDisplay
from pipeline.show.morning.summary import (
    Attempt,
    Bottleneck,
    FilmFile,
    Interval,
    JobSummary,
    Pause,
    RunSummary,
    write_summary,
)

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.night.records import FilmRecord
    from pipeline.night.supervisor import Supervisor

logger = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0
"""How often the status is written."""

GPU_EVERY_S = 10.0
"""How often the GPU's management library is asked: heat builds up in tens of seconds."""

_WAITING: dict[str, RunState] = {"asked": "paused", "hours": "hours", "disk": "disk"}


class NightReporter:
    """Keeps a run's folder up to date. See ``pipeline.night.supervisor.Reporter``.

    Args:
        folder: The run's.
        config: The run's.
        config_path: The file that it came from; None if it came from elsewhere.
        display: What is shown of the run.
        film_count: Films that were found at the beginning.
        source_bytes: Of each of these films, in order; for the ETA of the run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Config,
        config_path: Path | None,
        display: WatchingDisplay,
        film_count: int,
        source_bytes: tuple[int, ...] = (),
    ) -> None:
        self._folder = folder
        self._config = config
        self._config_path = config_path
        self._display = display
        self._film_count = film_count
        self._source_bytes = source_bytes
        self._started_at = datetime.now(UTC)
        self._started_s = time.monotonic()
        self._written_s = float("-inf")
        self._can_write = True
        self._notes: list[str] = []
        self._gpu = None if config.infer.device == "cpu" or not has_nvidia_driver() else GpuHealth.open(0)
        self._asked_gpu_s = self._started_s

    def close(self) -> None:
        """Let go of the GPU's management library. Can be called twice."""
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None

    def tick(self, night: Supervisor) -> None:
        """Write the status if it is time, and look at the GPU."""
        now_s = time.monotonic()
        if self._gpu is not None and now_s - self._asked_gpu_s >= GPU_EVERY_S:
            self._asked_gpu_s = now_s
            for sentence in self._gpu.look():
                self._warn(sentence)
        if now_s - self._written_s >= STATUS_EVERY_S:
            self._written_s = now_s
            self._write(self._describe(night))
            if night.films:
                bound_log(film_log(self._folder, night.films[-1].index))

    def film_over(self, night: Supervisor, record: FilmRecord) -> None:
        """Run the user's command for a film."""
        command = self._config.run.on_job_done
        if command is not None and record.result is not None and record.result.status != "skipped":
            self._run_hook(command, summarise_film(record).as_json(), tick=lambda: self.tick(night))

    def finish(self, night: Supervisor, *, exit_code: int, was_stopped: bool) -> RunSummary:
        """Write the last status, the summary and the page, and run the user's command for the run.

        Returns:
            The summary, whether or not it could be written.
        """
        if self._gpu is not None and (sentence := self._gpu.summary()):
            self._notes.append(sentence)
        summary = self._summarise(night, exit_code=exit_code, was_stopped=was_stopped)
        try:
            write_summary(self._folder / "summary.json", summary)
            from pipeline.show.morning.page import write_page

            write_page(self._folder / "report.html", summary)
        except OutputError as exc:
            self._display.warning(str(exc))
        self._write(self._describe(night, is_over=True))
        if self._config.run.on_run_done is not None:
            self._run_hook(self._config.run.on_run_done, summary.as_json())
        self.close()
        return summary

    def _run_hook(self, command: str, facts: dict[str, object], *, tick: Callable[[], None] = lambda: None) -> None:
        problem = run_hook(command, facts, tick=tick)
        if problem is not None:
            self._warn(problem)

    def _warn(self, text: str) -> None:
        self._notes.append(text)
        self._display.warning(text)

    def _write(self, status: RunStatus) -> None:
        """A status that cannot be written is said once, and ends nothing."""
        try:
            write_status(self._folder, status)
            self._can_write = True
        except OSError as exc:
            if self._can_write:
                self._display.warning(f"the status cannot be written to {self._folder}: {exc.strerror}")
            self._can_write = False

    def _describe(self, night: Supervisor, *, is_over: bool = False) -> RunStatus:
        results = [film.result for film in night.films if film.result is not None]
        job, progress, build = self._display.job, self._display.progress, self._display.build
        state: RunState = (
            "working"
            if night.is_working
            else _WAITING.get(night.obstacle.kind, "paused")
            if (night.obstacle is not None)
            else "retry"
            if night.is_retrying
            else "watching"
        )
        if is_over:
            state = "over"
        elif night.is_stopping:
            state = "ending"
        return RunStatus(
            state=state,
            reason=night.obstacle.reason if night.obstacle is not None and not is_over else "",
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at.timestamp(),
            written_at=time.time(),
            film_count=max(self._film_count, len(night.films)),
            done_count=sum(result.status in ("done", "damaged", "skipped") for result in results),
            failed_count=sum(result.status == "failed" for result in results),
            film="" if job is None else job.name,
            film_index=max(0, len(night.films) - 1),
            frames_done=0 if progress is None else progress.frames_done,
            frame_count=None if job is None else job.frame_count_estimated,
            fps=0.0 if progress is None else progress.fps,
            film_eta_s=None if progress is None else progress.eta_s,
            run_eta_s=self._run_eta_s(night),
            phase="building" if build is not None else "" if progress is None else progress.phase,
            bottleneck="" if progress is None else progress.verdict.text,
            output_dir=str(self._config.output.dir),
        )

    def _run_eta_s(self, night: Supervisor) -> float | None:
        """For all films: what is left of this one, and for the others as long per byte as for those that are done."""
        progress, job, sizes = self._display.progress, self._display.job, self._source_bytes
        index = len(night.films) - 1
        left_s, s_per_byte = 0.0, None
        if progress is not None and job is not None and 0 <= index < len(sizes):
            if progress.eta_s is None:
                return None
            left_s = progress.eta_s
            if progress.fps > 0 and job.frame_count_estimated and sizes[index]:
                s_per_byte = job.frame_count_estimated / progress.fps / sizes[index]
        done = [
            film
            for film in night.films
            if film.result is not None and film.result.status in ("done", "damaged") and film.index < len(sizes)
        ]
        done_bytes = sum(sizes[film.index] for film in done)
        if done_bytes:
            worked_s = sum((one.ended_at - one.started_at).total_seconds() for film in done for one in film.attempts)
            s_per_byte = worked_s / done_bytes
        rest_bytes = sum(sizes[index + 1 :])
        if s_per_byte is None:
            return left_s if progress is not None and not rest_bytes else None
        return left_s + rest_bytes * s_per_byte

    def _summarise(self, night: Supervisor, *, exit_code: int, was_stopped: bool) -> RunSummary:
        from pipeline.host import probe_host, probe_versions

        try:
            free_bytes: int | None = measure_room(self._config.output.dir).free_bytes
        except OSError:
            free_bytes = None
        return RunSummary(
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            host=socket.gethostname(),
            config=self._config_path,
            run_folder=self._folder,
            was_stopped=was_stopped,
            exit_code=exit_code,
            jobs=tuple(summarise_film(film) for film in night.films),
            pauses=tuple(
                Pause(
                    started_at=wait.started_at,
                    ended_at=wait.ended_at,
                    kind=wait.obstacle.kind,
                    reason=wait.obstacle.reason,
                )
                for wait in night.waits
            ),
            hours=self._config.run.hours or "",
            notes=tuple(self._notes),
            disk_free_bytes=free_bytes,
            machine=probe_host(),
            versions=probe_versions(ffmpeg=None),
        )


def summarise_film(record: FilmRecord) -> JobSummary:
    """What became of a film, for the morning report and for hooks."""
    result = record.result
    assert result is not None
    outcome = result.outcome
    verdict = None if outcome is None else outcome.verdict
    return JobSummary(
        number=record.index + 1,
        name=result.name,
        status=result.status,
        reason=result.reason,
        source=_file(result.source, size=result.source_size),
        output=_file(None if outcome is None else outcome.output, size=result.output_size),
        attempts=tuple(
            Attempt(
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                status=attempt.result.status,
                ending="" if attempt.result is result else (attempt.result.reason or " ".join(attempt.result.errors)),
                back_off="" if attempt.next_wait_s is None else f"waited {attempt.next_wait_s:g} s",
            )
            for attempt in record.attempts
        ),
        worked=tuple(Interval(started_at=attempt.started_at, ended_at=attempt.ended_at) for attempt in record.attempts),
        frames_done=result.frames_done,
        frames_resumed=result.frames_resumed,
        frames_expected=result.frame_count_estimated,
        fps=0.0 if outcome is None else outcome.fps,
        elapsed_s=sum((attempt.ended_at - attempt.started_at).total_seconds() for attempt in record.attempts),
        upscaling_s=0.0 if outcome is None else outcome.graph_s,
        bottleneck=None
        if verdict is None or not verdict.text
        else Bottleneck(stage=verdict.stage, load=verdict.load, text=verdict.text),
        choices=result.choices,
        warnings=result.warnings,
        errors=result.problems,
        thumbnails=result.thumbnails,
        report=result.report,
    )


def _file(path: Path | None, *, size: tuple[int, int] | None) -> FilmFile | None:
    if path is None:
        return None
    try:
        size_bytes: int | None = path.stat().st_size if path.is_file() else None
    except OSError:
        size_bytes = None
    height, width = (None, None) if size is None else size
    return FilmFile(path=path, size_bytes=size_bytes, height=height, width=width)
