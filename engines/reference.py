"""The known networks in plain float32 on the CPU: what every backend is compared with. Needs torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable
from engines.weights import ModelWeights


def run_reference(weights: ModelWeights, *, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a network in float32 on the CPU.

    Args:
        weights: The network.
        tiles: (N, 3, H, W) float32 RGB, nominally [0, 1].

    Returns:
        (N, 3, s*H, s*W) float32, not clamped.

    Raises:
        BackendUnavailable: torch is not installed.
        UnsupportedModel: The architecture has no layers that could be run.
    """
    try:
        import torch
    except ImportError as exc:
        raise BackendUnavailable(
            "the reference implementation needs torch", missing="torch", hint='pip install "nightscale[export]"'
        ) from exc
    from engines.torch_modules import layered_module

    module = layered_module(weights)
    with torch.inference_mode():
        result: NDArray[np.float32] = module(torch.tensor(tiles, dtype=torch.float32)).contiguous().numpy()
    return result
