"""Codes of HDR films to what a network sees of them, and back: the loops behind ``pipeline.seen``.

Both ways in place. The series of powers are those of ``pipeline.cpu.separable``, which says how exact they are; a
kernel has its helpers in its own file. PQ goes from root to power directly, without light in between: one power less,
and nothing underflows in the dark.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.cpu.kernel import kernel

_LN_2 = np.float32(np.log(2))


@kernel
def show_codes(rgb: Any, strides: tuple[int, int], shape: tuple[int, int, int], family: int, constants: Any) -> None:
    """Codes to what the network sees.

    Args:
        rgb: Flat float32 R'G'B'; overwritten.
        strides: Items from one plane and from one row to the next.
        shape: (3, height, width).
        family: 2 for PQ, 3 for HLG.
        constants: ``SeenCurve.constants``.
    """
    for plane in range(shape[0]):
        for y in range(shape[1]):
            start = plane * strides[0] + y * strides[1]
            _show_row(rgb[start : start + shape[2]], family, constants)


@kernel
def restore_codes(rgb: Any, strides: tuple[int, int], shape: tuple[int, int, int], family: int, constants: Any) -> None:
    """The way back of ``show_codes``, with the same arguments."""
    for plane in range(shape[0]):
        for y in range(shape[1]):
            start = plane * strides[0] + y * strides[1]
            _restore_row(rgb[start : start + shape[2]], family, constants)


@kernel
def _show_row(values: Any, family: int, constants: Any) -> None:
    one, zero = np.float32(1), np.float32(0)
    c0, c1, c2 = constants[0], constants[1], constants[2]
    top, slope, exponent, root_exponent = constants[3], constants[4], constants[7], constants[9]
    if family == 2:
        for x in range(values.shape[0]):
            size = abs(values[x])
            code = size if size < one else one
            root = _power(code, root_exponent)
            above = root - c0
            above = above if above > zero else zero
            seen = top * _power(above / (c1 - c2 * root), exponent) + (size - code) * slope
            values[x] = seen if values[x] >= zero else -seen
    else:
        for x in range(values.shape[0]):
            size = abs(values[x])
            code = size if size < one else one
            curved = (_exp2((code - c2) / (c0 * _LN_2)) + c1) / np.float32(12)
            light = code * code / np.float32(3) if code <= np.float32(0.5) else curved
            seen = top * _power(light, exponent) + (size - code) * slope
            values[x] = seen if values[x] >= zero else -seen


@kernel
def _restore_row(values: Any, family: int, constants: Any) -> None:
    one, zero = np.float32(1), np.float32(0)
    c0, c1, c2 = constants[0], constants[1], constants[2]
    top, per_top, per_slope = constants[3], constants[5], constants[6]
    exponent, code_exponent = constants[8], constants[10]
    if family == 2:
        for x in range(values.shape[0]):
            size = abs(values[x])
            seen = size if size < top else top
            raised = _power(seen * per_top, exponent)
            code = _power((c0 + c1 * raised) / (one + c2 * raised), code_exponent) + (size - seen) * per_slope
            values[x] = code if values[x] >= zero else -code
    else:
        twelfth = np.float32(1 / 12)
        for x in range(values.shape[0]):
            size = abs(values[x])
            seen = size if size < top else top
            light = _power(seen * per_top, exponent)
            bright = light if light > twelfth else twelfth
            curved = c0 * _LN_2 * _log2(np.float32(12) * bright - c1) + c2
            code = (np.sqrt(np.float32(3) * light) if light <= twelfth else curved) + (size - seen) * per_slope
            values[x] = code if values[x] >= zero else -code


@kernel
def _power(base: Any, exponent: Any) -> Any:
    """``base ** exponent`` for base >= 0; 0 counts as 2 ** -127."""
    return _exp2(_log2(base) * exponent)


@kernel
def _log2(x: Any) -> Any:
    bits = _as_bits(x)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    mantissa = _as_float(bits - (exponent << np.int32(23)))
    s = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
    q = s * s
    series = np.float32(1) + q * (np.float32(1 / 3) + q * (np.float32(1 / 5) + q * np.float32(1 / 7)))
    return np.float32(exponent) + s * series * (np.float32(2) / _LN_2)


@kernel
def _exp2(x: Any) -> Any:
    inside = x if x > np.float32(-126) else np.float32(-126)
    whole = np.floor(inside + np.float32(0.5))
    t = (inside - whole) * _LN_2
    series = np.float32(1 / 24) + t * (np.float32(1 / 120) + t * np.float32(1 / 720))
    series = np.float32(1) + t * (np.float32(1) + t * (np.float32(1 / 2) + t * (np.float32(1 / 6) + t * series)))
    return series * _as_float((np.int32(whole) + np.int32(127)) << np.int32(23))


@kernel
def _as_bits(x: Any) -> Any:
    return np.float32(x).view(np.int32)


@kernel
def _as_float(bits: Any) -> Any:
    return np.int32(bits).view(np.float32)
