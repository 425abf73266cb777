"""What a journal's lines say, one class for each kind of line. JSON-native, so that people can read them too."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import OutputError
from pipeline.journal.identity import FileIdentity
from pipeline.segments import CommittedSegment
from pipeline.work_folder import SEGMENT_NAME

if TYPE_CHECKING:
    from pipeline.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCommitted:
    """A segment is whole, checked and on disk under its own name."""

    kind: ClassVar[str] = "segment"
    index: int
    start: int
    """Index of its first frame."""
    stop: int
    """Index after its last frame."""
    name: str
    """File name in the work folder, which may be moved."""
    bytes: int
    sha256: str
    """Of the whole file, lower-case hex."""
    pts: tuple[int, ...]
    """Of every frame in display order, in the source's time base."""
    last_duration: int
    """Display time of the last frame in the same unit; 0 if unknown."""
    seconds: float
    """Since the attempt began; by a clock that nobody can set."""
    complaint: str = ""
    """What the decoder had to say by then; empty if nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.index <= self.start < self.stop or len(self.pts) != self.stop - self.start:
            raise ValueError(f"segment {self.index} cannot have frames {self.start} to {self.stop}")
        if not re.fullmatch(SEGMENT_NAME, self.name):
            raise ValueError(f"{self.name!r} is no name of a segment")
        if any(before >= after for before, after in itertools.pairwise(self.pts)):
            raise ValueError(f"the times of segment {self.index} do not increase")

    @classmethod
    def of(cls, segment: CommittedSegment, *, seconds: float) -> SegmentCommitted:
        """Describe a segment; reads its file, which was just written and so comes from memory.

        Raises:
            OutputError: The file cannot be read, or does not have the length that was written.
        """
        assert segment.path is not None, "what is not written cannot be resumed"
        try:
            size_bytes, sha256 = measure_file(segment.path)
        except OSError as exc:
            raise OutputError(
                f"cannot read {segment.path} again: {exc.strerror or exc}", path=segment.path, hint="check the disk"
            ) from exc
        if size_bytes != segment.bytes:
            raise OutputError(
                f"{segment.path} has {size_bytes} bytes where {segment.bytes} were written",
                path=segment.path,
                hint="start again; if it stays, the disk is faulty",
            )
        return cls(
            index=segment.index,
            start=segment.start,
            stop=segment.stop,
            name=segment.path.name,
            bytes=size_bytes,
            sha256=sha256,
            pts=segment.pts,
            last_duration=segment.last_duration,
            seconds=seconds,
            complaint=segment.complaint,
        )

    def restore(self, work: Path) -> CommittedSegment:
        """The segment again, in the work folder as it is called now."""
        return CommittedSegment(
            index=self.index,
            start=self.start,
            stop=self.stop,
            path=work / self.name,
            bytes=self.bytes,
            pts=self.pts,
            last_duration=self.last_duration,
            complaint=self.complaint,
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {
            "index": self.index,
            "start": self.start,
            "stop": self.stop,
            "frames": self.stop - self.start,
            "name": self.name,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "pts": pack_times(self.pts),
            "last_duration": self.last_duration,
            "seconds": round(self.seconds, 3),
            "complaint": self.complaint,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SegmentCommitted:
        """The opposite of ``as_json``.

        Raises:
            KeyError, TypeError, ValueError: They are something else.
        """
        return cls(
            index=int(values["index"]),
            start=int(values["start"]),
            stop=int(values["stop"]),
            name=str(values["name"]),
            bytes=int(values["bytes"]),
            sha256=str(values["sha256"]),
            pts=unpack_times(values["pts"]),
            last_duration=int(values["last_duration"]),
            seconds=float(values["seconds"]),
            complaint=str(values["complaint"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDropped:
    """A committed segment does not count any more: several lanes disagreed there, and it is made again."""

    kind: ClassVar[str] = "dropped"
    index: int
    reason: str
    """A clause."""

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {"index": self.index, "reason": self.reason}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SegmentDropped:
        """The opposite of ``as_json``; the same errors as ``SegmentCommitted.from_json``."""
        return cls(index=int(values["index"]), reason=str(values["reason"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegun:
    """A process began or went on with the film."""

    kind: ClassVar[str] = "attempt"
    at: str
    """UTC, ISO 8601."""
    host: str
    pid: int
    notes: tuple[str, ...]
    """What is another thing than in the first attempt but no reason to refuse, and what had to be made again."""

    @classmethod
    def now(cls, *, notes: Sequence[str] = ()) -> AttemptBegun:
        """This process, now."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(at=at, host=os.uname().nodename, pid=os.getpid(), notes=tuple(notes))

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {"at": self.at, "host": self.host, "pid": self.pid, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AttemptBegun:
        """The opposite of ``as_json``; the same errors as ``SegmentCommitted.from_json``."""
        notes = tuple(str(note) for note in values["notes"])
        return cls(at=str(values["at"]), host=str(values["host"]), pid=int(values["pid"]), notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandLowered:
    """Memory ran out, and the film goes on with a smaller demand. Later attempts begin with it."""

    kind: ClassVar[str] = "lowered"
    from_segment: int
    """The first one that was not committed before; lanes may have committed later ones."""
    tile_height: int
    """Input pixels, from now on."""
    tile_width: int
    batch_tiles: int
    """Tiles in one call, from now on."""
    lanes: int
    """Most of them that ran at once from now on."""
    reason: str
    """What ran out, a clause."""

    @classmethod
    def of(cls, plan: JobPlan, *, from_segment: int, reason: str) -> DemandLowered:
        """Describe the smaller plan that a film goes on with."""
        return cls(
            from_segment=from_segment,
            tile_height=plan.grid.tile_height,
            tile_width=plan.grid.tile_width,
            batch_tiles=plan.config.infer.batch,
            lanes=plan.lanes,
            reason=reason,
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {
            "from_segment": self.from_segment,
            "tile_height": self.tile_height,
            "tile_width": self.tile_width,
            "batch_tiles": self.batch_tiles,
            "lanes": self.lanes,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DemandLowered:
        """The opposite of ``as_json``; the same errors as ``SegmentCommitted.from_json``."""
        return cls(
            from_segment=int(values["from_segment"]),
            tile_height=int(values["tile_height"]),
            tile_width=int(values["tile_width"]),
            batch_tiles=int(values["batch_tiles"]),
            lanes=int(values["lanes"]),
            reason=str(values["reason"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultVerified:
    """The whole result was verified and gets its final name next: who finds it there knows that it is ours."""

    kind: ClassVar[str] = "result"
    identity: FileIdentity
    """Of the result; a rename does not change it."""
    frames: int

    def as_json(self) -> dict[str, Any]:
        """As JSON-native values."""
        return {"identity": self.identity.as_json(), "frames": self.frames}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ResultVerified:
        """The opposite of ``as_json``; the same errors as ``SegmentCommitted.from_json``."""
        return cls(identity=FileIdentity.from_json(values["identity"]), frames=int(values["frames"]))


Record = SegmentCommitted | SegmentDropped | AttemptBegun | DemandLowered | ResultVerified
RECORDS: tuple[type[Record], ...] = (SegmentCommitted, SegmentDropped, AttemptBegun, DemandLowered, ResultVerified)
"""All kinds."""


def pack_times(times: Sequence[int]) -> list[Any]:
    """Times as the first one and runs of equal steps: ``[first, [step, count], ...]``.

    A minute of constant rate is one run; the worst film has as many runs as frames. Nothing is rounded.
    """
    steps = [after - before for before, after in itertools.pairwise(times)]
    return [*times[:1], *([step, len(list(run))] for step, run in itertools.groupby(steps))]


def unpack_times(packed: Sequence[Any]) -> tuple[int, ...]:
    """The opposite of ``pack_times``.

    Raises:
        TypeError, ValueError: It is something else.
    """
    if not packed:
        return ()
    first, *runs = packed
    steps = itertools.chain.from_iterable(itertools.repeat(int(step), int(count)) for step, count in runs)
    return tuple(itertools.accumulate(steps, initial=int(first)))


def measure_file(path: Path) -> tuple[int, str]:
    """Length in bytes and SHA-256 of a whole file, which must be a regular one.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return os.fstat(descriptor).st_size, hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        os.close(descriptor)
