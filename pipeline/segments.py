"""Segments: runs of frames encoded alone, each whole, checked and under its own name before the next one begins.

A segment is a half-open range of frame indices that depends on nothing but the segment length, and each has an encoder
of its own. So the bits of a segment are the same in a run that was interrupted before it and in one that was not.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from engines.atomic import commit_file
from engines.gpu import Device
from pipeline.encode import Encoder, EncodeResult, EncodeSpec, open_encoder
from pipeline.errors import OutputError
from pipeline.frames import Frame

_LOGGER = logging.getLogger(__name__)

_NOMINAL_RATE = Fraction(25)
"""Where the film's rate is unknown: only the length of a segment depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A half-open range of frames."""

    index: int
    start: int
    """Index of its first frame."""
    stop: int
    """Index after its last frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedSegment:
    """A segment that is whole, checked, and on disk under its own name."""

    index: int
    start: int
    """Index of its first frame."""
    stop: int
    """Index after its last frame."""
    path: Path | None
    """The file; None if the encoder writes nothing."""
    bytes: int
    pts: tuple[int, ...]
    """Of every frame in display order, in the source's time base. The file's own clock starts at 0 with the first."""
    last_duration: int
    """Display time of the last frame in the same unit; 0 if unknown."""
    complaint: str = ""
    """What the decoder had lost or repaired by then, of this segment or of another; empty if nothing. Such frames are
    the film's only for a decoder that comes from its beginning."""

    @property
    def first_pts(self) -> int:
        """Pts of the first frame."""
        return self.pts[0]

    @property
    def last_pts(self) -> int:
        """Pts of the last frame."""
        return self.pts[-1]

    @property
    def frame_count(self) -> int:
        """Frames in the segment."""
        return self.stop - self.start


def frames_per_segment(segment_s: float, *, average_rate: Fraction | None) -> int:
    """How many frames a segment of about this length has; at least one.

    Args:
        segment_s: Wanted length in seconds, > 0.
        average_rate: Frames per second; None if unknown.
    """
    return max(1, math.ceil(Fraction(segment_s) * (average_rate or _NOMINAL_RATE)))


def plan_segments(frame_count: int, *, segment_frames: int) -> tuple[Segment, ...]:
    """Cut ``[0, frame_count)`` into segments; only the last one may be shorter.

    Args:
        frame_count: Frames of the film, >= 0.
        segment_frames: >= 1.
    """
    if frame_count < 0 or segment_frames < 1:
        raise ValueError(f"cannot cut {frame_count} frames into segments of {segment_frames}")
    return tuple(
        Segment(index=index, start=start, stop=min(start + segment_frames, frame_count))
        for index, start in enumerate(range(0, frame_count, segment_frames))
    )


def is_segment_start(index: int, *, segment_frames: int) -> bool:
    """Whether a frame is the first of a segment: where a run can stop without losing work."""
    return index % segment_frames == 0


def segment_file_name(index: int, *, container: str) -> str:
    """Name of a finished segment."""
    return f"seg-{index:05d}.{container}"


def sweep_unfinished(folder: Path) -> None:
    """Remove what a killed run left half-written in a segment folder."""
    for path in folder.iterdir():
        if re.fullmatch(r"seg-\d{5,}\.\w+\.part", path.name):
            _LOGGER.info("removing the unfinished segment %s", path)
            path.unlink()


