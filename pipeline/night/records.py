"""What a run remembers of its films and of the time in which it was not to work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from pipeline.inputs.job import Job
from pipeline.night.allowed import Obstacle
from pipeline.results import JobResult
from pipeline.show.explain import ExitCode


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt at a film."""

    started_at: datetime
    ended_at: datetime
    result: JobResult
    next_wait_s: float | None = None
    """Seconds until the next attempt; None if there was none."""


@dataclass(slots=True, kw_only=True)
class FilmRecord:
    """A film and what was done for it so far."""

    job: Job
    index: int
    attempts: list[AttemptRecord] = field(default_factory=list)
    result: JobResult | None = None
    """What became of it; None while it is not over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Time in which a run was not to work."""

    obstacle: Obstacle
    started_at: datetime
    ended_at: datetime


def unfinished(record: FilmRecord) -> JobResult:
    """What became of a film at which there was to be an attempt when the run was asked to end."""
    if record.attempts:
        latest = record.attempts[-1].result
        if latest.status != "failed":
            return latest
        return replace(
            latest, status="stopped", code=ExitCode.STOPPED, failure=None, reason="stopped before another attempt at it"
        )
    return JobResult(
        name=record.job.name,
        source=record.job.source,
        status="stopped",
        code=ExitCode.STOPPED,
        outcome=None,
        errors=("not begun: the run was stopped before",),
        warnings=(),
        report=None,
        comparison=None,
        elapsed_s=0.0,
        reason="the run was stopped before it was begun",
    )


def ended_by_others(result: JobResult) -> JobResult:
    """A film that says that it was stopped, though the run did not ask it to: that is no reason to wait for anything,
    and must not go on for ever.
    """
    return replace(
        result,
        status="failed",
        code=ExitCode.SOME_FAILED,
        failure="crash",
        errors=("error: the process of this film was told to end, and not by this run", *result.errors),
    )
