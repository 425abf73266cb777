"""The frames in which two films differ most, and pictures of where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.atomic import write_atomic
from pipeline.assembly.png_file import encode_png
from tools.compare_figures import Codes, FrameFigures
from tools.compare_pairs import PairedFilms

WINDOW_HEIGHT_PX, WINDOW_WIDTH_PX = 360, 640
"""Largest part that is shown, pixel for pixel: three of them fill a screen of 1920."""
GAP_PX = 4
PNG_LEVEL = 6
"""zlib's own default."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstFrame:
    """A frame, and pictures of where it differs most."""

    figures: FrameFigures
    top: int
    """Of the part that is shown, pixels."""
    left: int
    a: bytes
    """PNG of the part in A."""
    b: bytes
    difference: bytes
    """PNG, grey: black where both are equal, white for `largest`."""
    side_by_side: bytes
    """PNG: A, B, their difference."""
    largest: int
    """Largest difference of a colour in that part, of 255."""


class WorstFrames:
    """Keeps the worst frames that are not close to each other. Frames that are equal are none.

    Args:
        films: Where they come from.
        count: How many are shown.
        apart: Of so many frames in a row one is shown at most, and none within half as many of a worse one.
    """

    def __init__(self, films: PairedFilms, *, count: int, apart: int) -> None:
        self._films = films
        self._count = count
        self._apart = apart
        self._kept: dict[int, tuple[FrameFigures, tuple[Codes, ...], tuple[Codes, ...]]] = {}

    def offer(self, figures: FrameFigures, a: tuple[Codes, ...], b: tuple[Codes, ...]) -> None:
        """Look at a frame; its planes are kept if it may be one of the worst."""
        place = figures.index // self._apart
        if figures.mse_all == 0 or (place in self._kept and self._kept[place][0].mse_all >= figures.mse_all):
            return
        self._kept[place] = (figures, a, b)
        if len(self._kept) > 3 * self._count:  # each that is shown rules out two neighbours at most
            del self._kept[min(self._kept, key=lambda place: self._kept[place][0].mse_all)]

    def pictures(self) -> list[WorstFrame]:
        """The frames to show, the worst first."""
        shown: list[tuple[FrameFigures, tuple[Codes, ...], tuple[Codes, ...]]] = []
        for entry in sorted(self._kept.values(), key=lambda entry: -entry[0].mse_all):
            if all(2 * abs(entry[0].index - other[0].index) >= self._apart for other in shown):
                shown.append(entry)
        return [self._picture(*entry) for entry in shown[: self._count]]

    def _picture(self, figures: FrameFigures, a: tuple[Codes, ...], b: tuple[Codes, ...]) -> WorstFrame:
        one, other = self._films.rgb(a), self._films.rgb(b)
        difference = np.abs(one.astype(np.int16) - other).max(axis=2)
        top, left = find_window(difference, height=WINDOW_HEIGHT_PX, width=WINDOW_WIDTH_PX)
        part = np.s_[top : top + WINDOW_HEIGHT_PX, left : left + WINDOW_WIDTH_PX]
        largest = int(difference[part].max())
        grey = (difference[part] * 255 // max(1, largest)).astype(np.uint8)
        panels = (one[part], other[part], np.repeat(grey[:, :, None], 3, axis=2))
        gap = np.full((panels[0].shape[0], GAP_PX, 3), 255, np.uint8)
        row = np.concatenate((panels[0], gap, panels[1], gap, panels[2]), axis=1)
        pngs = [encode_png(np.ascontiguousarray(panel), level=PNG_LEVEL) for panel in (*panels, row)]
        return WorstFrame(
            figures=figures,
            top=top,
            left=left,
            a=pngs[0],
            b=pngs[1],
            difference=pngs[2],
            side_by_side=pngs[3],
            largest=largest,
        )


def find_window(difference: NDArray[np.int16], *, height: int, width: int) -> tuple[int, int]:
    """(top, left) of the window with the largest sum of squared differences; of equal ones the topmost, then leftmost.

    Args:
        difference: (H, W), of one frame.
        height, width: Of the window, pixels; cut to the frame's.
    """
    height, width = min(height, difference.shape[0]), min(width, difference.shape[1])
    sums = np.zeros((difference.shape[0] + 1, difference.shape[1] + 1), np.int64)
    np.square(difference, dtype=np.int64, out=sums[1:, 1:])
    sums = sums.cumsum(axis=0).cumsum(axis=1)
    rows = sums[height:] - sums[:-height]
    windows = rows[:, width:] - rows[:, :-width]
    top, left = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(top), int(left)


def write_pngs(frames: list[WorstFrame], *, folder: Path) -> list[Path]:
    """Write each frame's picture, A, B and difference from left to right; the folder is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"worst-{frame.figures.index:06d}.png" for frame in frames]
    for path, frame in zip(paths, frames, strict=True):
        write_atomic(path, frame.side_by_side)
    return paths
