"""How close is close: the tolerances of the whole test suite, each with the measurement behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCE_RGB_ATOL = 1e-6
"""R'G'B' of ``planes_to_rgb`` against float64. Measured: 2.0e-7 over all formats in test_colour.py."""

REFERENCE_CODES = 1
"""Codes of ``rgb_to_planes`` against float64; they differ where float32 falls on the other side of a half."""

ZIMG_RGB_ATOL = 1e-6
"""R'G'B' of ``planes_to_rgb`` against zscale with ``filter=bicubic``, away from the edges. Measured: 2.4e-7."""

RESAMPLE_ATOL = 2e-5
"""``ResamplePlan.run`` on encoded values against a float64 matrix product, inputs in about [-3, 3]."""

LIGHT_ATOL = 2e-5
"""Codes to light and back. Measured: 1.1e-5 for PQ, 4e-7 for all other curves; a 10-bit code is 1e-3."""


def psnr(found: Any, wanted: Any, *, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB over all samples; infinite if the arrays are equal."""
    error = float(np.mean((np.asarray(found, dtype=np.float64) - np.asarray(wanted, dtype=np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def worst(found: Any, wanted: Any) -> float:
    """Largest absolute difference; infinite if either holds NaN."""
    difference = np.abs(np.asarray(found, dtype=np.float64) - np.asarray(wanted, dtype=np.float64))
    return float("inf") if np.isnan(difference).any() else float(difference.max(initial=0.0))


def assert_frames_close(
    found: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]], *, codes: int = 0, psnr_db: float | None = None
) -> None:
    """Three planes agree within ``codes`` in every sample and, if given, to at least ``psnr_db`` over each plane."""
    assert len(found) == len(wanted)
    for index, (plane, reference) in enumerate(zip(found, wanted, strict=True)):
        assert plane.shape == reference.shape, f"plane {index}: {plane.shape} instead of {reference.shape}"
        difference = worst(plane, reference)
        assert difference <= codes, f"plane {index} is off by {difference} codes, {codes} allowed"
        if psnr_db is not None:
            peak = float(np.iinfo(reference.dtype).max)
            reached = psnr(plane, reference, peak=peak)
            assert reached >= psnr_db, f"plane {index} reaches {reached:.2f} dB, {psnr_db} wanted"
