"""Networks of random weights whose pictures stay near [0, 1]: for machines that have no weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engines import ModelSpec
from engines.canary import random_weights
from engines.networks.layered import LayeredNetwork
from engines.weights import ModelWeights


def quiet_network(model: ModelSpec, *, gain: float = 0.05) -> LayeredNetwork:
    """Random weights whose last layer is turned down, so that the picture stays near [0, 1]."""
    weights = random_weights(model, seed=3)
    last = weights.layers[-1]
    last = replace(last, kernel=last.kernel * np.float32(gain), bias=last.bias * np.float32(gain))
    return LayeredNetwork(weights=ModelWeights(model=model, layers=(*weights.layers[:-1], last)))
