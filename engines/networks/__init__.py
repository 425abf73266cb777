"""What a backend opens: a network that can be written as an ONNX graph, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.spec import FloatType, ModelSpec, Precision

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.nn import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOptions:
    """How a network is to be written as ONNX."""

    precision: Precision = "fp32"
    """Type of all arithmetic and of the stored weights."""
    io_dtype: FloatType = "float32"
    """Type of the input and output arrays; casts are added where it differs from ``precision``."""
    batch: int | None = None
    """Tiles per call; None leaves it free."""
    height: int | None = None
    """Tile height in input pixels; None leaves it free."""
    width: int | None = None
    """Tile width in input pixels; None leaves it free."""
    output_scale: int | None = None
    """Enlargement; None is the model's own."""
    opset: int | None = None
    """ONNX operator set; None is the network's default."""


class Network(Protocol):
    """A loaded network. Immutable; several runners may be opened from one."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        ...

    def graph(self, options: GraphOptions) -> ModelProto:
        """Write the network as ONNX: one input ``input`` and one output ``output``, RGB NCHW in [0, 1].

        The same network and options give the same bytes (``SerializeToString(deterministic=True)``).

        Raises:
            UnsupportedShape: The network cannot have that size or enlargement.
            UnsupportedPrecision: It cannot be written in that precision.
            ExportFailed: It cannot be written with these options.
        """
        ...

    def torch_module(self) -> Module:
        """The network as a float32 torch module on the CPU in evaluation mode, (N, 3, H, W) -> (N, 3, s*H, s*W).

        Raises:
            UnsupportedModel: There is none (ONNX files).
            BackendUnavailable: torch is not installed.
        """
        ...

    def run_reference(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the source network itself in float32 on the CPU, as exactly as this machine can.

        Args:
            tiles: (N, 3, H, W) float32 RGB, nominally [0, 1].

        Returns:
            (N, 3, s*H, s*W) float32, not clamped.

        Raises:
            BackendUnavailable: The library that runs the source is not installed.
        """
        ...


def load_network(model: ModelSpec) -> Network:
    """Read a model's weights or file.

    Args:
        model: From ``find_model``.

    Raises:
        WeightsError: The weights are missing or damaged.
        ModelFileError: The user's file cannot be read.
        BackendUnavailable: A library that reads the file is not installed.
    """
    if model.architecture == "onnx":
        from engines.networks.onnx_file import load_onnx

        return load_onnx(model)
    if model.architecture == "spandrel":
        from engines.networks.spandrel_file import load_checkpoint

        return load_checkpoint(model)
    from engines.networks.layered import load_layered

    return load_layered(model)
