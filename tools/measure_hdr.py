"""Which values a network trained on SDR should see of an HDR film: its PQ codes, or a curve that looks like SDR.

Graded HDR frames (real films expanded to a mastering peak, and synthetic highlights, gradients, stars and saturated
colours) are shrunk to a quarter in light, rounded to 10-bit PQ or HLG, enlarged again by the network through each
transform, and compared with what they were. With ``--resample`` they are compared at half their size, to which the
network's result is shrunk as ``scale.light: gamma`` does it: what the network made, or codes made of that. Prints a
table in Markdown; pipeline/README.md says what follows from it.

    python tools/measure_hdr.py --films FILM... [--coding hlg] [--resample seen] [--model NAME] [--precision fp32]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from engines import open_runner
from pipeline.resample import plan_resample

Image = NDArray[np.float64]
"""(3, H, W) R'G'B' of BT.2020 primaries; light in cd/m2 or PQ codes from 0 to 1, as the name says."""

HEIGHT, WIDTH = 256, 448
REFERENCE_WHITE = 203.0
"""cd/m2 of SDR's white in an HDR picture. Source: ITU-R BT.2408, table 1."""
CODES = 1023
"""10 bits, full range, which is what the arithmetic sees."""


@dataclass(frozen=True, slots=True)
class Transform:
    """From light to what the network sees, and back."""

    forward: Callable[[Image, float], Image]
    """Light in cd/m2 and the mastering peak -> nominally [0, 1]."""
    backward: Callable[[Image, float], Image]


