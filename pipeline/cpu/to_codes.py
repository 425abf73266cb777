"""Float32 R'G'B' to integer planes: the loops behind ``pipeline.colour.rgb_to_planes``, which prepares their arguments.

Arrays come flattened (``pipeline.flat``). Chroma rows and columns outside the image repeat the edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.cpu.kernel import kernel

DOWN_TAPS = 12
"""Luma positions that contribute to one chroma sample, per axis: offsets -5 to 6 from twice the chroma index."""

_PAD = 3
"""Repeated edge samples on both sides of a scratch row; the filters reach at most 3 samples of half resolution."""


@kernel
def rgb_to_ycbcr(
    rgb: Any,
    rgb_strides: tuple[int, int],
    shape: tuple[int, int],
    luma: Any,
    blue: Any,
    red: Any,
    strides: tuple[int, int, int],
    halved: tuple[bool, bool],
    taps: Any,
    matrix: Any,
    highest: Any,
    threshold: Any,
) -> None:
    """R'G'B' to Y'CbCr codes, the way back of ``ycbcr_to_rgb``. Each luma row is read once.

    Args:
        rgb: Flat float32 R'G'B'.
        rgb_strides: Samples from one plane and from one row of ``rgb`` to the next.
        shape: (height, width) of the image.
        luma, blue, red: Flat uint8 or uint16 codes of Y', Cb and Cr; written.
        strides: Samples from one row to the next in each of them.
        halved: Whether chroma has half the rows, half the columns.
        taps: (2, DOWN_TAPS) float32: weights per axis.
        matrix: float32: share of R, G, B in luma, luma scale, luma offset, Cb per (B - Y), Cr per (R - Y), chroma
            offset. Scales and offsets are in codes.
        highest: float32: the largest code.
        threshold: (N, N) float32, N a power of two: what to add before truncating, 0.5 for plain rounding.
    """
    height, width = shape
    rows = (height + 1) // 2 if halved[0] else height
    columns = (width + 1) // 2 if halved[1] else width
    # Half-width chroma of the last DOWN_TAPS luma rows.
    cb_ring = np.empty((DOWN_TAPS, columns), np.float32)
    cr_ring = np.empty((DOWN_TAPS, columns), np.float32)
    cb_full = np.empty(width + 1, np.float32)
    cr_full = np.empty(width + 1, np.float32)
    even = np.empty(columns + 2 * _PAD, np.float32)
    odd = np.empty(columns + 2 * _PAD, np.float32)
    order = np.empty(DOWN_TAPS, np.int64)
    mixed = np.empty(columns, np.float32)
    grain = threshold.shape[0]
    done = 0
    for y in range(height):
        _luma_row(rgb, rgb_strides, y, width, matrix, luma, strides[0], highest, threshold, cb_full, cr_full)
        slot = y % DOWN_TAPS
        if halved[1]:
            _narrow(cb_full, width, taps[1], even, odd, cb_ring[slot])
            _narrow(cr_full, width, taps[1], even, odd, cr_ring[slot])
        else:
            cb_ring[slot, :] = cb_full[:width]
            cr_ring[slot, :] = cr_full[:width]
        if not halved[0]:
            dither = threshold[y % grain]
            _store_row(cb_ring[slot], matrix[7], highest, dither, blue[y * strides[1] : y * strides[1] + columns])
            _store_row(cr_ring[slot], matrix[7], highest, dither, red[y * strides[2] : y * strides[2] + columns])
            continue
        # A chroma row needs the luma rows up to 6 below its own first one, or to the image's end.
        while done < rows and (2 * done + 6 <= y or y == height - 1):
            for tap in range(DOWN_TAPS):
                order[tap] = min(max(2 * done - 5 + tap, 0), height - 1) % DOWN_TAPS
            dither = threshold[done % grain]
            _mix_ring(cb_ring, order, taps[0], mixed)
            _store_row(mixed, matrix[7], highest, dither, blue[done * strides[1] : done * strides[1] + columns])
            _mix_ring(cr_ring, order, taps[0], mixed)
            _store_row(mixed, matrix[7], highest, dither, red[done * strides[2] : done * strides[2] + columns])
            done += 1


@kernel
def float_to_codes(
    values: Any,
    stride: int,
    out: Any,
    out_stride: int,
    shape: tuple[int, int],
    constants: Any,
    highest: Any,
    threshold: Any,
) -> None:
    """One flat float32 plane to ``value * constants[0] + constants[1]``, rounded and clipped."""
    height, width = shape
    scaled = np.empty(width, np.float32)
    for y in range(height):
        source = values[y * stride : y * stride + width]
        for x in range(width):
            scaled[x] = source[x] * constants[0]
        dither = threshold[y % threshold.shape[0]]
        _store_row(scaled, constants[1], highest, dither, out[y * out_stride : y * out_stride + width])


@kernel
def _luma_row(
    rgb: Any,
    strides: tuple[int, int],
    y: int,
    width: int,
    matrix: Any,
    luma: Any,
    luma_stride: int,
    highest: Any,
    threshold: Any,
    cb: Any,
    cr: Any,
) -> None:
    """Write one row of luma codes and the row's unrounded Cb and Cr, in codes around 0."""
    plane, row = strides
    r = rgb[y * row : y * row + width]
    g = rgb[plane + y * row : plane + y * row + width]
    b = rgb[2 * plane + y * row : 2 * plane + y * row + width]
    out = luma[y * luma_stride : y * luma_stride + width]
    kr, kg, kb, scale, offset = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4]
    cb_scale, cr_scale = matrix[5], matrix[6]
    dither = threshold[y % threshold.shape[0]]
    mask = dither.shape[0] - 1
    low, top = np.float32(0), highest + np.float32(0.5)
    for x in range(width):
        grey = kr * r[x] + kg * g[x] + kb * b[x]
        cb[x] = (b[x] - grey) * cb_scale
        cr[x] = (r[x] - grey) * cr_scale
        code = grey * scale + offset + dither[x & mask]
        code = code if code > low else low  # also what NaN becomes
        code = code if code < top else top
        out[x] = np.int32(code)


