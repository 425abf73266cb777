"""Networks of random weights whose pictures stay near [0, 1]: for machines that have no weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engines import ModelSpec
from engines.canary import random_weights
from engines.networks.layered import LayeredNetwork
from engines.weights import ModelWeights

QUIETER = {"RealESRGAN_x2plus": 0.002}
"""What the last layer is turned down by where 0.05 leaves pictures of [-4.5, 8]."""


def quiet_network(model: ModelSpec, *, gain: float | None = None) -> LayeredNetwork:
    """Random weights whose last layer is turned down, so that the picture stays near [0, 1]."""
    gain = QUIETER.get(model.name, 0.05) if gain is None else gain
    weights = random_weights(model, seed=3)
    last = weights.layers[-1]
    last = replace(last, kernel=last.kernel * np.float32(gain), bias=last.bias * np.float32(gain))
    return LayeredNetwork(weights=ModelWeights(model=model, layers=(*weights.layers[:-1], last)))


def small_network(model: ModelSpec, *, features: int = 16, growth: int = 8) -> LayeredNetwork:
    """The same architecture with two blocks (of RRDBNet: one) and few channels, quiet: every kind of layer is in it."""
    is_dense = model.architecture == "rrdb"
    small = replace(model, features=features, blocks=1 if is_dense else 2, growth=growth if is_dense else 0)
    return quiet_network(small)
