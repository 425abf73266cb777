"""Pictures to try networks on: cut from a film, and the ones that break careless arithmetic.

The film pictures lie beside this module, see ``film_tiles.md`` for their origin. Nothing is random: the same call gives
the same values on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

FILM_FILE = Path(__file__).with_name("film_tiles.npz")
"""The pictures, (H, W, 3) uint8 RGB each."""

_ROW_STEP_PX = 7
"""How far the rows of a batch that come from one picture lie apart; not a multiple of any network's block."""

_NOISE_SEED = 7
_RED, _GREEN, _BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)


@cache  # read-only arrays of a file that belongs to the package
def film_pictures() -> tuple[NDArray[np.uint8], ...]:
    """The pictures that the package carries, (H, W, 3) uint8 RGB each, read-only: grass and fur, then sharp edges."""
    with np.load(FILM_FILE) as stored:
        pictures: tuple[NDArray[np.uint8], ...] = tuple(stored[name] for name in sorted(stored.files))
    for picture in pictures:
        picture.flags.writeable = False
    return pictures


def film_tiles(*, height: int, width: int, batch: int = 1) -> NDArray[np.float32]:
    """Cut tiles from the film pictures.

    Args:
        height, width: Size of a tile in pixels, both >= 1. Tiles are cut from the middle of a picture; where one is
            larger, the picture goes on mirrored.
        batch: Number of tiles, >= 1. They take turns between the pictures, each time a bit further down.

    Returns:
        (N, 3, H, W) float32 RGB [0, 1], C-contiguous; the caller's.
    """
    pictures = film_pictures()
    tiles = np.empty((batch, 3, height, width), dtype=np.float32)
    for row in range(batch):
        turn, number = divmod(row, len(pictures))
        picture = pictures[number]
        rows = _positions(height, length=picture.shape[0], shift=turn * _ROW_STEP_PX)
        columns = _positions(width, length=picture.shape[1])
        tiles[row] = picture[rows[:, None], columns].transpose(2, 0, 1) / np.float32(255)
    return tiles


def _positions(count: int, *, length: int, shift: int = 0) -> NDArray[np.intp]:
    """``count`` neighbouring positions around the middle of [0, length), moved by ``shift`` and folded back at both
    ends: ..., 1, 0, 0, 1, ..., length - 1, length - 1, length - 2, ...
    """
    folded = (np.arange(count) + (length - count) // 2 + shift) % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def adversarial_tiles(*, height: int, width: int, batch: int = 1) -> dict[str, NDArray[np.float32]]:
    """Make pictures that no film holds: constants, extremes, the finest patterns, and noise.

    Args:
        height, width: Size of a tile in pixels, both >= 1.
        batch: Number of tiles, >= 1; all rows of a batch are equal, except for noise.

    Returns:
        (N, 3, H, W) float32 RGB [0, 1] by name, C-contiguous; the caller's.
    """
    return {name: _PATTERNS[name]((batch, 3, height, width)) for name in _PATTERNS}


def adversarial_names() -> tuple[str, ...]:
    """The names of all patterns, in order."""
    return tuple(_PATTERNS)


_Shape = tuple[int, int, int, int]


def _filled(shape: _Shape, pattern: NDArray[np.float64] | float) -> NDArray[np.float32]:
    """Repeat a pattern over the missing leading axes."""
    tiles = np.empty(shape, dtype=np.float32)
    tiles[...] = pattern
    return tiles


def _checkerboard(shape: _Shape) -> NDArray[np.float32]:
    """Black and white pixels in turn: the highest frequency there is, in both directions."""
    board = np.add.outer(np.arange(shape[2]), np.arange(shape[3])) % 2
    return _filled(shape, board.astype(np.float64))


def _noise(shape: _Shape) -> NDArray[np.float32]:
    """White noise with a fixed seed."""
    return np.random.default_rng(_NOISE_SEED).random(shape, dtype=np.float32)


def _ramps(shape: _Shape) -> NDArray[np.float32]:
    """Red grows to the right, green downwards, blue falls along both: every level, and flat areas nowhere."""
    down, right = (np.linspace(0.0, 1.0, length) for length in shape[2:])
    diagonal = 1.0 - np.add.outer(down, right) / 2.0
    planes = (np.broadcast_to(right, diagonal.shape), np.broadcast_to(down[:, None], diagonal.shape), diagonal)
    return _filled(shape, np.stack(planes))


def _points(shape: _Shape) -> NDArray[np.float32]:
    """White pixels on black, every eighth from the fifth on in both directions: the response to an impulse."""
    tiles = np.zeros(shape, dtype=np.float32)
    tiles[:, :, min(4, shape[2] // 2) :: 8, min(4, shape[3] // 2) :: 8] = 1.0
    return tiles


def _primaries(shape: _Shape) -> NDArray[np.float32]:
    """Blocks of 4x4 pixels in pure red, green, blue, yellow, cyan and magenta."""
    colours = np.asarray([_RED, _GREEN, _BLUE, (1, 1, 0), (0, 1, 1), (1, 0, 1)], dtype=np.float64)
    index = np.add.outer(np.arange(shape[2]) // 4, np.arange(shape[3]) // 4) % len(colours)
    return _filled(shape, colours[index].transpose(2, 0, 1))


_PATTERNS: Mapping[str, Callable[[_Shape], NDArray[np.float32]]] = MappingProxyType(
    {
        "black": lambda shape: _filled(shape, 0.0),
        "white": lambda shape: _filled(shape, 1.0),
        "checkerboard": _checkerboard,
        "noise": _noise,
        "ramps": _ramps,
        "points": _points,
        "primaries": _primaries,
    }
)
