"""What is in a film, found by opening it and decoding its first frames.

Headers are hints; the pixel format, the size after cropping, the colour tags, HDR metadata and whether the picture is
interlaced are taken from decoded frames. Nothing here stays open.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import UNSPECIFIED, ChromaLocation, ColourTags, SampleFormat
from pipeline.media import MediaInfo, StreamEntry, StreamKind, VideoTrack
from pipeline.stream_words import StreamWords, read_stream_words
from pipeline.tags import CHROMA_LOCATIONS, resolve_format, unsupported_reason

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from pipeline.decode.display_area import DisplayArea

PROBED_FRAMES = 3
"""Frames decoded to see whether a film is interlaced: the first may be flagged progressive in a field-coded stream."""

DEFAULT_STREAM_BONUS_PX = 5_000_000
"""What the default flag is worth against image area when there are several films in a file.
Source: FFmpeg, ``map_auto_video`` in fftools/ffmpeg_mux_init.c."""

_KINDS: dict[str, StreamKind] = {
    "video": "video",
    "audio": "audio",
    "subtitle": "subtitle",
    "attachment": "attachment",
    "data": "data",
}


def probe_media(path: Path) -> MediaInfo:
    """Find out everything the pipeline needs to know about a film before it starts.

    Args:
        path: A local file.

    Returns:
        The film's description; ``guesses`` names what the file did not say.

    Raises:
        UnsupportedMedia: It is no media file, has no film (only sound, cover art, no frames), is encrypted, or its
            codec or sample format cannot be handled.
        MediaError: It does not exist, is a folder, empty, or unreadable.
    """
    from pipeline.decode.container import open_media
    from pipeline.decode.display_area import read_display_area

    with open_media(path) as container:
        if container.format.name == "tty":
            raise UnsupportedMedia(f"{path} is a text file", path=path, hint="leave it out of the inputs")
        stream = _main_video(container, path)
        frames = _first_frames(container, stream, path)
        first = frames[0]
        words = read_stream_words(container, index=stream.index)
        if words.dolby_vision is not None and not words.dolby_vision.is_viewable_without:
            raise UnsupportedMedia(
                f"{path}: the video is Dolby Vision profile {words.dolby_vision.profile} without a base layer that can"
                " be shown: its colours (IPT-C2) are not supported",
                path=path,
                hint="convert it to HDR10 first, with a program that applies Dolby Vision (libplacebo in ffmpeg does)",
            )
        tags = ColourTags(
            matrix=_specified(first.colorspace, stream.colorspace),
            primaries=_specified(first.color_primaries, stream.color_primaries),
            transfer=_specified(first.color_trc, stream.color_trc),
            full_range=_full_range(first, stream),
            chroma_location=_chroma_location(first, words),
        )
        reason = unsupported_reason(tags, pixel_format=first.format.name)
        if reason is not None:
            raise UnsupportedMedia(
                f"{path}: the video {reason}",
                path=path,
                hint="convert it with ffmpeg to yuv420p or yuv420p10le and BT.709, and upscale the result",
            )
        area = read_display_area(first, words.crop)
        sample_format, guesses = resolve_format(
            tags,
            pixel_format=first.format.name,
            height=area.height,
            width=area.width,
            codec=stream.codec_context.codec.canonical_name,
        )
        return MediaInfo(
            path=path,
            container=container.format.name,
            size_bytes=path.stat().st_size,
            start_s=_start_s(container),
            duration_s=container.duration / 1_000_000 if container.duration else None,
            video=_describe_video(container, stream, frames, tags, sample_format, words=words, area=area),
            streams=tuple(_describe_stream(entry) for entry in container.streams),
            chapter_count=len(container.chapters()),
            guesses=(*guesses, *area.guesses),
        )


def _main_video(container: InputContainer, path: Path) -> VideoStream:
    """The film's picture: the largest, the one flagged as default before others; never cover art."""
    films = [stream for stream in container.streams.video if not _is_attached_pic(stream)]
    if not films:
        kinds: list[str] = sorted({stream.type for stream in container.streams} - {"video"})
        kinds += ["cover art"] if container.streams.video else []
        raise UnsupportedMedia(
            f"{path} has no video: it holds {'only ' + ' and '.join(kinds) if kinds else 'no streams at all'}",
            path=path,
            hint="leave it out of the inputs",
        )
    readable = [stream for stream in films if stream.codec_context is not None]
    if not readable:
        raise UnsupportedMedia(
            f"{path}: no decoder knows the codec of video stream {films[0].index}",
            path=path,
            hint="convert it with a program that can read it, for example to FFV1 in mkv",
        )
    return max(readable, key=_preference)


def _preference(stream: VideoStream) -> tuple[int, int]:
    import av

    is_default = bool(stream.disposition & av.stream.Disposition.default)
    return stream.height * stream.width + DEFAULT_STREAM_BONUS_PX * is_default, -stream.index


