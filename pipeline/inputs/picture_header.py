"""What a picture says of itself outside of its pixels: size, orientation, colour profile, whether a camera took it.

Read without a library: whoever looks for films may load none, and looks at thousands of files; and PyAV 18 fails on the
side data of frames that have EXIF.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_WIDTH, _HEIGHT, _INTERPRETATION, _MAKE, _ORIENTATION, _PROFILE = 0x0100, 0x0101, 0x0106, 0x010F, 0x0112, 0x8773
"""Tags. Source: TIFF 6.0, section 8; Exif 2.32 for the same in other files; ICC.1:2022 B.4 for the last."""
_SEPARATED = 5
"""Value of ``_INTERPRETATION`` for inks instead of light. Source: TIFF 6.0, section 16."""
_MOST_ENTRIES = 512
"""In a TIFF directory: those of pictures have some dozens."""
_MOST_PROFILE_BYTES = 16 * 2**20
"""Colour profiles of printers have some megabytes, those of pictures some kilobytes."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF markers. Source: ITU-T T.81, table B.1."""
_INKS = 4
"""Components of a JPEG in CMYK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHeader:
    """What a picture says of itself."""

    height: int
    """As stored, before it is turned."""
    width: int
    orientation: int = 1
    """1 to 8, as EXIF counts: what to do to the stored picture to see it upright."""
    profile: bytes = b""
    """ICC colour profile; empty if there is none."""
    is_photo: bool = False
    """Whether it names the camera that took it."""
    is_in_inks: bool = False
    """CMYK."""
    is_animated: bool = False
    """Whether it is a WebP of several pictures."""

    @property
    def is_grey_profile(self) -> bool:
        """Whether the profile is for grey pictures. Source: ICC.1:2022 7.2.6."""
        return self.profile[16:20] == b"GRAY"


@dataclass(slots=True, kw_only=True)
class _Findings:
    """What of ``PictureHeader`` was found so far."""

    height: int = 0
    width: int = 0
    orientation: int = 1
    profile: bytes = b""
    is_photo: bool = False
    is_in_inks: bool = False
    is_animated: bool = False

    def take_exif(self, content: bytes) -> None:
        """Take what an EXIF block says, which is a TIFF file without pictures."""
        try:
            tags = _read_directory(content.removeprefix(b"Exif\0\0"))
        except struct.error:
            return  # cut off: the picture is none the worse
        self.is_photo |= _MAKE in tags
        orientation = tags[_ORIENTATION].value if _ORIENTATION in tags else 1
        self.orientation = orientation if 1 <= orientation <= 8 else 1

    def header(self) -> PictureHeader | None:
        """All of it; None if there is no size."""
        if not self.height or not self.width:
            return None
        return PictureHeader(
            height=self.height,
            width=self.width,
            orientation=self.orientation,
            profile=self.profile,
            is_photo=self.is_photo,
            is_in_inks=self.is_in_inks,
            is_animated=self.is_animated,
        )


def read_header(path: Path) -> PictureHeader | None:
    """Look at a picture's file without decoding the picture.

    Returns:
        What it says; None if it cannot be read or is of another kind.
    """
    found = _Findings()
    try:
        with path.open("rb") as file:
            _read(file, found)
    except (OSError, struct.error, zlib.error, ValueError, IndexError, KeyError):
        pass  # what was found until then holds: its decoder says what is wrong with it
    return found.header()


def _read(file: BinaryIO, found: _Findings) -> None:
    start = file.read(32)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        _read_png(file, found)
    elif start.startswith(b"\xff\xd8"):
        _read_jpeg(file, found)
    elif start[:4] in (b"II*\0", b"MM\0*"):
        _read_tiff(file, found)
    elif start.startswith(b"BM"):
        found.width, height = struct.unpack_from("<ii", start, 18)
        found.height = abs(height)  # negative: from top to bottom
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        _read_webp(file, found)


def _read_png(file: BinaryIO, found: _Findings) -> None:
    # Source: PNG specification (third edition), 5.3 and 11.3
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IHDR":
            found.width, found.height = struct.unpack(">II", file.read(8))
            length -= 8
        elif kind == b"iCCP" and length <= _MOST_PROFILE_BYTES:
            _, _, packed = file.read(length).partition(b"\0")
            found.profile = zlib.decompressobj().decompress(packed[1:], _MOST_PROFILE_BYTES)
            length = 0
        elif kind == b"eXIf" and length <= _MOST_PROFILE_BYTES:
            found.take_exif(file.read(length))
            length = 0
        file.seek(length + 4, 1)


def _read_jpeg(file: BinaryIO, found: _Findings) -> None:
    profile_parts: dict[int, bytes] = {}
    for marker, body in _jpeg_segments(file):
        if marker in _FRAME_HEADERS:
            found.height, found.width, components = struct.unpack_from(">HHB", body, 1)
            found.is_in_inks = components == _INKS
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            found.take_exif(body)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):  # ICC.1:2022 B.4
            profile_parts[body[12]] = body[14:]
    found.profile = b"".join(profile_parts[number] for number in sorted(profile_parts))


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Markers up to the coded picture, with what follows them."""
    file.seek(2)
    while len(head := file.read(2)) == 2 and head[0] == 0xFF:
        marker = head[1]
        while marker == 0xFF:  # fill bytes
            marker = file.read(1)[0]
        if marker in (0xD9, 0xDA):
            return
        (length,) = struct.unpack(">H", file.read(2))
        yield marker, file.read(length - 2)


