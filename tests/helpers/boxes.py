"""Puts into finished files what no muxer at hand writes: container cropping and any display matrix."""

from __future__ import annotations

import struct
from pathlib import Path

Crop = tuple[int, int, int, int]
"""Left, right, top, bottom, pixels."""

MIRRORED = {
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "transpose": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
}
"""Display matrices (a, b, c, d) that turn and mirror."""

_VIDEO_TRACK = tuple(bytes.fromhex(name) for name in ("18538067", "1654AE6B", "AE", "E0"))
"""Segment, Tracks, TrackEntry, Video. Source: RFC 9559."""
_ENTRY_HEADERS = {b"stsd": 16, **dict.fromkeys((b"avc1", b"hvc1", b"mp4v"), 86)}
"""Bytes before the boxes in a box, where they are more than its own header. Source: ISO/IEC 14496-12."""


def crop_matroska(source: Path, path: Path, crop: Crop) -> Path:
    """Copy a Matroska film that was written with ``-live 1`` and add PixelCrop elements to its first track."""
    names = ("54CC", "54DD", "54BB", "54AA")  # left, right, top, bottom
    elements = b"".join(
        bytes.fromhex(name) + b"\x82" + struct.pack(">H", value) for name, value in zip(names, crop, strict=True)
    )
    path.write_bytes(_grow_element(source.read_bytes(), _VIDEO_TRACK, elements))
    return path


def crop_iso(source: Path, path: Path, crop: Crop, *, height: int, width: int, entry: bytes = b"avc1") -> Path:
    """Copy an MP4 film whose ``moov`` comes last and add a clean aperture.

    Args:
        source, path: The film and its copy.
        crop: What is cut off.
        height, width: Of the film, pixels.
        entry: Its sample entry.
    """
    left, right, top, bottom = crop
    box = struct.pack(
        *(">I4s8i", 40, b"clap", width - left - right, 1, height - top - bottom, 1),
        *(left - right, 2, top - bottom, 2),
    )
    path.write_bytes(_grow_box(source.read_bytes(), (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", entry), box))
    return path


def turn_iso(source: Path, path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """Copy an MP4 film and set its first track's display matrix: (a, b, c, d), y pointing down."""
    content = bytearray(source.read_bytes())
    header = content.index(b"tkhd") + 4
    place = header + 4 + (32 if content[header] else 20) + 16
    a, b, c, d = (round(value * 65536) for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def _grow_element(content: bytes, names: tuple[bytes, ...], extra: bytes) -> bytes:
    place = 0
    while place < len(content):
        name = content[place : place + _length(content[place])]
        size_place = place + len(name)
        size_bytes = _length(content[size_place])
        size = int.from_bytes(content[size_place : size_place + size_bytes]) & ((1 << 7 * size_bytes) - 1)
        is_open = size == (1 << 7 * size_bytes) - 1
        body = size_place + size_bytes
        end = len(content) if is_open else body + size
        if name == names[0]:
            inner = content[body:end]
            inner = inner + extra if len(names) == 1 else _grow_element(inner, names[1:], extra)
            header = content[size_place:body] if is_open else (len(inner) | 1 << 56).to_bytes(8)
            return content[:place] + name + header + inner + content[end:]
        place = end
    raise ValueError(f"there is no element {names[0].hex()}")


def _length(first: int) -> int:
    """Bytes of an element's name or size, by the first of them."""
    return 9 - first.bit_length()


def _grow_box(content: bytes, names: tuple[bytes, ...], extra: bytes) -> bytes:
    place = 0
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if name == names[0]:
            header = _ENTRY_HEADERS.get(name, 8)
            inner = content[place + header : place + size]
            inner = inner + extra if len(names) == 1 else _grow_box(inner, names[1:], extra)
            start = struct.pack(">I", header + len(inner)) + content[place + 4 : place + header]
            return content[:place] + start + inner + content[place + size :]
        place += size
    raise ValueError(f"there is no box {names[0]!r}")