def _first_frames(container: InputContainer, stream: VideoStream, path: Path) -> list[VideoFrame]:
    """Decode at least one and up to ``PROBED_FRAMES`` frames; packets that cannot be decoded are passed over."""
    import av

    from pipeline.decode.container import error_text

    frames: list[VideoFrame] = []
    failure = ""
    packet_count = 0
    try:
        for packet in container.demux(stream):
            packet_count += packet.size > 0
            if packet.has_sidedata("encryption_info"):
                raise UnsupportedMedia(
                    f"{path} is encrypted (DRM)", path=path, hint="only unprotected films can be upscaled"
                )
            try:
                frames += packet.decode()
            except av.error.FFmpegError as exc:
                failure = error_text(exc)
            except ValueError as exc:  # PyAV 19: a decoder that did not open at the first packet is gone at the next
                failure = failure or error_text(exc)
            if len(frames) >= PROBED_FRAMES:
                return frames
    except av.error.FFmpegError as exc:
        failure = error_text(exc)
    if frames:
        return frames
    if packet_count == 0:
        raise UnsupportedMedia(
            f"{path}: video stream {stream.index} has no frames", path=path, hint="leave it out of the inputs"
        )
    raise MediaError(
        f"{path}: none of the {packet_count} packets of video stream {stream.index} can be decoded"
        f" ({failure or 'the decoder gave no frame'})",
        path=path,
        hint="the file is damaged or encrypted; copy or download it again",
    )


def _describe_video(
    container: InputContainer,
    stream: VideoStream,
    frames: list[VideoFrame],
    tags: ColourTags,
    sample_format: SampleFormat,
    *,
    words: StreamWords,
    area: DisplayArea,
) -> VideoTrack:
    from pipeline.decode.container import exact_fraction
    from pipeline.decode.sidedata import content_light_text, mastering_display_text

    first = frames[0]
    time_base = exact_fraction(stream.time_base) or Fraction(1, 1_000_000)
    duration_s = None
    if stream.duration:
        duration_s = float(stream.duration * time_base)
    elif container.duration:
        duration_s = container.duration / 1_000_000
    return VideoTrack(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        height=area.height,
        width=area.width,
        pixel_format=first.format.name,
        format=sample_format,
        tags=tags,
        time_base=time_base,
        average_rate=exact_fraction(stream.average_rate) or exact_fraction(stream.guessed_rate),
        start_pts=stream.start_time if stream.start_time is not None else first.pts,
        duration_s=duration_s,
        frame_count_from_header=stream.frames or _frame_count_tag(stream),
        sample_aspect=exact_fraction(stream.sample_aspect_ratio) or Fraction(1),
        rotation_deg=area.orientation.rotation_deg,
        is_mirrored=area.orientation.is_mirrored,
        crop=area.crop,
        is_interlaced=any(frame.interlaced_frame for frame in frames),
        mastering_display=mastering_display_text(_side_data(frames, "MASTERING_DISPLAY_METADATA")),
        content_light=content_light_text(_side_data(frames, "CONTENT_LIGHT_LEVEL")),
        dynamic_hdr=_dynamic_hdr(frames, words),
    )


def _side_data(frames: list[VideoFrame], kind: str) -> bytes:
    """Side data of the first frame that has it, by libav's name; empty if none has."""
    from pipeline.decode.sidedata import read_side_data

    for frame in frames:
        if content := read_side_data(frame, kind):
            return content
    return b""


def _frame_count_tag(stream: VideoStream) -> int | None:
    """The statistics tag that mkvmerge writes, with or without a language behind its name."""
    for name, value in stream.metadata.items():
        if name.partition("-")[0] == "NUMBER_OF_FRAMES" and value.isdecimal():
            return int(value) or None
    return None


def _describe_stream(stream: Any) -> StreamEntry:
    from pipeline.decode.container import exact_fraction

    context = stream.codec_context
    return StreamEntry(
        index=stream.index,
        kind=_KINDS.get(stream.type, "other"),
        codec=context.codec.canonical_name if context is not None else "",
        language=stream.metadata.get("language", ""),
        # mp4 and mov: libav writes the tag title, and reads it as name
        title=stream.metadata.get("title") or stream.metadata.get("name", ""),
        is_attached_pic=_is_attached_pic(stream),
        is_empty=stream.type == "audio" and context is not None and not context.sample_rate,
        time_base=exact_fraction(stream.time_base) or Fraction(1, 1000),
    )


def _is_attached_pic(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _start_s(container: InputContainer) -> float:
    start: Any = container.start_time  # None if unknown, whatever the stub says
    if start is not None:
        return float(start) / 1_000_000
    starts = [float(s.start_time * s.time_base) for s in container.streams if s.start_time is not None and s.time_base]
    return min(starts, default=0.0)


def _specified(of_frame: int, of_stream: int) -> int:
    return of_frame if of_frame != UNSPECIFIED else of_stream


def _full_range(frame: VideoFrame, stream: VideoStream) -> bool | None:
    # AVColorRange: 0 unspecified, 1 limited, 2 full
    code = frame.color_range or stream.color_range
    return None if code == 0 else code == 2


def _chroma_location(frame: VideoFrame, words: StreamWords) -> ChromaLocation | None:
    code = getattr(frame, "chroma_location", None)  # PyAV 19
    if code is not None:
        return CHROMA_LOCATIONS.get(int(code))
    components = frame.format.components
    if len(components) < 3 or components[1].width == frame.width:  # no chroma, or as much as luma
        return None
    return words.chroma_location


def _dynamic_hdr(frames: list[VideoFrame], words: StreamWords) -> tuple[str, ...]:
    """HDR metadata of single frames, by name."""
    vision = words.dolby_vision
    names = [] if vision is None else [f"Dolby Vision profile {vision.profile}"]
    if vision is None and (_side_data(frames, "DOVI_RPU_BUFFER") or _side_data(frames, "DOVI_METADATA")):
        names.append("Dolby Vision")
    for kind, name in (("DYNAMIC_HDR_PLUS", "HDR10+"), ("DYNAMIC_HDR_VIVID", "HDR Vivid")):
        if _side_data(frames, kind):
            names.append(name)
    return tuple(names)
