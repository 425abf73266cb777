"""What a finished output must be: put together from the plan, the segments and the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from pipeline.assembly.source_streams import SourceStream, plain_language, read_source_streams
from pipeline.encode.base import EncodeSpec
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from pipeline.assembly.containers import StreamCopy, StreamPlan
    from pipeline.plan import JobPlan
    from pipeline.segments import CommittedSegment

HELD_DISPOSITIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "mkv": frozenset({"comment", "default", "forced", "hearing_impaired", "original", "visual_impaired"}),
        "mp4": frozenset({"comment", "default", "dub"}),
        "mov": frozenset({"comment", "default", "dub"}),
    }
)
"""What of a stream's disposition comes back as it was from each container (libav's names). Measured by copying a sound
track with each (FFmpeg 9.0.2); mp4 also keeps others, but gives them back together with a synonym."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedStream:
    """A stream of a result. What is None is not compared."""

    kind: str
    codec: str
    language: str
    is_attached_pic: bool = False
    title: str | None = None
    dispositions: frozenset[str] | None = None
    """Of those in ``HELD_DISPOSITIONS``."""
    start_s: Fraction | None = None
    """Time of its first packet, seconds after the first frame."""
    end_s: Fraction | None = None
    """Time of its last packet, the same way."""

    @property
    def identity(self) -> tuple[str, str, str, bool]:
        """By what streams are told apart: kind, codec, language, and whether it is a cover."""
        return (self.kind, self.codec, self.language, self.is_attached_pic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a finished output must be."""

    encode: EncodeSpec
    container: str
    """``mkv``, ``mp4``, ``mov``, or ``png`` for a folder of pictures."""
    pts: tuple[int, ...]
    """Of every frame in display order, in ``encode.time_base``; at least one."""
    film: ExpectedStream | None = None
    """The main video; None: only what ``encode`` says of it is compared."""
    streams: tuple[ExpectedStream, ...] = ()
    """All others. Of each kind in the order of the file, except covers and attachments."""
    chapter_count: int = 0
    rotation_deg: int = 0
    is_mirrored: bool = False
    segments: tuple[CommittedSegment, ...] = ()
    """Whose coded pictures the film must have, byte for byte; empty: these are not compared."""

    @classmethod
    def of(cls, plan: JobPlan, segments: Sequence[CommittedSegment]) -> Expected:
        """What a job promises.

        Args:
            plan: The job's plan.
            segments: All that was encoded.

        Raises:
            MediaError: The source cannot be read any more.
        """
        pts = tuple(time for segment in segments for time in segment.pts)
        expected = expected_of_source(
            plan.info,
            streams=plan.streams if plan.info.path.is_file() else None,
            encode=plan.encode,
            container=plan.container,
            pts=pts,
            is_damaged=any(segment.complaint for segment in segments),
        )
        return replace(expected, segments=tuple(segments))


def expected_of_source(
    info: MediaInfo,
    *,
    streams: StreamPlan | None,
    encode: EncodeSpec,
    container: str,
    pts: tuple[int, ...],
    is_damaged: bool = False,
) -> Expected:
    """What a result must be whose frames are known.

    Args:
        info: The source.
        streams: What becomes of its other streams; None: the result has none, and nothing of the source but frames.
        encode: How its frames are encoded.
        container: ``mkv``, ``mp4``, ``mov``, or ``png``.
        pts: Times of its frames, in ``encode.time_base``.
        is_damaged: Whether the source is: then where its streams end is not asked.

    Raises:
        MediaError: The source cannot be read any more.
    """
    if streams is None:
        return Expected(encode=encode, container=container, pts=pts)
    sources = read_source_streams(
        info, indices=tuple(copy.source.index for copy in streams.copies), with_ends=not is_damaged
    )
    origin_s = pts[0] * encode.time_base
    return Expected(
        encode=encode,
        container=container,
        pts=pts,
        film=_expected_film(sources[info.video.index], encode=encode, container=container),
        streams=tuple(
            _expected_copy(copy, sources[copy.source.index], container=container, origin_s=origin_s)
            for copy in streams.copies
        ),
        chapter_count=info.chapter_count,
        rotation_deg=info.video.rotation_deg,
        is_mirrored=info.video.is_mirrored,
    )


def _expected_film(source: SourceStream, *, encode: EncodeSpec, container: str) -> ExpectedStream:
    return ExpectedStream(
        kind="video",
        codec=encode.encoder.codec,
        language=plain_language(source.language),
        title=source.title,
        dispositions=_held(source, container),
    )


def _expected_copy(copy: StreamCopy, source: SourceStream, *, container: str, origin_s: Fraction) -> ExpectedStream:
    entry = copy.source
    is_timed = entry.kind in {"video", "audio", "subtitle"} and not entry.is_attached_pic
    # what is converted begins with another packet if it is text (an empty line), and ends with another one
    has_start = is_timed and not (copy.is_converted and entry.kind == "subtitle")
    has_end = entry.kind == "audio" and not copy.is_converted
    return ExpectedStream(
        kind=entry.kind,
        codec=copy.codec,
        language=plain_language(entry.language),
        is_attached_pic=entry.is_attached_pic,
        title=entry.title if is_timed else None,
        dispositions=_held(source, container) if is_timed else None,
        start_s=source.first_s - origin_s if has_start and source.first_s is not None else None,
        end_s=source.last_s - origin_s if has_end and source.last_s is not None else None,
    )


def _held(source: SourceStream, container: str) -> frozenset[str]:
    return source.dispositions & HELD_DISPOSITIONS[container]
