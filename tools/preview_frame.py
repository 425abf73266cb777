"""The frame that a film shows at a time, found by seeking: a long film costs no more than a short one."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from pipeline.decode import open_decoder
from pipeline.decode.frame_index import CONTAINERS_WITHOUT_PTS
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp
from pipeline.media import MediaInfo
from pipeline.plan import JobPlan

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_LOG = logging.getLogger(__name__)

LEAD_S = 15
"""How much earlier a second try begins: more than the 10 s that encoders leave between entry points at most (x264's
default is 250 frames)."""
NOMINAL_RATE = Fraction(25)
"""Of films that do not say theirs."""


def frame_at(plan: JobPlan, *, time_s: float) -> tuple[Frame, float]:
    """A frame in the host's memory, and its own time in seconds since the film's beginning.

    Args:
        plan: Of the film.
        time_s: Since its first frame; the frame that is on the screen then. Of a single picture any time will do.

    Raises:
        MediaError: The film ends before, or cannot be read there.
        UnsupportedMedia: What is there cannot be upscaled.
    """
    info = plan.info
    video = info.video
    start_pts = video.start_pts or 0
    time = Fraction(time_s).limit_denominator(10**6)  # 2.36 is less as a float, and another frame
    if info.pictures is not None and info.pictures.is_single:
        time = Fraction(0)
    is_file = info.pictures is None and info.container != SYNTHETIC_CONTAINER
    frame = None
    if is_file and plan.deinterlacing is None and info.container not in CONTAINERS_WITHOUT_PTS:
        frame = _seek(info, pts=start_pts + math.floor(time / video.time_base))
    if frame is None:
        frame = _count(plan, index=math.floor(time * (video.average_rate or NOMINAL_RATE)))
    return frame, float((frame.stamp.pts - start_pts) * video.time_base)


def _count(plan: JobPlan, *, index: int) -> Frame:
    """By its number: pictures, computed films, those without times and those of fields."""
    info = plan.info
    kind = "synthetic" if info.container == SYNTHETIC_CONTAINER else "libav" if info.pictures is None else "images"
    with open_decoder(kind, info, deinterlacing=plan.deinterlacing) as decoder:  # type: ignore[arg-type]
        for frame in decoder.frames(index, index + 1):
            return frame
    rate = info.video.average_rate or NOMINAL_RATE
    raise _ended(info, time_s=float(index / rate))


def _seek(info: MediaInfo, *, pts: int) -> Frame | None:
    """The last frame that is shown at ``pts`` or before, or the film's first; None for a film without times."""
    from pipeline.decode.colour_follower import ColourFollower
    from pipeline.decode.planes import PlaneReader
    from pipeline.tags import layout_of

    video = info.video
    found = _decode_at(info, pts=pts)
    if found is None:
        return None
    layout = layout_of(found.format.name)
    if layout is None or (found.height, found.width) != (video.decoded_height, video.decoded_width):
        raise UnsupportedMedia(
            f"{info.path} is not the same film there: {found.width}x{found.height} {found.format.name}",
            path=info.path,
            hint="cut the film where it changes",
        )
    own_pts = found.pts or 0
    follower = ColourFollower(info, clock=lambda pts: f"{float(pts * video.time_base):.3f} s")
    sample_format = follower.format_of(found, layout, pts=own_pts)
    reader = PlaneReader(video.format, height=video.height, width=video.width, crop=video.crop)
    planes, owner = reader.read(found, layout)
    return Frame(
        stamp=FrameStamp(index=0, pts=own_pts, duration=found.duration or 0),
        format=sample_format,
        height=video.height,
        width=video.width,
        planes=planes,
        owner=owner,
    )


def _decode_at(info: MediaInfo, *, pts: int) -> VideoFrame | None:
    """None for a film without times.

    Raises:
        MediaError: The film ends before, or cannot be opened.
    """
    video = info.video
    start_pts = video.start_pts or 0
    nominal = 1 / ((video.average_rate or NOMINAL_RATE) * video.time_base)
    back = math.ceil(LEAD_S / video.time_base)
    # some containers seek to a place behind the time, or between entry points: then from earlier, and from the start
    for target in (pts, pts - back, None):
        if target is not None and target < start_pts and target != pts:
            continue
        first = last = None
        for frame in _frames_from(info, target=target):
            if frame.pts is None or frame.is_corrupt:  # the latter follow an entry point, shown before it
                continue
            first = first or frame
            if frame.pts > pts and frame is not first:
                break
            last = frame
            if first.pts is not None and first.pts > pts:
                break
        if last is None or last.pts is None or (last.pts > pts and target is not None):
            continue
        if pts >= last.pts + max(Fraction(last.duration or 0), nominal) and last is frame:
            raise _ended(info, time_s=float((pts - start_pts) * video.time_base))
        return last
    return None


def _frames_from(info: MediaInfo, *, target: int | None) -> Iterator[VideoFrame]:
    """Decoded frames from an entry point before ``target`` on, or from the beginning; nothing if seeking fails."""
    import av

    from pipeline.decode.container import open_media
    from pipeline.decode.packets import read_packets, select_stream

    with open_media(info.path) as container:
        stream = select_stream(container, info, threads=0)
        if target is not None:
            try:
                container.seek(target, stream=stream)
            except av.error.FFmpegError:
                return
        for packet in read_packets(container, stream, on_error=_LOG.debug):
            try:
                yield from packet.decode()
            except av.error.FFmpegError as exc:
                _LOG.debug("a packet cannot be decoded: %s", exc)


def _ended(info: MediaInfo, *, time_s: float) -> MediaError:
    length_s = info.video.duration_s
    length = "" if length_s is None else f" ({length_s:.3f} s long)"
    return MediaError(
        f"{info.path}{length} has no frame at {time_s:.3f} s", path=info.path, hint="give an earlier time with --at"
    )
