"""What the streams of a source say of themselves, and from when to when they have packets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.decode.container import error_text, open_container, to_fraction
from pipeline.errors import MediaError
from pipeline.media import MediaInfo

_START_PACKETS = 20_000
"""How many packets are read for the first one of each stream; a film's tracks begin within seconds."""
_CLOCK_JUMP_S = 5
"""A clock that jumps farther from one packet to the next was set anew: what comes then is not on the same clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStream:
    """One stream of a source."""

    language: str
    title: str
    dispositions: frozenset[str]
    """libav's names."""
    first_s: Fraction | None
    """Time of its first packet, seconds on the source's clock; None if unknown."""
    last_s: Fraction | None
    """Of its last one; None if unknown."""


def read_source_streams(info: MediaInfo, *, indices: tuple[int, ...], with_ends: bool) -> Mapping[int, SourceStream]:
    """Read about a source's main video and other streams of it.

    Args:
        info: The source.
        indices: Of the other streams, whose packets are looked at.
        with_ends: Whether last packets are looked for too, which reads the whole file.

    Returns:
        By index. Times are unknown for the main video, and where a stream's clock is set anew; so are last times where
        the file cannot be read to its end.

    Raises:
        MediaError: The source cannot be read any more.
    """
    import av

    try:
        with open_container(info.path) as container:
            spans = _read_spans(container, indices, with_ends=with_ends)
            return {
                index: _describe(container.streams[index], spans.get(index)) for index in {*indices, info.video.index}
            }
    except (av.FFmpegError, OSError) as exc:
        raise MediaError(f"cannot read {info.path} any more: {error_text(exc)}", path=info.path) from exc


def plain_language(text: str) -> str:
    """A language tag; empty for none, which containers write in two ways."""
    return "" if text in {"und", ""} else text


def title_of(stream: Any) -> str:
    """A stream's title, which libav reads from mp4 and mov as ``name``."""
    return str(stream.metadata.get("title") or stream.metadata.get("name", ""))


def dispositions_of(stream: Any) -> frozenset[str]:
    """libav's names of what a stream is for."""
    return frozenset(str(flag.name) for flag in stream.disposition)


def is_silence(stream: Any, packet: Any) -> bool:
    """Whether a packet of an mp4 text track says only that nothing is shown: a length of 0."""
    if stream.type != "subtitle" or packet.size > 2:
        return False
    return bool(stream.codec_context.codec.canonical_name == "mov_text")


def _describe(stream: Any, span: _Span | None) -> SourceStream:
    return SourceStream(
        language=stream.metadata.get("language", ""),
        title=title_of(stream),
        dispositions=dispositions_of(stream),
        first_s=None if span is None else span.first_s,
        last_s=None if span is None or not span.is_whole else span.last_s,
    )


@dataclass(slots=True)
class _Span:
    """First and last time of a stream while it is read."""

    first_s: Fraction
    last_s: Fraction
    is_whole: bool = True

    def add(self, time_s: Fraction) -> None:
        if abs(time_s - self.last_s) > _CLOCK_JUMP_S:
            self.is_whole = False
        self.last_s = max(self.last_s, time_s)


def _read_spans(container: Any, indices: tuple[int, ...], *, with_ends: bool) -> dict[int, _Span]:
    import av

    timed = tuple(index for index in indices if container.streams[index].type in {"video", "audio", "subtitle"})
    units = {index: to_fraction(container.streams[index].time_base) for index in timed}
    spans: dict[int, _Span] = {}
    is_whole = False
    try:
        for number, packet in enumerate(_packets(container, timed)):
            if not with_ends and (len(spans) == len(timed) or number >= _START_PACKETS):
                break
            if packet.pts is None or not packet.size or is_silence(packet.stream, packet):
                continue
            index, time_s = packet.stream.index, packet.pts * units[packet.stream.index]
            if index in spans:
                spans[index].add(time_s)
            else:
                spans[index] = _Span(time_s, time_s)
        else:
            is_whole = with_ends
    except (av.FFmpegError, OSError):
        if not spans:  # not even its beginning
            raise
    for span in spans.values():
        span.is_whole &= is_whole
    return spans


def _packets(container: Any, indices: tuple[int, ...]) -> Iterator[Any]:
    if indices:
        yield from container.demux([container.streams[index] for index in indices])
