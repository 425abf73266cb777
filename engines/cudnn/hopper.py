"""Our own convolutions for Hopper: which steps they can run, how their weights lie, how they are launched."""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.compile import KernelSource

TILE_HEIGHT: Final = 32
TILE_WIDTH: Final = 8
"""Of both kernels. See ``sources/conv_layout.cuh``."""

_PLANE_CELLS: Final = (TILE_WIDTH + 2) * (TILE_HEIGHT + 2) + 1
_CELL_BYTES: Final = 16
_TAPS: Final = 9
_STAGED_BYTES: Final = 64 * (64 * 2 + 16)
_BLOCK_SHARED_BYTES: Final = 227 * 1024
"""Most shared memory of a block. Source: CUDA C++ Programming Guide, table of compute capabilities, 9.0."""

THREADS: Final = 384
"""Three warpgroups: one loads, two compute."""


class Conv64Arguments(ctypes.Structure):
    """See ``sources/conv64.cu``."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("source", "target", "weights", "bias", "slopes")),
        *((name, ctypes.c_int) for name in ("batch", "height", "width", "source_pitch", "target_pitch")),
        *((name, ctypes.c_int) for name in ("tiles_across", "tiles_down", "tiles")),
    )


class Conv32Arguments(ctypes.Structure):
    """See ``sources/conv32.cu``."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("source", "target", "weights", "bias")),
        *((name, ctypes.c_int) for name in ("batch", "height", "width", "source_pitch", "target_pitch")),
        *((name, ctypes.c_int) for name in ("tiles_across", "tiles_down", "tiles")),
        ("slope", ctypes.c_float),
        ("unused", ctypes.c_int),
    )


def conv64_source(*, has_slopes: bool) -> KernelSource:
    """3x3, 64 -> 64."""
    cells = _TAPS * 8 * 64 + 3 * 8 * _PLANE_CELLS
    shared_bytes = cells * _CELL_BYTES + 2 * _STAGED_BYTES + 2 * 3 * 8
    return KernelSource(
        name="conv64",
        defines=(("HAS_SLOPES", int(has_slopes)), ("CONV64_SHARED_BYTES", shared_bytes)),
        threads=THREADS,
        shared_bytes=shared_bytes,
        is_for_hopper=True,
    )


def conv32_source(*, inputs: int) -> KernelSource:
    """3x3, ``inputs`` -> 32; as many stages as fit beside the weights, at most 8."""
    weight_bytes = _TAPS * inputs // 8 * 32 * _CELL_BYTES
    stage_bytes = 4 * _PLANE_CELLS * _CELL_BYTES + 16
    stages = min(8, (_BLOCK_SHARED_BYTES - weight_bytes) // stage_bytes)
    shared_bytes = weight_bytes + stages * stage_bytes
    return KernelSource(
        name="conv32",
        defines=(("INPUTS", inputs), ("STAGES", stages), ("CONV32_SHARED_BYTES", shared_bytes)),
        threads=THREADS,
        shared_bytes=shared_bytes,
        is_for_hopper=True,
    )


def arrange_weights(kernel: NDArray[np.float32]) -> NDArray[np.float16]:
    """Kernels as they lie in shared memory: (taps, inputs / 8, outputs, 8).

    Args:
        kernel: (outputs, inputs, 3, 3); inputs a multiple of 16.
    """
    outputs, inputs, rows, columns = kernel.shape
    parts = kernel.reshape(outputs, inputs // 8, 8, rows * columns).transpose(3, 1, 0, 2)
    return np.ascontiguousarray(parts, dtype=np.float16)


def tiles_of(*, batch: int, height: int, width: int) -> dict[str, int]:
    """The fields of the arguments that say how many tiles there are."""
    across, down = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)
    return {"tiles_across": across, "tiles_down": down, "tiles": batch * across * down}
