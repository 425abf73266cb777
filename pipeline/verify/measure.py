"""Figures of how a result's frame differs from its source's frame. No verdicts: those are `pipeline.verify.judge`'s."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Matrix
from pipeline.verify.picture import Picture, rgb_matrix, turned

BLOCK_PX = 16
"""Side of the blocks whose means are compared, pixels of the grid: small beside a tile, so that a lost one fills some
whatever its place, and large enough that what a network adds and removes averages out."""
_ORDER_BLOCK_PX = 4
_LEAST_SIDE_PX = 24
"""Smaller pictures say nothing of a shift: pixel art of 16x16 seemed to be off by 0.2 pixels (animevideov3)."""
_IDENTICAL_DB = 120.0
"""Given for equal pictures, whose PSNR has no bound; far beyond what 16 bits can show."""
_LUMA_BIAS, _CHROMA_BIAS = 0.08, 0.03
"""By how much a network itself may move the mean of a picture: by up to 0.070 of luma and 0.020 of chroma where it is
flat (greys and tints from black to white, the three networks of ``floors``), and so in every fade. A bias within this
is taken out before colours and neighbours are compared: it would look like a range mistaken, or the next frame of a
fade."""
_LEAST_TURN_RMS = 0.002
"""Half a code of 8 bits. A film read as BT.2020 instead of BT.709 may differ by 0.0023 only."""
_LEAST_CONTRAST_RMS = 0.006
"""Of mistakes that take contrast or colour away, or add some, more is asked: of flat pictures networks do that too. Two
good frames of bikes (64x64, x4plus, 40 dB), no block of which was off by more than 0.0088, looked as if their range was
mistaken. Such a mistake makes 0.006 of every picture whose brightness varies by 0.043."""
_EXPLAINED = 0.5
"""Share of the squared difference that may be left over where a shift explains it."""
_BORDER_PX = 4
"""Left out at the edges where a shift is estimated: there, every resampler repeats or mirrors in its own way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The block that differs most."""

    difference: float
    """Of the block's mean, luma or chroma, nominal units; the larger."""
    top: int
    """Pixels of the grid."""
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """By how much a picture is shifted."""

    down: float
    """Pixels of the grid."""
    right: float
    contrast: float
    """Root mean square gradient in the flattest direction, nominal per pixel: how surely it can be told."""

    @property
    def length(self) -> float:
        """The longer one of both ways."""
        return max(abs(self.down), abs(self.right))


def psnr_db(source: NDArray[np.float32], result: NDArray[np.float32]) -> float:
    """Peak signal to noise ratio of two arrays in nominal units, peak 1."""
    error = float(np.mean(np.square(result - source), dtype=np.float64))
    if not math.isfinite(error):
        return 0.0
    return _IDENTICAL_DB if error <= 10 ** (-_IDENTICAL_DB / 10) else -10 * math.log10(error)


def block_means(plane: NDArray[np.float32], *, height_px: int, width_px: int) -> NDArray[np.float32]:
    """Means of blocks; those at the lower and right edge take what is left.

    Args:
        plane: (rows, columns).
        height_px: Of a block, samples, >= 1.
        width_px: The same across.
    """
    across = _sum_runs(_sum_runs(plane, height_px).T, width_px).T
    heights = np.minimum(height_px, plane.shape[0] - np.arange(0, plane.shape[0], height_px))
    widths = np.minimum(width_px, plane.shape[1] - np.arange(0, plane.shape[1], width_px))
    return np.asarray(across / (heights[:, None] * widths).astype(np.float32))


