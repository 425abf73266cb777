"""From committed segments to one file: joins them exactly and lets ffmpeg copy every other stream of the source.

The joined stream goes to ffmpeg through a pipe as fragmented MP4 or MOV, which keeps pts and dts exactly (FFV1: as
Matroska). All times are the source's own: ``-copyts`` keeps the distance between picture and sound, whatever the source
starts with. Two things move all streams together: whole seconds at the start of a source that begins later than one
second, and a first picture before time 0, which MP4 and MOV cannot show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.assembly.containers import FORMAT_NAMES, StreamPlan
from pipeline.assembly.ffmpeg import FfmpegProgram, find_ffmpeg, run_ffmpeg
from pipeline.assembly.join import pipe_format, write_joined
from pipeline.assembly.picture_folder import write_pictures
from pipeline.assembly.source_tags import SourceTags, read_source_tags
from pipeline.encode.base import EncodeSpec
from pipeline.media import MediaInfo, StreamEntry
from pipeline.segments import CommittedSegment

if TYPE_CHECKING:
    from pipeline.graph.stop import StopToken

__all__ = ["assemble", "write_pictures"]

_MINIMUM_MOVIE_TIMESCALE = 90_000
"""Edit lists place the start of every track in this unit; libav's default of 1000 would round it to a millisecond."""
_FILM, _RESULT = "<film>", "<result>"
"""What the two files are called until ffmpeg-python is done with them: it cannot take names that are no UTF-8."""
_ADTS_CONTAINERS = frozenset({"aac", "mpeg", "mpegts", "wtv"})
"""Whose AAC packets bear headers of their own. The muxers take them off by themselves, but then a single damaged one
ends the whole work; ffmpeg passes over a packet that fails in a filter that is named."""
_CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Global tags that describe the source's container and not the film."""


def assemble(
    segments: Sequence[CommittedSegment],
    *,
    source: MediaInfo | None,
    plan: StreamPlan,
    encode: EncodeSpec,
    out: Path,
    stop: StopToken | None = None,
    program: FfmpegProgram | None = None,
) -> None:
    """Join segments and add everything else that the source has.

    Args:
        segments: All segments of the film in order; at least one frame.
        source: Where the other streams, chapters and tags come from; None: there is nothing but the video.
        plan: Which streams, from ``plan_streams``.
        encode: How the segments were encoded.
        out: File to write, replaced if it is there; its name is no final one.
        stop: Its ``abort`` ends the work.
        program: The ffmpeg to use; by default ``find_ffmpeg``'s.

    Raises:
        OutputError: A segment is missing, damaged or does not fit the others; ffmpeg failed; the disk is full.
        SetupError: There is no ffmpeg.
        Aborted: ``stop`` was aborted. What was written of ``out`` is removed in all these cases.
    """
    program = program if program is not None else find_ffmpeg()
    tags = None if source is None else read_source_tags(source, plan=plan, folder=out.parent)
    clock = _plan_clock(segments, source=source, plan=plan, encode=encode)
    arguments = _arguments(source, plan=plan, encode=encode, clock=clock, tags=tags, out=out)

    def feed(pipe: IO[bytes]) -> None:
        write_joined(segments, encode=encode, shift=clock.pipe_shift, pipe=pipe)

    try:
        run_ffmpeg(program, arguments, output=out, feed=feed, stop=stop)
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    finally:
        for cover in () if tags is None else tags.covers:
            cover.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """How the times in the pipe and in the source become those of the result."""

    pipe_shift: int
    """Added to every pts before the pipe, in ticks, so that nothing in it is before 0."""
    pipe_offset_s: Fraction
    """Added by ffmpeg to the pipe's times; whole microseconds."""
    source_offset_s: Fraction
    """Added by ffmpeg to the source's times."""


