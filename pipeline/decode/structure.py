"""What a file says about its own structure, against what is there.

A copy or download that stopped early is shorter than its own outermost elements (``missing_bytes``). Where elements are
overwritten, libav resumes at the next that it knows without a word (``broken_matroska_offset``, ``broken_avi_offset``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from pipeline.decode.transport import transport_layout

_EBML_HEADER = 0x1A45DFA3
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_ANYWHERE = frozenset({0xEC, 0xBF})  # Void, CRC-32
_IN_SEGMENT = _ANYWHERE | {
    0x114D9B74,  # SeekHead
    0x1549A966,  # Info
    0x1654AE6B,  # Tracks
    0x1C53BB6B,  # Cues
    0x1941A469,  # Attachments
    0x1043A770,  # Chapters
    0x1254C367,  # Tags
    _CLUSTER,
}
_IN_CLUSTER = _ANYWHERE | {0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854}  # Timestamp, Position, PrevSize, blocks, silence
"""Matroska element identifiers. Source: RFC 9559 section 5.1."""
_UNKNOWN_LENGTH = -1


def missing_bytes(path: Path) -> int:
    """Bytes that are missing at the end of a Matroska/WebM, MP4/MOV, AVI or transport stream file by its own account.

    Returns:
        0 if the file is whole, of another kind, or was written without stating its size (as live recordings are).

    Raises:
        OSError: The file cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[:4] == _EBML_HEADER.to_bytes(4, "big"):
            end = _matroska_end(file) or 0
        elif head[:4] == b"RIFF":
            end = _riff_end(file, size_bytes)
        elif head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}:
            end = _isobmff_end(file, size_bytes)
        else:
            layout = transport_layout(file)
            end = 0 if layout is None else -(-size_bytes // layout[0]) * layout[0]  # it consists of whole packets
    return max(0, end - size_bytes)


def broken_matroska_offset(path: Path) -> int | None:
    """Where the chain of a Matroska/WebM file's elements breaks, down to its blocks.

    Reads a few bytes of every block, so it costs about as much as reading the file: for files under suspicion.

    Returns:
        Bytes from the start of the file to the first element that cannot be there; None if all are in order, if the
        file merely ends early, or if it is of another kind.

    Raises:
        OSError: The file cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        if _matroska_end(file) is None:
            return None
        while True:
            offset = file.tell()
            identifier = _read_vint(file, keep_marker=True)
            length = _read_vint(file, keep_marker=False)
            if identifier is None or length is None:
                return offset if file.tell() < size_bytes else None
            if identifier not in _IN_SEGMENT and identifier not in _IN_CLUSTER:
                return offset
            # a cluster is entered, everything else passed over; so a cluster's length need not be known
            if identifier != _CLUSTER:
                if length == _UNKNOWN_LENGTH:
                    return offset
                file.seek(length, os.SEEK_CUR)


def broken_avi_offset(path: Path) -> int | None:
    """Where the chain of an AVI file's chunks breaks.

    Reads the head of every chunk: for files under suspicion. Source: Microsoft's AVI RIFF File Reference, and OpenDML
    AVI extensions 1.02 (several RIFF chunks).

    Returns:
        Bytes from the start of the file to the first chunk that cannot be there; None if all are in order, if the file
        merely ends early, or if it is of another kind.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return None
        file.seek(0)
        while True:
            offset = file.tell()
            head = file.read(8)
            if len(head) < 8:
                return None
            name, length = head[:4], int.from_bytes(head[4:], "little")
            if not all(0x20 <= letter < 0x7F for letter in name):
                return offset
            if name not in {b"RIFF", b"LIST"}:
                file.seek(length + length % 2, os.SEEK_CUR)
            else:
                file.seek(4, os.SEEK_CUR)  # lists are entered: what they hold follows their kind


def _matroska_end(file: BinaryIO) -> int | None:
    """Where the segment ends by its own account; leaves the file at its first child.

    Source: RFC 8794 sections 4 to 6. ``_UNKNOWN_LENGTH`` if it does not say, None if there is no segment.
    """
    for _ in range(2):  # the EBML header, then the segment
        identifier = _read_vint(file, keep_marker=True)
        length = _read_vint(file, keep_marker=False)
        if identifier is None or length is None:
            return None
        if identifier == _SEGMENT:
            return length if length == _UNKNOWN_LENGTH else file.tell() + length
        if identifier != _EBML_HEADER:
            return None
        file.seek(length, os.SEEK_CUR)
    return None


def _read_vint(file: BinaryIO, *, keep_marker: bool) -> int | None:
    """A variable-size integer; None at the end of the file or if it is malformed."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    if len(rest) < width - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    ones = (1 << (7 * width)) - 1
    value &= ones
    return _UNKNOWN_LENGTH if value == ones else value


def _riff_end(file: BinaryIO, size_bytes: int) -> int:
    """End of the last chunk at the top; OpenDML files have several. Source: OpenDML AVI extensions 1.02."""
    end = 0
    while end < size_bytes:
        file.seek(end)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        length = int.from_bytes(head[4:], "little")
        if length == 0:  # never filled in: the writer was stopped, and so did not say
            return 0
        end += 8 + length + length % 2
    return end


def _isobmff_end(file: BinaryIO, size_bytes: int) -> int:
    """End of the last box at the top. Source: ISO/IEC 14496-12 4.2."""
    end = 0
    while end < size_bytes:
        file.seek(end)
        head = file.read(16)
        if len(head) < 8:
            return end + 8  # cut off within a box header
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # reaches to the end of the file, however long that is
            return size_bytes
        if length < 8:
            return 0  # not a box: something else follows the film
        end += length
    return end
