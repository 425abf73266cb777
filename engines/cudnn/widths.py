"""Which values a graph holds in float32 although its weights are float16."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.nodes import attributes_of


class WideValues:
    """Follows float32 through the casts of a graph.

    Args:
        weights: The graph's constants; nothing is wide where none of them is float16.
    """

    def __init__(self, weights: Iterable[NDArray[Any]]) -> None:
        self._has_narrow_weights = any(array.dtype == np.float16 for array in weights)
        self._names: set[str] = set()

    def follow(self, node: Any) -> None:
        """Note what a node makes; nodes come in the order in which they run."""
        from onnx import TensorProto

        if node.op_type == "Cast":
            is_wide = attributes_of(node)["to"] == TensorProto.FLOAT
        else:
            is_wide = any(name in self._names for name in node.input)
        if is_wide and self._has_narrow_weights:
            self._names.add(node.output[0])

    def hold_all(self, names: Iterable[str]) -> bool:
        """Whether all of these values are wide."""
        return self._has_narrow_weights and all(name in self._names for name in names)
