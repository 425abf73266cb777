"""The header before every binary file of the cache: what it is, whose it is and its checksum.

Little-endian: 8 bytes magic, 4 bytes format version, 4 bytes kind, 8 bytes length of the content, 32 bytes SHA-256 of
the content, 32 bytes SHA-256 that names its owner (an engine key or a timing scope), zeros up to `HEADER_BYTES`; then
the content. No library sees a byte of the content before it was checked.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

Kind = Literal["engine", "timing", "attachment"]

HEADER_BYTES = 128
"""Length of the header; the content begins at a multiple of a cache line."""

_MAGIC = b"NSENGINE"
_VERSION = 1
_KINDS: tuple[Kind, ...] = ("engine", "timing", "attachment")
_LAYOUT = struct.Struct("<8sIIQ32s32s")


class DamagedFile(ValueError):
    """A file is not what its header says, or has none; the text says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a sealed file says about itself."""

    kind: Kind
    """What it is."""
    length: int
    """Bytes of the content."""
    content_sha256: str
    """Lower-case hex."""
    owner_sha256: str
    """Digest of the engine key or the timing scope that it belongs to."""


def seal(content: bytes, *, kind: Kind, owner_sha256: str) -> bytes:
    """Put the header before ``content``."""
    header = _LAYOUT.pack(
        _MAGIC,
        _VERSION,
        _KINDS.index(kind) + 1,
        len(content),
        hashlib.sha256(content).digest(),
        bytes.fromhex(owner_sha256),
    )
    return header.ljust(HEADER_BYTES, b"\0") + content


def has_header(content: bytes) -> bool:
    """Whether a file claims to be one of this cache's, sound or not."""
    return content.startswith(_MAGIC)


def read_header(stream: BinaryIO, *, file_bytes: int) -> Header:
    """Read the header of a sealed file and compare it with the file's length.

    Raises:
        DamagedFile: There is no header, it is of another version, or the file is shorter or longer than it says.
    """
    raw = stream.read(HEADER_BYTES)
    if not raw.startswith(_MAGIC):
        raise DamagedFile("it is empty" if not raw else "it is not a file of this program's cache")
    if len(raw) < HEADER_BYTES:
        raise DamagedFile(f"it ends after {len(raw)} bytes, within its header")
    _, version, kind, length, content, owner = _LAYOUT.unpack_from(raw)
    if version != _VERSION or not 1 <= kind <= len(_KINDS):
        raise DamagedFile(f"its format is {version}.{kind}, which this version of the program does not know")
    if any(raw[_LAYOUT.size :]):
        raise DamagedFile("its header is damaged")
    if file_bytes != HEADER_BYTES + length:
        raise DamagedFile(f"it has {file_bytes} bytes instead of {HEADER_BYTES + length}")
    return Header(kind=_KINDS[kind - 1], length=length, content_sha256=content.hex(), owner_sha256=owner.hex())


def read_sealed(stream: BinaryIO, *, file_bytes: int, kind: Kind, owner_sha256: str) -> tuple[Header, bytes]:
    """Read a sealed file as a whole and check every byte of it.

    Args:
        stream: At the file's beginning.
        file_bytes: The file's length.
        kind: What it should be.
        owner_sha256: Whose it should be.

    Raises:
        DamagedFile: It is something else, belongs to another key, or its content has another checksum.
    """
    header = read_header(stream, file_bytes=file_bytes)
    if header.kind != kind:
        raise DamagedFile(f"it holds a file of kind {header.kind}, not {kind}")
    if header.owner_sha256 != owner_sha256:
        raise DamagedFile("it was stored for another key")
    content = stream.read()
    if hashlib.sha256(content).hexdigest() != header.content_sha256:
        raise DamagedFile("its checksum is wrong")
    return header, content
