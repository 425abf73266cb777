"""How a picture's alpha is best enlarged: by the network, as a grey picture, or by Lanczos.

Masks of several kinds (shapes, writing, hair, soft shadows) are drawn at full size, shrunk to a quarter by averaging
areas, rounded to 8 bits, enlarged again each way and compared with what they were. Prints a table in Markdown;
pipeline/README.md says what follows from it.

    python tools/measure_alpha.py [--model NAME ...] [--precision fp32]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from engines import open_runner
from engines.backend import PrecisionRequest
from pipeline.resample import plan_resample

Mask = NDArray[np.float32]
"""(H, W) coverage from 0 to 1."""

SCALE = 4
SIDE_PX = 1024
"""Of the drawn masks; a multiple of ``SCALE``."""
SUPERSAMPLING = 4
"""Points per pixel and direction when shapes are drawn."""


def draw_shapes(rng: np.random.Generator) -> Mask:
    """Discs, rings and slanted bars with hard edges."""
    side = SIDE_PX * SUPERSAMPLING
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / SUPERSAMPLING
    inside = np.zeros((side, side), dtype=bool)
    for _ in range(12):
        cy, cx, radius = *rng.uniform(0, SIDE_PX, 2), rng.uniform(20, 160)
        distance = np.hypot(y - cy, x - cx)
        inside ^= (distance < radius) & (distance > rng.choice([0.0, 0.6]) * radius)
    for _ in range(8):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-SIDE_PX / 2, SIDE_PX / 2)
        across = (x - SIDE_PX / 2) * np.cos(angle) + (y - SIDE_PX / 2) * np.sin(angle)
        inside ^= np.abs(across - offset) < rng.uniform(3, 20)
    return _average(inside.astype(np.float32), SUPERSAMPLING)


def draw_hair(rng: np.random.Generator) -> Mask:
    """Thin curved strands, one to five pixels wide, over a body."""
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
    mask = np.clip(SIDE_PX * 0.35 - np.hypot(y - SIDE_PX / 2, x - SIDE_PX / 2), 0, 1).astype(np.float32)
    for _ in range(60):
        slope, bend, start = rng.uniform(-0.8, 0.8), rng.uniform(-3e-4, 3e-4), rng.uniform(0, SIDE_PX)
        centre = start + slope * (y - SIDE_PX / 2) + bend * (y - SIDE_PX / 2) ** 2
        steepness = np.hypot(1, slope + 2 * bend * (y - SIDE_PX / 2))
        mask = np.maximum(mask, np.clip(rng.uniform(0.5, 2.5) + 0.5 - np.abs(x - centre) / steepness, 0, 1))
    hair: Mask = mask
    return hair


def draw_writing(rng: np.random.Generator) -> Mask:
    """Strokes on a grid as letters have them, hard edges at any angle of a fixed set."""
    side = SIDE_PX * SUPERSAMPLING
    inside = np.zeros((side, side), dtype=bool)
    cell = 48 * SUPERSAMPLING
    stroke = 5 * SUPERSAMPLING
    y, x = np.mgrid[0:cell, 0:cell].astype(np.float32)
    middle = cell / 2
    strokes = [
        np.abs(x - 0.25 * cell) < stroke / 2,
        np.abs(x - 0.75 * cell) < stroke / 2,
        np.abs(y - 0.2 * cell) < stroke / 2,
        np.abs(y - middle) < stroke / 2,
        np.abs((x - middle) - (y - middle) * 0.6) < stroke * 0.6,
        np.abs((x - middle) + (y - middle) * 0.6) < stroke * 0.6,
        np.abs(np.hypot(x - middle, y - middle) - 0.3 * cell) < stroke / 2,
    ]
    box = (np.abs(x - middle) < 0.35 * cell) & (np.abs(y - middle) < 0.4 * cell)
    for row in range(0, side - cell, cell):
        for column in range(0, side - cell, cell):
            chosen = rng.choice(len(strokes), 3, replace=False)
            letter = np.logical_or.reduce([strokes[number] for number in chosen]) & box
            inside[row : row + cell, column : column + cell] = letter
    return _average(inside.astype(np.float32), SUPERSAMPLING)


def draw_shadows(rng: np.random.Generator) -> Mask:
    """Soft shadows and vignettes: smooth from nothing to half."""
    y, x = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
    mask = np.zeros((SIDE_PX, SIDE_PX), dtype=np.float32)
    for _ in range(6):
        cy, cx, width = *rng.uniform(0, SIDE_PX, 2), rng.uniform(30, 200)
        mask = np.maximum(mask, rng.uniform(0.3, 1) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2)))
    shadows: Mask = mask.astype(np.float32)
    return shadows


MASKS: Mapping[str, Callable[[np.random.Generator], Mask]] = {
    "shapes": draw_shapes,
    "writing": draw_writing,
    "hair": draw_hair,
    "soft shadows": draw_shadows,
}


def enlarge_by_network(small: Mask, model: str, precision: PrecisionRequest) -> Mask:
    """As a grey picture; the mean of the three channels."""
    height, width = small.shape
    with open_runner(model=model, height=height, width=width, precision=precision) as runner:
        tile = np.ascontiguousarray(np.broadcast_to(small, (1, 3, height, width)), dtype=np.float32)
        out = np.empty(runner.spec.output_shape, dtype=np.float32)
        runner.infer(tile, out=out).wait()
    enlarged: Mask = np.clip(out[0].mean(axis=0), 0, 1)
    return enlarged


def enlarge_by_lanczos(small: Mask) -> Mask:
    """As the pipeline resamples, on the values as they are: coverage is linear."""
    height, width = small.shape
    plan = plan_resample(
        height=height, width=width, out_height=SCALE * height, out_width=SCALE * width, light="gamma", transfer=2
    )
    image = np.ascontiguousarray(np.broadcast_to(small, (3, height, width)), dtype=np.float32)
    out = np.empty((3, SCALE * height, SCALE * width), dtype=np.float32)
    plan.run(image, out=out)
    enlarged: Mask = np.clip(out[0], 0, 1)
    return enlarged


def compare(found: Mask, wanted: Mask) -> str:
    """PSNR in dB; in the empty parts, the share that is no longer quite empty."""
    mse = float(np.mean((found.astype(np.float64) - wanted) ** 2))
    empty, full = wanted == 0, wanted == 1
    dirt = 100 * float(np.mean(found[empty] > 1.5 / 255)) if empty.any() else 0.0
    holes = 100 * float(np.mean(found[full] < 1 - 1.5 / 255)) if full.any() else 0.0
    return f"{10 * np.log10(1 / mse):.2f}, {dirt:.1f} %, {holes:.1f} %"


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=["realesr-animevideov3", "RealESRGAN_x4plus"])
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args(argv)
    print("| mask | Lanczos | " + " | ".join(arguments.model) + " |")
    print("|---|---|" + "---|" * len(arguments.model))
    for name, draw in MASKS.items():
        wanted = draw(np.random.default_rng(1))
        small = (np.rint(_average(wanted, SCALE) * 255) / 255).astype(np.float32)
        cells = [compare(enlarge_by_lanczos(small), wanted)]
        cells += [compare(enlarge_by_network(small, model, arguments.precision), wanted) for model in arguments.model]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


def _average(image: Mask, factor: int) -> Mask:
    height, width = image.shape
    squares = image.reshape(height // factor, factor, width // factor, factor)
    averaged: Mask = squares.mean(axis=(1, 3), dtype=np.float32)
    return averaged


if __name__ == "__main__":
    sys.exit(main())
