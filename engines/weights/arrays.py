"""The numbers of a network in memory, wherever they were read from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.layers import ConvShape
from engines.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvWeights:
    """The numbers of one convolution: float32 arrays, made read-only."""

    shape: ConvShape
    kernel: NDArray[np.float32]
    """(outputs, inputs, 3, 3)."""
    bias: NDArray[np.float32]
    """(outputs,)."""
    slopes: NDArray[np.float32] | None
    """(outputs,) PReLU slopes; None without a PReLU."""

    def __post_init__(self) -> None:
        for array in (self.kernel, self.bias, self.slopes):
            if array is not None:
                array.flags.writeable = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelWeights:
    """All weights of a model, in the order of ``engines.layers.convolutions``."""

    model: ModelSpec
    layers: tuple[ConvWeights, ...]
