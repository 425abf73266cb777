"""Networks whose layers we know: SRVGGNetCompact and RRDBNet, from a table entry or a file of the same layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.networks import GraphOptions
from engines.spec import ModelSpec
from engines.weights import ModelWeights, load_weights

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.nn import Module


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayeredNetwork:
    """Weights in memory; the graph is written straight from them."""

    weights: ModelWeights

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self.weights.model

    def graph(self, options: GraphOptions) -> ModelProto:
        """See ``engines.networks.Network``."""
        from engines.graph import build_graph

        return build_graph(
            self.weights,
            precision=options.precision,
            io_dtype=options.io_dtype,
            batch=options.batch,
            height=options.height,
            width=options.width,
            output_scale=options.output_scale,
            opset=options.opset,
        )

    def torch_module(self) -> Module:
        """See ``engines.networks.Network``."""
        from engines.torch_modules import layered_module

        return layered_module(self.weights)

    def run_reference(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``engines.networks.Network``."""
        from engines.reference import run_reference

        return run_reference(self.weights, tiles=tiles)


def load_layered(model: ModelSpec) -> LayeredNetwork:
    """Read the weights of a model of a known architecture.

    Args:
        model: Of architecture ``srvgg``, ``rrdb`` or ``nearest``; the last has no layers.

    Raises:
        WeightsError: The weights are missing or damaged.
        ModelFileError: The user's own file cannot be read, or has changed since it was inspected.
        BackendUnavailable: The library that reads the file is not installed.
    """
    if model.architecture == "nearest":
        return LayeredNetwork(weights=ModelWeights(model=model, layers=()))
    return LayeredNetwork(weights=load_weights(model))
