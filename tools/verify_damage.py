"""Ways in which results go wrong, done to frames in memory: what the picture check must find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Frame, Matrix
from pipeline.verify.picture import rgb_matrix, turned, ycc_matrix
from pipeline.verify.reading import FrameReader

Planes = tuple[NDArray[Any], ...]
Damage = Callable[[Frame], Planes]
TILE_SHARE = 4
"""A tile is lost that is so many times narrower and lower than the picture."""
TINT_CODES = 8
"""Added to Cr, codes of 8 bits."""


class SpoiltFrames:
    """Frames of a result, each spoilt. See ``FrameReader``.

    Args:
        frames: The result's frames, by number.
        damage: What becomes of each one's planes.
        order: Number of the frame that is given for each one.
    """

    def __init__(
        self, frames: Mapping[int, Frame], damage: Damage, *, order: Callable[[int], int] = lambda index: index
    ) -> None:
        self._frames = frames
        self._damage = damage
        self._order = order

    def frame(self, index: int) -> Frame | None:
        """See ``FrameReader.frame``."""
        found = self._frames.get(self._order(index))
        return None if found is None else replace(found, planes=self._damage(found))


class HeldFrames:
    """Frames that are read once and given any number of times. See ``FrameReader``."""

    def __init__(self, reader: FrameReader, *, count: int) -> None:
        read = {index: reader.frame(index) for index in range(count)}
        self.frames = {
            index: replace(frame, planes=tuple(plane.copy() for plane in frame.planes))
            for index, frame in read.items()
            if frame is not None
        }

    def frame(self, index: int) -> Frame | None:
        """See ``FrameReader.frame``."""
        return self.frames.get(index)


def change_codes(good: Frame, bad: Planes) -> float:
    """Root mean square of what a damage changes, codes of 8 bits, of the plane that it changes most."""
    step = 2.0 ** (good.format.bit_depth - 8)
    pairs = zip(good.planes, bad, strict=True)
    return max(float(np.sqrt(np.mean(np.square((a.astype(float) - b) / step)))) for a, b in pairs)


def _recoloured(frame: Frame, turn: NDArray[np.float64], *, offset: float = 0.0) -> Planes:
    """Limited 4:2:0 codes through a matrix; chroma counts for all luma beside it."""
    step = 2.0 ** (frame.format.bit_depth - 8)
    zero = np.array([16, 128, 128])[:, None, None] * step
    span = np.array([219, 224, 224])[:, None, None] * step
    height, width = frame.planes[0].shape
    wide = [np.repeat(np.repeat(plane, 2, 0), 2, 1)[:height, :width] for plane in frame.planes[1:]]
    made = turned(turn, (np.stack([frame.planes[0], *wide]) - zero) / span)
    made[0] += offset
    codes = np.clip(np.rint(made * span + zero), 0, 2**frame.format.bit_depth - 1).astype(frame.planes[0].dtype)
    return codes[0], codes[1, ::2, ::2], codes[2, ::2, ::2]


def _read_as(wrong: Matrix) -> Damage:
    return lambda frame: _recoloured(frame, ycc_matrix(frame.format.matrix) @ rgb_matrix(wrong))


def _other(frame: Frame) -> Planes:
    """BT.601 and BT.709 mixed up, whichever it is."""
    return _read_as("bt709" if frame.format.matrix == "bt601" else "bt601")(frame)


def _filled(frame: Frame, luma: int, chroma: int) -> Planes:
    step = 2 ** (frame.format.bit_depth - 8)
    return tuple(np.full_like(plane, (chroma if index else luma) * step) for index, plane in enumerate(frame.planes))


def _without_tile(frame: Frame) -> Planes:
    """One tile is black: the second in both directions."""
    spoilt = [plane.copy() for plane in frame.planes]
    for plane, black in zip(spoilt, _filled(frame, 16, 128), strict=True):
        rows, columns = (slice(side // TILE_SHARE, 2 * side // TILE_SHARE) for side in plane.shape)
        plane[rows, columns] = black[rows, columns]
    return tuple(spoilt)


def _tinted(frame: Frame) -> Planes:
    step = 2 ** (frame.format.bit_depth - 8)
    limit = 2**frame.format.bit_depth - 1
    red = np.minimum(frame.planes[2].astype(np.int32) + TINT_CODES * step, limit)
    return frame.planes[0], frame.planes[1], red.astype(frame.planes[2].dtype)


DAMAGES: Mapping[str, Damage] = MappingProxyType(
    {
        "tint": _tinted,
        "Cb for Cr": lambda frame: (frame.planes[0], frame.planes[2], frame.planes[1]),
        "601 for 709": _other,
        "2020 for it": _read_as("bt2020nc"),
        "limited as full": lambda frame: _recoloured(
            frame, np.diag([219 / 255, 224 / 255, 224 / 255]), offset=16 / 255
        ),
        "full as limited": lambda frame: _recoloured(
            frame, np.diag([255 / 219, 255 / 224, 255 / 224]), offset=-16 / 219
        ),
        "black": lambda frame: _filled(frame, 16, 128),
        "NaN": lambda frame: _filled(frame, 0, 0),
        "lost tile": _without_tile,
        "1 px right": lambda frame: (np.roll(frame.planes[0], 1, axis=1), *frame.planes[1:]),
        "1 px down": lambda frame: (np.roll(frame.planes[0], 1, axis=0), *frame.planes[1:]),
    }
)
"""By name; exchanged frames beside."""


def exchanged(index: int) -> int:
    """The number of the frame that lies where frame ``index`` should: neighbours have changed places."""
    return index ^ 1