def _read_webp(file: BinaryIO, found: _Findings) -> None:
    # Source: RFC 9649 2.5 to 2.7 and 3.4, RFC 6386 9.1
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        end = file.tell() + length + length % 2
        if kind == b"VP8X":
            body = file.read(10)
            found.is_animated = bool(body[0] & 2)
            found.width = int.from_bytes(body[4:7], "little") + 1
            found.height = int.from_bytes(body[7:10], "little") + 1
        elif kind == b"VP8L" and not found.width:
            bits = int.from_bytes(file.read(5)[1:], "little")
            found.width, found.height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 " and not found.width:
            found.width, found.height = (side & 0x3FFF for side in struct.unpack_from("<HH", file.read(10), 6))
        elif kind == b"ICCP" and length <= _MOST_PROFILE_BYTES:
            found.profile = file.read(length)
        elif kind == b"EXIF" and length <= _MOST_PROFILE_BYTES:
            found.take_exif(file.read(length))
        file.seek(end)


def _read_tiff(file: BinaryIO, found: _Findings) -> None:
    file.seek(0)
    head = file.read(8)
    order = _byte_order(head)
    (place,) = struct.unpack_from(f"{order}I", head, 4)
    file.seek(place)
    directory = head[:4] + struct.pack(f"{order}I", 8) + file.read(2 + 12 * _MOST_ENTRIES)
    found.take_exif(directory)
    tags = _read_directory(directory)
    found.height, found.width = tags[_HEIGHT].value, tags[_WIDTH].value
    found.is_in_inks = _INTERPRETATION in tags and tags[_INTERPRETATION].value == _SEPARATED
    if _PROFILE in tags and tags[_PROFILE].count <= _MOST_PROFILE_BYTES:
        file.seek(tags[_PROFILE].value)
        found.profile = file.read(tags[_PROFILE].count)


@dataclass(frozen=True, slots=True)
class _Tag:
    count: int
    value: int
    """The number itself, or the place of what does not fit into four bytes."""


def _byte_order(content: bytes) -> str:
    return "<" if content.startswith(b"II") else ">"


def _read_directory(content: bytes) -> dict[int, _Tag]:
    """The tags of a TIFF's first directory."""
    order = _byte_order(content)
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    tags = {}
    for start in range(place + 2, place + 2 + 12 * min(count, _MOST_ENTRIES), 12):
        tag, kind, value_count = struct.unpack_from(f"{order}HHI", content, start)
        is_short = kind == 3 and value_count <= 2
        (value,) = struct.unpack_from(f"{order}{'H' if is_short else 'I'}", content, start + 8)
        tags[tag] = _Tag(value_count, value)
    return tags
