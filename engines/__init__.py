"""Networks: their table, weights, ONNX graphs, and the backends that run them.

Importing this package imports no inference library, no onnx and no torch. The names below are looked up when they
are used, whoever needs one small module of it loads no more than that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        OutOfMemory,
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
    "OutOfMemory",
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

_HOMES = {
    "AccuracyFailed": "engines.errors",
    "BackendChoice": "engines.backend",
    "BACKENDS": "engines.backends",
    "BackendUnavailable": "engines.errors",
    "BuildCancelled": "engines.errors",
    "BuildFailed": "engines.errors",
    "BuildListener": "engines.build_options",
    "BuildOptions": "engines.build_options",
    "choose_backend": "engines.opening",
    "Completion": "engines.runner",
    "DEFAULT_MODEL": "engines.models",
    "EngineError": "engines.errors",
    "ExportFailed": "engines.errors",
    "find_model": "engines.models",
    "find_weights_file": "engines.weights",
    "InferenceFailed": "engines.errors",
    "load_weights": "engines.weights",
    "ModelFileError": "engines.errors",
    "MODELS": "engines.models",
    "ModelSpec": "engines.spec",
    "open_runner": "engines.opening",
    "OutOfDeviceMemory": "engines.errors",
    "OutOfMemory": "engines.errors",
    "PassedOver": "engines.backend",
    "Precision": "engines.spec",
    "PrecisionRequest": "engines.backend",
    "Runner": "engines.runner",
    "RunnerSpec": "engines.spec",
    "Tiles": "engines.runner",
    "UnknownModel": "engines.errors",
    "UnsupportedModel": "engines.errors",
    "UnsupportedPrecision": "engines.errors",
    "UnsupportedShape": "engines.errors",
    "WeightsError": "engines.errors",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
