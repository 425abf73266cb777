"""The loop over all films of a run: what is worked on next, what a run waits for, and how it ends.

One thread does everything: it waits for messages of the film's process, and between them looks at requests, at the
clock, at the disk, and writes the status.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import FrameType, MappingProxyType
from typing import Protocol

from pipeline.failures import FailureKind
from pipeline.graph.stop import StopToken
from pipeline.inputs.job import Job
from pipeline.night.allowed import Obstacle
from pipeline.night.clock import Clock
from pipeline.night.records import AttemptRecord, FilmRecord, Wait, ended_by_others, unfinished
from pipeline.night.retry import wait_before_retry
from pipeline.results import JobResult
from pipeline.show.explain import ExitCode
from pipeline.show.progress import Display
from pipeline.show.wording import format_span

logger = logging.getLogger(__name__)

NAP_S = 0.25
"""How long a run that waits sleeps before it looks around again."""

_WHY: Mapping[FailureKind, str] = MappingProxyType(
    {
        "memory": "memory ran out",
        "disk": "the disk is full",
        "io": "a file could not be read or written",
        "gpu": "the GPU failed",
        "crash": "its process died",
        "stall": "nothing moved any more",
    }
)


class Worker(Protocol):
    """Works on one film: in a process of its own, or in this one."""

    def __call__(self, job: Job, *, index: int, stop: StopToken, tick: Callable[[], None]) -> JobResult:
        """Work on a film until it is over or ``stop`` ends it; ``tick`` is called several times a second."""
        ...


class Permission(Protocol):
    """Tells whether the run may work; ``pipeline.night.allowed.Allowance`` is one."""

    def take_stop(self) -> bool:
        """Whether the run was asked to stop since this was last called."""
        ...

    def find_obstacle(self) -> Obstacle | None:
        """What is in the way now; None if nothing is."""
        ...


class Reporter(Protocol):
    """Keeps what others may want to know of a run."""

    def tick(self, night: Supervisor) -> None:
        """Called several times a second."""
        ...

    def film_over(self, night: Supervisor, record: FilmRecord) -> None:
        """Called once for each film that will not be worked on again."""
        ...


class Supervisor:
    """Works on films one after the other until none is left or someone stops the run.

    Args:
        worker: Works on a film.
        allowance: Tells whether the run may work.
        display: Where it says what it does.
        reporter: Told about everything.
        max_attempts: ``run.max_attempts``.
        stops_on_error: ``run.on_error: stop``.
        on_wait: Called before a wait, also again while it lasts: nothing is worked on soon, and what the worker keeps
            for the next film should go.
        clock: What it measures with and sleeps by.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        allowance: Permission,
        display: Display,
        reporter: Reporter,
        max_attempts: int,
        stops_on_error: bool,
        on_wait: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._worker = worker
        self._allowance = allowance
        self._display = display
        self._reporter = reporter
        self._max_attempts = max_attempts
        self._stops_on_error = stops_on_error
        self._on_wait = on_wait
        self._clock = clock if clock is not None else Clock()
        self._signal_count = 0
        self._said_count = 0
        self._token = StopToken()
        self._is_held_up = False
        self._is_working = False
        self._is_retrying = False
        self.films: list[FilmRecord] = []
        self.waits: list[Wait] = []
        self.obstacle: Obstacle | None = None
        """What the run waits for now, or will once the film's segment is finished."""

    @property
    def is_stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self._signal_count > 0

    @property
    def is_working(self) -> bool:
        """Whether a film is worked on now."""
        return self._is_working

    @property
    def is_retrying(self) -> bool:
        """Whether it waits for the time of another attempt at a film."""
        return self._is_retrying

    def run(self, jobs: Iterable[Job | None]) -> None:
        """Work on films until there are no more.

        Args:
            jobs: The films in order. None: there is none now, but there may be one later. Of a sequence, those that
                were not begun in the end count as stopped.
        """
        with self.hearing_signals():
            for job in jobs:
                if job is None:
                    self._nap()
                else:
                    record = self._record(job)
                    record.result = self._work(record)
                    self._display.job_finished(record.result.end())
                    self._reporter.film_over(self, record)
                    if record.result.status == "failed" and self._stops_on_error:
                        break
                if self.is_stopping:
                    break
        if isinstance(jobs, Sequence):
            for job in jobs[len(self.films) :]:
                if job is not None:
                    record = self._record(job)
                    record.result = unfinished(record)

    def _record(self, job: Job) -> FilmRecord:
        self.films.append(FilmRecord(job=job, index=len(self.films)))
        return self.films[-1]

    def request_stop(self) -> None:
        """Ask the run to end: the first time after the segment in work, the second time at once. Reentrant."""
        self._signal_count += 1
        if self._signal_count == 1:
            self._token.stop()
        elif self._signal_count == 2:
            self._token.abort()
        else:
            os._exit(ExitCode.STOPPED)

    def _work(self, record: FilmRecord) -> JobResult:
        """Attempts at a film until it is over."""
        failures: Counter[FailureKind | None] = Counter()
        while True:
            self._look_for_stop()  # films that are skipped leave no other time for it
            self._wait_while_blocked()
            if self.is_stopping:
                return unfinished(record)
            result = self._attempt(record)
            if result.status == "stopped" and self._is_held_up and not self.is_stopping:
                continue  # the run waits for something; the film goes on afterwards
            if result.status != "failed":
                return result
            failures[result.failure] += 1
            wait_s = wait_before_retry(
                result.failure,
                failures_of_kind=failures[result.failure],
                failures_counted=failures.total() - failures["disk"],
                max_attempts=self._max_attempts,
            )
            if wait_s is None or self.is_stopping:
                return result
            record.attempts[-1] = replace(record.attempts[-1], next_wait_s=wait_s)
            self._announce_retry(result, wait_s=wait_s)
            self._is_retrying = True
            self._sleep(wait_s)
            self._is_retrying = False

    def _attempt(self, record: FilmRecord) -> JobResult:
        self._token = StopToken()
        self._is_held_up = False
        if self._signal_count > 1:  # signals that came before the new token was there
            self._token.abort()
        elif self.is_stopping:
            self._token.stop()
        started_at, started_s = self._clock.now(), self._clock.steady_s()
        self._is_working = True
        try:
            result = self._worker(record.job, index=record.index, stop=self._token, tick=self._tick)
        finally:
            self._is_working = False
        if self._token.is_aborted and not self.is_stopping:  # a film in this process heard of the user's wish itself
            self.request_stop()
        if result.status == "stopped" and not (self._is_held_up or self.is_stopping):
            result = ended_by_others(result)
        record.attempts.append(
            AttemptRecord(started_at=started_at, ended_at=self._later(started_at, since_s=started_s), result=result)
        )
        return result

    def _later(self, started_at: datetime, *, since_s: float) -> datetime:
        """Now, on a wall clock that nobody has set since then: spans are right, whatever happened to it."""
        return started_at + timedelta(seconds=self._clock.steady_s() - since_s)

    def _tick(self) -> None:
        """Look around while a film is worked on."""
        self._look_for_stop()
        if not self._token.is_stopping:
            self.obstacle = self._allowance.find_obstacle()
            if self.obstacle is not None:
                self._display.note(f"{self.obstacle.reason}; the segment in work is finished first")
                self._is_held_up = True
                self._token.stop()
        self._reporter.tick(self)

    def _wait_while_blocked(self) -> None:
        """Wait until nothing is in the way, or the run is asked to end."""
        self.obstacle = self._allowance.find_obstacle()
        while (obstacle := self.obstacle) is not None and not self.is_stopping:
            self._display.note(obstacle.reason)
            started_at, started_s = self._clock.now(), self._clock.steady_s()
            while self.obstacle is not None and self.obstacle.kind == obstacle.kind and not self.is_stopping:
                self._nap()
                self.obstacle = self._allowance.find_obstacle()
            ended_at = self._later(started_at, since_s=started_s)
            self.waits.append(Wait(obstacle=obstacle, started_at=started_at, ended_at=ended_at))
            if self.obstacle is None and not self.is_stopping:
                self._display.note("going on")

    def _sleep(self, seconds: float) -> None:
        until_s = self._clock.steady_s() + seconds
        while (left_s := until_s - self._clock.steady_s()) > 0 and not self.is_stopping:
            self._nap(min(NAP_S, left_s))

    def _nap(self, seconds: float = NAP_S) -> None:
        self._on_wait()
        self._clock.sleep(seconds)
        self._look_for_stop()
        self._reporter.tick(self)

    def _announce_retry(self, result: JobResult, *, wait_s: float) -> None:
        reason = _WHY.get(result.failure, "it failed") if result.failure is not None else "it failed"
        for line in result.errors:
            self._display.note(line)
        self._display.warning(f"{result.name}: {reason}; trying again in {format_span(wait_s)}")

    def _look_for_stop(self) -> None:
        """Obey a request to stop, and say, once each, what it or a signal makes the run do."""
        if not self.is_stopping and self._allowance.take_stop():
            self.request_stop()
        if self._said_count < self._signal_count:
            self._said_count = self._signal_count
            if self._signal_count > 1:
                self._display.note("stopping at once; what is in finished segments is kept")
            elif self._is_working:
                self._display.note("stopping after the segment in work; once more: stop at once")
            else:
                self._display.note("stopping")

    @contextmanager
    def hearing_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask for the end. ``run`` does so itself; around it, what follows is not cut off."""

        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.request_stop()

        try:
            previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever started us handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