@kernel
def _narrow(full: Any, width: int, taps: Any, even: Any, odd: Any, out: Any) -> None:
    """Halve a row of ``width`` samples with DOWN_TAPS weights, split into those of even and odd samples."""
    columns = out.shape[0]
    full[width] = full[width - 1]
    for x in range(columns):
        even[x + _PAD] = full[2 * x]
        odd[x + _PAD] = full[2 * x + 1]
    for pad in range(_PAD):
        even[pad] = full[0]
        odd[pad] = full[0]
        even[columns + _PAD + pad] = full[width - 1]
        odd[columns + _PAD + pad] = full[width - 1]
    o0, o1, o2, o3, o4, o5 = taps[0], taps[2], taps[4], taps[6], taps[8], taps[10]
    e0, e1, e2, e3, e4, e5 = taps[1], taps[3], taps[5], taps[7], taps[9], taps[11]
    for x in range(columns):
        out[x] = (
            o0 * odd[x]
            + e0 * even[x + 1]
            + o1 * odd[x + 1]
            + e1 * even[x + 2]
            + o2 * odd[x + 2]
            + e2 * even[x + 3]
            + o3 * odd[x + 3]
            + e3 * even[x + 4]
            + o4 * odd[x + 4]
            + e4 * even[x + 5]
            + o5 * odd[x + 5]
            + e5 * even[x + 6]
        )


@kernel
def _mix_ring(ring: Any, order: Any, taps: Any, out: Any) -> None:
    """Weighted sum of the ring's rows in the given order."""
    for x in range(out.shape[0]):
        out[x] = taps[0] * ring[order[0], x]
    for tap in range(1, DOWN_TAPS):
        weight = taps[tap]
        source = ring[order[tap]]
        for x in range(out.shape[0]):
            out[x] += weight * source[x]


@kernel
def _store_row(values: Any, offset: Any, highest: Any, dither: Any, out: Any) -> None:
    """Add the offset, round by the row's thresholds, clip and store."""
    mask = dither.shape[0] - 1
    low, top = np.float32(0), highest + np.float32(0.5)
    for x in range(out.shape[0]):
        code = values[x] + offset + dither[x & mask]
        code = code if code > low else low  # also what NaN becomes
        code = code if code < top else top
        out[x] = np.int32(code)
