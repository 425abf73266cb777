"""What networks must not do to transparency: draw hidden colours into edges, and veil what is empty.

Where a picture with straight alpha is fully transparent, its colours are whatever a program left there, often black.
A network looks at all of them, and would draw a rim of that colour around what is seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_transparent(rgb: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give fully transparent pixels the colours of what is seen around them.

    Averages weighted by alpha over squares of 2, 4, 8 ... pixels: each pixel takes that of the smallest square around
    it in which something is seen.

    Args:
        rgb: (3, H, W); not written to.
        alpha: (H, W), 0 to 1.

    Returns:
        (3, H, W): seen pixels as they were; all of them if nothing is seen.
    """
    if alpha.min() > 0 or alpha.max() <= 0:
        return rgb
    height, width = alpha.shape
    padding = ((0, height % 2), (0, width % 2))
    weights = np.pad(alpha, padding)
    colours = np.pad(rgb * alpha, ((0, 0), *padding))
    coarse_weights = _sum_squares(weights)
    coarse = np.divide(_sum_squares(colours), np.where(coarse_weights > 0, coarse_weights, 1), dtype=np.float32)
    if coarse_weights.size > 1:
        # what counts is how much is seen there: not more than all of it
        coarse = fill_transparent(coarse, np.minimum(coarse_weights, np.float32(1)))
    fine: NDArray[np.float32] = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    return np.where(alpha > 0, rgb, fine)


def hold_flat(enlarged: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep wholly transparent and wholly opaque areas so: a network leaves a veil on them.

    Measured (``tools/measure_alpha.py``): RealESRGAN_x4plus makes up to 4 of 255 out of nothing,
    realesr-animevideov3 254 out of 255. Where a pixel and its eight neighbours are empty or full, the result is too.

    Args:
        enlarged: (H, W), 0 to 1.
        alpha: (h, w), 0 to 1: what it was made of.
    """
    height, width = alpha.shape
    padded = np.pad(alpha, 1, mode="edge")
    around = [padded[row : row + height, column : column + width] for row in range(3) for column in range(3)]
    rows = _nearest(height, enlarged.shape[0])
    columns = _nearest(width, enlarged.shape[1])
    is_empty = (np.maximum.reduce(around) <= 0)[rows][:, columns]
    is_full = (np.minimum.reduce(around) >= 1)[rows][:, columns]
    held: NDArray[np.float32] = np.where(is_empty, np.float32(0), np.where(is_full, np.float32(1), enlarged))
    return held


def _nearest(length: int, out_length: int) -> NDArray[np.intp]:
    """For each sample of the result, the source's sample in which its centre lies."""
    return ((np.arange(out_length) + 0.5) * length / out_length).astype(np.intp)


def _sum_squares(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    return planes[..., ::2, ::2] + planes[..., 1::2, ::2] + planes[..., ::2, 1::2] + planes[..., 1::2, 1::2]
