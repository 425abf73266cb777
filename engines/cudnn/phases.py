"""Convolutions of an enlarged picture without enlarging it.

Where every pixel is repeated ``factor`` times, the taps of a kernel that fall on copies of one pixel can be added up
beforehand. What is left is one smaller convolution of the small picture for each of factor x factor phases of the
result; a 3x3 kernel after a doubling becomes four of 2x2, which is 4/9 of the arithmetic, and the enlarged picture is
never written. Zero padding stays zero padding: what lies outside the enlarged picture lies outside the small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phase:
    """One of factor x factor convolutions."""

    row: int
    """First row of the result that it computes; then every ``factor``-th."""
    column: int
    """First column."""
    kernel: NDArray[np.float32]
    """(outputs, inputs, rows, columns)."""
    pad_before: tuple[int, int]
    """Zeros above and left of the small picture."""
    pad_after: tuple[int, int]
    """Zeros below and right of it."""


def split_phases(kernel: NDArray[np.float32], *, factor: int) -> tuple[Phase, ...]:
    """Split a convolution of an enlarged picture.

    Args:
        kernel: (outputs, inputs, K, K), K odd, zero padding of K // 2.
        factor: How often each pixel was repeated along both axes.
    """
    return tuple(
        _phase(kernel, row=row, column=column, factor=factor) for row in range(factor) for column in range(factor)
    )


def _phase(kernel: NDArray[np.float32], *, row: int, column: int, factor: int) -> Phase:
    sums, (top, bottom) = _gather(kernel.astype(np.float64), axis=2, phase=row, factor=factor)
    sums, (left, right) = _gather(sums, axis=3, phase=column, factor=factor)
    return Phase(
        row=row,
        column=column,
        kernel=sums.astype(np.float32),
        pad_before=(top, left),
        pad_after=(bottom, right),
    )


def _gather(
    kernel: NDArray[np.float64], *, axis: int, phase: int, factor: int
) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Add up the taps along one axis that read the same small pixel."""
    radius = kernel.shape[axis] // 2
    places = [(phase + tap) // factor for tap in range(-radius, radius + 1)]
    taps = np.moveaxis(kernel, axis, 0)
    sums = np.zeros((places[-1] - places[0] + 1, *taps.shape[1:]))
    for tap, place in enumerate(places):
        sums[place - places[0]] += taps[tap]
    return np.moveaxis(sums, 0, axis), (-places[0], places[-1])
