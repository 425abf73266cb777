"""numpy's types by the names that the kernels' sources know them by."""

from __future__ import annotations

from types import MappingProxyType

from pipeline.frames import SampleFormat

CUDA_TYPES = MappingProxyType({"float32": "float", "float16": "Half"})
"""Types of images and tiles."""


def sample_type(format: SampleFormat) -> str:
    """Type of one integer sample."""
    return "uint8" if format.bit_depth == 8 else "uint16"
