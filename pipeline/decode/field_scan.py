"""Looks at frames from all over a film, to see whether they are made of fields, whatever their flags say.

Flags are often wrong: progressive films are put into interlaced streams, and interlaced ones lose their flags when they
are coded anew. libav's idet filter compares the lines of neighbouring frames.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.decode.container import error_text, open_media
from pipeline.decode.field_findings import FieldFindings, SeenPlace
from pipeline.decode.frame_filter import FrameFilter
from pipeline.decode.packets import select_stream
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


logger = logging.getLogger(__name__)

PLACES = 5
"""Places in a film that are looked at, evenly spread."""

PLACE_FRAMES = 25
"""Frames in each: five rounds of 3:2 pulldown."""

LARGEST_HEIGHT_PX = 1088
"""Larger films are not looked at unless they are flagged: no interlaced format has more lines. Source: SMPTE ST 274
(1080 lines, which codecs round up)."""


LATEST_TICK = 2**62
"""Times beyond it do not fit libav's 64 bits once it converts them."""

COLUMN_STEP = 4
"""One in so many columns is enough to see torn lines, and quick."""

TORN_RATIO = 1.1
"""How much rougher an interlaced frame is than its fields. Progressive frames are smoother, for their lines are closer:
measured 0.4 to 0.7, with strong noise up to 1.0; interlaced ones 1.1 to 13 where something moves fast."""


def scan_fields(info: MediaInfo) -> FieldFindings | None:
    """Decode some frames of a film and see whether they are interlaced.

    Decodes at most ``PLACES * PLACE_FRAMES`` frames, and opens the file once.

    Args:
        info: What ``probe_media`` found.

    Returns:
        What was seen; None for a film too large to be interlaced, or of which nothing can be decoded.

    Raises:
        MediaError: The file can no longer be opened.
    """
    video = info.video
    if video.height > LARGEST_HEIGHT_PX and not video.is_interlaced:
        return None
    with open_media(info.path) as container:
        stream = select_stream(container, info, threads=0)
        places = []
        for frames in _samples(container, stream, info):
            try:
                places.append(_look_at(frames))
            except av.error.FFmpegError as exc:  # what is wrong with a film is for its decoder to say
                logger.debug("%s: some frames cannot be looked at: %s", info.path, error_text(exc))
    findings = FieldFindings(places=tuple(place for place in places if place.frames))
    logger.debug("%s: %s", info.path, findings)
    return findings if findings.places else None


def _samples(container: InputContainer, stream: VideoStream, info: MediaInfo) -> Iterator[Iterator[VideoFrame]]:
    """Frames of each place, to be read before the next is asked for."""
    count = info.video.frame_count_estimated
    duration_s = info.video.duration_s
    if not duration_s or count is None or count <= 2 * PLACES * PLACE_FRAMES:
        for _ in range(PLACES):
            yield _next_frames(container, stream)
        return
    start = info.video.start_pts or 0
    for number in range(PLACES):
        moment = start + int((number + 0.5) / PLACES * duration_s / info.video.time_base)
        moment = min(moment, LATEST_TICK)  # a damaged header may promise any duration
        try:
            container.seek(moment, stream=stream)
        except av.error.FFmpegError:
            logger.debug("%s: cannot be looked at near tick %d", info.path, moment)
        yield _next_frames(container, stream)


def _next_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The next ``PLACE_FRAMES`` frames; what cannot be decoded is passed over."""
    count = 0
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                yield frame
                count += 1
                if count == PLACE_FRAMES:
                    return
    except (av.error.FFmpegError, EOFError):
        return  # the decoder that reads the whole film says what is wrong with it


def _look_at(frames: Iterator[VideoFrame]) -> SeenPlace:
    """Count what neighbouring frames look like."""
    seen: Counter[str] = Counter()
    idet: FrameFilter | None = None
    first_shape: tuple[int, int, str] | None = None
    for frame in frames:
        shape = (frame.height, frame.width, frame.format.name)
        if first_shape is None or idet is None:
            first_shape = shape
            idet, flags = FrameFilter(frame, "idet"), FrameFilter(frame, "select", r"eq(interlace_type\,TOPFIRST)")
        if shape != first_shape:
            break
        seen["frames"] += 1
        if _is_combed(frame):
            seen["combed"] += 1
            seen["combed_unflagged"] += not frame.interlaced_frame
        if frame.interlaced_frame:
            seen["flagged_top" if flags.run(frame) else "flagged_bottom"] += 1
        for looked_at in idet.run(frame):
            seen.update(_words(looked_at))
    if idet is not None:
        for looked_at in idet.run(None):
            seen.update(_words(looked_at))
    return SeenPlace(**{field.name: seen[field.name] for field in fields(SeenPlace)})


def _is_combed(frame: VideoFrame) -> bool:
    """Whether neighbouring lines are at odds in a frame, and not in its fields.

    idet alone takes a progressive picture that moves up one line a frame, as credits do, for an interlaced one: each
    line looks like its neighbour of the frame before. But such a frame is not torn in itself.
    """
    grey = frame.reformat(format="gray", threads=1).planes[0]
    rows = np.frombuffer(memoryview(grey), np.uint8).reshape(grey.height, grey.line_size)
    image = rows[:, : grey.width : COLUMN_STEP].astype(np.int16)
    fields = (_roughness(image[0::2]) + _roughness(image[1::2])) / 2
    return _roughness(image) > TORN_RATIO * fields


def _roughness(image: NDArray[np.int16]) -> float:
    """How far lines are from the middle between the ones above and below, on average."""
    if len(image) < 3:
        return 0.0
    return float(np.abs(2 * image[1:-1] - image[:-2] - image[2:]).mean())


def _words(frame: VideoFrame) -> Iterator[str]:
    """idet's findings on a frame, as fields of ``SeenPlace``."""
    single = frame.metadata.get("lavfi.idet.single.current_frame", "")
    repeated = frame.metadata.get("lavfi.idet.repeated.current_frame", "")
    yield {"tff": "top", "bff": "bottom"}.get(single, single)
    yield f"repeated_{repeated}"
