"""The float32 reference network, for tests that can do without it where torch is not installed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import reference
from engines.weights import ModelWeights


def run_reference(weights: ModelWeights, *, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ``engines.reference.run_reference`` gives; skips the test without torch, which the dev extra brings."""
    pytest.importorskip("torch", reason="torch (export extra) is not installed")
    return reference.run_reference(weights, tiles=tiles)
