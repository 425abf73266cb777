"""A display that also remembers what it was last told, for the status that others read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from pipeline.show.progress import BuildProgress, Display, JobEnd, JobProgress, JobStart, RunEnd


class WatchingDisplay:
    """Passes everything on to another display, and keeps the latest of the film in work.

    Args:
        display: Shows it; already entered.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self.interval_s = display.interval_s
        self.job: JobStart | None = None
        """The film in work; None between two films."""
        self.build: BuildProgress | None = None
        """The engine that is being compiled; None while none is."""
        self.progress: JobProgress | None = None
        """Of the film in work; None before its frames flow."""
        self._tick: Callable[[], None] | None = None

    @contextmanager
    def ticking(self, tick: Callable[[], None]) -> Iterator[None]:
        """While inside, call ``tick`` with each progress: for a film that is worked on in this very process."""
        self._tick = tick
        try:
            yield
        finally:
            self._tick = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The display below is its owner's."""

    def run_started(self, job_count: int) -> None:
        """See ``Display``."""
        self._display.run_started(job_count)

    def job_started(self, job: JobStart) -> None:
        """See ``Display``."""
        self.job, self.build, self.progress = job, None, None
        self._display.job_started(job)

    def build_progress(self, build: BuildProgress) -> None:
        """See ``Display``."""
        self.build = build
        self._display.build_progress(build)

    def build_finished(self, build: BuildProgress) -> None:
        """See ``Display``."""
        self.build = None
        self._display.build_finished(build)

    def job_progress(self, progress: JobProgress) -> None:
        """See ``Display``."""
        self.progress = progress
        self._display.job_progress(progress)
        if self._tick is not None:
            self._tick()

    def job_finished(self, end: JobEnd) -> None:
        """See ``Display``."""
        self.job = self.build = self.progress = None
        self._display.job_finished(end)

    def note(self, text: str) -> None:
        """See ``Display``."""
        self._display.note(text)

    def warning(self, text: str) -> None:
        """See ``Display``."""
        self._display.warning(text)

    def run_finished(self, end: RunEnd) -> None:
        """See ``Display``."""
        self._display.run_finished(end)