class SegmentWriter:
    """Encode a film's frames into committed segments. A context manager; leaving it discards an open segment.

    Args:
        folder: Where segments go; must exist, on the file system of the final output or not.
        spec: How to encode; the same for all segments.
        segment_frames: See ``frames_per_segment``.
        first_frame: Index of the first frame that will come; the start of a segment.
        skips: Whether the frames may go on with a later segment after each whole one: a lane does not get all of them.
        committed: Called with each segment as soon as it is on disk, before the next one is begun.
        complaint: What the decoder of the frames has to say so far; empty if nothing.
        device: The GPU in whose memory the frames are; None: they are in the host's. Stays the caller's.
    """

    def __init__(
        self,
        folder: Path,
        spec: EncodeSpec,
        *,
        segment_frames: int,
        first_frame: int = 0,
        skips: bool = False,
        committed: Callable[[CommittedSegment], None] | None = None,
        complaint: Callable[[], str] | None = None,
        device: Device | None = None,
    ) -> None:
        if not is_segment_start(first_frame, segment_frames=segment_frames):
            raise ValueError(f"frame {first_frame} does not start a segment of {segment_frames} frames")
        self._folder = folder
        self._spec = spec
        self._segment_frames = segment_frames
        self._next_frame = first_frame
        self._skips = skips
        self._committed = committed
        self._complaint = complaint
        self._device = device
        self._segments: list[CommittedSegment] = []
        self._encoder: Encoder | None = None
        self._pts: list[int] = []

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def segments(self) -> tuple[CommittedSegment, ...]:
        """What is committed so far, in order."""
        return tuple(self._segments)

    def write(self, frame: Frame) -> CommittedSegment | None:
        """Encode the next frame; the caller keeps it.

        Returns:
            The segment that this frame completed and that is now on disk; else None.

        Raises:
            ValueError: The frame is not the next one, or not what the spec says.
            ConfigError: The encoder refuses a setting.
            OutputError: The segment cannot be written, or what was written is not what was put in.
        """
        index = frame.stamp.index
        if self._skips and self._encoder is None and index > self._next_frame:
            if not is_segment_start(index, segment_frames=self._segment_frames):
                raise ValueError(f"frame {index} came where a segment of {self._segment_frames} frames was to start")
            self._next_frame = index
        if index != self._next_frame:
            raise ValueError(f"frame {index} came where frame {self._next_frame} was expected")
        if self._encoder is None:
            self._encoder = open_encoder(self._part_path, self._spec, device=self._device)
        self._encoder.write(frame)
        self._pts.append(frame.stamp.pts)
        self._next_frame += 1
        if is_segment_start(self._next_frame, segment_frames=self._segment_frames):
            return self._commit(self._encoder)
        return None

    def finish(self) -> tuple[CommittedSegment, ...]:
        """Commit the last, perhaps shorter, segment.

        Returns:
            All segments that this writer committed, in order.

        Raises:
            OutputError: The segment cannot be written, or what was written is not what was put in.
        """
        if self._encoder is not None:
            self._commit(self._encoder)
        return self.segments

    def close(self) -> None:
        """Discard an unfinished segment: its file is removed. Idempotent."""
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            encoder.close()
            if self._spec.encoder.codec:
                self._part_path.unlink(missing_ok=True)

    @property
    def _index(self) -> int:
        """Number of the segment being written."""
        return (self._next_frame - len(self._pts)) // self._segment_frames

    @property
    def _final_path(self) -> Path:
        return self._folder / segment_file_name(self._index, container=self._spec.encoder.segment_container)

    @property
    def _part_path(self) -> Path:
        final = self._final_path
        return final.with_name(final.name + ".part")

    def _commit(self, encoder: Encoder) -> CommittedSegment:
        """The one place where a segment becomes part of the result."""
        result = encoder.finish()
        encoder.close()
        final = self._final_path
        if self._spec.encoder.codec:
            check_segment(self._part_path, pts=self._pts, time_base=self._spec.time_base)
            try:
                commit_file(self._part_path, final)
            except OSError as exc:
                raise OutputError(
                    f"cannot commit {final}: {exc.strerror or exc}",
                    path=final,
                    hint=f"make room on the disk of {self._folder}, and see that it can be written",
                ) from exc
        segment = self._describe(result, final)
        self._encoder = None
        self._pts = []
        self._segments.append(segment)
        if self._committed is not None:
            self._committed(segment)
        return segment

    def _describe(self, result: EncodeResult, final: Path) -> CommittedSegment:
        return CommittedSegment(
            index=self._index,
            start=self._next_frame - len(self._pts),
            stop=self._next_frame,
            path=final if self._spec.encoder.codec else None,
            bytes=result.bytes,
            pts=tuple(self._pts),
            last_duration=result.last_duration,
            complaint=self._complaint() if self._complaint is not None else "",
        )


def check_segment(path: Path, *, pts: list[int], time_base: Fraction) -> None:
    """Read a finished segment again and compare it with what was put in.

    Args:
        path: The segment.
        pts: Of every frame, in display order.
        time_base: Unit of ``pts``.

    Raises:
        OutputError: It cannot be read, lacks frames or has too many, begins without a keyframe, or a frame has another
            time. Names the first difference.
    """
    from pipeline.assembly.segment_reader import SegmentReader

    with SegmentReader(path) as reader:
        written: list[int] = []
        begins_with_keyframe = False
        for picture in reader.pictures(first_pts=pts[0], time_base=time_base):
            begins_with_keyframe = picture.is_keyframe if not written else begins_with_keyframe
            written.append(picture.pts)
    hint = "start again; if it stays, the disk or the encoder is faulty"
    if len(written) != len(pts):
        raise OutputError(f"{path} holds {len(written)} pictures of {len(pts)}", path=path, hint=hint)
    if not begins_with_keyframe:
        raise OutputError(f"{path} does not begin with a keyframe", path=path, hint=hint)
    for position, (found, expected) in enumerate(zip(sorted(written), pts, strict=True)):
        if found != expected:
            raise OutputError(
                f"{path}: picture {position} has pts {found}, not {expected} (unit {time_base} s)", path=path, hint=hint
            )
