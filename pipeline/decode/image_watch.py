"""Notices in a film's packets that its image size or its colours change, for decoders that would hide it.

NVDEC goes on in the first size when a later part of a film is smaller (source: PyNvVideoCodec 2.x,
``NvDecoder::ReconfigureDecoder``), and says nothing of colours at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from pipeline.decode.colour_follower import ColourFollower
from pipeline.errors import UnsupportedMedia
from pipeline.media import MediaInfo
from pipeline.tags import layout_of

_START_CODE = b"\0\0\1"
_SPS = {"h264": (0x1F, 0, 7), "hevc": (0x3F, 1, 33)}
"""Mask, shift and value of the NAL unit type that is a sequence parameter set. Source: ITU-T H.264 table 7-1, H.265
table 7-1."""
_MPEG_SEQUENCE = b"\0\0\1\xb3"
"""Start code of a sequence header, which 3 bytes of width and height follow. Source: ISO/IEC 13818-2 6.2.2.1."""
_MPEG_PARTS = (b"\0\0\1\xb8", b"\0\0\1\0")
"""Of a group of pictures, and of a picture: what is before them is the sequence header and its extensions, colours
among them. Source: ISO/IEC 13818-2 6.2.1."""
_AV1_SEQUENCE = 1
"""OBU type of a sequence header, in which size and colours stand. Source: AV1 specification 6.2.2."""
_HEADER_BYTES = 10
"""The beginning of a VP8 or VP9 key frame in which its size and colours stand, and little else. More than these makes
for more key frames looked into than necessary, never for fewer. Source: RFC 6386 9.1; VP9 bitstream specification 6.2.
"""


class ImageWatch:
    """Looks at the key packets of one pass over a film.

    Where the part of a key packet that holds size and colours is not as it was before, the packet alone is decoded with
    libav: that costs a few milliseconds, and in most films happens once or never.

    VP9 and AV1 may also change the size without a key frame, as video calls do. That is not noticed. Nor are colours
    that only a container states, once for all.

    Args:
        info: The film.
        decoder: libav's name of the decoder to look into packets with, which is not always the codec's.
        begins_with_film: Whether the pass begins where the film does, and so with what ``info`` says.
    """

    def __init__(self, info: MediaInfo, *, decoder: str, begins_with_film: bool) -> None:
        self._info = info
        self._decoder = decoder
        self._seen: tuple[bytes, ...] | None = None
        self._is_known = begins_with_film

    def check(self, payload: bytes, *, clock: str) -> None:
        """Look at the next key packet.

        Args:
            payload: With start codes for H.264, HEVC and MPEG.
            clock: When it is shown, for the message.

        Raises:
            UnsupportedMedia: From here on the images have another size or other colours.
        """
        found = self._signature(payload)
        if not found or found == self._seen:
            return
        is_known, self._seen = self._seen is None and self._is_known, found
        if is_known:
            return
        frame = _decoded(payload, decoder=self._decoder)
        if frame is None:
            return
        video = self._info.video
        if (frame.height, frame.width) != (video.decoded_height, video.decoded_width):
            raise UnsupportedMedia(
                f"{self._info.path}: the image changes from {video.decoded_width}x{video.decoded_height} to"
                f" {frame.width}x{frame.height} at {clock}",
                path=self._info.path,
                hint="cut the file there and upscale the parts on their own",
            )
        self._check_colours(frame, clock=clock)

    def _check_colours(self, frame: Any, *, clock: str) -> None:
        layout = layout_of(frame.format.name)
        if layout is None:
            return  # no layout that NVDEC gives either: its surfaces are looked at when they come
        before = self._info.video.format
        after = ColourFollower(self._info, clock=lambda _pts: clock).format_of(frame, layout, pts=0)
        words = [f"{one.matrix}, {'full' if one.full_range else 'limited'} range" for one in (before, after)]
        if words[0] != words[1]:
            raise UnsupportedMedia(
                f"{self._info.path}: the colours change from {words[0]} to {words[1]} at {clock}, which NVDEC does not"
                " tell of its images",
                path=self._info.path,
                hint="use decode.kind: libav, which follows the change",
            )

    def _signature(self, payload: bytes) -> tuple[bytes, ...]:
        """What of a key packet holds the size; empty if nothing does."""
        codec = self._info.video.codec
        if codec in _SPS:
            mask, shift, wanted = _SPS[codec]
            return tuple(unit for unit in _units(payload) if unit and unit[0] >> shift & mask == wanted)
        if codec.startswith("mpeg"):
            start = payload.find(_MPEG_SEQUENCE)
            stops = [stop for part in _MPEG_PARTS if (stop := payload.find(part, start)) >= 0]
            return () if start < 0 else (payload[start : min(stops, default=len(payload))],)
        if codec == "av1":
            return tuple(_sequence_headers(payload))
        return (payload[:_HEADER_BYTES],)


def _units(payload: bytes) -> Iterator[bytes]:
    """The NAL units between start codes."""
    start = payload.find(_START_CODE)
    while start >= 0:
        stop = payload.find(_START_CODE, start + 3)
        yield payload[start + 3 : stop if stop >= 0 else len(payload)].rstrip(b"\0")
        start = stop


def _sequence_headers(payload: bytes) -> Iterator[bytes]:
    """The contents of an AV1 packet's sequence headers. Source: AV1 specification 5.3.1 and 4.10.5 (leb128)."""
    position = 0
    while position < len(payload):
        head = payload[position]
        position += 2 if head & 4 else 1
        length = len(payload) - position
        if head & 2:
            length = 0
            for shift in range(0, 56, 7):
                byte = payload[position] if position < len(payload) else 0
                position += 1
                length |= (byte & 0x7F) << shift
                if not byte & 0x80:
                    break
        if head >> 3 & 15 == _AV1_SEQUENCE:
            yield payload[position : position + length]
        position += length


def _decoded(payload: bytes, *, decoder: str) -> Any:
    """The first image that a packet shows on its own; None if it shows none."""
    context: Any = av.CodecContext.create(decoder, "r")
    context.thread_count = 1
    for packet in (av.Packet(payload), None):
        try:
            for frame in context.decode(packet):
                return frame
        except av.error.FFmpegError:
            continue  # damaged: whoever decodes the film has more to say about it
    return None
