"""Our own convolutions for Hopper: which steps they can run, how their weights lie, how they are launched."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.compile import KernelSource

TILE_HEIGHT: Final = 32
TILE_WIDTH: Final = 8
"""Of conv64. See ``sources/conv_layout.cuh``."""

STRIP_WIDTH: Final = 128
"""Pixels of what a block of conv32 walks down."""

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
        *((name, ctypes.c_int) for name in ("strips", "segments", "segment_rows")),
        ("slope", ctypes.c_float),
        ("unused", ctypes.c_int),
    )


def conv64_source(*, inputs: int, has_slopes: bool) -> KernelSource:
    """3x3, ``inputs`` -> 64.

    Args:
        inputs: 64 or 8.
        has_slopes: Whether a PReLU follows.
    """
    stages = 3 if inputs == 64 else 8
    cells = arranged_taps(inputs) * inputs // 8 * 64 + stages * inputs // 8 * _PLANE_CELLS
    shared_bytes = cells * _CELL_BYTES + 2 * _STAGED_BYTES + 2 * stages * 8
    return KernelSource(
        name="conv64",
        defines=(
            ("INPUTS", inputs),
            ("STAGES", stages),
            ("HAS_SLOPES", int(has_slopes)),
            ("CONV64_SHARED_BYTES", shared_bytes),
        ),
        threads=THREADS,
        shared_bytes=shared_bytes,
        is_for_hopper=True,
    )


def arranged_taps(inputs: int) -> int:
    """Taps as conv64 wants them: of 8 inputs they come in pairs, so there is a tenth."""
    return _TAPS + 1 if inputs == 8 else _TAPS


def conv32_source(*, inputs: int) -> KernelSource:
    """3x3, ``inputs`` -> 32; as many stages as fit beside the weights, at most 8.

    Args:
        inputs: A multiple of 32, at most 160.
    """
    weight_bytes = 3 * inputs // 8 * 3 * 32 * _CELL_BYTES
    stage_bytes = 4 * (STRIP_WIDTH + 2) * _CELL_BYTES + 16
    stages = min(8, (_BLOCK_SHARED_BYTES - weight_bytes) // stage_bytes)
    shared_bytes = weight_bytes + stages * stage_bytes
    return KernelSource(
        name="conv32",
        defines=(("INPUTS", inputs), ("STAGES", stages), ("CONV32_SHARED_BYTES", shared_bytes)),
        threads=THREADS,
        shared_bytes=shared_bytes,
        is_for_hopper=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """How blocks of conv32 share out a picture."""

    strips: int
    """Side by side."""
    segments: int
    """Of rows, one below the other."""
    segment_rows: int
    """Of output; the last may have fewer."""


def plan_walks(*, batch: int, height: int, width: int, multiprocessors: int) -> Walks:
    """The sharing out that takes least time: rounds of blocks, times rows of a block.

    A block computes two rows more than it writes.
    """
    strips = -(-width // STRIP_WIDTH)
    choices = []
    for segments in range(1, height + 1):
        rows = -(-height // segments)
        if -(-height // rows) == segments:
            rounds = -(-batch * strips * segments // multiprocessors)
            choices.append((rounds * (rows + 2), segments, rows))
    _, segments, rows = min(choices)
    return Walks(strips=strips, segments=segments, segment_rows=rows)


def arrange_weights(kernel: NDArray[np.float32]) -> NDArray[np.float16]:
    """Kernels as conv64 wants them: (taps, inputs / 8, outputs, 8); of 8 inputs with a tenth tap of zeros.

    Args:
        kernel: (outputs, inputs, 3, 3); inputs a multiple of 8.
    """
    outputs, inputs, rows, columns = kernel.shape
    parts = kernel.reshape(outputs, inputs // 8, 8, rows * columns).transpose(3, 1, 0, 2)
    missing = arranged_taps(inputs) - _TAPS
    return np.ascontiguousarray(np.pad(parts, ((0, missing), (0, 0), (0, 0), (0, 0))), dtype=np.float16)


def tiles_of(*, batch: int, height: int, width: int) -> dict[str, int]:
    """The fields of the arguments that say how many tiles there are."""
    across, down = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)
    return {"tiles_across": across, "tiles_down": down, "tiles": batch * across * down}


def arrange_walking_weights(kernel: NDArray[np.float32]) -> NDArray[np.float16]:
    """Kernels as conv32 wants them: (columns of the kernel, inputs / 8, rows of it times outputs, 8), rows as 2 1 0.

    Args:
        kernel: (outputs, inputs, 3, 3); inputs a multiple of 16.
    """
    outputs, inputs = kernel.shape[:2]
    rows = kernel[:, :, [2, 1, 0], :].reshape(outputs, inputs // 8, 8, 3, 3)
    parts = rows.transpose(4, 1, 3, 0, 2).reshape(3, inputs // 8, 3 * outputs, 8)
    return np.ascontiguousarray(parts, dtype=np.float16)
