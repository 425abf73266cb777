"""What became of the films of a run: for the exit code, for displays and for ``--json``. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.failures import FailureKind
from pipeline.job import JobOutcome
from pipeline.show.explain import ExitCode
from pipeline.show.morning.summary import Problem, Thumbnails
from pipeline.show.progress import JobEnd, JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What became of one film."""

    name: str
    """What people call it: the input's file name."""
    source: Path | None
    """The input; None for a synthetic film."""
    status: JobStatus
    code: int
    """Exit code that this film alone would give."""
    outcome: JobOutcome | None
    """None unless it was finished."""
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    report: Path | None
    comparison: Path | None
    elapsed_s: float
    failure: FailureKind | None = None
    """What kind of failure it was; None unless it failed."""
    planned_output: Path | None = None
    """Where the result goes or would have gone; None if it was not planned, or nothing is written."""
    problems: tuple[Problem, ...] = ()
    """``errors`` for the morning report: what is wrong, and what to do."""
    reason: str = ""
    """Why it was skipped or stopped, or who holds it, one sentence; empty otherwise."""
    choices: tuple[str, ...] = ()
    """What was chosen and why, one sentence each."""
    source_size: tuple[int, int] | None = None
    """(height, width) of the film, pixels; None if it could not be read."""
    output_size: tuple[int, int] | None = None
    """(height, width) of the result, pixels; None if it was not planned."""
    frame_count_estimated: int | None = None
    """Frames to expect; None if unknown."""
    frames_done: int = 0
    """Frames that are safe on disk, those of earlier runs included."""
    frames_resumed: int = 0
    """Of these, made by earlier runs."""
    thumbnails: Thumbnails | None = None
    """The same part of the same frame, before and after; None if none were made."""

    @property
    def output(self) -> Path | None:
        """The finished file; None if there is none."""
        if self.status == "skipped":
            return self.planned_output
        return None if self.outcome is None else self.outcome.output

    def as_json(self) -> dict[str, Any]:
        """JSON-native values."""
        outcome = self.outcome
        return {
            "input": None if self.source is None else str(self.source),
            "status": self.status,
            "reason": self.reason,
            "output": None if self.output is None else str(self.output),
            "frames": self.frames_done,
            "fps": 0.0 if outcome is None else outcome.fps,
            "elapsed_s": self.elapsed_s,
            "bottleneck": "" if outcome is None else outcome.verdict.text,
            "report": None if self.report is None else str(self.report),
            "comparison": None if self.comparison is None else str(self.comparison),
            "warnings": list(self.warnings),
            "errors": list(self.errors),
        }

    def end(self) -> JobEnd:
        """For displays."""
        outcome = self.outcome
        lines = [self.reason] if self.reason else list(self.errors)
        if self.comparison is not None:
            lines.append(f"before and after: {self.comparison}")
        if self.report is not None:
            lines.append(f"report: {self.report}")
        return JobEnd(
            name=self.name,
            status=self.status,
            output=self.output,
            frames_done=self.frames_done,
            elapsed_s=self.elapsed_s,
            fps=0.0 if outcome is None else outcome.fps,
            verdict="" if outcome is None else outcome.verdict.text,
            lines=tuple(lines),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of all films."""

    jobs: tuple[JobResult, ...]
    elapsed_s: float
    was_stopped: bool
    run_folder: Path | None = None
    """Where the run kept its log and its report; None if it kept none."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The finished files, in order; those that an earlier run finished too."""
        return tuple(path for job in self.jobs if (path := job.output) is not None)

    @property
    def exit_code(self) -> int:
        """130 if stopped; 0 if all is well; a lone film's own code; otherwise 1."""
        if self.was_stopped:
            return ExitCode.STOPPED
        codes = {job.code for job in self.jobs} - {ExitCode.DONE}
        if not codes:
            return ExitCode.DONE
        return codes.pop() if len(self.jobs) == 1 else ExitCode.SOME_FAILED

    def as_json(self) -> dict[str, Any]:
        """JSON-native values."""
        return {
            "exit_code": int(self.exit_code),
            "elapsed_s": self.elapsed_s,
            "was_stopped": self.was_stopped,
            "run_folder": None if self.run_folder is None else str(self.run_folder),
            "jobs": [job.as_json() for job in self.jobs],
        }
