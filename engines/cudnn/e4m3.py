"""float8 with four bits of exponent and three of fraction: numbers as the GPU rounds them, on the processor.

No infinity; the largest number is 448, the smallest above zero 2^-9, from 2^-6 on three bits of fraction. Source:
Micikevicius et al. 2022, "FP8 formats for deep learning", table 1.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 448.0
_FRACTION_BITS: Final = 3
_LEAST_EXPONENT: Final = -6
_BIAS: Final = 7


def rounded_to_e4m3(values: NDArray[Any]) -> NDArray[np.float32]:
    """Each number's nearest in e4m3, ties to even; what is too large becomes the largest."""
    size = np.minimum(np.abs(np.asarray(values, np.float64)), LARGEST)
    step = np.exp2(_exponents(size) - _FRACTION_BITS)
    rounded: NDArray[np.float32] = np.copysign(np.rint(size / step) * step, values).astype(np.float32)
    return rounded


def bits_of_e4m3(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bytes of numbers that are in e4m3 already."""
    size = np.abs(values.astype(np.float64))
    exponents = _exponents(size)
    steps = np.rint(size / np.exp2(exponents - _FRACTION_BITS)).astype(np.int64)  # 8 to 15 if normal, else below 8
    magnitude = np.where(steps < 8, steps, ((exponents + _BIAS).astype(np.int64) << _FRACTION_BITS) + steps - 8)
    bits: NDArray[np.uint8] = (magnitude + 128 * np.signbit(values)).astype(np.uint8)
    return bits


def _exponents(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the power of two below each number, at least that of the smallest normal number."""
    exponents: NDArray[np.float64] = np.maximum(np.frexp(size)[1] - 1, _LEAST_EXPONENT).astype(np.float64)
    return exponents
