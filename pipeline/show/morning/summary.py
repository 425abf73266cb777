"""``summary.json``: what became of every film of a run, for programs, for the table and for the page.

Values only. A child process hands its ``JobSummary`` over as JSON, the parent gathers them in a ``RunSummary``. Reading
is strict, so that a key that one side renames is an error at once and not a blank in the morning. Schema, version 1:
the fields by their names; times are ISO 8601 in UTC with milliseconds, sizes bytes, spans seconds, null means unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from engines.atomic import write_atomic
from pipeline.errors import OutputError
from pipeline.show.explain import explain
from pipeline.show.morning.strict_json import WrongJson, read_dataclass
from pipeline.show.report import json_native

SCHEMA_VERSION = 1
"""Raised with every change: the reader knows exactly one version."""

FilmStatus = Literal["done", "damaged", "failed", "stopped", "skipped", "held"]
PauseKind = Literal["hours", "asked", "disk", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stretch of time. A clock that was set back can make it end before it starts."""

    started_at: datetime
    ended_at: datetime

    @property
    def span_s(self) -> float:
        """Its length, seconds, not below 0."""
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Time in which the run was not to work."""

    started_at: datetime
    ended_at: datetime
    kind: PauseKind
    """``hours``: outside of ``run.hours``. ``asked``: by the user. ``disk``: too little room. ``device``: GPU lost."""
    reason: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that went wrong and what to do about it."""

    message: str
    hint: str = ""
    """What to do next; empty if there is no advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One child process for a film."""

    started_at: datetime
    ended_at: datetime
    status: FilmStatus
    ending: str = ""
    """How it ended, one sentence; empty if that is the film's own result."""
    back_off: str = ""
    """What the next attempt changed because of it (``tiles of 256 instead of 512``, ``waited 30 s``); may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFile:
    """An input or an output."""

    path: Path
    size_bytes: int | None = None
    height: int | None = None
    """Pixels, as stored."""
    width: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """Which stage limited a film."""

    stage: str
    load: float
    """Share of the time in which it worked, [0, 1]."""
    text: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnails:
    """The same part of the same frame, before and after."""

    before: Path
    """JPEG or PNG: of the source, enlarged plainly."""
    after: Path
    """JPEG or PNG: of the result."""
    caption: str
    """Which part of which frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """What became of one film."""

    number: int
    """1-based, in the order of the run."""
    name: str
    """What people call it; usually the input's file name."""
    status: FilmStatus
    """``done``; ``damaged``: all that the input had, but it has holes; ``failed``; ``stopped``: can be resumed;
    ``skipped``: nothing to do; ``held``: another run works on it."""
    reason: str = ""
    """Why it was skipped or stopped, who holds it: one sentence; empty otherwise."""
    source: FilmFile | None = None
    """None for a synthetic film."""
    output: FilmFile | None = None
    """The finished file; None if there is none."""
    attempts: tuple[Attempt, ...] = ()
    worked: tuple[Interval, ...] = ()
    """When frames of it were really made; what the timeline draws."""
    frames_done: int = 0
    """Frames that are safe on disk, those of earlier runs included."""
    frames_resumed: int = 0
    """Of these, made by earlier runs."""
    frames_expected: int | None = None
    fps: float = 0.0
    """Frames per second while frames flowed."""
    elapsed_s: float = 0.0
    """From the first attempt's start to the last one's end, pauses not counted."""
    upscaling_s: float = 0.0
    """Of it, the time in which frames flowed."""
    bottleneck: Bottleneck | None = None
    choices: tuple[str, ...] = ()
    """Which decoder, engine, encoder ..., and why: one sentence each."""
    warnings: tuple[str, ...] = ()
    errors: tuple[Problem, ...] = ()
    """Why it failed, the cause first."""
    thumbnails: Thumbnails | None = None
    report: Path | None = None
    """The film's own report.json."""

    def as_json(self) -> dict[str, Any]:
        """JSON-native values, with the schema's version."""
        return _as_json(self)

    @classmethod
    def from_json(cls, value: Any) -> JobSummary:
        """Read what ``as_json`` gave.

        Raises:
            WrongJson: It is something else, or of another version.
        """
        return read_dataclass(cls, _checked(value, where="job"), where="job")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What became of a run."""

    started_at: datetime
    ended_at: datetime
    host: str
    """Name of the machine."""
    config: Path | None
    """The config file as given; None if there was none."""
    run_folder: Path
    was_stopped: bool
    """By the user, before everything was done."""
    exit_code: int
    jobs: tuple[JobSummary, ...]
    """In the order of the run. Films that were never begun are ``stopped`` ones without attempts."""
    pauses: tuple[Pause, ...] = ()
    hours: str = ""
    """``run.hours`` as configured; empty if the run was free to work at any time."""
    notes: tuple[str, ...] = ()
    """What concerns no film alone: a GPU that was throttled, a clock that jumped."""
    disk_free_bytes: int | None = None
    """Where the outputs are, at the end."""
    machine: Mapping[str, str | int | None] = field(default_factory=dict)
    """What the machine is, as ``pipeline.host.probe_host`` says."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """What is installed, as ``pipeline.host.probe_versions`` says; None for what is not."""

    def as_json(self) -> dict[str, Any]:
        """JSON-native values, with the schema's version."""
        return _as_json(self)

    @classmethod
    def from_json(cls, value: Any) -> RunSummary:
        """Read what ``as_json`` gave.

        Raises:
            WrongJson: It is something else, or of another version.
        """
        return read_dataclass(cls, _checked(value, where="summary"), where="summary")


