"""What a hardware decoder holds of a GPU's memory by itself: an estimate, as only the driver knows.

NVDEC keeps pictures that later ones are predicted from, and some on their way to us (``ulNumDecodeSurfaces``), and two
that we read from (``ulNumOutputSurfaces``; both as PyNvVideoCodec creates decoders). How many a film needs stands in
its own headers; here is the most that its format allows for a picture of its size. The driver's own tables are not
counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.tiling import round_up

if TYPE_CHECKING:
    from pipeline.media import VideoTrack

ON_THEIR_WAY: Final = 4
"""Surfaces beside the references: the picture in work and those that wait to be shown. Source: NVIDIA's sample decoder,
which takes 20 for H.264 (16 references) and 12 for VP9 (8)."""
OUTPUT_SURFACES: Final = 2
"""``ulNumOutputSurfaces`` of PyNvVideoCodec's decoder."""
BLOCK_PX: Final = 16
"""Coded pictures are whole macroblocks, or in newer formats blocks of at least half their side."""

_REFERENCES: Final = {"vp9": 8, "av1": 8, "vp8": 3, "mpeg2video": 2, "mpeg1video": 2, "mpeg4": 2, "vc1": 2}
"""Pictures that a decoder has to keep, by libav's name of the format. Source: the slots of the VP9, AV1 and VP8
specifications; the two neighbours of a B-picture in the others."""
_MOST_REFERENCES: Final = 16
"""Of H.264 (A.3.1) and HEVC (A.4.2), whatever the size."""

_H264_LEVELS: Final = ((36864, 184320), (139264, 696320))
"""Macroblocks of a picture and of all that are kept, at most: levels 5.1 and 6.2 of ITU-T H.264, table A-1."""
_HEVC_LEVELS: Final = (8912896, 35651584)
"""Luma samples of a picture, at most: levels 5 to 5.2 and 6 to 6.2 of ITU-T H.265, table A.8."""


def estimate_decoder_bytes(video: VideoTrack) -> int:
    """Memory of one decoding session, bytes, without the surfaces that it copies into for us.

    Args:
        video: The film's; 4:2:0, as NVDEC is used for.
    """
    height, width = round_up(video.height, BLOCK_PX), round_up(video.width, BLOCK_PX)
    surface_bytes = height * width * 3 // 2 * np.dtype(video.format.dtype).itemsize  # NV12, P016
    references = count_references(video.codec, height=height, width=width)
    return (references + ON_THEIR_WAY + OUTPUT_SURFACES) * surface_bytes


def count_references(codec: str, *, height: int, width: int) -> int:
    """How many pictures of that size a decoder may have to keep.

    Args:
        codec: libav's name of the format.
        height, width: Of the coded picture, pixels.
    """
    if codec == "h264":
        blocks = -(-height // 16) * -(-width // 16)
        _, kept = next((level for level in _H264_LEVELS if blocks <= level[0]), _H264_LEVELS[-1])
        return max(1, min(_MOST_REFERENCES, kept // blocks))
    if codec == "hevc":
        samples = height * width
        most = next((level for level in _HEVC_LEVELS if samples <= level), _HEVC_LEVELS[-1])
        # Source: ITU-T H.265, A.4.2: six pictures of the level's greatest size, more of smaller ones.
        for share, count in ((4, 16), (2, 12), (4 / 3, 8)):
            if samples * share <= most:
                return count
        return 6
    return _REFERENCES.get(codec, _MOST_REFERENCES)
