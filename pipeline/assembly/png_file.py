"""PNG files: their pixels as arrays, and the chunks that libav does not write."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
"""What says how a picture's codes become colours. Source: PNG specification (third edition), 11.3.2."""
_FORMATS = {1: "gray", 2: "ya", 3: "rgb", 4: "rgba"}

Codes = NDArray[np.uint8] | NDArray[np.uint16]


def decode_png(content: bytes) -> Codes:
    """The pixels of a PNG in colours: (H, W, 3) uint8 or uint16.

    Raises:
        av.FFmpegError: It is none.
    """
    import av

    context: Any = av.CodecContext.create("png", "r")
    context.thread_count = 1
    frames = [*context.decode(av.Packet(content)), *context.decode(None)]
    frame = frames[0]
    is_deep = frame.format.components[0].bits > 8
    if frame.format.name not in ("rgb24", "rgb48be"):
        frame = frame.reformat(format="rgb48be" if is_deep else "rgb24")
    return np.ascontiguousarray(_pixels(frame, channels=3).astype(np.uint16 if is_deep else np.uint8))


def encode_png(pixels: Codes, *, level: int) -> bytes:
    """A PNG of pixels, which says nothing of their colours.

    Args:
        pixels: (H, W, C) uint8 or uint16; of 1 channel grey, 2 grey and alpha, 3 R'G'B', 4 R'G'B' and alpha.
        level: zlib's, 0 to 9.

    Raises:
        av.FFmpegError: It cannot be encoded.
    """
    from fractions import Fraction

    import av

    height, width, channels = pixels.shape
    is_deep = pixels.dtype == np.uint16
    stem = _FORMATS[channels]
    depth = {"gray": ("", "16be"), "ya": ("8", "16be"), "rgb": ("24", "48be"), "rgba": ("", "64be")}[stem][is_deep]
    context: Any = av.CodecContext.create("png", "w")
    context.height, context.width, context.pix_fmt = height, width, f"{stem}{depth}"
    context.time_base = Fraction(1)
    context.thread_count = 1
    context.options = {"compression_level": str(level)}
    frame: Any = av.VideoFrame(width, height, f"{stem}{depth}")
    _pixels(frame, channels=channels)[...] = pixels
    content = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    return replace_colour(content, {})


def colour_chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG that say what its colours are."""
    return {kind: body for kind, body in _chunks(content) if kind in _COLOUR_CHUNKS}


def profile_chunk(profile: bytes) -> dict[bytes, bytes]:
    """The chunk that holds an ICC profile."""
    return {b"iCCP": b"ICC profile\0\0" + zlib.compress(profile, 9)}


def replace_colour(content: bytes, chunks: dict[bytes, bytes]) -> bytes:
    """A PNG that says of its colours what these chunks say, and nothing else."""
    parts = [SIGNATURE]
    for kind, body in _chunks(content):
        if kind in _COLOUR_CHUNKS:
            continue
        parts.append(_framed(kind, body))
        if kind == b"IHDR":
            parts += [_framed(name, value) for name, value in chunks.items()]
    return b"".join(parts)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE)
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += length + 12


def _framed(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _pixels(frame: Any, *, channels: int) -> Codes:
    """(H, W, C) view of a packed frame's memory."""
    is_deep = frame.format.components[0].bits > 8
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype=">u2" if is_deep else "|u1").reshape(plane.height, -1)
    return cast("Codes", rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels))
