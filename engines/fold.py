"""Folds a box downscale of the output into the last convolution of an SRVGG network.

The network ends in a convolution with scale x scale sub-pixels per colour, a depth-to-space and the addition of the
nearest-enlarged input. Averaging f x f output pixels is linear, so it is the same to average the kernels and biases of
those sub-pixels; and the box average of a nearest enlargement by ``scale`` is the nearest enlargement by ``scale / f``.
The result is exact up to float rounding, and the last convolution has f x f fewer outputs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.errors import UnsupportedShape
from engines.layers import IMAGE_CHANNELS
from engines.spec import ModelSpec
from engines.weights import ConvWeights, ModelWeights


def foldable_scales(model: ModelSpec) -> tuple[int, ...]:
    """List the enlargements that a network can be made to give, ascending: the divisors of its own (SRVGG), or that."""
    if model.architecture != "srvgg":
        return (model.scale,)
    return tuple(scale for scale in range(1, model.scale + 1) if model.scale % scale == 0)


def check_output_scale(model: ModelSpec, *, output_scale: int | None) -> int:
    """Say the enlargement that a runner will have.

    Args:
        model: The network.
        output_scale: What was asked for; None means the network's own scale.

    Raises:
        UnsupportedShape: The architecture cannot give that scale.
    """
    if output_scale is None:
        return model.scale
    scales = foldable_scales(model)
    if output_scale not in scales:
        raise UnsupportedShape(
            f"{model.name} cannot enlarge by {output_scale}, only by {', '.join(map(str, scales))}",
            hint="leave output_scale out and resample the result",
        )
    return output_scale


def fold_output_scale(weights: ModelWeights, *, output_scale: int) -> tuple[ConvWeights, ...]:
    """Return the layers of a network that gives ``output_scale`` instead of its own scale.

    Args:
        weights: The network as trained.
        output_scale: A divisor of the model's scale (SRVGG), or that scale itself.

    Returns:
        The layers; all but the last are the same objects.

    Raises:
        UnsupportedShape: The architecture cannot give that scale.
    """
    model = weights.model
    if check_output_scale(model, output_scale=output_scale) == model.scale:
        return weights.layers
    factor = model.scale // output_scale
    last = weights.layers[-1]
    kernel = _box_average(last.kernel, output_scale=output_scale, factor=factor)
    folded = ConvWeights(
        shape=replace(last.shape, outputs=kernel.shape[0]),
        kernel=kernel,
        bias=_box_average(last.bias, output_scale=output_scale, factor=factor),
        slopes=None,
    )
    return (*weights.layers[:-1], folded)


def _box_average(values: NDArray[np.float32], *, output_scale: int, factor: int) -> NDArray[np.float32]:
    """Average over factor x factor neighbouring sub-pixels; the first axis is (colour, row, column), row-major."""
    subpixels = values.reshape(IMAGE_CHANNELS, output_scale, factor, output_scale, factor, *values.shape[1:])
    averaged = subpixels.mean(axis=(2, 4), dtype=np.float64)
    folded: NDArray[np.float32] = averaged.reshape(IMAGE_CHANNELS * output_scale**2, *values.shape[1:]).astype(
        np.float32
    )
    return folded
