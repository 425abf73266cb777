"""A before/after picture: one frame enlarged by plain bicubic beside the same frame as this program made it.

The picture holds no drawn words: none of the libraries that the base installation brings can draw any (libav is built
without ``drawtext``, and there is no font). The caption is written into the file as a text chunk, and returned.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.atomic import write_atomic
from pipeline.decode.container import error_text, open_container
from pipeline.errors import MediaError, OutputError, UnsupportedMedia
from pipeline.frames import UNSPECIFIED
from pipeline.media import Crop
from pipeline.show.wording import safe_text
from pipeline.tags import SD_MAX_HEIGHT_PX, SD_MIN_HD_WIDTH_PX

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = NDArray[np.uint8]

SIDE_HEIGHT_PX = 540
SIDE_WIDTH_PX = 960
"""Largest half: both together just fill a screen of 1920 pixels, where every pixel is shown as it is."""
DIVIDER_PX = 4
DIVIDER_LEVEL = 255
SEARCH_STEP_PX = 8
"""Distance between the windows that are compared; a window's contrast hardly changes over so few pixels."""

_SWS_BT709, _SWS_BT601, _SWS_BT2020 = 1, 5, 9
_SWS_MATRICES = {1: _SWS_BT709, 5: _SWS_BT601, 6: _SWS_BT601, 9: _SWS_BT2020}
"""swscale's names (swscale.h, SWS_CS_*) of the matrices that this program handles, by code point of ITU-T H.273."""
_PNG_START_BYTES = 8 + 25
"""Signature and IHDR chunk, after which further chunks may stand. Source: PNG specification, 5.2, 5.6, 11.2.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A picture that was written."""

    png: Path
    height: int
    """Of the whole picture, pixels."""
    width: int
    top: int
    """Where the part that is shown lies in the output's frame, pixels."""
    left: int
    caption: str
    """One sentence for people: what is left, what is right, which part of which frame."""


def write_comparison(
    source: Path,
    output: Path,
    *,
    frame_index: int,
    png: Path,
    stream_index: int | None = None,
    per_frame: int = 1,
    crop: Crop | None = None,
) -> Comparison:
    """Put a frame of ``source``, enlarged by bicubic interpolation, beside the same frame of ``output``.

    Both are read with the matrix and range of their tags; a source without tags is read as players do, an output
    without tags like its source. No tone mapping: HDR films look flat, on both sides. The frame is found by decoding
    from the start, so a late one takes its time.

    Args:
        source: The film as it was.
        output: The film as this program made it; its frame's size is the picture's scale.
        frame_index: 0-based, in display order.
        png: The picture; replaced if it exists. Its folder exists.
        stream_index: The source's video stream; None for the first that is no cover art.
        per_frame: Frames of the output for each of the source: two where each is of a field.
        crop: What of the source's frames was left out.

    Returns:
        Where the picture is and what it shows.

    Raises:
        MediaError: A film cannot be read or has no such frame.
        UnsupportedMedia: A film has no such video stream.
        OutputError: The picture cannot be written.
        ValueError: ``frame_index`` is negative.
    """
    enlarged, result = read_before_and_after(
        source, output, frame_index=frame_index, stream_index=stream_index, per_frame=per_frame, crop=crop
    )
    height, width = result.shape[:2]
    side_h, side_w = min(height, SIDE_HEIGHT_PX), min(width, SIDE_WIDTH_PX)
    # The source chooses the part, so that the choice cannot favour what the network made up.
    top, left = find_detail(enlarged, height=side_h, width=side_w)
    part = np.s_[top : top + side_h, left : left + side_w]
    divider = np.full((side_h, DIVIDER_PX, 3), DIVIDER_LEVEL, dtype=np.uint8)
    picture = np.concatenate((enlarged[part], divider, result[part]), axis=1)
    caption = safe_text(
        f"left: {source.name} enlarged by bicubic interpolation; right: {output.name}; frame {frame_index}, "
        f"{side_w}x{side_h} pixels of {width}x{height} from ({left}, {top}), pixel for pixel"
    )
    try:
        write_atomic(png, _encode_png(picture, caption=caption))
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise OutputError(f"cannot write the picture {png}: {reason}", path=png, hint="free space or rights") from exc
    return Comparison(png=png, height=side_h, width=picture.shape[1], top=top, left=left, caption=caption)


