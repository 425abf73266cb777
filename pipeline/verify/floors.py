"""What the result of each network reaches at least when it is reduced to its source's size: measured, with a margin.

Measured with libx264 at its default quality here, factor 2, all frames of bigbuckbunny (1280x720; the first network
only), 6 frames each of parts of it and of bikes (192x128), of carphone (352x288), and of libav's testsrc2 (192x128),
whose edges of pure colour are the hardest case by far (in brackets: without it). Units as in ``Floors``.

==========================  ============  ============  =============  =============
network                     luma dB, min  chroma, min   block, max     slip, max
==========================  ============  ============  =============  =============
realesr-animevideov3        31.8 (33.6)   30.0 (41.1)   0.034 (0.034)  0.060 (0.053)
RealESRGAN_x4plus_anime_6B  28.7 (31.9)   28.6 (40.0)   0.046 (0.028)  0.108 (0.092)
RealESRGAN_x4plus           28.7 (32.9)   29.6 (41.2)   0.074 (0.025)  0.078 (0.078)
nearest-x2                  42.4          32.1 (45.8)   0.014 (0.004)  0.034
==========================  ============  ============  =============  =============

With ``tools/measure_verify.py`` (factor 2, 2 to 6 frames, the same films and smptehdbars, mandelbrot): chroma's mean
moves by 0.0085 (animevideov3), 0.0057 (anime_6B), 0.0171 (x4plus, testsrc2; 0.0041 on films), 0.0004 (nearest) at most,
chroma's place by 0.10, 0.10, 0.18 and 0.02 luma pixels. Where pictures are flat, networks move means by more: 32
frames of one tint each, all from dark to bright, by 0.0045, 0.0196, 0.0145 of chroma.

PSNR floors lie 8 dB and more below, those of blocks 2.4 times above, for two reasons: grain, which networks remove and
which may be most of a film's PSNR, and encoders at low quality. They need not be close: what they have to catch is
worse (a black frame: about 10 dB, another scene: about 12 dB, a black tile: its blocks' whole mean), and shifted
colours, shifted pictures and exchanged frames have tests of their own in `pipeline.verify.judge`, which ask for no
PSNR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """What frames of a result reach at least."""

    luma_db: float
    """PSNR of luma, peak 1."""
    chroma_db: float
    """PSNR of both chroma planes together, peak 1."""
    block: float
    """Largest difference of the mean of a block of 16 pixels of the source, nominal units."""
    slip_source_px: float
    """Largest shift that the network itself makes, pixels of the source."""

    chroma_slip_source_px: float
    """The same of chroma against its own place, in luma's pixels."""
    cast: float
    """Largest difference of the mean of Cb or Cr of a whole picture, nominal units."""


UNKNOWN = Floors(luma_db=17.0, chroma_db=20.0, block=0.20, slip_source_px=0.2, chroma_slip_source_px=0.5, cast=0.034)
"""For networks that nobody measured: more tolerant than all that were."""

MEASURED: Mapping[str, Floors] = MappingProxyType(
    {
        "realesr-animevideov3": Floors(
            luma_db=18.0, chroma_db=20.0, block=0.09, slip_source_px=0.12, chroma_slip_source_px=0.4, cast=0.03
        ),
        "RealESRGAN_x4plus_anime_6B": Floors(
            luma_db=18.0, chroma_db=20.0, block=0.12, slip_source_px=0.17, chroma_slip_source_px=0.4, cast=0.03
        ),
        "RealESRGAN_x4plus": Floors(
            luma_db=18.0, chroma_db=20.0, block=0.18, slip_source_px=0.12, chroma_slip_source_px=0.4, cast=0.03
        ),
        "nearest-x1": Floors(
            luma_db=20.0, chroma_db=22.0, block=0.10, slip_source_px=0.1, chroma_slip_source_px=0.4, cast=0.03
        ),
        "nearest-x2": Floors(
            luma_db=20.0, chroma_db=22.0, block=0.10, slip_source_px=0.1, chroma_slip_source_px=0.4, cast=0.03
        ),
        "nearest-x4": Floors(
            luma_db=20.0, chroma_db=22.0, block=0.10, slip_source_px=0.1, chroma_slip_source_px=0.4, cast=0.03
        ),
    }
)
"""By the network's name."""


def floors_for(model: str) -> Floors:
    """The floors of a network by its name; those of ``UNKNOWN`` if nobody measured it."""
    return MEASURED.get(model, UNKNOWN)
