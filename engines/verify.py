"""Compares what two runners make of the same tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far two outputs are apart, on a scale where 1 is the range from black to white."""

    max_abs: float
    """Largest absolute difference of one value."""
    psnr_db: float
    """Peak signal-to-noise ratio, decibels; infinite if equal."""


def psnr_db(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two arrays of one shape whose values span [0, 1]: infinite if they are equal.

    Raises:
        ValueError: The shapes differ.
    """
    if left.shape != right.shape:
        raise ValueError(f"shapes differ: {left.shape} and {right.shape}")
    error = float(np.mean(np.square(left.astype(np.float64) - right.astype(np.float64))))
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def compare_arrays(left: NDArray[Any], right: NDArray[Any]) -> Difference:
    """Measure the difference of two arrays of one shape.

    Raises:
        ValueError: The shapes differ, or a value is not finite.
    """
    quality = psnr_db(left, right)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("an output holds values that are not finite")
    return Difference(
        max_abs=float(np.max(np.abs(left.astype(np.float64) - right.astype(np.float64)))), psnr_db=quality
    )


def run_once(runner: Runner, tiles: NDArray[np.float32]) -> NDArray[Any]:
    """Run one batch of exactly the runner's shape and return a new array.

    Raises:
        UnsupportedShape: The tiles are not what the runner takes.
        InferenceFailed: The library failed.
    """
    out = np.empty(runner.spec.output_shape, dtype=runner.spec.io_dtype)
    runner.infer(np.ascontiguousarray(tiles, dtype=runner.spec.io_dtype), out=out).wait()
    return out


def compare_runners(left: Runner, right: Runner, *, tiles: NDArray[np.float32]) -> Difference:
    """Run the same tiles through both and measure the difference.

    Raises:
        UnsupportedShape: The tiles are not what both take.
        InferenceFailed: A library failed.
        ValueError: An output is not finite, or the runners enlarge differently.
    """
    return compare_arrays(run_once(left, tiles), run_once(right, tiles))