def to_pq(light: Image) -> Image:
    """cd/m2 -> codes. Source: ITU-R BT.2100-2 table 4."""
    power = (np.clip(light, 0, None) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def from_pq(code: Image) -> Image:
    """Codes -> cd/m2; the way back of ``to_pq``."""
    root = np.clip(code, 0, 1) ** (32 / 2523)
    return 10_000 * (np.clip(root - 3424 / 4096, 0, None) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)


def _to_hlg(light: Image, peak: float) -> Image:
    """Light relative to the peak -> HLG. Source: ITU-R BT.2100-2 table 5."""
    scene = np.clip(light, 0, None) / peak
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def _from_hlg(code: Image, peak: float) -> Image:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = np.clip(code, 0, None)
    return peak * np.where(code <= 0.5, code**2 / 3, (np.exp((np.minimum(code, 1.2) - c) / a) + b) / 12)


def _signed_power(values: Image, exponent: float) -> Image:
    return np.sign(values) * np.abs(values) ** exponent


TRANSFORMS: Mapping[str, Transform] = {
    "PQ codes as they are": Transform(lambda light, _: to_pq(light), lambda code, _: from_pq(code)),
    "PQ codes, peak at 1": Transform(
        lambda light, peak: to_pq(light) / to_pq(np.array(peak)),
        lambda code, peak: from_pq(code * to_pq(np.array(peak))),
    ),
    "gamma 2.4, peak at 1": Transform(
        lambda light, peak: _signed_power(light / peak, 1 / 2.4),
        lambda code, peak: _signed_power(code, 2.4) * peak,
    ),
    "gamma 3.2, peak at 1": Transform(
        lambda light, peak: _signed_power(light / peak, 1 / 3.2),
        lambda code, peak: _signed_power(code, 3.2) * peak,
    ),
    "gamma 2.4, 203 cd/m2 at 1": Transform(
        lambda light, _: _signed_power(light / REFERENCE_WHITE, 1 / 2.4),
        lambda code, _: _signed_power(code, 2.4) * REFERENCE_WHITE,
    ),
    "gamma 3.2, 1000 cd/m2 at 1": Transform(
        lambda light, _: _signed_power(light / 1000, 1 / 3.2),
        lambda code, _: _signed_power(code, 3.2) * 1000,
    ),
    "gamma 3.2, 4000 cd/m2 at 1": Transform(
        lambda light, _: _signed_power(light / 4000, 1 / 3.2),
        lambda code, _: _signed_power(code, 3.2) * 4000,
    ),
    "HLG, peak at 1": Transform(_to_hlg, _from_hlg),
}

CODINGS: Mapping[str, Transform] = {
    "pq": TRANSFORMS["PQ codes as they are"],
    "hlg": TRANSFORMS["HLG, peak at 1"],
}
"""What a film's codes are. HLG here is scene light: the display's system gamma is left out."""


def pu21(light: Image) -> Image:
    """Perceptually uniform values of light; 100 cd/m2 is 256.

    Source: Mantiuk and Azimi, "PU21: A novel perceptually uniform encoding", PCS 2021, table 1 (banding and glare).
    """
    p = (0.353487901, 0.3734658629, 8.277049286e-05, 0.9062562627, 0.09150303166, 0.9099517204, 596.3148142)
    power = np.clip(light, 0.005, 10_000) ** p[3]
    return p[6] * (((p[0] + p[1] * power) / (1 + p[2] * power)) ** p[4] - p[5])


def film_frames(path: Path, *, count: int, peak: float) -> list[Image]:
    """Frames of an SDR film, expanded to HDR light: highlights rise to the peak, what is below mid grey stays."""
    frames = []
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames or 100
        wanted = {round((number + 0.5) / count * total) for number in range(count)}
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                rgb = frame.to_ndarray(format="rgb24").astype(np.float64).transpose(2, 0, 1) / 255
                frames.append(_expand(_centre(rgb), peak=peak))
            if len(frames) == count:
                break
    return frames


def _centre(rgb: Image) -> Image:
    _, height, width = rgb.shape
    top, left = (height - HEIGHT) // 2, (width - WIDTH) // 2
    return rgb[:, top : top + HEIGHT, left : left + WIDTH]


def _expand(rgb: Image, *, peak: float) -> Image:
    light = rgb**2.4
    luma = np.tensordot((0.2126, 0.7152, 0.0722), light, axes=1)
    gain = 1 + (peak / REFERENCE_WHITE - 1) * np.clip((luma - 0.18) / 0.82, 0, 1) ** 2
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087-0
    return np.minimum(np.tensordot(to_2020, light, axes=1) * gain * REFERENCE_WHITE, peak)


def synthetic_frames(*, peak: float) -> dict[str, Image]:
    """Frames that stress what films do not: a smooth ramp, discs at the peak, small stars, saturated patches."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    ramp = from_pq((across / WIDTH * 0.8 + down / HEIGHT * 0.2) * to_pq(np.array(peak)))
    highlights = np.full((HEIGHT, WIDTH), 5.0)
    for row in range(4):
        for column in range(6):
            radius = 3 + 4 * row
            distance = np.hypot(down - (row + 0.5) * HEIGHT / 4, across - (column + 0.5) * WIDTH / 6)
            share = np.clip(radius - distance + 0.5, 0, 1)
            highlights = highlights * (1 - share) + share * peak * (column + 1) / 6
    stars = np.full((HEIGHT, WIDTH), 0.02)
    generator = np.random.default_rng(7)
    for top, left, level in zip(
        generator.integers(4, HEIGHT - 4, 150),
        generator.integers(4, WIDTH - 4, 150),
        generator.uniform(0.01, 1, 150),
        strict=True,
    ):
        distance = np.hypot(down - top, across - left)
        stars = np.maximum(stars, level * peak * np.exp(-((distance / 1.8) ** 2)))
    patches = np.full((3, HEIGHT, WIDTH), 0.05)
    for number in range(24):
        row, column = divmod(number, 6)
        colour = [(column + 1) >> bit & 1 for bit in range(3)]
        top, left = row * HEIGHT // 4 + 8, column * WIDTH // 6 + 8
        level = from_pq(np.array((row + 1) / 4 * to_pq(np.array(peak))))
        for channel in range(3):
            patches[channel, top : top + 64, left : left + 64] = colour[channel] * level + 0.05
    grey = {"ramp": ramp, "highlights": highlights, "stars": stars}
    return {name: np.broadcast_to(plane, (3, HEIGHT, WIDTH)).copy() for name, plane in grey.items()} | {
        "patches": patches
    }


def average(light: Image, *, by: int) -> Image:
    """The mean light of squares of that side."""
    _, height, width = light.shape
    mean: Image = light.reshape(3, height // by, by, width // by, by).mean(axis=(2, 4))
    return mean


def shrink(light: Image, coding: Transform, *, peak: float) -> Image:
    """A quarter of the size, averaged in light and rounded to 10 bits, as light."""
    return coding.backward(_rounded(coding.forward(average(light, by=4), peak)), peak)


def halve(image: Image) -> Image:
    """Half the size by the pipeline's Lanczos, whatever the values are."""
    _, height, width = image.shape
    out = np.empty((3, height // 2, width // 2), np.float32)
    plan = plan_resample(height=height, width=width, out_height=height // 2, out_width=width // 2)
    plan.run(image.astype(np.float32), out=out)
    return out.astype(np.float64)


def _rounded(codes: Image) -> Image:
    rounded: Image = np.round(codes * CODES) / CODES
    return rounded


@dataclass(frozen=True, slots=True)
class Error:
    """How far one frame came back from what it was."""

    codes_db: float
    """PSNR of the film's codes."""
    pu21_db: float
    """PSNR of PU21 values of luminance, against that of the peak."""
    overshoot: float
    """Largest light over the mastering peak, as a share of it, before that."""
    roughness_codes: float
    """Mean absolute second difference along rows, 10-bit codes: banding and ringing on a ramp."""


def compare(found: Image, wanted: Image, coding: Transform, *, peak: float) -> Error:
    """Light against light; what is above the peak counts as the peak, which a display makes of it."""
    codes = _rounded(coding.forward(np.minimum(found, peak), peak))
    weights = (0.2627, 0.6780, 0.0593)  # BT.2020-2 table 4
    ours, theirs = (pu21(np.tensordot(weights, light, axes=1)) for light in (coding.backward(codes, peak), wanted))
    best = pu21(np.array(peak))
    return Error(
        codes_db=float(-10 * np.log10(np.mean((codes - coding.forward(wanted, peak)) ** 2))),
        pu21_db=float(20 * np.log10(best) - 10 * np.log10(np.mean((ours - theirs) ** 2))),
        overshoot=float(found.max() / peak - 1),
        roughness_codes=float(np.abs(np.diff(codes[1], n=2, axis=-1)).mean() * CODES),
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, nargs="+", required=True, help=f"SDR films of at least {WIDTH}x{HEIGHT}")
    parser.add_argument("--model", default="realesr-animevideov3", help="network, four times larger per side")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "bf16", "auto"])
    parser.add_argument("--frames", type=int, default=3, help="of each film")
    parser.add_argument("--coding", default="pq", choices=sorted(CODINGS), help="of the films' codes")
    parser.add_argument(
        "--resample", choices=["seen", "codes"], help="shrink the result to half: what the network made, or its codes"
    )
    parser.add_argument("--peaks", type=float, nargs="+", default=[1000.0, 4000.0], help="mastering peaks, cd/m2")
    arguments = parser.parse_args()
    coding = CODINGS[arguments.coding]
    write = sys.stdout.write
    write("| peak | frames | what the network sees | codes dB | PU21 dB | overshoot | roughness (codes) |\n")
    write("|---|---|---|---|---|---|---|\n")
    with open_runner(
        model=arguments.model,
        backend=arguments.backend,
        precision=arguments.precision,
        height=HEIGHT // 4,
        width=WIDTH // 4,
        output_scale=4,
    ) as runner:

        def enlarge(seen: Image) -> Image:
            out = np.empty((1, 3, HEIGHT, WIDTH), np.float32)
            runner.infer(np.ascontiguousarray(seen[None], np.float32), out=out).wait()
            enlarged: Image = out[0].astype(np.float64)
            return enlarged

        for peak in arguments.peaks:
            films = [
                image for path in arguments.films for image in film_frames(path, count=arguments.frames, peak=peak)
            ]
            groups = {"films": films} | {name: [image] for name, image in synthetic_frames(peak=peak).items()}
            for group, images in groups.items():
                for name, transform in TRANSFORMS.items():
                    errors = []
                    for image in images:
                        seen = enlarge(transform.forward(shrink(image, coding, peak=peak), peak))
                        if arguments.resample == "seen":
                            seen = halve(seen)
                        light = transform.backward(seen, peak)
                        if arguments.resample == "codes":
                            light = coding.backward(halve(coding.forward(light, peak)), peak)
                        wanted = image if arguments.resample is None else average(image, by=2)
                        errors.append(compare(light, wanted, coding, peak=peak))
                    mean = [float(np.mean([getattr(error, key) for error in errors])) for key in Error.__slots__]
                    write(
                        f"| {peak:g} | {group} | {name} | {mean[0]:.2f} | {mean[1]:.2f} | {mean[2]:+.1%} |"
                        f" {mean[3]:.2f} |\n"
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