def read_before_and_after(
    source: Path,
    output: Path,
    *,
    frame_index: int,
    stream_index: int | None = None,
    per_frame: int = 1,
    crop: Crop | None = None,
) -> tuple[Pixels, Pixels]:
    """Read the same frame of both films, at the output's size; arguments and errors as of ``write_comparison``.

    Returns:
        The source's frame enlarged by bicubic interpolation, and the output's: (H, W, 3) uint8 RGB [0, 255] each.
    """
    if frame_index < 0:
        raise ValueError(f"frame_index must not be negative, not {frame_index}")
    before = _decode_frame(source, frame_index=frame_index // per_frame, stream_index=stream_index)
    if crop is not None and crop != Crop():
        before = _cut(before, crop)
    after = _decode_frame(output, frame_index=frame_index, stream_index=None)
    height, width = after.height, after.width
    matrix = _SWS_MATRICES.get(before.colorspace, _guess_matrix(before))
    return (
        _to_rgb(before, height=height, width=width, matrix=matrix),
        _to_rgb(after, height=height, width=width, matrix=matrix),
    )


def find_detail(image: Pixels, *, height: int, width: int) -> tuple[int, int]:
    """Find the window with the most local contrast: the largest sum of absolute differences between neighbours' luma.

    Args:
        image: (H, W, 3) uint8 RGB [0, 255].
        height, width: Of the window, pixels; at most the image's.

    Returns:
        (top, left) of the window; of equal ones, the topmost, then the leftmost.
    """
    # BT.709-6 3.2 in 1/256: for choosing a place, it need not be the film's own matrix.
    luma = (image @ np.array([54, 183, 19], dtype=np.int32)) >> 8
    sums = np.zeros((luma.shape[0] + 1, luma.shape[1] + 1), dtype=np.int64)
    sums[1:-1, 1:] += np.abs(np.diff(luma, axis=0))
    sums[1:, 1:-1] += np.abs(np.diff(luma, axis=1))
    sums = sums.cumsum(axis=0).cumsum(axis=1)
    tops = _window_starts(luma.shape[0] - height)
    lefts = _window_starts(luma.shape[1] - width)
    rows = sums[tops + height] - sums[tops]
    contrast = rows[:, lefts + width] - rows[:, lefts]
    row, column = np.unravel_index(int(contrast.argmax()), contrast.shape)
    return int(tops[row]), int(lefts[column])


def _window_starts(last: int) -> NDArray[np.intp]:
    starts = np.arange(0, last + 1, SEARCH_STEP_PX, dtype=np.intp)
    return starts if starts[-1] == last else np.append(starts, last)


def _decode_frame(path: Path, *, frame_index: int, stream_index: int | None) -> VideoFrame:
    import av

    count = 0
    try:
        with open_container(path) as container:
            stream = _find_stream(container, path=path, stream_index=stream_index)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if count == frame_index:
                    return frame
                count += 1
    except av.FFmpegError as exc:
        raise MediaError(f"cannot read frame {frame_index} of {path}: {error_text(exc)}", path=path) from exc
    raise MediaError(f"{path} has {count} frames, so there is no frame {frame_index}", path=path)


def _cut(frame: VideoFrame, crop: Crop) -> VideoFrame:
    from pipeline.decode.frame_filter import FrameFilter

    height, width = frame.height - crop.top - crop.bottom, frame.width - crop.left - crop.right
    return FrameFilter(frame, "crop", f"{width}:{height}:{crop.left}:{crop.top}").run(frame)[0]


def _find_stream(container: InputContainer, *, path: Path, stream_index: int | None) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        is_cover = bool(stream.disposition & Disposition.attached_pic)
        if stream.index == stream_index or (stream_index is None and not is_cover):
            return stream
    wanted = "no video stream" if stream_index is None else f"no video stream {stream_index}"
    raise UnsupportedMedia(f"{path} has {wanted}", path=path)


def _guess_matrix(frame: VideoFrame) -> int:
    """swscale's name for the matrix that the pipeline, too, takes for a film that names none."""
    is_hd = frame.width >= SD_MIN_HD_WIDTH_PX or frame.height > SD_MAX_HEIGHT_PX
    return _SWS_BT709 if is_hd else _SWS_BT601


def _to_rgb(frame: VideoFrame, *, height: int, width: int, matrix: int) -> Pixels:
    """Scale and convert by swscale; ``matrix`` (SWS_CS_*) counts only if the frame is not tagged.

    Returns:
        (height, width, 3) uint8 R'G'B' full range.
    """
    from av.video.reformatter import ColorRange, Interpolation

    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    is_untagged = frame.colorspace == UNSPECIFIED
    converted = frame.reformat(
        height=height,
        width=width,
        format="rgb24",
        src_colorspace=matrix if is_untagged else None,
        dst_color_range=ColorRange.JPEG,
        interpolation=flags,
    )
    return np.asarray(converted.to_ndarray(), dtype=np.uint8)


def _encode_png(picture: Pixels, *, caption: str) -> bytes:
    """Encode (H, W, 3) uint8 RGB by libav, with ``caption`` in a chunk that image viewers show as the description."""
    from fractions import Fraction

    from av.codec import CodecContext
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    encoder = CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "rgb24"
    encoder.time_base = Fraction(1, 1)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    encoded = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    # iTXt: keyword, no compression, no language, no translated keyword, text. Source: PNG specification, 11.3.3.4.
    chunk = b"iTXt" + b"Description\0\0\0\0\0" + caption.encode("utf-8")
    framed = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return encoded[:_PNG_START_BYTES] + framed + encoded[_PNG_START_BYTES:]
