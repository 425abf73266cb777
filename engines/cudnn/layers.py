"""The layers that the engine knows, as a typed list. One value per layer; a value is named by its layer's index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What all layers have."""

    name: str
    """Of the ONNX node, for messages."""
    sources: tuple[int, ...] = ()
    """Indices of the layers that it reads."""
    channels: int
    """Of its value."""
    height: int
    """Of its value, in its own pixels."""
    width: int
    """Of its value, in its own pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer(Layer):
    """The network's input: (N, C, H, W), planar."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvLayer(Layer):
    """Convolution in steps of one pixel, with bias and zero padding that keeps the size."""

    kernel: Array
    """(outputs, inputs, K, K), K odd."""
    bias: Array
    """(outputs,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActivationLayer(Layer):
    """``x if x > 0 else x * slope``: PReLU, LeakyReLU, ReLU."""

    slopes: Array
    """(channels,), or (1,) for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleLayer(Layer):
    """Multiplication by a constant."""

    factor: float
    """That constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLayer(Layer):
    """Sum of two values of one shape."""

    is_wide: bool = False
    """Whether the graph adds in float32 while it convolves in a narrower type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatLayer(Layer):
    """All channels of its sources, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargeLayer(Layer):
    """Every pixel repeated ``factor`` x ``factor`` times."""

    factor: int
    """>= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleLayer(Layer):
    """Depth to space; channels are (colour, row, column), row-major (ONNX's CRD)."""

    factor: int
    """>= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnshuffleLayer(Layer):
    """Space to depth; channels become (colour, row, column), row-major, as in torch's ``pixel_unshuffle``."""

    factor: int
    """>= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGraph:
    """A network of one fixed shape."""

    batch: int
    """Pictures per call."""
    layers: tuple[Layer, ...]
    """In an order in which they can run; the first is the image."""
    output: int
    """Index of the layer whose value is the result."""

    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each layer, the layers that read its value."""
        found: list[list[int]] = [[] for _ in self.layers]
        for index, layer in enumerate(self.layers):
            for source in layer.sources:
                found[source].append(index)
        return tuple(map(tuple, found))
