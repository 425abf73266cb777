"""The same networks as plain float32 torch operations: what every backend is compared with. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, EngineError
from engines.graph_writer import LEAKY_SLOPE, RESIDUAL_SCALE
from engines.layers import DENSE_BLOCKS, DENSE_CONVOLUTIONS
from engines.weights import ConvWeights, ModelWeights

if TYPE_CHECKING:
    from torch import Tensor


def run_reference(weights: ModelWeights, *, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a network in float32 on the CPU.

    Args:
        weights: The network.
        tiles: (N, 3, H, W) float32 RGB, nominally [0, 1].

    Returns:
        (N, 3, s*H, s*W) float32, not clamped.

    Raises:
        BackendUnavailable: torch is not installed.
        EngineError: The architecture has no reference.
    """
    try:
        import torch
    except ImportError as exc:
        raise BackendUnavailable(
            "the reference implementation needs torch", missing="torch", hint='pip install "nightscale[export]"'
        ) from exc
    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(tiles, dtype=np.float32))
        match weights.model.architecture:
            case "srvgg":
                result = _srvgg(weights, image)
            case "rrdb":
                result = _rrdb(weights, image)
            case other:
                raise EngineError(f"no reference for architecture {other!r}")
        return result.contiguous().numpy()


def _conv(value: Tensor, layer: ConvWeights) -> Tensor:
    """3x3 convolution with bias and zero padding."""
    import torch

    kernel, bias = torch.tensor(layer.kernel), torch.tensor(layer.bias)
    return torch.nn.functional.conv2d(value, kernel, bias, padding=1)


def _srvgg(weights: ModelWeights, image: Tensor) -> Tensor:
    """SRVGGNetCompact."""
    import torch

    functional = torch.nn.functional
    value = image
    for layer in weights.layers:
        value = _conv(value, layer)
        if layer.slopes is not None:
            value = functional.prelu(value, torch.tensor(layer.slopes))
    scale = weights.model.scale
    return functional.pixel_shuffle(value, scale) + functional.interpolate(image, scale_factor=scale, mode="nearest")


def _rrdb(weights: ModelWeights, image: Tensor) -> Tensor:
    """RRDBNet."""
    import torch

    functional = torch.nn.functional
    layers = iter(weights.layers)
    first = _conv(image, next(layers))
    trunk = first
    for _ in range(weights.model.blocks):
        outer = trunk
        for _ in range(DENSE_BLOCKS):
            trunk = _dense_block(trunk, layers)
        trunk = trunk * RESIDUAL_SCALE + outer
    value = first + _conv(trunk, next(layers))
    for _ in range(2):
        enlarged = functional.interpolate(value, scale_factor=2, mode="nearest")
        value = functional.leaky_relu(_conv(enlarged, next(layers)), LEAKY_SLOPE)
    value = functional.leaky_relu(_conv(value, next(layers)), LEAKY_SLOPE)
    return _conv(value, next(layers))


def _dense_block(value: Tensor, layers: Iterator[ConvWeights]) -> Tensor:
    """One residual dense block."""
    import torch

    grown = [value]
    for _ in range(DENSE_CONVOLUTIONS - 1):
        branch = _conv(torch.cat(grown, 1), next(layers))
        grown.append(torch.nn.functional.leaky_relu(branch, LEAKY_SLOPE))
    return _conv(torch.cat(grown, 1), next(layers)) * RESIDUAL_SCALE + value
