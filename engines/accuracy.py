"""Says how far a compiled or exported network is from its float32 source, and whether that is what rounding explains.

Both see the same tiles: film pictures and the patterns of ``engines.tiles``. Outputs are compared as they are, not
clamped, on a scale where 1 is the range from black to white.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engines.errors import AccuracyFailed, EngineError
from engines.networks import Network
from engines.spec import Precision
from engines.tiles import adversarial_tiles, film_tiles
from engines.verify import psnr_db

FILM = "film"
"""Tiles of this name, followed by a number, are pictures of a film; all others are adversarial."""

FILM_TILES = 2
"""Film pictures that are compared: as many as the package carries."""

PSNR_CEILING_DB = 150.0
"""What equal arrays count as, so that every figure is a number. float32 cannot be closer: half a unit in the last place
of 1.0 is 2^-24, and -20 log10(2^-24) is 144.5 dB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyLimits:
    """The least that a network must reach in a precision."""

    psnr_film_db: float
    """On each film tile, decibels."""
    psnr_adversarial_db: float
    """On each adversarial tile, decibels."""
    max_abs: float
    """Largest difference of any value of any tile."""


ACCURACY_LIMITS: Mapping[Precision, AccuracyLimits] = MappingProxyType(
    {
        "fp32": AccuracyLimits(psnr_film_db=80.0, psnr_adversarial_db=80.0, max_abs=1e-3),
        "fp16": AccuracyLimits(psnr_film_db=55.0, psnr_adversarial_db=50.0, max_abs=4 / 255),
        "bf16": AccuracyLimits(psnr_film_db=44.0, psnr_adversarial_db=34.0, max_abs=0.125),
        "fp8": AccuracyLimits(psnr_film_db=45.0, psnr_adversarial_db=20.0, max_abs=0.5),
    }
)
"""The limits of each precision. Measured: the worst of realesr-animevideov3, RealESRGAN_x4plus_anime_6B and
RealESRGAN_x4plus over both film tiles and all patterns, at 16x24 to 50x33, run by onnxruntime, OpenVINO, and by torch
with every single result rounded:

========= ========= ================ =========
precision film (dB) adversarial (dB) max. diff.
========= ========= ================ =========
fp32      126.6     120.1            1.2e-5
fp16      74.4      58.3             6.9e-3
bf16      47.4      38.1             6.2e-2
fp8       46.3      26.4             2.6e-1
========= ========= ================ =========

fp8 was emulated, in the convolutions that ``engines.cudnn.calibrating`` takes, at 32x32; its limit on film is a choice.
The others leave room for other networks and compilers; a wrong kernel, a lost layer or swapped colours are far beyond
them (below 30 dB on film).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAccuracy:
    """How far a network is from its source on one tile."""

    name: str
    """``film_0``, ``film_1``, or a pattern of ``engines.tiles.adversarial_tiles``."""
    psnr_db: float
    """Peak signal-to-noise ratio, decibels, at most ``PSNR_CEILING_DB``."""
    max_abs: float
    """Largest difference of one value."""

    @property
    def is_film(self) -> bool:
        """Whether the tile is cut from a film."""
        return self.name.startswith(FILM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How far a network is from its source. All figures are finite: ``dataclasses.asdict`` of it is JSON."""

    precision: Precision
    """Arithmetic of the network that was measured."""
    batch: int
    """Tiles per call."""
    height: int
    """Tile height, input pixels."""
    width: int
    """Tile width, input pixels."""
    output_scale: int
    """Enlargement."""
    psnr_film_db: float
    """The worst film tile, decibels."""
    psnr_adversarial_db: float
    """The worst adversarial tile, decibels."""
    max_abs: float
    """Largest difference of one value of any tile."""
    worst: str
    """Name of the tile with that difference."""
    tiles: tuple[TileAccuracy, ...]
    """Each tile, in the order of measurement."""


