"""Joining segments: one stream with rising decoding times, every pts as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO

from pipeline.assembly.light_boxes import LightBoxPipe, light_boxes
from pipeline.assembly.segment_reader import CodedPicture, SegmentReader
from pipeline.encode.base import RANGE_CODES, EncodeSpec
from pipeline.errors import OutputError
from pipeline.segments import CommittedSegment

_FRAGMENT_US = 1_000_000
"""Length of the pipe's fragments: as much of the film is held in memory on each side of it."""


def write_joined(segments: Sequence[CommittedSegment], *, encode: EncodeSpec, shift: int, pipe: IO[bytes]) -> None:
    """Write all segments as one stream that can be read from a pipe.

    Args:
        segments: In order, without a gap; at least one.
        encode: How they were encoded.
        shift: Added to every time, ticks.
        pipe: Where to write; need not be seekable; stays open.

    Raises:
        OutputError: A segment is missing, damaged or does not fit the others.
        BrokenPipeError: The reader is gone.
    """
    import av

    # a pipe in Matroska is of encoders that write no HDR10 metadata
    target = pipe if encode.encoder.pipe_format else LightBoxPipe(pipe, light_boxes(encode))
    with (
        open_segment(segments[0]) as first,
        av.open(target, "w", format=pipe_format(encode), options=_pipe_options(encode)) as container,
    ):
        # opaque: without it PyAV looks for an encoder of the decoder's name, and AV1's has none
        stream = container.add_stream_from_template(first.stream, opaque=True)
        stream.time_base = encode.time_base
        # what the template does not carry, or the segment's container did not
        stream.codec_context.sample_aspect_ratio = encode.sample_aspect
        stream.codec_context.colorspace = encode.tags.matrix
        stream.codec_context.color_primaries = encode.tags.primaries
        stream.codec_context.color_trc = encode.tags.transfer
        stream.codec_context.color_range = RANGE_CODES[encode.tags.full_range]
        for picture, duration in join_segments(segments, encode=encode):
            packet = av.Packet(picture.content)
            packet.stream = stream
            packet.time_base = encode.time_base
            packet.pts = picture.pts + shift
            packet.dts = picture.dts + shift
            packet.duration = duration
            packet.is_keyframe = picture.is_keyframe
            container.mux(packet)


def pipe_format(encode: EncodeSpec) -> str:
    """libav's name of the format that ``write_joined`` writes."""
    return encode.encoder.pipe_format or encode.encoder.segment_container


def _pipe_options(encode: EncodeSpec) -> dict[str, str]:
    if encode.encoder.pipe_format:
        return {}
    ticks_per_s = str(encode.time_base.denominator)
    return {
        "movflags": "empty_moov+default_base_moof+delay_moov",
        "frag_duration": str(_FRAGMENT_US),
        "video_track_timescale": ticks_per_s,
        "movie_timescale": ticks_per_s,
    }


def join_segments(segments: Sequence[CommittedSegment], *, encode: EncodeSpec) -> Iterator[tuple[CodedPicture, int]]:
    """Every coded picture of the film in decoding order, each with its display time in ticks.

    The n-th packet of a segment is decoded when the picture ``depth`` before the n-th is shown, where ``depth`` is the
    encoder's reordering. So the first ``depth`` packets carry times before the segment; here they get those of the last
    pictures of what came before, and the rule holds over the whole film.

    Raises:
        OutputError: A segment is missing, damaged or does not fit the others.
    """
    _check_order(segments)
    extradata: bytes | None = None
    before: tuple[int, ...] = ()
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        durations = _durations(segment, following)
        with open_segment(segment) as reader:
            if extradata is None:
                extradata = reader.extradata
            elif reader.extradata != extradata:
                raise OutputError(
                    f"{segment.path} was encoded with other settings than the segments before it",
                    path=segment.path or Path(),
                    hint="remove the work folder and start again",
                )
            count = 0
            pictures = reader.pictures(first_pts=segment.first_pts, time_base=encode.time_base)
            for picture in _continue_clock(pictures, start=segment.first_pts, before=before):
                count += 1
                yield picture, durations[picture.pts]
        if count != segment.frame_count:
            raise OutputError(
                f"{segment.path} holds {count} pictures of {segment.frame_count}",
                path=segment.path or Path(),
                hint="remove the work folder and start again",
            )
        before = segment.pts


def open_segment(segment: CommittedSegment) -> SegmentReader:
    """A reader of a committed segment.

    Raises:
        OutputError: It is missing or not readable.
    """
    if segment.path is None:
        raise ValueError(f"segment {segment.index} was not written")
    return SegmentReader(segment.path)


def _continue_clock(pictures: Iterator[CodedPicture], *, start: int, before: tuple[int, ...]) -> Iterator[CodedPicture]:
    """Replace decoding times before ``start`` by the last display times of the segment before."""
    early: list[CodedPicture] = []
    for picture in pictures:
        if picture.dts < start:
            early.append(picture)
            continue
        yield from _move(early, before)
        early = []
        yield picture
    yield from _move(early, before)


def _move(early: list[CodedPicture], before: tuple[int, ...]) -> Iterator[CodedPicture]:
    if not early:
        return
    # only the last segment may be shorter than the others, so `before` has as many times as are needed
    times = before[-len(early) :] if before else tuple(picture.dts for picture in early)
    for picture, dts in zip(early, times, strict=True):
        yield replace(picture, dts=dts)


def _durations(segment: CommittedSegment, following: CommittedSegment | None) -> dict[int, int]:
    """Display time of each frame by its pts: until the next frame; for the film's last one as the source says."""
    times = segment.pts if following is None else (*segment.pts, following.first_pts)
    durations = {pts: later - pts for pts, later in pairwise(times)}
    if following is None:
        usual = durations[segment.pts[-2]] if len(segment.pts) > 1 else 1
        durations[segment.last_pts] = segment.last_duration or usual
    return durations


def _check_order(segments: Sequence[CommittedSegment]) -> None:
    expected = 0
    for segment in segments:
        if segment.start != expected:
            raise OutputError(
                f"segment {segment.index} begins with frame {segment.start}, not {expected}",
                path=segment.path or Path(),
                hint="remove the work folder and start again",
            )
        expected = segment.stop
