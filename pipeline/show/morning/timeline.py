"""Where everything of a night lies on its line of time, in parts of the line's length. No pixels, no markup."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from pipeline.show.morning.summary import Attempt, FilmStatus, Interval, JobSummary, PauseKind, RunSummary
from pipeline.show.morning.words import STATUS_WORDS, spell_span

MAX_ROWS = 40
"""With more films than this, films share rows: a page of one row each would be nothing but the timeline."""
MAX_TICKS = 6
"""Labels of five characters that stand apart from each other on a phone."""

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DAY_S = 86400
_PAUSE_WORDS: dict[PauseKind, str] = {
    "hours": "outside of its hours",
    "asked": "paused",
    "disk": "waiting for disk space",
    "device": "waiting for the GPU",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of one film's time."""

    start: float
    """[0, 1] of the line."""
    stop: float
    status: FilmStatus
    """Of the attempt."""
    is_work: bool
    """Whether frames were made; otherwise only an attempt was under way (loading, building, assembling)."""
    title: str
    """One line: which film, what, from when to when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One film, or several one after the other."""

    number: int | None
    """The film's; None if the row is shared."""
    name: str
    bars: tuple[Bar, ...]
    failed_at: tuple[float, ...]
    """Where attempts failed, [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Time in which nothing was to be done."""

    start: float
    stop: float
    kind: PauseKind
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled moment."""

    at: float
    label: str
    """Time of day, or the date where a day is less than a step."""
    day: str
    """``Mon 23`` where a day begins to be shown; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All of it."""

    rows: tuple[Row, ...]
    bands: tuple[Band, ...]
    ticks: tuple[Tick, ...]

    @property
    def has_failure(self) -> bool:
        """Whether an attempt failed."""
        return any(row.failed_at for row in self.rows)

    @property
    def band_words(self) -> tuple[tuple[PauseKind, str], ...]:
        """Kind and words of each kind of band that there is."""
        kinds = {band.kind for band in self.bands}
        return tuple((kind, text) for kind, text in _PAUSE_WORDS.items() if kind in kinds)


def plan_timeline(summary: RunSummary, *, zone: tzinfo | None = None) -> Timeline | None:
    """Lay out a run.

    Args:
        summary: The run.
        zone: In which times are told; None for this machine's.

    Returns:
        The layout; None if no film was begun or no time passed.
    """
    begun = [job for job in summary.jobs if job.attempts or job.worked]
    line = _Line.around(summary)
    if not begun or line.span_s <= 0:
        return None
    rows = [_row((job,), line=line, zone=zone) for job in begun]
    if len(begun) > MAX_ROWS:
        rows = [_row(jobs, line=line, zone=zone) for jobs in _share_rows(begun)]
    bands = tuple(
        Band(
            start=line.place(pause.started_at),
            stop=line.place(pause.ended_at),
            kind=pause.kind,
            title=f"{pause.reason}, {_from_to(pause.started_at, pause.ended_at, zone=zone)}",
        )
        for pause in summary.pauses
        if pause.ended_at > pause.started_at
    )
    return Timeline(rows=tuple(rows), bands=bands, ticks=_ticks(line, zone=zone))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    start_at: datetime
    span_s: float

    @classmethod
    def around(cls, summary: RunSummary) -> _Line:
        """From the first to the last moment that anything tells of: clocks jump, films tell their own times."""
        times = [summary.started_at, summary.ended_at]
        for job in summary.jobs:
            for stretch in _stretches(job):
                times += (stretch.started_at, stretch.ended_at)
        start = min(times)
        return cls(start_at=start, span_s=(max(times) - start).total_seconds())

    def place(self, time: datetime) -> float:
        return min(1.0, max(0.0, (time - self.start_at).total_seconds() / self.span_s))


def _row(jobs: tuple[JobSummary, ...], *, line: _Line, zone: tzinfo | None) -> Row:
    bars: list[Bar] = []
    failed_at: list[float] = []
    for job in jobs:
        for attempt in job.attempts:
            bars.append(_bar(job, attempt.started_at, attempt.ended_at, line, zone, status=attempt.status))
            if attempt.status == "failed":
                failed_at.append(line.place(attempt.ended_at))
        for stretch in job.worked:
            status = _status_at(job, stretch)
            bars.append(_bar(job, stretch.started_at, stretch.ended_at, line, zone, status=status, is_work=True))
    alone = jobs[0] if len(jobs) == 1 else None
    return Row(
        number=None if alone is None else alone.number,
        name="" if alone is None else alone.name,
        bars=tuple(bars),
        failed_at=tuple(failed_at),
    )


def _bar(
    job: JobSummary,
    started_at: datetime,
    ended_at: datetime,
    line: _Line,
    zone: tzinfo | None,
    *,
    status: FilmStatus,
    is_work: bool = False,
) -> Bar:
    what = "frames made" if is_work else f"attempt, {STATUS_WORDS[status]}"
    start = line.place(started_at)
    return Bar(
        start=start,
        stop=max(start, line.place(ended_at)),
        status=status,
        is_work=is_work,
        title=f"{job.number}. {job.name}: {what}, {_from_to(started_at, ended_at, zone=zone)}",
    )


def _status_at(job: JobSummary, stretch: Interval) -> FilmStatus:
    """How the attempt ended in which frames were made."""
    for attempt in job.attempts:
        if attempt.started_at <= stretch.started_at <= attempt.ended_at:
            return attempt.status
    return job.status


def _share_rows(jobs: list[JobSummary]) -> list[tuple[JobSummary, ...]]:
    """Put films that do not overlap in time into one row each, in order of their beginning."""
    rows: list[list[JobSummary]] = []
    free_at: list[datetime] = []
    for job in sorted(jobs, key=lambda job: _extent(job)[0]):
        start, stop = _extent(job)
        for index, free in enumerate(free_at):
            if free <= start:
                rows[index].append(job)
                free_at[index] = stop
                break
        else:
            rows.append([job])
            free_at.append(stop)
    return [tuple(row) for row in rows]


def _extent(job: JobSummary) -> tuple[datetime, datetime]:
    stretches = _stretches(job)
    return min(each.started_at for each in stretches), max(each.ended_at for each in stretches)


def _stretches(job: JobSummary) -> tuple[Attempt | Interval, ...]:
    return (*job.attempts, *job.worked)


def _ticks(line: _Line, *, zone: tzinfo | None) -> tuple[Tick, ...]:
    step_s = next((step for step in _STEPS_S if line.span_s / step <= MAX_TICKS), 0)
    if not step_s:
        step_s = _DAY_S * math.ceil(line.span_s / _DAY_S / MAX_TICKS)
    midnight = line.start_at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    first = math.ceil((line.start_at - midnight).total_seconds() / step_s)
    ticks: list[Tick] = []
    shown_day = ""
    for count in range(first, first + MAX_TICKS + 1):
        time = midnight + timedelta(seconds=count * step_s)
        if (time - line.start_at).total_seconds() > line.span_s:
            break
        local = time.astimezone(zone)
        if step_s >= _DAY_S:
            ticks.append(Tick(at=line.place(time), label=f"{local.day} {local:%b}", day=""))
            continue
        day = f"{local:%a} {local.day}"
        label = f"{local:%H:%M:%S}" if step_s < 60 else f"{local:%H:%M}"
        ticks.append(Tick(at=line.place(time), label=label, day=day if day != shown_day else ""))
        shown_day = day
    return tuple(ticks)


def _from_to(started_at: datetime, ended_at: datetime, *, zone: tzinfo | None) -> str:
    start, stop = started_at.astimezone(zone), ended_at.astimezone(zone)
    return f"{start:%H:%M:%S} to {stop:%H:%M:%S} ({spell_span((ended_at - started_at).total_seconds())})"
