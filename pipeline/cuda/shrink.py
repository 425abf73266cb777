"""Changes of size that need no table: both axes shrink by the same whole number, so that all weights are the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.resample import AxisWeights, ResamplePlan

_STEPS = (2, 3, 4)
"""Whole numbers that ``finish`` shrinks by; its shared memory holds no more."""
_MOST_TAPS = 24
"""Length of ``shrink_taps`` in arguments.cuh: six lobes' width at a quarter of the size."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shrink:
    """A change of size by the same whole number on both axes: every output position is made by the same weights."""

    step: int
    """Input positions from one output position to the next."""
    taps: NDArray[np.float32]
    """Weights of the inputs from ``step * i - (len(taps) - step) // 2`` on, for output ``i``; outside the picture they
    are those of its mirror image."""


def plan_shrink(resample: ResamplePlan) -> Shrink | None:
    """The plan as ``finish`` does it in one go; None if it must go by tables."""
    step = resample.height // resample.out_height
    if step not in _STEPS:
        return None
    if (resample.out_height * step, resample.out_width * step) != (resample.height, resample.width):
        return None
    rows, columns = (_repeated(axis, step=step) for axis in (resample.rows, resample.columns))
    if rows is None or columns is None or not np.array_equal(rows, columns):
        return None
    return Shrink(step=step, taps=rows)


def _repeated(axis: AxisWeights, *, step: int) -> NDArray[np.float32] | None:
    """The weights that all positions away from the edges have; None if these differ, or there are none."""
    count, taps = axis.weights.shape
    firsts = step * np.arange(count) - (taps - step) // 2
    is_inside = (firsts >= 0) & (firsts + taps <= step * count)
    weights = axis.weights[is_inside]
    if taps > _MOST_TAPS or not len(weights) or not np.array_equal(axis.first[is_inside], firsts[is_inside]):
        return None
    return weights[0] if np.allclose(weights, weights[0], rtol=0, atol=1e-7) else None