def measure_accuracy(
    run: Callable[[NDArray[np.float32]], NDArray[np.floating]],
    *,
    network: Network,
    precision: Precision,
    batch: int,
    height: int,
    width: int,
    output_scale: int,
) -> Accuracy:
    """Run a network and its source on the same tiles.

    The source runs once on every tile; with large tiles and networks that takes longer than everything else.

    Args:
        run: The network to judge: (N, 3, H, W) float32 [0, 1] of exactly ``batch`` tiles to (N, 3, s*H, s*W) of any
            floating-point type, a new array each time.
        network: The source.
        precision: Arithmetic of ``run``; only noted.
        batch, height, width: What ``run`` takes.
        output_scale: Enlargement that ``run`` gives, a divisor of the source's; the source's output is box-averaged.

    Raises:
        AccuracyFailed: An output has another shape than it must have, or holds NaN or infinite values.
        EngineError: ``output_scale`` does not divide the source's; or as raised by ``run`` and the source.
    """
    scale = network.spec.scale
    if output_scale < 1 or scale % output_scale:
        raise EngineError(f"the output of {network.spec.name} (x{scale}) cannot be averaged to x{output_scale}")
    named = _accuracy_tiles(height=height, width=width)
    names = tuple(named)
    measured: list[TileAccuracy] = []
    for start in range(0, len(names), batch):
        group = names[start : start + batch]
        padded = [*group, *([group[-1]] * (batch - len(group)))]
        outputs = run(np.concatenate([named[name] for name in padded]))
        _check_shape(outputs, wanted=(batch, 3, height * output_scale, width * output_scale), name=network.spec.name)
        for row, name in enumerate(group):
            wanted = box_average(network.run_reference(named[name]), factor=scale // output_scale)
            measured.append(_compare(outputs[row : row + 1], wanted, name=name, model=network.spec.name))
    worst = max(measured, key=lambda tile: tile.max_abs)
    return Accuracy(
        precision=precision,
        batch=batch,
        height=height,
        width=width,
        output_scale=output_scale,
        psnr_film_db=min(tile.psnr_db for tile in measured if tile.is_film),
        psnr_adversarial_db=min(tile.psnr_db for tile in measured if not tile.is_film),
        max_abs=worst.max_abs,
        worst=worst.name,
        tiles=tuple(measured),
    )


def check_accuracy(
    run: Callable[[NDArray[np.float32]], NDArray[np.floating]],
    *,
    network: Network,
    precision: Precision,
    batch: int,
    height: int,
    width: int,
    output_scale: int,
) -> Accuracy:
    """Do as ``measure_accuracy`` does, and hold the result to the limits of the precision.

    Raises:
        AccuracyFailed: As there, or a figure is beyond its limit; the text has the tile, the figure and the limit.
        EngineError: As there.
    """
    accuracy = measure_accuracy(
        run,
        network=network,
        precision=precision,
        batch=batch,
        height=height,
        width=width,
        output_scale=output_scale,
    )
    problems = limit_problems(accuracy)
    if problems:
        raise AccuracyFailed(
            f"{network.spec.name} in {precision} at {width}x{height} differs too much from its source: "
            + "; ".join(problems),
            hint=_remedy(precision),
        )
    return accuracy


def limit_problems(accuracy: Accuracy) -> tuple[str, ...]:
    """Say which limits of the precision are missed, and by which tile most; empty if none is."""
    limits = ACCURACY_LIMITS[accuracy.precision]
    problems = []
    for is_film, least_db in ((True, limits.psnr_film_db), (False, limits.psnr_adversarial_db)):
        worst = min((tile for tile in accuracy.tiles if tile.is_film == is_film), key=lambda tile: tile.psnr_db)
        if worst.psnr_db < least_db:
            problems.append(f"tile {worst.name} reaches {worst.psnr_db:.1f} dB, at least {least_db:.0f} dB is required")
    if accuracy.max_abs > limits.max_abs:
        problems.append(
            f"tile {accuracy.worst} is off by up to {accuracy.max_abs:.2g}, {limits.max_abs:.2g} is allowed"
        )
    return tuple(problems)


def box_average(picture: NDArray[np.float32], *, factor: int) -> NDArray[np.float32]:
    """Shrink (N, C, H, W) by a whole factor per side: every output value is the mean of factor x factor values."""
    if factor == 1:
        return picture
    count, channels, height, width = picture.shape
    blocks = picture.reshape(count, channels, height // factor, factor, width // factor, factor)
    averaged: NDArray[np.float32] = blocks.mean(axis=(3, 5), dtype=np.float64).astype(np.float32)
    return averaged


def _accuracy_tiles(*, height: int, width: int) -> dict[str, NDArray[np.float32]]:
    """All tiles that are compared, (1, 3, H, W) each, by name."""
    film = film_tiles(height=height, width=width, batch=FILM_TILES)
    return {f"{FILM}_{row}": film[row : row + 1] for row in range(FILM_TILES)} | adversarial_tiles(
        height=height, width=width
    )


def _check_shape(outputs: NDArray[np.floating], *, wanted: Sequence[int], name: str) -> None:
    if outputs.shape != tuple(wanted):
        raise AccuracyFailed(f"{name} gave an array of shape {outputs.shape} instead of {tuple(wanted)}")


def _compare(output: NDArray[np.floating], wanted: NDArray[np.float32], *, name: str, model: str) -> TileAccuracy:
    """Compare one tile, both arrays (1, 3, H, W)."""
    for values, whose in ((wanted, "its source"), (output, "the network")):
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            raise AccuracyFailed(
                f"{model}: {whose} makes {bad} of {values.size} values NaN or infinite from tile {name}",
                hint="the weights are damaged, or its numbers are too large for the precision: choose bf16 or fp32",
            )
    difference = np.abs(output.astype(np.float64) - wanted)
    return TileAccuracy(
        name=name, psnr_db=min(psnr_db(output, wanted), PSNR_CEILING_DB), max_abs=float(difference.max())
    )


def _remedy(precision: Precision) -> str:
    if precision == "fp32":
        return "the conversion or its compiler is at fault; try another backend or opset, and report it"
    return "choose precision fp32, which every network survives"
