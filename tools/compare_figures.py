"""How alike two pictures are: PSNR and SSIM of every plane, as ffmpeg's filters of these names define them.

PSNR is of all samples of a plane, with 2^n - 1 as the peak; that of a frame is of the mean squared errors of its
planes, each weighted by its samples. A film's is of the mean of its frames' errors, not of their decibels. SSIM is of
windows of 8x8 samples, 4 apart, all samples weighted alike. Source: FFmpeg, libavfilter/vf_psnr.c and vf_ssim.c; Wang
et al., "Image quality assessment: from error visibility to structural similarity", 2004, for K1 = 0.01 and K2 = 0.03.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cpu.kernel import kernel

MIN_SIDE_PX = 8
"""Of a plane: a window of SSIM has to fit."""

Codes = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFigures:
    """One frame of A and the frame of B in the same place."""

    index: int
    """0-based, in display order."""
    a_s: float
    """When A shows it, seconds since A's first frame."""
    b_s: float
    """When B shows it, seconds since B's first frame."""
    mse: tuple[float, ...]
    """Mean squared error of each plane, codes squared."""
    mse_all: float
    """Of the frame."""
    ssim: tuple[float, ...]
    """Of each plane."""
    ssim_all: float
    """Of the frame."""
    peak: int
    """Largest code."""
    vmaf: float | None = None
    """0 to 100; None if it was not measured."""

    @property
    def psnr_db(self) -> float:
        """Of the frame; infinite if the pictures are equal."""
        return psnr_of(self.mse_all, peak=self.peak)

    @property
    def psnr_planes_db(self) -> tuple[float, ...]:
        """Of each plane."""
        return tuple(psnr_of(error, peak=self.peak) for error in self.mse)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFigures:
    """All frames that both films have."""

    psnr_db: float
    """Of the mean error; infinite if all frames are equal."""
    psnr_planes_db: tuple[float, ...]
    ssim: float
    """Mean of the frames."""
    ssim_planes: tuple[float, ...]
    vmaf: float | None
    """Mean of the frames; None if it was not measured."""
    worst_psnr: FrameFigures
    """The frame with the lowest PSNR; of equal ones the first."""
    worst_ssim: FrameFigures
    worst_vmaf: FrameFigures | None


def psnr_of(mse: float, *, peak: int) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error; infinite for 0."""
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def compare_planes(
    a: Sequence[Codes], b: Sequence[Codes], *, bit_depth: int, index: int, a_s: float, b_s: float
) -> FrameFigures:
    """Compare two frames.

    Args:
        a, b: As many planes each, of the same shapes, C-contiguous, at least `MIN_SIDE_PX` high and wide.
        bit_depth: Of the codes of both.
        index, a_s, b_s: Of the figures.
    """
    peak = 2**bit_depth - 1
    # 64 samples make a window; what the kernel sums is 64 and 64 * 63 times what the formula has
    steady_mean, steady_variance = (0.01 * peak) ** 2 * 64, (0.03 * peak) ** 2 * 64 * 63
    errors, likeness = [], []
    for plane_a, plane_b in zip(a, b, strict=True):
        squares, ssim = _compare_plane(plane_a, plane_b, steady_mean, steady_variance)
        errors.append(squares / plane_a.size)
        likeness.append(1.0 if squares == 0 else ssim)  # without what rounding makes of it
    sizes = [plane.size for plane in a]
    return FrameFigures(
        index=index,
        a_s=a_s,
        b_s=b_s,
        mse=tuple(errors),
        mse_all=_weighted(errors, sizes),
        ssim=tuple(likeness),
        ssim_all=_weighted(likeness, sizes),
        peak=peak,
    )


def _weighted(values: Sequence[float], sizes: Sequence[int]) -> float:
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)


def with_vmaf(frames: Sequence[FrameFigures], scores: Sequence[float]) -> list[FrameFigures]:
    """The frames with their scores, of which there may be fewer."""
    scored = [replace(frame, vmaf=score) for frame, score in zip(frames, scores, strict=False)]
    return [*scored, *frames[len(scored) :]]


def summarise(frames: Sequence[FrameFigures]) -> FilmFigures:
    """Figures of a film.

    Args:
        frames: At least one.
    """
    peak = frames[0].peak
    planes = range(len(frames[0].mse))
    scored = [frame for frame in frames if frame.vmaf is not None]
    return FilmFigures(
        psnr_db=psnr_of(statistics.fmean(frame.mse_all for frame in frames), peak=peak),
        psnr_planes_db=tuple(psnr_of(statistics.fmean(frame.mse[i] for frame in frames), peak=peak) for i in planes),
        ssim=statistics.fmean(frame.ssim_all for frame in frames),
        ssim_planes=tuple(statistics.fmean(frame.ssim[i] for frame in frames) for i in planes),
        vmaf=statistics.fmean(frame.vmaf or 0.0 for frame in scored) if scored else None,
        worst_psnr=min(frames, key=lambda frame: frame.psnr_db),
        worst_ssim=min(frames, key=lambda frame: frame.ssim_all),
        worst_vmaf=min(scored, key=lambda frame: frame.vmaf or 0.0) if scored else None,
    )


@kernel
def _compare_plane(a: Any, b: Any, steady_mean: Any, steady_variance: Any) -> Any:
    """Sum of squared differences, and mean SSIM, of two (H, W) uint16 planes."""
    height, width = a.shape
    squares = np.int64(0)
    for y in range(height):
        for x in range(width):
            difference = np.int64(a[y, x]) - np.int64(b[y, x])
            squares += difference * difference
    rows, columns = height // 4, width // 4
    blocks = np.zeros((2, columns, 4), np.int64)  # of this row of blocks and the one above
    window = np.zeros(4, np.int64)
    total = 0.0
    for row in range(rows):
        for column in range(columns):
            sum_a = sum_b = of_squares = of_products = np.int64(0)
            for y in range(4 * row, 4 * row + 4):
                for x in range(4 * column, 4 * column + 4):
                    code_a, code_b = np.int64(a[y, x]), np.int64(b[y, x])
                    sum_a += code_a
                    sum_b += code_b
                    of_squares += code_a * code_a + code_b * code_b
                    of_products += code_a * code_b
            blocks[row % 2, column, 0] = sum_a
            blocks[row % 2, column, 1] = sum_b
            blocks[row % 2, column, 2] = of_squares
            blocks[row % 2, column, 3] = of_products
        if row == 0:
            continue
        for column in range(columns - 1):
            for k in range(4):
                window[k] = (
                    blocks[0, column, k] + blocks[0, column + 1, k] + blocks[1, column, k] + blocks[1, column + 1, k]
                )
            products = window[0] * window[1]
            powers = window[0] * window[0] + window[1] * window[1]
            variance = float(window[2] * 64 - powers)
            covariance = float(window[3] * 64 - products)
            above = (2.0 * products + steady_mean) * (2.0 * covariance + steady_variance)
            total += above / ((powers + steady_mean) * (variance + steady_variance))
    return squares, total / ((rows - 1) * (columns - 1))
