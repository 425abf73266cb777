"""What the result of each network reaches at least when it is reduced to its source's size: measured, with a margin.

Measured with ``tools/measure_verify.py``: libx264 at its default quality here, factor 2, the worst of all runs. Films:
parts (192x128) of bigbuckbunny, bikes and carphone; drawn: libav's testsrc2, smptehdbars and mandelbrot, whose edges of
pure colour are the hardest case. 3 or 6 frames each; of RealESRGAN_x4plus only 2 of 64x64 of bikes, carphone and
testsrc2. Units as in ``Floors``; <: measured together with luma, whose mean networks change more.

=================================  =======  =========  =======  =======  ===========  ===========
network, material                  luma dB  chroma dB  block    slip     chroma slip  cast
=================================  =======  =========  =======  =======  ===========  ===========
realesr-animevideov3, films        31.1     40.9       0.028    0.035    none told    0.0020
realesr-animevideov3, drawn        31.3     30.0       0.030    0.072    0.092        0.0085
RealESRGAN_x4plus_anime_6B, films  30.7     39.7       0.029    0.088    none told    < 0.0069
RealESRGAN_x4plus_anime_6B, drawn  28.7     28.6       0.046    0.121    0.098        < 0.0057
RealESRGAN_x4plus, films           33.7     42.7       0.020    0.044    none told    0.0041
RealESRGAN_x4plus, drawn           29.4     29.3       0.055    0.112    0.181        0.0171
nearest-x2, films                  41.2     44.5       0.004    0.040    none told    < 0.0009
nearest-x2, drawn                  46.6     32.0       0.013    0.007    0.022        0.0004
=================================  =======  =========  =======  =======  ===========  ===========

The same films again, parts of 160x128, 2 to 4 frames from the 30th on, and beside them carphone_distorted, in 8 and 10
bits, enlarged by 1, 2 and 4: of 164 results none was below a floor, and every damage in ``tools/verify_damage.py`` was
found in each of them (tints, exchanged colours, both mistakes of the range, black, NaN, a lost tile, a shift by a pixel
either way, exchanged frames), but for a mistaken matrix where colours are muted: BT.601 for BT.709 was not found where
it changes a plane by 1.2 codes of 8 bits or less (root mean square), nor by 3.4 behind networks that change a picture
more themselves (bigbuckbunny: animevideov3 makes it brighter, by 0.0092 of a block's mean; with the mistake it is
0.0074). All rows: ``tools/results/measure_verify-cpu2.txt``.

=================================  =======  =========  =======  =======  ===========
network, parts of 160x128          luma dB  chroma dB  block    slip     cast
=================================  =======  =========  =======  =======  ===========
realesr-animevideov3               32.1     41.3       0.027    0.095    0.0030
RealESRGAN_x4plus_anime_6B         30.3     40.5       0.026    0.129    0.0045
RealESRGAN_x4plus                  30.7     40.9       0.026    0.091    0.0039
nearest-x1, x2, x4                 35.5     41.6       0.010    0.038    0.0015
=================================  =======  =========  =======  =======  ===========

Pictures (``encode.kind: png``, animevideov3, factor 2) reach 32.9 dB and 41.2 dB. Parts of 64x64 hold too little to
tell a mistaken range of flat pictures (12 codes, bikes) from what networks do to them.

Flat pictures move more than any of these. Of 32 frames of one tint each, all from dark to bright, the mean of chroma
moves by up to 0.0045 (animevideov3), 0.0196 (anime_6B) and 0.0145 (x4plus); of greys, that of luma by 0.023, 0.070 and
0.041, which is why the mean of luma has no floor, and blocks have one above it.

PSNR floors lie 8 dB and more below, those of blocks 2.1 times and more above, for two reasons: grain, which networks
remove and which may be most of a film's PSNR, and encoders at low quality. How much of either there may be was not
measured. They need not be close: black frames and lost tiles are far worse, and shifted colours, shifted pictures and
exchanged frames have tests of their own in `pipeline.verify.judge`, which ask for no PSNR.
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
            luma_db=18.0, chroma_db=20.0, block=0.09, slip_source_px=0.15, chroma_slip_source_px=0.4, cast=0.03
        ),
        "RealESRGAN_x4plus_anime_6B": Floors(
            luma_db=18.0, chroma_db=20.0, block=0.12, slip_source_px=0.17, chroma_slip_source_px=0.4, cast=0.03
        ),
        "RealESRGAN_x4plus": Floors(
            luma_db=18.0, chroma_db=20.0, block=0.12, slip_source_px=0.17, chroma_slip_source_px=0.4, cast=0.03
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
"""By the network's name. nearest-x1 and nearest-x4 have those of nearest-x2."""


def floors_for(model: str) -> Floors:
    """The floors of a network by its name; those of ``UNKNOWN`` if nobody measured it."""
    return MEASURED.get(model, UNKNOWN)
