"""A tiny network with a known answer, which ``auto`` runs on a backend before it relies on it.

That a library can be imported and sees a device says little: kernels for the GPU may be missing, a driver may be too
old, an execution provider may not load. Running one tile through the very same path as a film shows it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engines.backend import Backend, BackendChoice, RunnerRequest
from engines.build_options import BuildOptions
from engines.errors import EngineError
from engines.layers import KERNEL_PX, convolutions
from engines.networks.layered import LayeredNetwork
from engines.spec import ModelSpec, Precision
from engines.verify import run_once
from engines.weights import ConvWeights, ModelWeights

CANARY = ModelSpec(name="canary", architecture="srvgg", scale=2, features=16, blocks=2)
"""Small enough for every backend to compile in a moment, with every operation of its architecture."""

SIDE_PX = 16
"""Tile that it runs on; also the smallest side of dynamic engines by default."""

_SEED = 1

TOLERANCE: Mapping[Precision, float] = MappingProxyType({"fp32": 1e-2, "fp16": 1e-2, "bf16": 6e-2})
"""Largest difference from the exact answer, whose values span about [-1, 2]. It tells a broken backend from a working
one, not a good one from a better one: fp32 may be TF32 on a GPU, which rounds as fp16 does. Measured on a CPU: 8e-7
(fp32), 1.2e-3 (fp16), 9e-3 (bf16); a network that merely enlarges its input is off by 1.8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryDeath:
    """Why a backend did not give the right answer."""

    reason: str
    """One sentence."""
    hint: str = ""
    """What to do about it, if that is known."""


def random_weights(model: ModelSpec, *, seed: int) -> ModelWeights:
    """Make pseudo-random weights that keep the activations' size from layer to layer (He et al. 2015, equation 10).

    Args:
        model: Any model of known layers.
        seed: The same seed gives the same numbers everywhere.
    """
    generator = np.random.default_rng(seed)
    layers = []
    for shape in convolutions(model):
        deviation = np.sqrt(2.0 / (shape.inputs * KERNEL_PX**2))
        kernel = generator.normal(scale=deviation, size=(shape.outputs, shape.inputs, KERNEL_PX, KERNEL_PX))
        layers.append(
            ConvWeights(
                shape=shape,
                kernel=kernel.astype(np.float32),
                bias=generator.uniform(-0.1, 0.1, size=shape.outputs).astype(np.float32),
                slopes=generator.uniform(0.0, 0.5, size=shape.outputs).astype(np.float32) if shape.has_slopes else None,
            )
        )
    return ModelWeights(model=model, layers=tuple(layers))


@functools.cache  # read-only afterwards, and the same in every call
def canary_weights() -> ModelWeights:
    """The canary's network."""
    return random_weights(CANARY, seed=_SEED)


@functools.cache  # read-only afterwards, and the same in every call
def canary_tile() -> NDArray[np.float32]:
    """(1, 3, 16, 16) noise in [0, 1), read-only."""
    tile = np.random.default_rng(_SEED).random((1, 3, SIDE_PX, SIDE_PX), dtype=np.float32)
    tile.flags.writeable = False
    return tile


@functools.cache  # read-only afterwards, and the same in every call
def canary_answer() -> NDArray[np.float64]:
    """(1, 3, 32, 32): what the network makes of the tile, in numpy's float64 and with none of the backends' code."""
    image = canary_tile()[0].astype(np.float64)
    value = image
    for layer in canary_weights().layers:
        value = _convolve(value, layer)
        if layer.slopes is not None:
            value = np.where(value < 0, value * layer.slopes[:, None, None], value)
    scale, colours = CANARY.scale, image.shape[0]
    subpixels = value.reshape(colours, scale, scale, SIDE_PX, SIDE_PX).transpose(0, 3, 1, 4, 2)
    picture = subpixels.reshape(colours, SIDE_PX * scale, SIDE_PX * scale)
    answer: NDArray[np.float64] = (picture + image.repeat(scale, axis=1).repeat(scale, axis=2))[None]
    answer.flags.writeable = False
    return answer


def _convolve(value: NDArray[np.float64], layer: ConvWeights) -> NDArray[np.float64]:
    """3x3 convolution of (C, H, W) with zero padding, as a sum over the nine positions of the kernel."""
    padded = np.pad(value, ((0, 0), (1, 1), (1, 1)))
    _, height, width = value.shape
    result: NDArray[np.float64] = np.zeros((layer.shape.outputs, height, width)) + layer.bias[:, None, None]
    for row in range(KERNEL_PX):
        for column in range(KERNEL_PX):
            window = padded[:, row : row + height, column : column + width]
            result += np.einsum("oi,ihw->ohw", layer.kernel[:, :, row, column].astype(np.float64), window)
    return result


def try_canary(backend: Backend, choice: BackendChoice, *, cache_dir: Path | None = None) -> CanaryDeath | None:
    """Open a runner as chosen, run the tile and compare.

    Args:
        backend: The backend that made the choice.
        choice: Where and in which precision.
        cache_dir: Folder of compiled engines; None is the user's.

    Returns:
        None if the answer is right, otherwise why it is not.
    """
    # what fp8 costs is measured on the network that is opened; whether the backend works, fp16 says as well
    precision: Precision = "fp16" if choice.precision == "fp8" else choice.precision
    request = RunnerRequest(
        network=LayeredNetwork(weights=canary_weights()),
        precision=precision,
        batch=1,
        height=SIDE_PX,
        width=SIDE_PX,
        output_scale=CANARY.scale,
        device=choice.device,
        device_id=choice.device_id,
        build=BuildOptions(cache_dir=cache_dir),
    )
    try:
        with backend.open(request) as runner:
            result = run_once(runner, canary_tile())
    except EngineError as exc:
        return CanaryDeath(reason=str(exc), hint=exc.hint)
    difference = np.abs(result.astype(np.float64) - canary_answer()).max()
    if not difference <= TOLERANCE[precision]:  # so that not a number is not accepted
        return CanaryDeath(
            reason=f"{choice.backend} computed a wrong answer on {choice.device}: a test tile in {precision} is "
            f"off by {difference:.3g}, more than {TOLERANCE[precision]:g}",
            hint="update the driver and the library, or choose another backend",
        )
    return None
