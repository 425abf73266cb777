"""Transfer characteristics: how encoded R'G'B' relates to light.

Light is relative: 1.0 is what the code 1.0 shows. Standard dynamic range is taken as a display shows it (ITU-R
BT.1886), not as a camera would have made it, because what mixes when a picture shrinks is what the viewer sees. Below 0
the curves continue as odd functions, above 1 along the tangent at 1, so values outside the range come back unchanged.
The loops that apply a curve are in ``pipeline.cpu.separable``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CurveFamily = Literal["power", "pq", "hlg"]

_DISPLAY_GAMMA = {
    1: 2.4,
    2: 2.4,
    4: 2.2,
    5: 2.8,
    6: 2.4,
    7: 2.4,
    11: 2.4,
    12: 2.4,
    14: 2.4,
    15: 2.4,
    17: 2.6,
}
"""H.273 TransferCharacteristics shown by a pure power: BT.709, unspecified, BT.601, SMPTE 240M, xvYCC, BT.1361 and
BT.2020 (ITU-R BT.1886: 2.4); BT.470 M and BG (H.273 table 3: 2.2 and 2.8); SMPTE ST 428-1 (2.6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCurve:
    """One transfer characteristic on [0, 1]."""

    family: CurveFamily
    """``power``: ``((code + a) / (1 + a)) ** gamma``, straight from 0 to a knee. ``pq`` and ``hlg``: ITU-R BT.2100."""
    constants: tuple[float, ...]
    """``power``: gamma, a, code at the knee, light at the knee, codes per light below it. ``pq``: m1, m2, c1, c2, c3.
    ``hlg``: a, b, c."""
    slope: float
    """How fast light rises at code 1."""


_SRGB = TransferCurve(family="power", constants=(2.4, 0.055, 0.04045, 0.04045 / 12.92, 12.92), slope=2.4 / 1.055)
"""Source: IEC 61966-2-1, 5.2."""

_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# Light is ((r - c1) / (c2 - c3 r))^(1/m1), r = code^(1/m2); at code 1 both brackets are 1 - c1, as c1 = c3 - c2 + 1.
_PQ = TransferCurve(
    family="pq",
    constants=(_PQ_M1, _PQ_M2, _PQ_C1, _PQ_C2, _PQ_C3),
    slope=(1 + _PQ_C3) / ((1 - _PQ_C1) * _PQ_M1 * _PQ_M2),
)
"""Source: ITU-R BT.2100-2 table 4 (SMPTE ST 2084)."""

_HLG = TransferCurve(
    family="hlg",
    constants=(0.17883277, 0.28466892, 0.55991073),
    slope=(12 - 0.28466892) / (12 * 0.17883277),
)
"""Source: ITU-R BT.2100-2 table 5. The inverse OETF gives scene light; the display's system gamma, which depends on its
brightness, is left out."""


def transfer_curve(transfer: int) -> TransferCurve | None:
    """The curve of an H.273 TransferCharacteristics value.

    Args:
        transfer: Code point; 2 (unspecified) is taken as BT.709.

    Returns:
        The curve, or None where codes are light already (8, linear) or do not stand for a picture's light in a way that
        H.273 defines (0, 3, the logarithmic 9 and 10, reserved values): such pictures are best resampled as they are.
    """
    if transfer in _DISPLAY_GAMMA:
        gamma = _DISPLAY_GAMMA[transfer]
        return TransferCurve(family="power", constants=(gamma, 0.0, 0.0, 0.0, 1.0), slope=gamma)
    return {13: _SRGB, 16: _PQ, 18: _HLG}.get(transfer)
