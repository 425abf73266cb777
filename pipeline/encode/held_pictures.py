"""How many pictures libav's NVENC holds on to: arithmetic on options, for the pool that the frames come from.

It keeps a reference to every picture that it was given until that picture's packet is out. Source: libavcodec/nvenc.c,
``nvenc_recalc_surfaces`` (how many at most), ``nvenc_upload_frame`` (takes the reference) and
``process_output_surface`` (drops it).
"""

from __future__ import annotations

from pipeline.encode.base import EncodeSpec

_FEWEST_SURFACES = 4
_SURFACES_PER_INTERVAL = 4
"""Two hardware units, and one group of B-frames ready beside the one in work: times two, times two."""
_LOOKAHEAD_MARGIN = 5
"""One for the bound and four for the pipeline, beside the lookahead and the interval."""
_MOST_SURFACES = 64
"""libavcodec/nvenc.h MAX_REGISTERED_FRAMES."""


def count_held_pictures(spec: EncodeSpec) -> int:
    """How many pictures the encoder may hold at once.

    Where the number of B-frames is left to the driver's preset, the table's ``reorder_frames`` is taken. A preset with
    more of them, or a tuning that looks ahead by itself, may hold more than this; nobody knows before a session is
    open. `pipeline.encode.surfaces.DeviceSurfaces` copies what exceeds it.

    Args:
        spec: With an encoder that takes frames on a GPU; its options decide.
    """
    b_frames = _number(spec, "bf", default=spec.encoder.reorder_frames)
    interval = b_frames + 1
    surfaces = max(_FEWEST_SURFACES, _SURFACES_PER_INTERVAL * interval)
    lookahead = _number(spec, "rc-lookahead", default=0)
    if lookahead:
        surfaces = max(surfaces, lookahead + interval + _LOOKAHEAD_MARGIN)
    return min(_MOST_SURFACES, max(surfaces, _number(spec, "surfaces", default=0)))


def _number(spec: EncodeSpec, option: str, *, default: int) -> int:
    """A whole number among the options; anything else is libav's to refuse."""
    value = spec.options.get(option, "")
    return int(value) if value.isdigit() else default
