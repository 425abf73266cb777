"""Notices in a film's packets that its image size changes, for decoders that would hide it by scaling.

NVDEC goes on in the first size when a later part of a film is smaller. Source: PyNvVideoCodec 2.x,
``NvDecoder::ReconfigureDecoder``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from pipeline.errors import UnsupportedMedia
from pipeline.media import MediaInfo

_START_CODE = b"\0\0\1"
_SPS = {"h264": (0x1F, 0, 7), "hevc": (0x3F, 1, 33)}
"""Mask, shift and value of the NAL unit type that is a sequence parameter set. Source: ITU-T H.264 table 7-1, H.265
table 7-1."""
_MPEG_SEQUENCE = b"\0\0\1\xb3"
"""Start code of a sequence header, which 3 bytes of width and height follow. Source: ISO/IEC 13818-2 6.2.2.1."""
_HEADER_BYTES = 10
"""The beginning of a VP8, VP9 or AV1 key frame in which its size stands, and little else. More than the size makes for
more key frames looked into than necessary, never for fewer. Source: RFC 6386 9.1; VP9 bitstream specification 6.2."""


class ImageSizeWatch:
    """Looks at the key packets of one pass over a film.

    Where the part of a key packet that holds the size is not as it was before, the packet alone is decoded with libav:
    that costs a few milliseconds, and in a film of one size happens once or never.

    VP9 and AV1 may also change the size without a key frame, as video calls do. That is not noticed.

    Args:
        info: The film.
        decoder: libav's name of the decoder to look into packets with, which is not always the codec's.
    """

    def __init__(self, info: MediaInfo, *, decoder: str) -> None:
        self._info = info
        self._decoder = decoder
        self._seen: tuple[bytes, ...] | None = None

    def check(self, payload: bytes, *, clock: str) -> None:
        """Look at the next key packet.

        Args:
            payload: With start codes for H.264, HEVC and MPEG.
            clock: When it is shown, for the message.

        Raises:
            UnsupportedMedia: From here on the images have another size.
        """
        found = self._signature(payload)
        if not found or found == self._seen:
            return
        is_first, self._seen = self._seen is None, found
        if is_first:
            return
        size = _decoded_size(payload, decoder=self._decoder)
        video = self._info.video
        if size is not None and size != (video.decoded_height, video.decoded_width):
            raise UnsupportedMedia(
                f"{self._info.path}: the image changes from {video.decoded_width}x{video.decoded_height} to"
                f" {size[1]}x{size[0]} at {clock}",
                path=self._info.path,
                hint="cut the file there and upscale the parts on their own",
            )

    def _signature(self, payload: bytes) -> tuple[bytes, ...]:
        """What of a key packet holds the size; empty if nothing does."""
        codec = self._info.video.codec
        if codec in _SPS:
            mask, shift, wanted = _SPS[codec]
            return tuple(unit for unit in _units(payload) if unit and unit[0] >> shift & mask == wanted)
        if codec.startswith("mpeg"):
            start = payload.find(_MPEG_SEQUENCE)
            return () if start < 0 else (payload[start + 4 : start + 7],)
        return (payload[:_HEADER_BYTES],)


def _units(payload: bytes) -> Iterator[bytes]:
    """The NAL units between start codes."""
    start = payload.find(_START_CODE)
    while start >= 0:
        stop = payload.find(_START_CODE, start + 3)
        yield payload[start + 3 : stop if stop >= 0 else len(payload)].rstrip(b"\0")
        start = stop


def _decoded_size(payload: bytes, *, decoder: str) -> tuple[int, int] | None:
    """(height, width) of the first image that a packet shows on its own; None if it shows none."""
    context: Any = av.CodecContext.create(decoder, "r")
    context.thread_count = 1
    for packet in (av.Packet(payload), None):
        try:
            for frame in context.decode(packet):
                return frame.height, frame.width
        except av.error.FFmpegError:
            continue  # damaged: whoever decodes the film has more to say about it
    return None
