"""libav's frame side data, and the HDR metadata in it in the notation that encoders take."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MASTERING_DISPLAY = struct.Struct("=20i2i")
"""AVMasteringDisplayMetadata: ten rationals (R, G, B, white as x, y; min and max luminance), two flags."""
_CONTENT_LIGHT = struct.Struct("=2I")
"""AVContentLightMetadata: MaxCLL, MaxFALL."""

CHROMATICITY_UNIT = Fraction(1, 50_000)
LUMINANCE_UNIT_CD_M2 = Fraction(1, 10_000)
"""Units of x265's notation, those of the SEI message. Source: ITU-T H.265 D.3.28."""


def read_side_data(frame: VideoFrame, kind: str) -> bytes:
    """Side data of a frame by libav's name of its kind; empty if it has none.

    PyAV 18 has no name for EXIF, which frames of MJPEG may have, and then shows none of a frame's side data.
    """
    try:
        entries: Any = frame.side_data  # looked up, for iterating gives entries in PyAV 18 and kinds in 19
    except ValueError:
        return b""
    return bytes(entries.get(kind) or b"")


def mastering_display_text(payload: bytes) -> str:
    """SMPTE ST 2086 metadata in x265's notation.

    Args:
        payload: The bytes of an ``AVMasteringDisplayMetadata``.

    Returns:
        ``G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)``; empty if primaries or luminance are missing.
    """
    if len(payload) < _MASTERING_DISPLAY.size:
        return ""
    *numbers, has_primaries, has_luminance = _MASTERING_DISPLAY.unpack_from(payload)
    if not (has_primaries and has_luminance) or 0 in numbers[1::2]:
        return ""
    values = [Fraction(num, den) for num, den in zip(numbers[0::2], numbers[1::2], strict=True)]
    red, green, blue, white = (_point(values[i], values[i + 1]) for i in (0, 2, 4, 6))
    low, high = (round(value / LUMINANCE_UNIT_CD_M2) for value in values[8:10])
    return f"G{green}B{blue}R{red}WP{white}L({high},{low})"


def _point(x: Fraction, y: Fraction) -> str:
    return f"({round(x / CHROMATICITY_UNIT)},{round(y / CHROMATICITY_UNIT)})"


def content_light_text(payload: bytes) -> str:
    """``MaxCLL,MaxFALL`` in cd/m2 from the bytes of an ``AVContentLightMetadata``; empty if it is malformed."""
    if len(payload) < _CONTENT_LIGHT.size:
        return ""
    peak, average = _CONTENT_LIGHT.unpack_from(payload)
    return f"{peak},{average}"
