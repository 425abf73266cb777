"""What a run tells the person who started it, and the plain way of telling.

One thread drives a ``Display``::

    with open_display("auto", report_every_s=10.0) as display:
        display.run_started(2)
        display.job_started(JobStart(...))
        display.build_progress(BuildProgress(...))  # only while an engine is compiled, and then build_finished
        display.job_progress(JobProgress(...))      # again and again, about every display.interval_s
        display.job_finished(JobEnd(...))           # also for a job that never started
        display.run_finished(RunEnd(...))

``note`` and ``warning`` may come at any time between. Everything goes to one stream (standard error), never to standard
output, and no text from outside reaches it with control characters. A display never ends a run: when its stream is gone
(terminal closed, pipe broken), it falls silent.

This module holds the values, the interface and the rate; the displays are in ``pipeline.show.plain`` and
``pipeline.show.live``.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

from pipeline.graph.metrics import GraphSnapshot, Verdict
from pipeline.show.wording import format_span

DisplayKind = Literal["auto", "live", "plain", "off"]
JobPhase = Literal["upscaling", "assembling", "verifying"]
JobStatus = Literal["done", "failed", "stopped", "damaged", "skipped", "held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStart:
    """A job begins."""

    name: str
    """What people call it; usually the input's file name."""
    index: int
    """0-based place among the run's jobs."""
    count: int
    """Jobs of the run."""
    frame_count_estimated: int | None
    """Frames to expect; None if the input does not say."""
    lines: tuple[str, ...] = ()
    """What was chosen and why, one sentence each: decoder, engine and encoder; output path; sizes."""
    details: tuple[str, ...] = ()
    """What else may be of interest, one sentence each; shown with less weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """An engine that is being compiled, at one moment."""

    text: str
    """What is compiled, in words."""
    phase: str
    """What the compiler is doing; empty at the beginning."""
    share: float
    """Estimated part that is done, [0, 1]."""
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """A job at one moment."""

    frames_done: int
    """Frames finished in all, those of an earlier, interrupted run included."""
    elapsed_s: float
    """Since this run of the job began."""
    fps: float
    """Finished frames per second over the last seconds: ``RateMeter.fps``. Not the film's own rate."""
    eta_s: float | None
    """Seconds to go; None if that cannot be said."""
    graph: GraphSnapshot
    """Stages and channels; without stages if there is nothing to show."""
    verdict: Verdict
    phase: JobPhase = "upscaling"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """A job is over."""

    name: str
    status: JobStatus
    """``damaged``: finished, but the input had holes. ``stopped``: can be resumed. ``skipped``: an earlier run finished
    it. ``held``: another run works on it."""
    output: Path | None
    """The finished file; None if there is none."""
    frames_done: int
    elapsed_s: float
    fps: float
    """Frames per second over the whole job."""
    verdict: str = ""
    """Which stage limited it, in words; empty if too little was measured."""
    lines: tuple[str, ...] = ()
    """What else to say, one line each: the error and its hint, what was lost, where the report lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """All jobs are over, or the run was stopped."""

    jobs: tuple[JobEnd, ...]
    elapsed_s: float

    def summary(self) -> str:
        """One line: how many jobs ended how, and how long it took."""
        order: tuple[JobStatus, ...] = ("done", "damaged", "skipped", "failed", "held", "stopped")
        counts = [(sum(job.status == status for job in self.jobs), status) for status in order]
        parts = [f"{count} {status}" for count, status in counts if count] or ["nothing done"]
        return f"run: {', '.join(parts)} in {format_span(self.elapsed_s)}"


class Display(Protocol):
    """Where a run's progress is shown. Used by one thread; entered once."""

    interval_s: float
    """How often to call ``job_progress``, seconds; calls in between are harmless."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the terminal as it was, whatever happened."""
        ...

    def run_started(self, job_count: int) -> None:
        """Say that a run of ``job_count`` jobs begins."""
        ...

    def job_started(self, job: JobStart) -> None:
        """Say that a job begins and what was chosen for it."""
        ...

    def build_progress(self, build: BuildProgress) -> None:
        """Show how far an engine is that has to be compiled before a job's frames can flow.

        The only method that may be called from another thread, while the one that drives the display waits for it.
        """
        ...

    def build_finished(self, build: BuildProgress) -> None:
        """Say that the compiler ended. Whether it gave an engine, the job's own progress or end says."""
        ...

    def job_progress(self, progress: JobProgress) -> None:
        """Show how far the job that started last is."""
        ...

    def job_finished(self, end: JobEnd) -> None:
        """Say how a job ended."""
        ...

    def note(self, text: str) -> None:
        """Say something that needs no action."""
        ...

    def warning(self, text: str) -> None:
        """Say something that the person should look at."""
        ...

    def run_finished(self, end: RunEnd) -> None:
        """Say how the whole run ended."""
        ...


