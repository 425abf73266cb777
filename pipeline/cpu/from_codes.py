"""Integer planes to float32 R'G'B': the loops behind ``pipeline.colour.planes_to_rgb``, which prepares their arguments.

Arrays come flattened (``pipeline.flat``). Chroma rows and columns outside the image repeat the edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.cpu.kernel import kernel

_PAD = 3
"""Repeated edge samples on both sides of a scratch row; the filters reach at most 3 samples of half resolution."""


@kernel
def ycbcr_to_rgb(
    luma: Any,
    blue: Any,
    red: Any,
    strides: tuple[int, int, int],
    out: Any,
    out_strides: tuple[int, int],
    shape: tuple[int, int],
    halved: tuple[bool, bool],
    first: Any,
    taps: Any,
    matrix: Any,
) -> None:
    """Y'CbCr codes to R'G'B'.

    Args:
        luma, blue, red: Flat uint8 or uint16 codes of Y', Cb and Cr.
        strides: Samples from one row to the next in each of them.
        out: Flat float32 R'G'B'; written.
        out_strides: Samples from one plane and from one row of ``out`` to the next.
        shape: (height, width) of the image.
        halved: Whether chroma has half the rows, half the columns.
        first: (2, 2) int64: per axis and phase (even or odd luma position), offset of the first tap from the chroma
            index.
        taps: (2, 2, 4) float32: per axis and phase, the weights.
        matrix: float32: luma offset, luma scale, chroma offset, R per Cr, G per Cb, G per Cr, B per Cb.
    """
    height, width = shape
    plane, row = out_strides
    rows = (height + 1) // 2 if halved[0] else height
    columns = (width + 1) // 2 if halved[1] else width
    luma_offset, luma_scale, centre = matrix[0], matrix[1], matrix[2]
    r_cr, g_cb, g_cr, b_cb = matrix[3], matrix[4], matrix[5], matrix[6]
    cb_row = np.empty(columns + 2 * _PAD, np.float32)
    cr_row = np.empty(columns + 2 * _PAD, np.float32)
    cb_wide = np.empty(2 * columns, np.float32)
    cr_wide = np.empty(2 * columns, np.float32)
    for y in range(height):
        if halved[0]:
            phase = y & 1
            base = (y >> 1) + first[0, phase]
            _mix_rows(blue, strides[1], rows, columns, base, taps[0, phase], centre, cb_row)
            _mix_rows(red, strides[2], rows, columns, base, taps[0, phase], centre, cr_row)
        else:
            _load_row(blue[y * strides[1] : y * strides[1] + columns], centre, cb_row)
            _load_row(red[y * strides[2] : y * strides[2] + columns], centre, cr_row)
        if halved[1]:
            _widen(cb_row, columns, first[1], taps[1], cb_wide)
            _widen(cr_row, columns, first[1], taps[1], cr_wide)
            cb, cr = cb_wide[:width], cr_wide[:width]
        else:
            cb, cr = cb_row[_PAD : _PAD + width], cr_row[_PAD : _PAD + width]
        codes = luma[y * strides[0] : y * strides[0] + width]
        r = out[y * row : y * row + width]
        g = out[plane + y * row : plane + y * row + width]
        b = out[2 * plane + y * row : 2 * plane + y * row + width]
        for x in range(width):
            grey = (np.float32(codes[x]) - luma_offset) * luma_scale
            r[x] = grey + r_cr * cr[x]
            g[x] = grey + g_cb * cb[x] + g_cr * cr[x]
            b[x] = grey + b_cb * cb[x]


@kernel
def codes_to_float(codes: Any, stride: int, out: Any, out_stride: int, shape: tuple[int, int], constants: Any) -> None:
    """One flat plane of codes to ``(code - constants[0]) * constants[1]`` in float32."""
    height, width = shape
    offset, scale = constants[0], constants[1]
    for y in range(height):
        source = codes[y * stride : y * stride + width]
        target = out[y * out_stride : y * out_stride + width]
        for x in range(width):
            target[x] = (np.float32(source[x]) - offset) * scale


@kernel
def _load_row(codes: Any, centre: Any, out: Any) -> None:
    for x in range(codes.shape[0]):
        out[x + _PAD] = np.float32(codes[x]) - centre


@kernel
def _mix_rows(plane: Any, stride: int, rows: int, columns: int, base: int, taps: Any, centre: Any, out: Any) -> None:
    """Weighted sum of four rows of codes from row ``base`` on, minus ``centre``, padded at both ends."""
    start = min(max(base, 0), rows - 1) * stride
    row0 = plane[start : start + columns]
    start = min(max(base + 1, 0), rows - 1) * stride
    row1 = plane[start : start + columns]
    start = min(max(base + 2, 0), rows - 1) * stride
    row2 = plane[start : start + columns]
    start = min(max(base + 3, 0), rows - 1) * stride
    row3 = plane[start : start + columns]
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for x in range(columns):
        out[x + _PAD] = (
            w0 * (np.float32(row0[x]) - centre)
            + w1 * (np.float32(row1[x]) - centre)
            + w2 * (np.float32(row2[x]) - centre)
            + w3 * (np.float32(row3[x]) - centre)
        )


@kernel
def _widen(row: Any, columns: int, first: Any, taps: Any, out: Any) -> None:
    """Double a padded row: even and odd outputs each from four samples."""
    for pad in range(_PAD):
        row[pad] = row[_PAD]
        row[columns + _PAD + pad] = row[columns + _PAD - 1]
    even = row[_PAD + first[0] :]
    odd = row[_PAD + first[1] :]
    a0, a1, a2, a3 = taps[0, 0], taps[0, 1], taps[0, 2], taps[0, 3]
    b0, b1, b2, b3 = taps[1, 0], taps[1, 1], taps[1, 2], taps[1, 3]
    for x in range(columns):
        out[2 * x] = a0 * even[x] + a1 * even[x + 1] + a2 * even[x + 2] + a3 * even[x + 3]
        out[2 * x + 1] = b0 * odd[x] + b1 * odd[x + 1] + b2 * odd[x + 2] + b3 * odd[x + 3]