def _plan_clock(
    segments: Sequence[CommittedSegment], *, source: MediaInfo | None, plan: StreamPlan, encode: EncodeSpec
) -> _Clock:
    unit = encode.time_base
    first_pts = segments[0].first_pts
    # steps of whole seconds that are whole ticks too: ffmpeg takes offsets in microseconds
    step_s, step_ticks = unit.numerator, unit.denominator
    start_s = first_pts * unit if source is None else min(Fraction(source.start_s), first_pts * unit)
    origin_s = max(0, start_s // step_s) * step_s
    if first_pts < 0 and plan.container != "mkv":
        return _Clock(pipe_shift=-first_pts, pipe_offset_s=Fraction(0), source_offset_s=-first_pts * unit)
    steps = max(0, -(first_pts // step_ticks))
    return _Clock(
        pipe_shift=steps * step_ticks,
        pipe_offset_s=Fraction(-steps * step_s - origin_s),
        source_offset_s=Fraction(-origin_s),
    )


def _arguments(
    source: MediaInfo | None,
    *,
    plan: StreamPlan,
    encode: EncodeSpec,
    clock: _Clock,
    tags: SourceTags | None,
    out: Path,
) -> list[str]:
    """ffmpeg's arguments, as ffmpeg-python makes them, and the few that it has no words for."""
    import ffmpeg

    turn = {} if source is None else _turn_options(source)
    pipe = ffmpeg.input(
        "pipe:0",
        f=pipe_format(encode),
        itsoffset=_seconds(clock.pipe_offset_s),
        **turn,
    )
    streams = [pipe["v:0"]]
    options: dict[str, Any] = {"copyts": None, "c:0": "copy"}
    titles: list[str] = []
    attach: list[str] = []
    if source is not None and tags is not None:
        film = ffmpeg.input(_FILM, itsoffset=_seconds(clock.source_offset_s))
        covers = {cover.index for cover in tags.covers}
        copies = [copy for copy in plan.copies if copy.source.index not in covers]
        for position, copy in enumerate(copies, 1):
            streams.append(film[str(copy.source.index)])
            options[f"c:{position}"] = copy.codec if copy.is_converted else "copy"
            titles += _title_arguments(copy.source, position=position)
            if copy.codec == "aac" and source.container in _ADTS_CONTAINERS:
                options[f"bsf:{position}"] = "aac_adtstoasc"
        options |= {"map_metadata": "1", "map_chapters": "1", "disposition:v:0": tags.disposition}
        attachment_count = sum(copy.source.kind == "attachment" for copy in copies)
        attach = _attach_covers(tags, first=attachment_count)
    else:
        options |= {"map_metadata": "-1", "map_chapters": "-1"}
    if encode.sample_aspect != 1:
        aspect = encode.sample_aspect * Fraction(encode.width, encode.height)
        options["aspect:v:0"] = f"{aspect.numerator}:{aspect.denominator}"
    options |= _container_options(plan, encode=encode)
    output = ffmpeg.output(*streams, _RESULT, format=FORMAT_NAMES[plan.container], **options)
    arguments: list[str] = output.get_args()
    if source is not None and len(streams) == 1:
        # ffmpeg-python leaves out an input of which no stream is mapped; its chapters and tags are wanted all the same
        after_pipe = arguments.index("pipe:0") + 1
        arguments[after_pipe:after_pipe] = ["-itsoffset", _seconds(clock.source_offset_s), "-i", _FILM]
    arguments = [*arguments[:-1], *_tag_arguments(tags), *titles, *attach, arguments[-1]]
    names = {_RESULT: _url(out)} | ({} if source is None else {_FILM: _url(source.path)})
    return [names.get(argument, argument) for argument in arguments]


def _turn_options(source: MediaInfo) -> dict[str, Any]:
    """How ffmpeg is told which way up the picture is; it mirrors after it has turned."""
    video = source.video
    if not video.rotation_deg and not video.is_mirrored:
        return {}
    mirror: dict[str, Any] = {"display_hflip:v:0": None} if video.is_mirrored else {}
    return {"display_rotation:v:0": video.rotation_deg, **mirror}


def _container_options(plan: StreamPlan, *, encode: EncodeSpec) -> dict[str, Any]:
    if plan.container == "mkv":
        return {"default_mode": "passthrough"}  # default flags as in the source, none invented
    ticks_per_s = encode.time_base.denominator
    options: dict[str, Any] = {
        "movflags": "+faststart",
        "video_track_timescale": ticks_per_s,
        "movie_timescale": ticks_per_s * -(-_MINIMUM_MOVIE_TIMESCALE // ticks_per_s),
    }
    if encode.encoder.iso_tag:
        options["tag:v:0"] = encode.encoder.iso_tag
    return options


def _tag_arguments(tags: SourceTags | None) -> list[str]:
    # ffmpeg-python takes each option once only
    arguments = []
    for key in _CONTAINER_TAGS if tags is not None else ():
        arguments += ["-metadata", f"{key}="]
    for key, value in tags.video.items() if tags is not None else ():
        arguments += ["-metadata:s:v:0", f"{key}={value}"]
    return arguments


def _title_arguments(stream: StreamEntry, *, position: int) -> list[str]:
    """A stream's title under the name that every container knows; what mp4 and mov call ``name`` would be lost."""
    if not stream.title:
        return []
    return [f"-metadata:s:{position}", f"title={stream.title}", f"-metadata:s:{position}", "name="]


def _attach_covers(tags: SourceTags, *, first: int) -> list[str]:
    """Matroska keeps cover art as an attachment, which ffmpeg makes from a file only."""
    arguments = []
    for number, cover in enumerate(tags.covers, first):
        arguments += ["-attach", _url(cover.path)]
        arguments += [f"-metadata:s:t:{number}", f"mimetype={cover.mime_type}"]
        arguments += [f"-metadata:s:t:{number}", f"filename={cover.file_name}"]
    return arguments


def _url(path: Path) -> str:
    """A path as ffmpeg takes it whatever characters it has."""
    return f"file:{path.absolute()}"


def _seconds(value: Fraction) -> str:
    return f"{round(value * 1_000_000)}us"
