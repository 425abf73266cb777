"""Reads arrays in device memory through ``__cuda_array_interface__``, which all CUDA libraries of Python offer."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.errors import UnsupportedShape
from engines.spec import RunnerSpec

DEFAULT_STREAMS = (0, 1, 2)
"""Handles of CUDA's default streams. Source: ``CU_STREAM_LEGACY`` and ``CU_STREAM_PER_THREAD`` in cuda.h."""

ALIGNMENT_BYTES = 256
"""What TensorRT asks of addresses (``IExecutionContext::setTensorAddress`` in NvInferRuntime.h); more than kernels with
accesses of 16 bytes need."""


def is_device_array(array: Any) -> bool:
    """Whether an array lies on a GPU."""
    return hasattr(array, "__cuda_array_interface__")


def address_of(spec: RunnerSpec, array: Any, *, name: str, shape: tuple[int, ...], is_written: bool = False) -> int:
    """Check an array in device memory and return its address.

    Args:
        spec: Whose dtype it must have.
        array: Object with ``__cuda_array_interface__``; must be on the runner's GPU.
        name: What it is, for errors.
        shape: What it must have.
        is_written: Whether it must be writable.

    Raises:
        UnsupportedShape: Another shape or dtype, not C-contiguous, not aligned, or read-only.
    """
    description = array.__cuda_array_interface__
    dtype = np.dtype(description["typestr"])
    if tuple(description["shape"]) != shape or dtype != spec.io_dtype:
        raise UnsupportedShape(
            f"{name} is {tuple(description['shape'])} {dtype}; this {spec.backend} runner of {spec.model.name} "
            f"takes {shape} {spec.io_dtype}"
        )
    if description.get("strides") not in (None, _strides(shape, dtype.itemsize)):
        raise UnsupportedShape(f"{name} is not C-contiguous", hint="pass a contiguous copy of it")
    pointer, is_read_only = description["data"]
    if is_written and is_read_only:
        raise UnsupportedShape(f"{name} is read-only")
    if pointer % ALIGNMENT_BYTES:
        raise UnsupportedShape(
            f"{name} begins at {pointer:#x}, which is not a multiple of {ALIGNMENT_BYTES} bytes",
            hint="pass whole allocations, or slices that begin at such a multiple",
        )
    return int(pointer)


def _strides(shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    strides = [item_bytes]
    for length in reversed(shape[1:]):
        strides.insert(0, strides[0] * length)
    return tuple(strides)
