"""What became of the films of a run: for the exit code, for displays and for ``--json``. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.job import JobOutcome
from pipeline.show.explain import ExitCode
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

    def as_json(self) -> dict[str, Any]:
        """JSON-native values."""
        outcome = self.outcome
        return {
            "input": None if self.source is None else str(self.source),
            "status": self.status,
            "output": None if outcome is None or outcome.output is None else str(outcome.output),
            "frames": 0 if outcome is None else outcome.frames_done,
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
        lines = list(self.errors)
        if self.comparison is not None:
            lines.append(f"before and after: {self.comparison}")
        if self.report is not None:
            lines.append(f"report: {self.report}")
        return JobEnd(
            name=self.name,
            status=self.status,
            output=None if outcome is None else outcome.output,
            frames_done=0 if outcome is None else outcome.frames_done,
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

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The finished files, in order."""
        return tuple(job.outcome.output for job in self.jobs if job.outcome is not None and job.outcome.output)

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
            "jobs": [job.as_json() for job in self.jobs],
        }
