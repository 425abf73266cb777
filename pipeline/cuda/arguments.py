"""What the kernels are called with: the structures of sources/arguments.cuh, field by field, in the same order.

Every ``c_uint64`` is a device address.
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_uint64

MOST_TILES = 16
"""That one launch of ``cut`` makes, or one of ``blend`` takes."""


class CutArguments(Structure):
    """Of the kernel ``cut``."""

    _fields_ = (
        ("luma", c_uint64),
        ("blue", c_uint64),
        ("red", c_uint64),
        ("tile", c_uint64),
        ("luma_pitch", c_int64),
        ("blue_pitch", c_int64),
        ("red_pitch", c_int64),
        ("height", c_int32),
        ("width", c_int32),
        ("chroma_rows", c_int32),
        ("chroma_columns", c_int32),
        ("tile_height", c_int32),
        ("tile_width", c_int32),
        ("tops", c_int32 * MOST_TILES),
        ("lefts", c_int32 * MOST_TILES),
        ("shift", c_int32),
        ("is_aligned", c_int32),
        ("first_row", c_int32 * 2),
        ("row_taps", c_float * 8),
        ("column_taps", c_float * 10),
        ("matrix", c_float * 7),
        ("seen", c_float * 11),
    )


class BlendSpan(Structure):
    """Where one tile goes."""

    _fields_ = (
        ("row_lead", c_uint64),
        ("column_lead", c_uint64),
        ("column_trail", c_uint64),
        ("row_origin", c_int32),
        ("row_start", c_int32),
        ("row_stop", c_int32),
        ("column_origin", c_int32),
        ("column_start", c_int32),
        ("column_stop", c_int32),
        ("row_lead_count", c_int32),
        ("column_lead_count", c_int32),
        ("column_trail_count", c_int32),
        ("reserved", c_int32),
    )


class BlendArguments(Structure):
    """Of the kernel ``blend``."""

    _fields_ = (
        ("tile", c_uint64),
        ("canvas", c_uint64),
        ("tile_pitch", c_int64),
        ("tile_plane", c_int64),
        ("canvas_pitch", c_int64),
        ("canvas_plane", c_int64),
        ("top", c_int32),
        ("left", c_int32),
        ("count", c_int32),
        ("reserved", c_int32),
        ("tiles", BlendSpan * MOST_TILES),
    )


class RowArguments(Structure):
    """Of the kernel ``rows``."""

    _fields_ = (
        ("image", c_uint64),
        ("out", c_uint64),
        ("first", c_uint64),
        ("weights", c_uint64),
        ("image_pitch", c_int64),
        ("image_plane", c_int64),
        ("out_pitch", c_int64),
        ("out_plane", c_int64),
        ("width", c_int32),
        ("out_height", c_int32),
        ("taps", c_int32),
        ("curve", c_float * 6),
    )


class FinishArguments(Structure):
    """Of the kernel ``finish``."""

    _fields_ = (
        ("image", c_uint64),
        ("luma", c_uint64),
        ("blue", c_uint64),
        ("red", c_uint64),
        ("first", c_uint64),
        ("weights", c_uint64),
        ("biases", c_uint64),
        ("image_pitch", c_int64),
        ("image_plane", c_int64),
        ("luma_pitch", c_int64),
        ("blue_pitch", c_int64),
        ("red_pitch", c_int64),
        ("height", c_int32),
        ("width", c_int32),
        ("chroma_rows", c_int32),
        ("chroma_columns", c_int32),
        ("image_height", c_int32),
        ("image_width", c_int32),
        ("segment", c_int32),
        ("aligned_items", c_int32),
        ("taps", c_int32),
        ("shift", c_int32),
        ("shrink_taps", c_float * 24),
        ("curve", c_float * 6),
        ("row_taps", c_float * 12),
        ("column_taps", c_float * 12),
        ("matrix", c_float * 3),
        ("scales", c_float * 3),
        ("top", c_float),
        ("one", c_float),
        ("seen", c_float * 11),
    )
