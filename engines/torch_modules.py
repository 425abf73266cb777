"""SRVGGNetCompact and RRDBNet as torch modules, made from weights in memory. Import it only where torch is used.

The modules compute in whatever type they were moved to: ``module.half()`` is a float16 network. What a smaller type
would round for nothing stays wide: RRDBNet's long sum is float32 in every type, as in the ONNX graphs
(``engines.graph``), and SRVGG adds the input in the type in which it was given.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Conv2d, Module, ModuleList, Parameter, Sequential
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from engines.errors import UnsupportedModel
from engines.fold import fold_output_scale
from engines.graph_writer import LEAKY_SLOPE, RESIDUAL_SCALE
from engines.layers import DENSE_BLOCKS, DENSE_CONVOLUTIONS, KERNEL_PX
from engines.weights import ConvWeights, ModelWeights


def layered_module(weights: ModelWeights, *, output_scale: int | None = None) -> Module:
    """Make a network's module.

    Args:
        weights: The network.
        output_scale: Enlargement; None is the model's own. Smaller ones are folded into the last convolution.

    Returns:
        float32, on the CPU, in evaluation mode: (N, 3, H, W) -> (N, 3, s*H, s*W), not clamped. It owns copies of the
        weights and needs no gradients.

    Raises:
        UnsupportedModel: The architecture is no network of layers.
        UnsupportedShape: The architecture cannot give ``output_scale``.
    """
    model = weights.model
    scale = model.scale if output_scale is None else output_scale
    layers = fold_output_scale(weights, output_scale=scale)
    match model.architecture:
        case "srvgg":
            module: Module = SrvggNetwork(layers, scale=scale)
        case "rrdb":
            module = RrdbNetwork(layers, blocks=model.blocks, unshuffle=model.unshuffle)
        case other:
            raise UnsupportedModel(f"model {model.name} of architecture {other} is no network of known layers")
    return module.eval()


class SrvggNetwork(Module):
    """SRVGGNetCompact: convolutions with PReLU, depth to space, plus the nearest-enlarged input."""

    def __init__(self, layers: tuple[ConvWeights, ...], *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convolutions = ModuleList(_convolution(layer) for layer in layers)
        self.activations = ModuleList(_Slopes(layer) for layer in layers if layer.slopes is not None)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, s*H, s*W), in the wider of the types of the input and of the weights."""
        value = image.to(next(self.parameters()).dtype)
        for index, convolution in enumerate(self.convolutions):
            value = convolution(value)
            if index < len(self.activations):
                value = self.activations[index](value)
        if self.scale == 1:
            return value + image
        return F.pixel_shuffle(value, self.scale) + F.interpolate(image, scale_factor=self.scale, mode="nearest")


class RrdbNetwork(Module):
    """RRDBNet: residual-in-residual dense blocks, two nearest doublings, two last convolutions."""

    def __init__(self, layers: tuple[ConvWeights, ...], *, blocks: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        remaining = iter(layers)
        self.first = _convolution(next(remaining))
        self.blocks = ModuleList(
            Sequential(*(_DenseBlock(remaining) for _ in range(DENSE_BLOCKS))) for _ in range(blocks)
        )
        self.body = _convolution(next(remaining))
        self.doublings = ModuleList(_convolution(next(remaining)) for _ in range(2))
        self.high_resolution = _convolution(next(remaining))
        self.last = _convolution(next(remaining))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W), sides divisible by ``unshuffle`` -> (N, 3, 4*H/unshuffle, 4*W/unshuffle)."""
        if self.unshuffle > 1:
            image = F.pixel_unshuffle(image, self.unshuffle)
        first = self.first(image.to(self.first.weight.dtype))
        trunk = first.float()
        for block in self.blocks:
            trunk = block(trunk.to(first.dtype)).float() * RESIDUAL_SCALE + trunk
        value = first + self.body(trunk.to(first.dtype))
        for convolution in self.doublings:
            value = _leaky(convolution(F.interpolate(value, scale_factor=2, mode="nearest")))
        result: Tensor = self.last(_leaky(self.high_resolution(value)))
        return result


class _DenseBlock(Module):
    """Five convolutions, each over everything before it; the last one, scaled, is added to the input."""

    def __init__(self, remaining: Iterator[ConvWeights]) -> None:
        super().__init__()
        self.convolutions = ModuleList(_convolution(next(remaining)) for _ in range(DENSE_CONVOLUTIONS))

    def forward(self, value: Tensor) -> Tensor:
        grown = [value]
        for convolution in self.convolutions[:-1]:
            grown.append(_leaky(convolution(torch.cat(grown, 1))))
        result: Tensor = self.convolutions[-1](torch.cat(grown, 1)) * RESIDUAL_SCALE + value
        return result


class _Slopes(Module):
    """PReLU with one slope per channel."""

    def __init__(self, layer: ConvWeights) -> None:
        super().__init__()
        self.slopes = Parameter(torch.tensor(layer.slopes), requires_grad=False)

    def forward(self, value: Tensor) -> Tensor:
        return F.prelu(value, self.slopes)


def _convolution(layer: ConvWeights) -> Conv2d:
    """A 3x3 convolution with bias and zero padding, which copies the weights; nothing is drawn at random first."""
    shape = layer.shape
    convolution = Conv2d(shape.inputs, shape.outputs, KERNEL_PX, padding=KERNEL_PX // 2, device="meta")
    convolution.weight = Parameter(torch.tensor(layer.kernel), requires_grad=False)
    convolution.bias = Parameter(torch.tensor(layer.bias), requires_grad=False)
    return convolution


def _leaky(value: Tensor) -> Tensor:
    """LeakyReLU, in place: the convolution's output has no other reader."""
    return F.leaky_relu(value, LEAKY_SLOPE, inplace=True)
