"""Is x2 with the downscale folded into the network as good as x4 followed by a Lanczos downscale, and how much faster?

    python tools/bench_fold.py film.mp4 --frames 6

Frames of the film are made smaller by ``--factor`` (antialiased Lanczos), enlarged x2 in both ways by the network, and
compared with the film made smaller by half that factor. Prints the mean PSNR and SSIM of the luma, the time of the
network and of the downscale for one frame, and the same for a plain bicubic enlargement.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines import DEFAULT_MODEL, EngineError, open_runner
from engines.verify import psnr_db

Picture = NDArray[np.float32]

SSIM_SIGMA_PX = 1.5
SSIM_RADIUS_PX = 5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
"""Window and constants of SSIM. Source: Wang et al. 2004, section III-C."""

BT709_LUMA = np.asarray([0.2126, 0.7152, 0.0722], dtype=np.float32)
"""Source: ITU-R BT.709-6, 3.2."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one way of enlarging reached so far."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def read_frames(path: Path, *, count: int) -> list[Picture]:
    """``count`` frames at equal distances: (3, H, W) float32 RGB [0, 1]."""
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames or sum(1 for _ in container.decode(video=0))
    wanted = set(np.linspace(0, total - 1, count + 2).astype(int)[1:-1].tolist())
    with av.open(str(path)) as container:
        return [
            np.ascontiguousarray(frame.to_ndarray(format="rgb24").transpose(2, 0, 1), dtype=np.float32)
            / np.float32(255)
            for index, frame in enumerate(container.decode(video=0))
            if index in wanted
        ]


def resize(
    picture: Picture, *, height: int, width: int, kernel: Image.Resampling = Image.Resampling.LANCZOS
) -> Picture:
    """Resample in float32; the kernel is widened when the picture gets smaller."""
    planes = [Image.fromarray(plane, mode="F").resize((width, height), kernel) for plane in picture]
    return np.stack([np.asarray(plane, dtype=np.float32) for plane in planes])


def luma(picture: Picture) -> Picture:
    """(H, W), rounded to 8 bits as a viewer gets it."""
    codes = np.rint(np.clip(picture, 0, 1) * 255).astype(np.float32) / 255
    return np.tensordot(BT709_LUMA, codes, axes=1).astype(np.float32)


def ssim(left: Picture, right: Picture) -> float:
    """Mean structural similarity of two (H, W) pictures in [0, 1]; borders that the window leaves are not counted."""
    offsets = np.arange(-SSIM_RADIUS_PX, SSIM_RADIUS_PX + 1)
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA_PX**2))
    window /= window.sum()

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis in (0, 1):
            length = values.shape[axis] - 2 * SSIM_RADIUS_PX
            values = sum(
                weight * np.take(values, np.arange(shift, shift + length), axis=axis)
                for shift, weight in enumerate(window)
            )
        return values

    a, b = left.astype(np.float64), right.astype(np.float64)
    mean_a, mean_b = smooth(a), smooth(b)
    variance_a, variance_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    similarity = ((2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    )
    return float(similarity.mean())


def compare(arguments: argparse.Namespace) -> dict[str, Tally]:
    """Enlarge every frame in all ways."""
    frames = read_frames(arguments.film, count=arguments.frames)
    half = arguments.factor // 2
    height, width = (edge // arguments.factor for edge in frames[0].shape[1:])
    names = ("x2 folded", "x4 then Lanczos", "x4 then box", "bicubic")
    tallies = {name: Tally() for name in names}
    common = {"model": arguments.model, "height": height, "width": width, "slots": 1}
    with open_runner(**common, output_scale=2) as folded, open_runner(**common) as whole:
        out2 = np.empty(folded.spec.output_shape, dtype=np.float32)
        out4 = np.empty(whole.spec.output_shape, dtype=np.float32)

        def run_folded(small: Picture) -> Picture:
            folded.infer(small[None], out=out2).wait()
            return np.asarray(out2[0], dtype=np.float32)

        def run_whole(small: Picture) -> Picture:
            whole.infer(small[None], out=out4).wait()
            return np.asarray(out4[0], dtype=np.float32)

        ways: dict[str, Callable[[Picture], Picture]] = {
            "x2 folded": run_folded,
            "x4 then Lanczos": lambda small: resize(run_whole(small), height=2 * height, width=2 * width),
            "x4 then box": lambda small: run_whole(small).reshape(3, 2 * height, 2, 2 * width, 2).mean(axis=(2, 4)),
            "bicubic": lambda small: resize(small, height=2 * height, width=2 * width, kernel=Image.Resampling.BICUBIC),
        }
        for frame in frames:
            cropped = frame[:, : height * arguments.factor, : width * arguments.factor]
            small = np.ascontiguousarray(resize(cropped, height=height, width=width))
            truth = luma(resize(cropped, height=2 * height, width=2 * width) if half > 1 else cropped)
            for name, enlarge in ways.items():
                start_s = time.perf_counter()
                result = enlarge(small)
                tallies[name].seconds.append(time.perf_counter() - start_s)
                tallies[name].psnr.append(psnr_db(luma(result), truth))
                tallies[name].ssim.append(ssim(luma(result), truth))
    return tallies


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=6, help="frames to compare, at equal distances")
    parser.add_argument("--factor", type=int, default=2, choices=(2, 4), help="how much smaller the input is made")
    arguments = parser.parse_args(argv)
    try:
        tallies = compare(arguments)
    except EngineError as exc:
        print(f"error: {exc}\nhint: {exc.hint}", file=sys.stderr)
        return 1
    print(f"{arguments.film.name}, {arguments.frames} frames, input made smaller by {arguments.factor}")
    print("way               PSNR dB    SSIM  ms per frame (best)")
    for name, tally in tallies.items():
        print(f"{name:16} {np.mean(tally.psnr):8.3f} {np.mean(tally.ssim):7.4f} {min(tally.seconds) * 1e3:9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