def problems_of(exc: BaseException) -> tuple[Problem, ...]:
    """Say what an error means in the form that a summary holds; the advice stands with the last problem."""
    lines = explain(exc)
    hint = lines[-1].removeprefix("hint: ") if lines[-1].startswith("hint: ") else ""
    messages = [line.removeprefix("error: ") for line in (lines[:-1] if hint else lines)]
    return (*(Problem(message=message) for message in messages[:-1]), Problem(message=messages[-1], hint=hint))


def write_summary(path: Path, summary: RunSummary) -> None:
    """Write ``summary.json`` so that readers see the old file or the new one, never a part.

    Raises:
        OutputError: The disk is full or the path is not writable.
    """
    # ASCII: a path of bytes that are no text survives as its surrogates, which UTF-8 could not carry.
    text = json.dumps(summary.as_json(), indent=2, ensure_ascii=True, allow_nan=False)
    try:
        write_atomic(path, text.encode("ascii") + b"\n")
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise OutputError(f"cannot write the summary {path}: {reason}", path=path, hint="free space or rights") from exc


def read_summary(path: Path) -> RunSummary:
    """Read ``summary.json``.

    Raises:
        WrongJson: It is no summary, or of another version; the message names the file and the place in it.
        OSError: It cannot be read.
    """
    content = path.read_bytes()
    try:
        return RunSummary.from_json(json.loads(content))
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise WrongJson(f"{path}: not JSON: {exc}") from exc
    except WrongJson as exc:
        raise WrongJson(f"{path}: {exc}") from exc


def _as_json(value: JobSummary | RunSummary) -> dict[str, Any]:
    native = json_native(value, where="summary")
    assert isinstance(native, dict)
    return {"schema_version": SCHEMA_VERSION, **native}


def _checked(value: Any, *, where: str) -> dict[str, Any]:
    """Check the version and take it off."""
    if not isinstance(value, Mapping):
        raise WrongJson(f"{where}: must be an object (got {type(value).__name__})")
    version = value.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise WrongJson(f"{where}: this program reads schema_version {SCHEMA_VERSION}, not {version!r}")
    return {str(key): item for key, item in value.items() if key != "schema_version"}