def _sum_runs(plane: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Sums of so many rows each, the last of what is left. Row by row: much faster than ``reduceat``."""
    whole = len(plane) // length * length
    total = np.zeros((-(-len(plane) // length), plane.shape[1]), dtype=np.float32)
    for row in range(length):
        total[: whole // length] += plane[row:whole:length]
    if whole < len(plane):
        total[-1] = plane[whole:].sum(axis=0)
    return total


def colour_blocks(picture: Picture) -> NDArray[np.float32]:
    """(3, rows, columns) block means of Y', Cb, Cr; one block is ``BLOCK_PX`` pixels of luma wide and high."""
    height_px = BLOCK_PX // 2 if picture.chroma.shape[1] < picture.luma.shape[0] else BLOCK_PX
    width_px = BLOCK_PX // 2 if picture.chroma.shape[2] < picture.luma.shape[1] else BLOCK_PX
    luma = block_means(picture.luma, height_px=BLOCK_PX, width_px=BLOCK_PX)
    return np.stack([luma, *(block_means(p, height_px=height_px, width_px=width_px) for p in picture.chroma)])


def worst_block(source: NDArray[np.float32], result: NDArray[np.float32]) -> Worst:
    """The block of ``colour_blocks`` whose mean differs most."""
    difference = np.abs(result - source).max(axis=0)
    row, column = np.unravel_index(int(difference.argmax()), difference.shape)
    return Worst(difference=float(difference[row, column]), top=int(row) * BLOCK_PX, left=int(column) * BLOCK_PX)


def colour_cast(source: Picture, result: Picture) -> float:
    """By how much the mean of Cb or Cr differs, nominal units; the larger."""
    return float(np.abs(np.mean(result.chroma - source.chroma, axis=(1, 2), dtype=np.float64)).max())


def roughness(plane: NDArray[np.float32]) -> float:
    """How much neighbouring samples differ: the standard deviation of white noise; the larger of both directions.

    Every fourth row and column is looked at.
    """
    steps = [np.diff(part, axis=1) for part in (plane[::4], plane.T[::4]) if part.shape[1] > 1]
    return max((math.sqrt(float(np.mean(np.square(step))) / 2) for step in steps), default=0.0)


def slip_of(source: NDArray[np.float32], result: NDArray[np.float32], *, contrast: float, faint: float) -> Slip | None:
    """Estimate how far a picture was shifted, by least squares on its gradients.

    Source: Lucas and Kanade, "An iterative image registration technique", IJCAI 1981; one step, on smoothed pictures.

    Args:
        source: (H, W) luma, nominal.
        result: The same of the result.
        contrast: Root mean square gradient, nominal per pixel, that there must be in every direction.
        faint: The same where the shift explains the difference: more than half of it goes with it.

    Returns:
        The shift; None for pictures too small or too flat to tell.
    """
    if min(source.shape) < _LEAST_SIDE_PX:
        return None
    before, after = _smooth(source), _smooth(result)
    inside = np.s_[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX]
    middle = (before + after) / 2
    down = np.gradient(middle, axis=0)[inside].astype(np.float64).ravel()
    right = np.gradient(middle, axis=1)[inside].astype(np.float64).ravel()
    change = (after - before)[inside].astype(np.float64).ravel()
    change -= change.mean()  # a change of brightness is no shift
    across = _mean_product(down, right)
    normal = np.array([[_mean_product(down, down), across], [across, _mean_product(right, right)]])
    flattest = float(np.linalg.eigvalsh(normal)[0])
    if flattest < faint**2:
        return None
    moved = -np.linalg.solve(normal, np.array([_mean_product(down, change), _mean_product(right, change)]))
    if flattest < contrast**2:
        rest = change + moved[0] * down + moved[1] * right
        if _mean_product(rest, rest) > _EXPLAINED * _mean_product(change, change):
            return None
    return Slip(down=float(moved[0]), right=float(moved[1]), contrast=math.sqrt(flattest))


def _mean_product(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Not ``@``, which wakes a thread on every core for it: 37 times the processor time where others work there too."""
    return float(np.mean(one * other))


def _smooth(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Binomial 1-4-6-4-1 in both directions, edges repeated."""
    padded = np.pad(plane, 2, mode="edge")
    rows = (padded[:-4] + padded[4:] + 4 * (padded[1:-3] + padded[3:-1]) + 6 * padded[2:-2]) / np.float32(16)
    return np.asarray(
        (rows[:, :-4] + rows[:, 4:] + 4 * (rows[:, 1:-3] + rows[:, 3:-1]) + 6 * rows[:, 2:-2]) / np.float32(16)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How a result's frame stands between its own source frame and another one."""

    lean: float
    """0 where it is its own source's, 1 where it is the other's (projection on the line between them)."""
    own_rms: float
    """Difference from its own source, nominal, blocks of 4 pixels."""
    other_rms: float
    apart_rms: float
    """Between the two source frames."""


def likeness(own: Picture, result: Picture, other: Picture) -> Likeness:
    """Compare a result's frame with its own source frame and with a neighbour of that."""
    side_px = _ORDER_BLOCK_PX
    mine, made, theirs = (block_means(p.luma, height_px=side_px, width_px=side_px) for p in (own, result, other))
    gap, error = (theirs - mine).ravel().astype(np.float64), (made - mine).ravel().astype(np.float64)
    error -= np.clip(error.mean(), -_LUMA_BIAS, _LUMA_BIAS)
    apart = _mean_product(gap, gap)
    return Likeness(
        lean=_mean_product(error, gap) / apart if apart > 0 else 0.0,
        own_rms=_rms(error),
        other_rms=_rms(error - gap),
        apart_rms=math.sqrt(apart),
    )


def _rms(values: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """A way in which colours are commonly mistaken: (Y', Cb, Cr) becomes ``turn @ (Y', Cb, Cr) + offset``."""

    words: str
    turn: NDArray[np.float64]
    """(3, 3)."""
    offset: NDArray[np.float64]
    """(3,)."""
    least_rms: float
    """What a result has to differ by, so that it can be this mistake, as ``ColourFit.rms``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourFit:
    """How well the colours of a frame fit, as they should be and as if mistaken."""

    rms: float
    """Difference of the blocks, nominal, all three components together, but for what a network adds to their means."""
    mistake: str
    """The mistake that explains the result best; empty if it differs by too little for any."""
    mistaken_rms: float
    """What it leaves unexplained; without bound if there is none."""


def fit_colours(source: NDArray[np.float32], result: NDArray[np.float32], *, matrix: Matrix) -> ColourFit:
    """Look whether the block means of a result are those of its source mistaken in a known way.

    Args:
        source: From ``colour_blocks``.
        result: The same of the result.
        matrix: Of both.
    """
    before = source.reshape(3, -1).astype(np.float64)
    after = result.reshape(3, -1).astype(np.float64)
    rms = _rms(_unbiased(after - before))
    tries = [
        (_rms(_unbiased(after - turned(mistake.turn, before) - mistake.offset[:, None])), mistake.words)
        for mistake in mistakes(matrix)
        if rms > mistake.least_rms
    ]
    mistaken_rms, words = min(tries, default=(math.inf, ""))
    return ColourFit(rms=rms, mistake=words, mistaken_rms=mistaken_rms)


def _unbiased(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, blocks) differences without what a network may add to the mean of each component."""
    most = np.array([[_LUMA_BIAS], [_CHROMA_BIAS], [_CHROMA_BIAS]])
    return np.asarray(difference - np.clip(difference.mean(axis=1, keepdims=True), -most, most))


@cache
def mistakes(matrix: Matrix) -> tuple[Mistake, ...]:
    """Every wrong matrix, on the way in or out, with every wrong range; and exchanged or missing colours."""
    return tuple(_mistakes(matrix))


def _mistakes(matrix: Matrix) -> Iterator[Mistake]:
    own = rgb_matrix(matrix)
    nothing = np.zeros(3)
    turns = [("", np.eye(3))]
    for other in ("bt601", "bt709", "bt2020nc"):
        if other != matrix:
            wrong = rgb_matrix(other)
            turns.append((f"read as {other} instead of {matrix}", np.linalg.inv(own) @ wrong))
            turns.append((f"written as {other} instead of {matrix}", np.linalg.inv(wrong) @ own))
    # 8-bit codes; deeper ones differ by less than a thousandth. Source: ITU-T H.273 8.3
    squeeze, lift = np.diag([219 / 255, 224 / 255, 224 / 255]), np.array([16 / 255, 0, 0])
    stretch = np.diag([255 / 219, 255 / 224, 255 / 224])
    ranges = [
        ("", np.eye(3), nothing),
        ("full range taken for limited", stretch, np.array([-16 / 219, 0, 0])),
        ("limited range taken for full", squeeze, lift),
    ]
    for turn_words, turn in turns:
        for range_words, scale, offset in ranges:
            words = " and ".join(part for part in (turn_words, range_words) if part)
            if words:
                yield Mistake(words, scale @ turn, offset, _LEAST_CONTRAST_RMS if range_words else _LEAST_TURN_RMS)
    swap = np.eye(3)[[0, 2, 1]]
    yield Mistake("Cb and Cr exchanged", swap, nothing, _LEAST_TURN_RMS)
    red_for_blue = np.linalg.inv(own) @ np.eye(3)[[2, 1, 0]] @ own
    yield Mistake("red and blue exchanged", red_for_blue, nothing, _LEAST_TURN_RMS)
    yield Mistake("without colour", np.diag([1.0, 0, 0]), nothing, _LEAST_CONTRAST_RMS)
