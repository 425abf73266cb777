"""Two small pictures of a film for the page: the same part of the same frame, before and after.

Pixel for pixel from the output's frame, since a picture that is scaled down again shows nothing of what was gained.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.atomic import write_atomic
from pipeline.errors import OutputError
from pipeline.media import Crop
from pipeline.show.morning.summary import Thumbnails
from pipeline.show.picture import Pixels, find_detail, read_before_and_after
from pipeline.show.wording import safe_text

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

HEIGHT_PX = 288
WIDTH_PX = 512
"""Of each picture at most: both stand side by side on a page of 1280 pixels, and each fills a phone's width."""
MAX_BYTES = 30_000
"""Of each picture: of 200 films they then add 16 MB to the page, base64 included."""
LATEST_S = 20.0
"""No later frame is chosen: both films are decoded from their beginning, on the night's time."""

_QUANTISERS = (2, 3, 4, 6, 8, 11, 15, 20, 31)
"""mjpeg's scale of coarseness, finest first. Source: FFmpeg's documentation, -qscale of mjpeg, 2 to 31."""


def choose_frame(frame_count: int, *, rate: Fraction) -> int:
    """Choose a frame that likely shows something: films tend to begin in black.

    Args:
        frame_count: Frames that the output has, at least 1.
        rate: Frames per second.

    Returns:
        The middle one, but none later than ``LATEST_S``; 0-based.
    """
    return max(0, min(frame_count // 2, int(LATEST_S * rate)))


def write_thumbnails(
    source: Path,
    output: Path,
    *,
    frame_index: int,
    before: Path,
    after: Path,
    stream_index: int | None = None,
    per_frame: int = 1,
    crop: Crop | None = None,
) -> Thumbnails:
    """Write both pictures as JPEG of at most ``MAX_BYTES`` each.

    Args:
        source: The film as it was.
        output: The film as this program made it.
        frame_index: 0-based, in display order.
        before, after: The pictures; replaced if they exist. Their folder exists.
        stream_index: The source's video stream; None for the first that is no cover art.
        per_frame: Frames of the output for each of the source: two where each is of a field.
        crop: What of the source's frames was left out.

    Returns:
        What was written.

    Raises:
        MediaError: A film cannot be read or has no such frame.
        UnsupportedMedia: A film has no such video stream.
        OutputError: A picture cannot be written.
        ValueError: ``frame_index`` is negative.
    """
    enlarged, result = read_before_and_after(
        source, output, frame_index=frame_index, stream_index=stream_index, per_frame=per_frame, crop=crop
    )
    height, width = result.shape[:2]
    side_h, side_w = min(height, HEIGHT_PX), min(width, WIDTH_PX)
    # The source chooses the part, so that the choice cannot favour what the network made up.
    top, left = find_detail(enlarged, height=side_h, width=side_w)
    part = np.s_[top : top + side_h, left : left + side_w]
    # Encoded alike: coarser for one than for the other would look like the network's doing.
    for quantiser in _QUANTISERS:
        pictures = [encode_jpeg(frame[part], quantiser=quantiser) for frame in (enlarged, result)]
        if max(map(len, pictures)) <= MAX_BYTES:
            break
    for path, content in zip((before, after), pictures, strict=True):
        try:
            write_atomic(path, content)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise OutputError(f"cannot write the picture {path}: {reason}", path=path, hint="free space") from exc
    caption = safe_text(f"frame {frame_index}: {side_w}x{side_h} of {width}x{height} pixels, from ({left}, {top})")
    return Thumbnails(before=before, after=after, caption=caption)


def encode_jpeg(picture: Pixels, *, quantiser: int) -> bytes:
    """Encode by libav, 4:2:0.

    Args:
        picture: (H, W, 3) uint8 RGB [0, 255].
        quantiser: Coarseness, 2 to 31.
    """
    from av.codec import CodecContext
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    encoder = CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    rgb: VideoFrame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    # JPEG's matrix is BT.601's, its range full. Source: JFIF 1.02, "Color space" (ITU-T T.871, 6.2).
    frame = rgb.reformat(format="yuvj420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.JPEG)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
