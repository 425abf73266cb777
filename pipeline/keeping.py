"""What of a film's work outlives an interruption: its folder, its journal, and in the end that it is finished.

`pipeline.journal` knows how these are written and read; this module ties them to one job.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.graph.channel import Aborted
from pipeline.journal import (
    DemandLowered,
    FileIdentity,
    FinishedRecord,
    ResultVerified,
    Resume,
    RunKey,
    SegmentDropped,
    check_unchanged,
    find_done,
    pin_plan,
    remember_finished,
)
from pipeline.segments import CommittedSegment
from pipeline.show.wording import format_count
from pipeline.work_folder import open_work_folder

if TYPE_CHECKING:
    from pipeline.graph.stop import StopToken
    from pipeline.plan import JobPlan


class JobStopped(Aborted):
    """A job ended before its film was finished because it was asked to. What its segments hold is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepTerms:
    """Where a job's work and its end are kept."""

    root: Path
    """Folder of all results, where it is remembered what is finished."""
    wish: str
    """Digest of what the config asks for: ``pipeline.journal.wish_digest``."""
    run_folder: Path | None = None
    """Of the run, for whoever finds the work held; None if it has none."""


@dataclass(slots=True, kw_only=True)
class KeptFrames:
    """How much of a film is safe on disk. Filled in while the job runs; its owner may look at any time."""

    resumed_frames: int = 0
    """By earlier attempts."""
    segments: dict[int, int] = field(default_factory=dict)
    """Frames of every segment, by its number; single operations on it are safe from several threads."""

    @property
    def frames(self) -> int:
        """In all segments."""
        return sum(self.segments.copy().values())

    def add(self, segment: CommittedSegment) -> None:
        """A segment is on disk."""
        self.segments[segment.index] = segment.frame_count

    def drop(self, segment: CommittedSegment) -> None:
        """It is not the film's after all."""
        self.segments.pop(segment.index, None)


class KeptWork:
    """The work on one film, owned by this process.

    Args:
        work: The folder.
        plan: This attempt's; what an earlier one pinned is taken over in ``plan``.
        key: Of the plan as it was made.
        resume: What there was to go on from.
        terms: Where its end is remembered.
        kept: Told what is on disk.
    """

    def __init__(
        self, work: Path, *, plan: JobPlan, key: RunKey, resume: Resume, terms: KeepTerms, kept: KeptFrames
    ) -> None:
        self.work = work
        self.plan = pin_plan(plan, resume.pinned)
        self._key = key
        self._resume = resume
        self._terms = terms
        self._kept = kept
        for segment in resume.done:
            kept.add(segment)
        kept.resumed_frames = resume.frames_done

    @property
    def done(self) -> tuple[CommittedSegment, ...]:
        """Segments that need not be made again."""
        return self._resume.done

    def greetings(self) -> tuple[str, ...]:
        """What the work goes on from, and what is other than in the earlier attempt, one sentence each."""
        notes = self._resume.notes
        if not self.done:
            return notes
        frames = format_count(self._resume.frames_done, "frame")
        return (f"going on: {frames} in {format_count(len(self.done), 'segment')} are there", *notes)

    @property
    def finished_frames(self) -> int | None:
        """Frames of the result, if it has its name already: the earlier attempt ended between its last two steps."""
        result = self._resume.result
        return result.frames if result is not None and self._resume.is_finished(self.plan.output) else None

    def commit(self, segment: CommittedSegment) -> None:
        """A segment is on disk; from several threads.

        Raises:
            OutputError: That cannot be written down.
        """
        self._resume.journal.commit(segment)
        self._kept.add(segment)

    def discard(self, segment: CommittedSegment) -> None:
        """A segment is not the film's after all.

        Raises:
            OutputError: That cannot be written down.
        """
        self._resume.journal.append(SegmentDropped(index=segment.index, reason="the lanes disagree there"))
        self._kept.drop(segment)

    def lower(self, plan: JobPlan, reason: str) -> None:
        """The run goes on with a smaller demand.

        Raises:
            OutputError: That cannot be written down.
        """
        first = max(self._kept.segments.copy(), default=-1) + 1
        self._resume.journal.append(DemandLowered.of(plan, from_segment=first, reason=reason))

    def verify(self, finished: Path, *, frame_count: int) -> None:
        """The result is whole and gets its name next.

        Raises:
            MediaError: The source was changed while it was read.
            OutputError: That cannot be written down.
        """
        if self._key.source is not None:
            check_unchanged(self.plan.info.path, identity=self._key.source)
        self._resume.journal.append(ResultVerified(identity=FileIdentity.of(finished), frames=frame_count))

    def remember(self, *, frame_count: int, damage: str | None = None) -> None:
        """The result has its name: it need not be made again.

        Args:
            frame_count: In it.
            damage: What of the film could not be read; None if nothing was lost.

        Raises:
            OutputError: That cannot be written down.
        """
        source = self.plan.info.path if self._key.source is not None else None
        record = FinishedRecord.now(
            root=self._terms.root,
            output=self.plan.output,
            source=source,
            source_identity=self._key.source,
            config_digest=self._terms.wish,
            frames=frame_count,
            damage=damage or "",
        )
        remember_finished(self._terms.root, record)


@contextmanager
def open_kept_work(plan: JobPlan, terms: KeepTerms, *, kept: KeptFrames, stop: StopToken) -> Iterator[KeptWork]:
    """Own the work on a plan's film, and find out what of it is done.

    The folder goes when the work is done, or when nothing of it is worth keeping; otherwise it stays for the next
    attempt.

    Args:
        plan: With an output that is written; the output's folder exists.
        terms: Where work is kept.
        kept: Told what is on disk.
        stop: Aborts the check of what is there.

    Raises:
        OutputHeld: Another run is working on the film.
        ResumeRefused: What is there was begun with something else.
        OutputError: The folder cannot be made, read or written.
    """
    key = RunKey.of(plan)
    with open_work_folder(
        plan.output, keep=plan.config.output.keep_work, resumable=True, run_folder=terms.run_folder
    ) as work:
        resume = find_done(work, key, report=lambda *_: stop.raise_if_aborted())
        yield KeptWork(work, plan=plan, key=key, resume=resume, terms=terms, kept=kept)
