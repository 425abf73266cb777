"""Milliseconds per frame of the CPU pixel kernels: colour conversion, tiling and resampling, on one thread.

    python tools/bench_pixels.py [--repeat N] [--only WORDS] [--json]

Each case runs N times on the same arrays. The best run is the cost of the kernel, because other programs on the machine
only ever make a measurement slower; the first run, which loads or compiles the kernel, is timed apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.blending import plan_blend
from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.cpu.blend import TileBlender
from pipeline.cpu.cut import TileCutter
from pipeline.frames import SampleFormat
from pipeline.resample import Light, plan_resample
from pipeline.tiling import plan_tiles

Case = tuple[str, Callable[[], None]]

FORMATS = (
    SampleFormat(matrix="bt709"),
    SampleFormat(matrix="bt2020nc", bit_depth=10),
    SampleFormat(matrix="bt709", subsampling="422"),
    SampleFormat(matrix="bt709", subsampling="444"),
)
FRAMES = ((272, 640), (1080, 1920), (1088, 2560))
RESIZES = (((1088, 2560), (816, 1920)), ((1088, 2560), (544, 1280)), ((544, 1280), (1088, 2560)))
LIGHTS: tuple[Light, ...] = ("gamma", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long one case takes."""

    name: str
    first_ms: float
    best_ms: float
    median_ms: float


def random_rgb(*, height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((3, height, width), dtype=np.float32)


def colour_cases() -> Iterator[Case]:
    for format in FORMATS:
        for height, width in FRAMES:
            rgb, out = random_rgb(height=height, width=width), random_rgb(height=height, width=width)
            planes: list[Any] = [
                np.zeros(shape, format.dtype) for shape in format.plane_shapes(height=height, width=width)
            ]
            rgb_to_planes(rgb, format, out=planes)
            name = f"{format.subsampling} {format.bit_depth}-bit {width}x{height}"
            yield f"planes to rgb {name}", partial(planes_to_rgb, planes, format, out=out)
            yield f"rgb to planes {name}", partial(rgb_to_planes, rgb, format, out=planes)
            yield f"rgb to planes dithered {name}", partial(rgb_to_planes, rgb, format, out=planes, dither=True)


def tile_cases() -> Iterator[Case]:
    grid = plan_tiles(height=272, width=640, tile_height=144, tile_width=224, overlap_px=16)
    plan = plan_blend(grid, scale=4, margin_px=4)
    cutter, blender = TileCutter(grid), TileBlender(plan)
    frame, canvas = random_rgb(height=272, width=640), random_rgb(height=1088, width=2560)
    small = np.zeros((len(grid.tiles), 3, grid.tile_height, grid.tile_width), np.float32)
    large = random_rgb(height=plan.tile_height, width=plan.tile_width)

    def cut_all() -> None:
        for index, out in enumerate(small):
            cutter.cut(frame, tile=index, out=out)

    def blend_all() -> None:
        for index in range(len(small)):
            blender.add(large, tile=index, canvas=canvas)

    yield f"cut 640x272 into {len(small)} tiles", cut_all
    yield f"blend {len(small)} tiles into 2560x1088", blend_all


def resample_cases() -> Iterator[Case]:
    for (height, width), (out_height, out_width) in RESIZES:
        rgb, out = random_rgb(height=height, width=width), random_rgb(height=out_height, width=out_width)
        for light in LIGHTS:
            plan = plan_resample(height=height, width=width, out_height=out_height, out_width=out_width, light=light)
            yield f"resample {light} {width}x{height} to {out_width}x{out_height}", partial(plan.run, rgb, out=out)


def measure(name: str, run: Callable[[], None], *, repeat: int) -> Timing:
    times_ms = []
    for _ in range(repeat + 1):
        start_s = time.perf_counter()
        run()
        times_ms.append((time.perf_counter() - start_s) * 1e3)
    first_ms, *rest_ms = times_ms
    return Timing(name=name, first_ms=first_ms, best_ms=min(rest_ms), median_ms=statistics.median(rest_ms))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20, help="timed runs per case, at least 1")
    parser.add_argument("--only", default="", help="only cases whose name contains these words")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    arguments = parser.parse_args(argv)
    if arguments.repeat < 1:
        parser.error(f"--repeat must be at least 1, not {arguments.repeat}")
    timings = []
    for cases in (colour_cases, tile_cases, resample_cases):
        for name, run in cases():
            if arguments.only in name:
                timings.append(measure(name, run, repeat=arguments.repeat))
    if arguments.json:
        print(json.dumps([asdict(timing) for timing in timings], indent=2))
        return 0
    print(f"{'case':52} {'first ms':>9} {'best ms':>8} {'median ms':>9}")
    for timing in timings:
        print(f"{timing.name:52} {timing.first_ms:9.1f} {timing.best_ms:8.2f} {timing.median_ms:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