class RateMeter:
    """Frames per second over a sliding window, and the time left. Pure: it is told the time.

    Args:
        window_s: Length of the window. The default holds ten frames of the slowest whole program that was measured
            (0.36 fps at 640x272 on two cores), so that one late frame does not halve the figure.
    """

    def __init__(self, *, window_s: float = 30.0) -> None:
        if window_s <= 0:
            raise ValueError(f"window_s must be positive, not {window_s}")
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()
        self._first: tuple[float, int] | None = None
        self._latest: tuple[float, int] | None = None

    def update(self, *, frames_done: int, now_s: float) -> None:
        """Tell how many frames are finished at ``now_s``, seconds of any steady clock.

        The first call sets the zero: frames that an earlier run finished count for no rate.
        """
        self._latest = (now_s, frames_done)
        if self._first is None:
            self._first = self._latest
        # About 64 samples span the window however often this is called.
        if not self._samples or now_s - self._samples[-1][0] >= self._window_s / 64:
            self._samples.append(self._latest)
        # The oldest sample kept is the newest one at least a window old: the rate then spans the whole window.
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= self._window_s:
            self._samples.popleft()

    @property
    def fps(self) -> float:
        """Frames per second over the window; 0 before anything was measured."""
        return self._rate_since(self._samples[0] if self._samples else None)

    @property
    def fps_overall(self) -> float:
        """Frames per second since the first update."""
        return self._rate_since(self._first)

    def eta_s(self, frame_count: int | None) -> float | None:
        """Seconds until ``frame_count`` frames are finished.

        The rate is the mean of the window's and the overall one: the first follows a change of the picture's
        difficulty, the second outlives a pause. None if the total is unknown or was wrong, or nothing was finished yet.
        """
        if frame_count is None or self._latest is None or self._latest[1] > frame_count:
            return None
        left = frame_count - self._latest[1]
        rate = (self.fps + self.fps_overall) / 2
        if left == 0:
            return 0.0
        return left / rate if rate > 0 else None

    def _rate_since(self, start: tuple[float, int] | None) -> float:
        if start is None or self._latest is None or self._latest[0] <= start[0]:
            return 0.0
        return max(0.0, (self._latest[1] - start[1]) / (self._latest[0] - start[0]))


def open_display(kind: DisplayKind, *, stream: TextIO | None = None, report_every_s: float = 10.0) -> Display:
    """Choose the display and make it.

    Args:
        kind: ``live``: a panel that is redrawn in place. ``plain``: lines. ``off``: warnings and jobs that went wrong,
            nothing else. ``auto``: live on a terminal that can move its cursor, else plain.
        stream: Where to write; standard error by default.
        report_every_s: Seconds between two progress lines of the plain display.

    Returns:
        A display that is not yet entered.
    """
    target = sys.stderr if stream is None else stream
    if kind == "auto":
        # "dumb" is what terminals without cursor movement call themselves (terminfo): editors' shells, some CI logs.
        kind = "live" if target.isatty() and os.environ.get("TERM", "") not in ("", "dumb") else "plain"
    if kind == "live":
        from pipeline.show.live import LiveDisplay

        return LiveDisplay(stream=target)
    from pipeline.show.plain import PlainDisplay, QuietDisplay

    return QuietDisplay(stream=target) if kind == "off" else PlainDisplay(stream=target, report_every_s=report_every_s)
