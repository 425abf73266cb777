"""Networks: their table, weights, ONNX graphs, and the backends that run them.

Importing this package imports no inference library, no onnx and no torch.
"""

from engines.backend import BackendChoice, PassedOver, PrecisionRequest
from engines.backends import BACKENDS
from engines.build_options import BuildListener, BuildOptions
from engines.errors import (
    AccuracyFailed,
    BackendUnavailable,
    BuildCancelled,
    BuildFailed,
    EngineError,
    ExportFailed,
    InferenceFailed,
    ModelFileError,
    OutOfDeviceMemory,
    UnknownModel,
    UnsupportedModel,
    UnsupportedPrecision,
    UnsupportedShape,
    WeightsError,
)
from engines.models import DEFAULT_MODEL, MODELS, find_model
from engines.opening import choose_backend, open_runner
from engines.runner import Completion, Runner, Tiles
from engines.spec import ModelSpec, Precision, RunnerSpec
from engines.weights import find_weights_file, load_weights

__all__ = [
    "AccuracyFailed",
    "BackendChoice",
    "BACKENDS",
    "BackendUnavailable",
    "BuildCancelled",
    "BuildFailed",
    "BuildListener",
    "BuildOptions",
    "choose_backend",
    "Completion",
    "DEFAULT_MODEL",
    "EngineError",
    "ExportFailed",
    "find_model",
    "find_weights_file",
    "InferenceFailed",
    "load_weights",
    "ModelFileError",
    "MODELS",
    "ModelSpec",
    "open_runner",
    "OutOfDeviceMemory",
    "PassedOver",
    "Precision",
    "PrecisionRequest",
    "Runner",
    "RunnerSpec",
    "Tiles",
    "UnknownModel",
    "UnsupportedModel",
    "UnsupportedPrecision",
    "UnsupportedShape",
    "WeightsError",
]
