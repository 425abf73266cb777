"""Progress as whole lines of text, for logs, pipes and terminals that cannot move their cursor; and next to none.

No control characters, nothing that the stream cannot encode. See ``pipeline.show.progress`` for who calls what.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self, TextIO

from pipeline.show.progress import BuildProgress, JobEnd, JobPhase, JobProgress, JobStart, RunEnd
from pipeline.show.wording import format_count, format_frames, format_rate, format_span, safe_text

logger = logging.getLogger(__name__)


class LineWriter:
    """Writes single lines to a stream, until the stream is gone.

    Args:
        stream: Where to write; flushed after every line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._is_lost = False

    def __call__(self, text: str) -> None:
        """Write one line; a terminal that was closed must not end a run, so from then on nothing is written."""
        if self._is_lost or self._stream.closed:
            return
        try:
            self._stream.write(safe_text(text, encoding=self._encoding) + "\n")
            self._stream.flush()
        except OSError as exc:
            self._is_lost = True
            logger.warning("progress is no longer shown: %s", exc)


def job_label(job: JobStart) -> str:
    """Write which job it is: ``[2/7] name``, or ``name`` alone in a run of one."""
    return job.name if job.count == 1 else f"[{job.index + 1}/{job.count}] {job.name}"


def start_lines(job: JobStart) -> tuple[str, ...]:
    """Write that a job begins and, indented, what was chosen for it."""
    total = job.frame_count_estimated
    expected = "number of frames unknown" if total is None else f"{format_count(total, 'frame')} expected"
    return (f"{job_label(job)}: {expected}", *(f"  {line}" for line in (*job.lines, *job.details)))


def end_lines(end: JobEnd, *, job: JobStart | None) -> tuple[str, ...]:
    """Write how a job ended and, indented, its verdict and what else there is to say.

    Args:
        end: The end.
        job: The job that started last; None if none is running. Only used if it is the one that ended.
    """
    label = job_label(job) if job is not None and job.name == end.name else end.name
    figures = f"{format_count(end.frames_done, 'frame')} in {format_span(end.elapsed_s)}"
    rate = f", {format_rate(end.fps)}" if end.fps > 0 else ""
    target = f" -> {end.output}" if end.output is not None else ""
    more = (f"  {line}" for line in (end.verdict, *end.lines) if line)
    return (f"{label}: {end.status}, {figures}{rate}{target}", *more)


def build_line(build: BuildProgress) -> str:
    """Write how far the compilation of an engine is, in one line."""
    phase = f" ({build.phase})" if build.phase else ""
    return f"building {build.text}: {int(100 * build.share)} %, elapsed {format_span(build.elapsed_s)}{phase}"


def build_end_line(build: BuildProgress) -> str:
    """Write that the compilation of an engine is over, in one line; what came of it, what follows says."""
    return f"building {build.text}: the compiler ended after {format_span(build.elapsed_s)}"


def progress_line(progress: JobProgress, *, job: JobStart) -> str:
    """Write how far a job is, in one line."""
    elapsed = f"elapsed {format_span(progress.elapsed_s)}"
    if progress.phase != "upscaling":
        return f"{job_label(job)}: {progress.phase}, {elapsed}"
    frames = format_frames(done=progress.frames_done, total=job.frame_count_estimated)
    eta = "ETA unknown" if progress.eta_s is None else f"ETA {format_span(progress.eta_s)}"
    verdict = f"; {progress.verdict.text}" if progress.verdict.text else ""
    return f"{job_label(job)}: {frames}, {format_rate(progress.fps)}, {elapsed}, {eta}{verdict}"


class PlainDisplay:
    """Whole lines of text, for logs and pipes: no control characters, nothing that the stream cannot encode.

    Args:
        stream: Where to write; flushed after every line.
        report_every_s: Least seconds of job time between two progress lines of one phase.
    """

    def __init__(self, *, stream: TextIO, report_every_s: float = 10.0) -> None:
        self.interval_s = report_every_s
        self._write = LineWriter(stream)
        self._job: JobStart | None = None
        self._phase: JobPhase = "upscaling"
        self._shown_at_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def run_started(self, job_count: int) -> None:
        """Write a line if there are several jobs."""
        if job_count != 1:
            self._write(f"run: {format_count(job_count, 'job')}")

    def job_started(self, job: JobStart) -> None:
        """Write the job's line and, indented, what was chosen."""
        self._job, self._phase, self._shown_at_s = job, "upscaling", 0.0
        for line in start_lines(job):
            self._write(line)

    def build_progress(self, build: BuildProgress) -> None:
        """Write a line; whoever calls keeps to ``interval_s``."""
        self._write(build_line(build))

    def build_finished(self, build: BuildProgress) -> None:
        """Write a line."""
        self._write(build_end_line(build))

    def job_progress(self, progress: JobProgress) -> None:
        """Write a line if the last one is ``interval_s`` old or the phase is another."""
        # A caller that keeps the interval comes now and then a little early; it must not lose every second line by it.
        is_due = progress.elapsed_s - self._shown_at_s >= 0.9 * self.interval_s
        if self._job is None or (progress.phase == self._phase and not is_due):
            return
        self._phase, self._shown_at_s = progress.phase, progress.elapsed_s
        self._write(progress_line(progress, job=self._job))

    def job_finished(self, end: JobEnd) -> None:
        """Write the job's last line and, indented, the verdict and what else there is to say."""
        for line in end_lines(end, job=self._job):
            self._write(line)
        self._job = None

    def note(self, text: str) -> None:
        """Write a line."""
        self._write(text)

    def warning(self, text: str) -> None:
        """Write a line that begins with ``warning:``."""
        self._write(f"warning: {text}")

    def run_finished(self, end: RunEnd) -> None:
        """Write how many jobs ended how, if there were several."""
        if len(end.jobs) != 1:
            self._write(end.summary())


class QuietDisplay:
    """Says only what went wrong: warnings, and jobs that failed, were stopped or had damaged input.

    Args:
        stream: Where to write.
    """

    def __init__(self, *, stream: TextIO) -> None:
        self.interval_s = 10.0
        self._lines = PlainDisplay(stream=stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def run_started(self, job_count: int) -> None:
        """Say nothing."""

    def job_started(self, job: JobStart) -> None:
        """Say nothing."""

    def build_progress(self, build: BuildProgress) -> None:
        """Say nothing."""

    def build_finished(self, build: BuildProgress) -> None:
        """Say nothing."""

    def job_progress(self, progress: JobProgress) -> None:
        """Say nothing."""

    def job_finished(self, end: JobEnd) -> None:
        """Say how the job ended if it did not end well."""
        if end.status != "done":
            self._lines.job_finished(end)

    def note(self, text: str) -> None:
        """Say nothing."""

    def warning(self, text: str) -> None:
        """Write a line that begins with ``warning:``."""
        self._lines.warning(text)

    def run_finished(self, end: RunEnd) -> None:
        """Say nothing."""
