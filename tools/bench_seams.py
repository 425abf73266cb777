"""How visible a seam between two tiles is, by overlap: the measurement behind ``ModelSpec.overlap_px``.

    python tools/bench_seams.py film.mp4 --model realesr-animevideov3 --overlap 0,8,16,24,32,36

A crop of some frames is enlarged whole, and as a left and a right tile that share ``overlap`` pixels and are cut in the
middle of them, all in fp32. Prints the largest difference and the PSNR in the strip of 8 input pixels on both sides of
the cut, in 8-bit codes and decibels, of the worst frame.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from engines import DEFAULT_MODEL, MODELS, EngineError, open_runner
from engines.verify import Difference, compare_arrays, run_once

STRIP_PX = 8
"""Input pixels on each side of the cut that are compared."""


def read_crops(path: Path, *, count: int, height: int, width: int) -> list[NDArray[np.float32]]:
    """The middle of ``count`` frames at equal distances: (1, 3, height, width) float32 RGB [0, 1]."""
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames or sum(1 for _ in container.decode(video=0))
    wanted = set(np.linspace(0, total - 1, count + 2).astype(int)[1:-1].tolist())
    crops = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                picture = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)[None]
                top, left = (picture.shape[2] - height) // 2, (picture.shape[3] - width) // 2
                crop = picture[:, :, top : top + height, left : left + width]
                crops.append(np.ascontiguousarray(crop, dtype=np.float32) / np.float32(255))
    return crops


def seam_difference(
    crop: NDArray[np.float32], whole: NDArray[np.float32], *, model: str, overlap_px: int
) -> Difference:
    """Enlarge a crop as two tiles and compare the strip around the cut with the crop enlarged whole."""
    _, _, height, width = crop.shape
    cut, half = width // 2, overlap_px // 2
    with open_runner(model=model, precision="fp32", height=height, width=cut + half, slots=1) as runner:
        scale = runner.spec.scale
        left = run_once(runner, crop[..., : cut + half])[..., : cut * scale]
        right = run_once(runner, crop[..., cut - half :])[..., half * scale :]
    joined = np.concatenate((left, right), axis=3)
    strip = slice((cut - STRIP_PX) * scale, (cut + STRIP_PX) * scale)
    return compare_arrays(np.clip(joined[..., strip], 0, 1), np.clip(whole[..., strip], 0, 1))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL, choices=list(MODELS))
    parser.add_argument("--overlap", default="0,4,8,12,16,20,24,32,36", help="even numbers of input pixels, comma list")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--crop", default="128x256", help="HEIGHTxWIDTH of the crop in input pixels, width even")
    arguments = parser.parse_args(argv)
    height, width = (int(edge) for edge in arguments.crop.split("x"))
    crops = read_crops(arguments.film, count=arguments.frames, height=height, width=width)
    try:
        with open_runner(model=arguments.model, precision="fp32", height=height, width=width, slots=1) as runner:
            wholes = [run_once(runner, crop) for crop in crops]
        print(f"{arguments.model}, {arguments.film.name}, {len(crops)} crops of {arguments.crop}")
        print("overlap px  max codes  PSNR dB (worst frame)")
        for overlap_px in (int(part) for part in arguments.overlap.split(",")):
            seams = [
                seam_difference(crop, whole, model=arguments.model, overlap_px=overlap_px)
                for crop, whole in zip(crops, wholes, strict=True)
            ]
            worst = max(seam.max_abs for seam in seams) * 255
            print(f"{overlap_px:10} {worst:10.3f} {min(seam.psnr_db for seam in seams):8.2f}")
    except EngineError as exc:
        print(f"error: {exc}\nhint: {exc.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
