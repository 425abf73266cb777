"""The table of backends. Each is one module of this package, imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "openvino": "engines.backends.openvino:OpenVinoBackend",
        "onnxruntime": "engines.backends.onnxruntime:OnnxRuntimeBackend",
        "resize": "engines.backends.resize:ResizeBackend",
    }
)
"""Dotted name and class by backend name, in the order in which ``auto`` tries them. Read-only."""
