"""What a finished output must be: put together from the plan, the segments and the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pipeline.decode.container import error_text, open_container, to_fraction
from pipeline.encode.base import EncodeSpec
from pipeline.errors import MediaError
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from pipeline.assembly.containers import StreamPlan
    from pipeline.plan import JobPlan
    from pipeline.segments import CommittedSegment

_START_PACKETS = 20_000
"""How many packets are read for the first one of each sound track; a film's tracks begin within seconds."""

COMPARED_FLAGS = ("default", "forced", "hearing_impaired", "visual_impaired", "comment", "original")
"""Dispositions that Matroska keeps; the other containers keep few and set some of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedStream:
    """A stream beside the main video."""

    kind: str
    codec: str
    language: str
    is_attached_pic: bool
    title: str | None = None
    """None: not compared."""
    flags: tuple[str, ...] | None = None
    """Dispositions of ``COMPARED_FLAGS`` that it has; None: not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a finished output must be."""

    encode: EncodeSpec
    container: str
    """``mkv``, ``mp4``, ``mov``, or ``png`` for a folder of pictures."""
    pts: tuple[int, ...]
    """Of every frame in display order, in ``encode.time_base``."""
    streams: tuple[ExpectedStream, ...] = ()
    """All but the main video, in any order."""
    chapter_count: int = 0
    rotation_deg: int = 0
    is_mirrored: bool = False
    start_offsets_s: tuple[Fraction, ...] = ()
    """For each sound track in order: when it begins, seconds after the first frame."""

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
        streams = plan.streams if plan.info.path.is_file() else None
        return replace(
            expected_of_streams(plan.info, streams=streams, encode=plan.encode, pts=pts), container=plan.container
        )


def expected_of_streams(
    info: MediaInfo, *, streams: StreamPlan | None, encode: EncodeSpec, pts: tuple[int, ...]
) -> Expected:
    """What a result must be whose frames are known.

    Args:
        info: The source.
        streams: What becomes of its other streams; None: the result has none.
        encode: How its frames are encoded.
        pts: Their times, in ``encode.time_base``.

    Raises:
        MediaError: The source cannot be read any more.
    """
    if streams is None:
        return Expected(encode=encode, container="", pts=pts)
    copies = streams.copies
    flags = read_flags(info) if streams.container == "mkv" else {}
    return Expected(
        encode=encode,
        container=streams.container,
        pts=pts,
        streams=tuple(
            ExpectedStream(
                kind=copy.source.kind,
                codec=copy.codec,
                language=plain_language(copy.source.language),
                is_attached_pic=copy.source.is_attached_pic,
                title=copy.source.title if copy.source.kind in ("audio", "subtitle") else None,
                flags=flags.get(copy.source.index) if copy.source.kind in ("audio", "subtitle") else None,
            )
            for copy in copies
        ),
        chapter_count=info.chapter_count,
        rotation_deg=info.video.rotation_deg,
        is_mirrored=info.video.is_mirrored,
        start_offsets_s=read_start_offsets(
            info,
            indices=tuple(copy.source.index for copy in copies if copy.source.kind == "audio"),
            origin_s=pts[0] * encode.time_base,
        ),
    )


def read_start_offsets(info: MediaInfo, *, indices: tuple[int, ...], origin_s: Fraction) -> tuple[Fraction, ...]:
    """When streams of a source begin.

    Args:
        info: The source.
        indices: Which of its streams; one without packets at its beginning counts as beginning at ``origin_s``.
        origin_s: Time 0 of the answer.

    Raises:
        MediaError: The source cannot be read any more.
    """
    import av

    try:
        with open_container(info.path) as container:
            starts = _first_times(container, indices)
    except (av.FFmpegError, OSError) as exc:
        raise MediaError(f"cannot read {info.path} any more: {error_text(exc)}", path=info.path) from exc
    return tuple(starts.get(index, origin_s) - origin_s for index in indices)


def read_flags(info: MediaInfo) -> dict[int, tuple[str, ...]]:
    """Dispositions of a source's streams, by index.

    Raises:
        MediaError: The source cannot be read any more.
    """
    import av

    try:
        with open_container(info.path) as container:
            return {stream.index: flags_of(stream) for stream in container.streams}
    except (av.FFmpegError, OSError) as exc:
        raise MediaError(f"cannot read {info.path} any more: {error_text(exc)}", path=info.path) from exc


def flags_of(stream: Any) -> tuple[str, ...]:
    """Those of ``COMPARED_FLAGS`` that a stream of libav has, in that order."""
    found = {str(flag.name) for flag in stream.disposition}
    return tuple(name for name in COMPARED_FLAGS if name in found)


def plain_language(text: str) -> str:
    """A language tag; empty for none, which containers write in two ways."""
    return "" if text in {"und", ""} else text


def _first_times(container: Any, indices: tuple[int, ...]) -> dict[int, Fraction]:
    """Time of the first packet of each of these streams, seconds."""
    units = {index: to_fraction(container.streams[index].time_base) for index in indices}
    starts: dict[int, Fraction] = {}
    for packet in _some_packets(container, indices):
        starts.setdefault(packet.stream.index, packet.pts * units[packet.stream.index])
        if len(starts) == len(indices):
            break
    return starts


def _some_packets(container: Any, indices: tuple[int, ...]) -> Iterator[Any]:
    if not indices:
        return
    for number, packet in enumerate(container.demux([container.streams[index] for index in indices])):
        if packet.pts is not None:
            yield packet
        if number >= _START_PACKETS:
            return
