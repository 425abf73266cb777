"""Area averaging of planes onto another grid, each output sample the mean of the box it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT = 1e-9
"""Boxes closer than this to whole samples are whole: positions are sums of a few products of float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Where the samples of a plane lie along one axis of the image."""

    size_px: int
    """Luma pixels of the image along the axis."""
    step_px: int
    """Luma pixels from one sample to the next: 1, or 2 where chroma is halved."""
    offset_px: float = 0.0
    """Luma pixel at which the first sample lies: 0; 0.5 for one midway, 1 for one on the second."""

    @property
    def count(self) -> int:
        """Samples along the axis."""
        return -(-self.size_px // self.step_px)


def boxes(source: Axis, target: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The part of the source that each target sample stands for.

    Args:
        source: Axis of the plane that is reduced.
        target: Axis of the result; it spans the same picture.

    Returns:
        (target.count,) starts and stops, in source samples, half-open, each at least 1/1000 sample long and within the
        plane.
    """
    ratio = source.size_px / target.size_px
    centres = np.arange(target.count) * target.step_px + target.offset_px + 0.5
    reach = target.step_px / 2

    def samples(position_px: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return (position_px * ratio - source.offset_px - 0.5) / source.step_px + 0.5

    longest = source.count
    starts = np.clip(samples(centres - reach), 0, longest - 1e-3)
    return starts, np.clip(samples(centres + reach), starts + 1e-3, longest)


def reduce_plane(
    plane: NDArray[np.generic], *, rows: tuple[Axis, Axis], columns: tuple[Axis, Axis]
) -> NDArray[np.float32]:
    """Average a plane onto another grid.

    Args:
        plane: (rows, columns), unsigned integers or floats; only read.
        rows: Axes of the plane and of the result from top to bottom.
        columns: The same from left to right.

    Returns:
        (target rows, target columns) float32, in the plane's unit.
    """
    (top, below), (left, right) = boxes(*rows), boxes(*columns)
    height, width = _whole(top, below, of=plane.shape[0]), _whole(left, right, of=plane.shape[1])
    if height and width:
        return _mean_of_whole(plane, height=height, width=width)
    across = _reduce_rows(plane, top, below)
    # columns are the rows of the transposed plane, which is smaller by now
    return np.ascontiguousarray(_reduce_rows(np.ascontiguousarray(across.T), left, right).T)


def _whole(starts: NDArray[np.float64], stops: NDArray[np.float64], *, of: int) -> int:
    """Samples in each box, if all have as many whole ones, one behind the other; else 0."""
    length = round(stops[0] - starts[0])
    whole = np.arange(len(starts)) * length
    is_whole = (
        length >= 1
        and len(starts) * length == of
        and bool((np.abs(starts - whole) < _EXACT).all())
        and bool((np.abs(stops - whole - length) < _EXACT).all())
    )
    return length if is_whole else 0


def _mean_of_whole(plane: NDArray[np.generic], *, height: int, width: int) -> NDArray[np.float32]:
    """Means of blocks, summed exactly where samples are integers."""
    if height == width == 1:
        return plane.astype(np.float32)
    kind = np.float32
    if plane.dtype.kind == "u":
        kind = np.uint16 if plane.dtype.itemsize == 1 and height * width <= 256 else np.uint32  # type: ignore[assignment]
    across = plane[0::height].astype(kind)
    for row in range(1, height):
        across += plane[row::height]  # type: ignore[arg-type]
    total = across[:, 0::width].copy()
    for column in range(1, width):
        total += across[:, column::width]
    return np.asarray(total.astype(np.float32) * np.float32(1 / (height * width)))


def _reduce_rows(
    plane: NDArray[np.generic], starts: NDArray[np.float64], stops: NDArray[np.float64]
) -> NDArray[np.float32]:
    if length := _whole(starts, stops, of=len(plane)):
        total = plane[0::length].astype(np.float32)
        for row in range(1, length):
            total += plane[row::length].astype(np.float32)
        return total if length == 1 else total / np.float32(length)
    first = np.floor(starts).astype(np.intp)
    means = np.zeros((len(starts), plane.shape[1]), dtype=np.float32)
    for tap in range(int((np.ceil(stops) - first).max())):
        inside = np.minimum(stops, first + tap + 1) - np.maximum(starts, first + tap)
        share = (np.clip(inside, 0, None) / (stops - starts)).astype(np.float32)
        means += plane[np.minimum(first + tap, len(plane) - 1)] * share[:, None]
    return means
