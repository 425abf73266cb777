"""Weight files in the layouts of the official training code, made from weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import ModelSpec
from engines.layers import convolutions
from engines.weights import ConvWeights, ModelWeights

State = dict[str, NDArray[np.float32]]

SRVGG = ModelSpec(name="compact", architecture="srvgg", scale=2, features=8, blocks=2)
RRDB = ModelSpec(name="dense", architecture="rrdb", scale=4, features=8, blocks=2, growth=4)
RRDB_X2 = ModelSpec(
    name="dense-x2",
    architecture="rrdb",
    scale=2,
    features=8,
    blocks=1,
    growth=4,
    unshuffle=2,
    size_multiple=2,
    min_px=2,
)
RRDB_X1 = ModelSpec(
    name="dense-x1",
    architecture="rrdb",
    scale=1,
    features=8,
    blocks=1,
    growth=4,
    unshuffle=4,
    size_multiple=4,
    min_px=4,
)


def random_weights(model: ModelSpec, *, seed: int = 0) -> ModelWeights:
    """Fixed pseudo-random weights that keep activations of the order of 1."""
    random = np.random.default_rng(seed)
    layers = tuple(
        ConvWeights(
            shape=shape,
            kernel=random.normal(scale=(9 * shape.inputs) ** -0.5, size=shape.kernel_shape).astype(np.float32),
            bias=random.normal(scale=0.05, size=shape.outputs).astype(np.float32),
            slopes=random.uniform(0, 0.5, size=shape.outputs).astype(np.float32) if shape.has_slopes else None,
        )
        for shape in convolutions(model)
    )
    return ModelWeights(model=model, layers=layers)


def srvgg_state(weights: ModelWeights) -> State:
    """The state dict of SRVGGNetCompact: convolutions and PReLUs take turns in one list."""
    state: State = {}
    index = 0
    for layer in weights.layers:
        state |= {f"body.{index}.weight": layer.kernel, f"body.{index}.bias": layer.bias}
        index += 1
        if layer.slopes is not None:
            state[f"body.{index}.weight"] = layer.slopes
            index += 1
    return state


def rrdb_state(weights: ModelWeights, *, layout: str = "basicsr") -> State:
    """The state dict of RRDBNet: of BasicSR (``basicsr``), of ESRGAN (``esrgan``) or of its first release (``old``)."""
    blocks = weights.model.blocks
    dense, first, tail = {
        "basicsr": (
            "body.{}.rdb{}.conv{}",
            "conv_first",
            ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"],
        ),
        "esrgan": (
            "RRDB_trunk.{}.RDB{}.conv{}",
            "conv_first",
            ["trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"],
        ),
        "old": (
            "model.1.sub.{}.RDB{}.conv{}.0",
            "model.0",
            [f"model.1.sub.{blocks}", "model.3", "model.6", "model.8", "model.10"],
        ),
    }[layout]
    names = [first]
    names += [dense.format(b, d, c) for b in range(blocks) for d in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
    names += tail
    state: State = {}
    for name, layer in zip(names, weights.layers, strict=True):
        state |= {f"{name}.weight": layer.kernel, f"{name}.bias": layer.bias}
    return state


def state_of(weights: ModelWeights) -> State:
    """The state dict in the layout of Real-ESRGAN's own files."""
    return srvgg_state(weights) if weights.model.architecture == "srvgg" else rrdb_state(weights)


def save_pth(path: Path, content: Any, **options: Any) -> Path:
    """Save arrays as tensors, in whatever nesting of dictionaries, as ``torch.save`` does."""
    torch = pytest.importorskip("torch", reason="torch (export extra) is not installed")

    def tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tensors(inner) for key, inner in value.items()}
        return torch.tensor(value) if isinstance(value, np.ndarray) else value

    torch.save(tensors(content), path, **options)
    return path


def save_safetensors(path: Path, state: State) -> Path:
    """Save arrays as a ``.safetensors`` file."""
    numpy_format = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    numpy_format.save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, str(path))
    return path
