"""HDR10 metadata in an MP4 header on its way through a pipe: libav's muxer only writes what PyAV cannot give it.

The joined stream reaches ffmpeg as fragmented MP4, whose ``moov`` has no file offsets, so boxes can be put into it.
From there ffmpeg copies them into whatever container it writes: ``mdcv`` and ``clli`` in MP4 and MOV,
``MasteringMetadata`` in Matroska.
"""

from __future__ import annotations

import re
import struct
from typing import IO

from pipeline.encode.base import EncodeSpec

_HEADER = struct.Struct(">I4s")
_MASTERING = struct.Struct(">8H2I")
"""Green, blue, red, white as x, y in steps of 0.00002; highest and lowest luminance in 0.0001 cd/m2.
Source: ISO/IEC 14496-12, MasteringDisplayColourVolumeBox."""
_LIGHT = struct.Struct(">2H")
"""MaxCLL, MaxFALL in cd/m2. Source: ISO/IEC 14496-12, ContentLightLevelBox."""
_LARGEST_SHORT = 0xFFFF
_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_STSD_FIELDS_BYTES = 8
"""Version, flags and entry count before the sample entries. Source: ISO/IEC 14496-12, SampleDescriptionBox."""


def light_boxes(encode: EncodeSpec) -> bytes:
    """The boxes for what the encoder writes into the stream as well; empty if there is nothing."""
    boxes = b""
    if encode.mastering_display and encode.encoder.mastering_param:
        numbers = [int(number) for number in re.findall(r"\d+", encode.mastering_display)]
        points = (min(number, _LARGEST_SHORT) for number in numbers[:8])
        boxes += _box(b"mdcv", _MASTERING.pack(*points, *numbers[8:]))
    if encode.content_light and encode.encoder.light_param:
        levels = (min(int(number), _LARGEST_SHORT) for number in encode.content_light.split(","))
        boxes += _box(b"clli", _LIGHT.pack(*levels))
    return boxes


class LightBoxPipe:
    """A writable file that adds boxes to the sample entry of the first track of the MP4 that passes through.

    Args:
        pipe: Where everything goes; stays the caller's.
        boxes: From ``light_boxes``.
    """

    def __init__(self, pipe: IO[bytes], boxes: bytes) -> None:
        self._pipe = pipe
        self._boxes = boxes
        self._held = b""
        self._is_done = not boxes

    def write(self, content: bytes) -> int:
        """Pass bytes on, those of the header once it is whole."""
        if self._is_done:
            self._pipe.write(content)
            return len(content)
        self._held += bytes(content)
        position = 0
        while len(self._held) >= position + _HEADER.size:
            size, kind = _HEADER.unpack_from(self._held, position)
            if len(self._held) < position + size:
                return len(content)
            if kind == b"moov":
                header = self._held[:position]
                movie = self._held[position : position + size]
                self._pipe.write(header + _extend(movie, _PATH, self._boxes) + self._held[position + size :])
                self._held, self._is_done = b"", True
                return len(content)
            position += size
        return len(content)


def _box(kind: bytes, content: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(content), kind) + content


def _extend(box: bytes, path: tuple[bytes, ...], addition: bytes) -> bytes:
    """A box with bytes added at the end of the first sample entry below it; every size on the way grows."""
    _, kind = _HEADER.unpack_from(box)
    content = box[_HEADER.size :]
    if not path:  # the sample entry itself: further boxes stand at its end
        return _box(kind, content + addition)
    position = _STSD_FIELDS_BYTES if kind == b"stsd" else 0
    wanted = path[1] if len(path) > 1 else None  # None: whatever entry comes first
    while position + _HEADER.size <= len(content):
        size, child = _HEADER.unpack_from(content, position)
        if size < _HEADER.size:
            break
        if wanted is None or child == wanted:
            changed = _extend(content[position : position + size], path[1:], addition)
            return _box(kind, content[:position] + changed + content[position + size :])
        position += size
    return box
