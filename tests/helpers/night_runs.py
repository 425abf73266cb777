"""A run without films: a clock that only moves when someone sleeps, a worker that does what it is told, obstacles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pipeline.config import Config
from pipeline.failures import FailureKind
from pipeline.graph.stop import StopToken
from pipeline.inputs.job import Job
from pipeline.night.allowed import Obstacle, ObstacleKind
from pipeline.night.clock import Clock
from pipeline.night.records import FilmRecord
from pipeline.night.supervisor import NAP_S, Supervisor
from pipeline.results import JobResult
from pipeline.show.progress import BuildProgress, JobEnd, JobProgress, JobStart, JobStatus, RunEnd

EVENING = datetime(2031, 3, 4, 22, 40, tzinfo=UTC)


class FakeClock(Clock):
    """Stands still but for ``sleep``."""

    def __init__(self, start: datetime = EVENING) -> None:
        self.start = start
        self.slept_s = 0.0
        self.naps: list[float] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.slept_s)

    def steady_s(self) -> float:
        return 1000.0 + self.slept_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.naps.append(seconds)
        self.slept_s += seconds


class RecordingDisplay:
    """Writes down all that it is told."""

    interval_s = 1.0

    def __init__(self, on_progress: Callable[[JobProgress], None] = lambda progress: None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._on_progress = on_progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def run_started(self, job_count: int) -> None:
        self.calls.append(("run_started", job_count))

    def job_started(self, job: JobStart) -> None:
        self.calls.append(("job_started", job))

    def build_progress(self, build: BuildProgress) -> None:
        self.calls.append(("build_progress", build))

    def build_finished(self, build: BuildProgress) -> None:
        self.calls.append(("build_finished", build))

    def job_progress(self, progress: JobProgress) -> None:
        self.calls.append(("job_progress", progress))
        self._on_progress(progress)

    def job_finished(self, end: JobEnd) -> None:
        self.calls.append(("job_finished", end))

    def note(self, text: str) -> None:
        self.calls.append(("note", text))

    def warning(self, text: str) -> None:
        self.calls.append(("warning", text))

    def run_finished(self, end: RunEnd) -> None:
        self.calls.append(("run_finished", end))

    def told(self, *kinds: str) -> list[Any]:
        """What it was told of some kinds, in order."""
        return [value for kind, value in self.calls if kind in kinds]


def film_result(
    job: Job, status: JobStatus = "done", *, failure: FailureKind | None = None, errors: tuple[str, ...] = ()
) -> JobResult:
    return JobResult(
        name=job.name,
        source=job.source,
        status=status,
        code=0 if status == "done" else 1,
        outcome=None,
        errors=errors,
        warnings=(),
        report=None,
        comparison=None,
        elapsed_s=1.0,
        failure=failure,
    )


@dataclass
class FakePermission:
    """Obstacles by the clock: each from a second on to another, counted from the run's beginning."""

    clock: FakeClock
    obstacles: list[tuple[float, float, ObstacleKind]] = field(default_factory=list)
    stop_at_s: float | None = None

    def take_stop(self) -> bool:
        if self.stop_at_s is None or self.clock.slept_s < self.stop_at_s:
            return False
        self.stop_at_s = None
        return True

    def find_obstacle(self) -> Obstacle | None:
        for start_s, stop_s, kind in self.obstacles:
            if start_s <= self.clock.slept_s < stop_s:
                return Obstacle(kind=kind, reason=f"{kind} until {stop_s:g}")
        return None


@dataclass
class FakeWorker:
    """Takes ``film_s`` for a film, looking around as the real one does; stops when it is asked to, after a segment."""

    clock: FakeClock
    endings: dict[str, list[FailureKind | Literal["done"]]] = field(default_factory=dict)
    """For each film how its attempts end, in order; then ``done``."""
    film_s: float = 10.0
    segment_s: float = 2.0
    on_step: Callable[[Job, float], None] = lambda job, done_s: None
    calls: list[str] = field(default_factory=list)
    done_s: dict[str, float] = field(default_factory=dict)

    def __call__(self, job: Job, *, index: int, stop: StopToken, tick: Callable[[], None]) -> JobResult:
        self.calls.append(job.name)
        left = self.endings.setdefault(job.name, [])
        while (done_s := self.done_s.get(job.name, 0.0)) < self.film_s:
            if stop.is_aborted or (stop.is_stopping and done_s % self.segment_s == 0):
                return film_result(job, "stopped")
            self.clock.sleep(NAP_S)
            self.done_s[job.name] = done_s + NAP_S
            self.on_step(job, done_s + NAP_S)
            tick()
            if left and done_s + NAP_S == self.film_s / 2:
                ending = left.pop(0)
                if ending != "done":
                    self.done_s[job.name] = 0.0
                    return film_result(job, "failed", failure=ending, errors=(f"error: {ending}",))
        return film_result(job)


@dataclass
class FakeReporter:
    """Counts."""

    ticks: int = 0
    over: list[FilmRecord] = field(default_factory=list)
    states: list[tuple[bool, bool]] = field(default_factory=list)

    def tick(self, night: Supervisor) -> None:
        self.ticks += 1
        self.states.append((night.is_working, night.is_retrying))

    def film_over(self, night: Supervisor, record: FilmRecord) -> None:
        self.over.append(record)


@dataclass
class Night:
    """A supervisor and all that it works with."""

    clock: FakeClock = field(default_factory=FakeClock)
    display: RecordingDisplay = field(default_factory=RecordingDisplay)
    reporter: FakeReporter = field(default_factory=FakeReporter)
    max_attempts: int = 3
    stops_on_error: bool = False
    waits: list[float] = field(default_factory=list)
    """When it was about to wait, seconds."""

    def __post_init__(self) -> None:
        self.permission = FakePermission(self.clock)
        self.worker = FakeWorker(self.clock)
        self.supervisor: Supervisor | None = None

    def prepare(self) -> Supervisor:
        self.supervisor = Supervisor(
            worker=self.worker,
            allowance=self.permission,
            display=self.display,
            reporter=self.reporter,
            max_attempts=self.max_attempts,
            stops_on_error=self.stops_on_error,
            on_wait=lambda: self.waits.append(self.clock.slept_s),
            clock=self.clock,
        )
        return self.supervisor

    def run(self, films: Iterable[str | None] = ("a", "b")) -> Supervisor:
        supervisor = self.supervisor or self.prepare()
        supervisor.run(None if name is None else film_job(name) for name in films)
        return supervisor


def film_job(name: str) -> Job:
    return Job(source=Path("/films") / name, config=Config.model_construct())
