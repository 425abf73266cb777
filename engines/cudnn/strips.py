"""Convolutions that walk down strips (``sources/strip.cu``): their variants, weights, arguments and tensor maps."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.compile import KernelSource

_CELL_BYTES: Final = 16
_PART: Final = 64
_BLOCK_SHARED_BYTES: Final = 227 * 1024
"""Most shared memory of a block. Source: CUDA C++ Programming Guide, table of compute capabilities, 9.0."""
_MOST_SLOTS: Final = 8
"""More rows on their way gain nothing."""
_FEWEST_SLOTS: Final = 4
"""Fewer do not keep the tensor cores busy while rows are on their way."""
NARROW: Final = 8
"""Inputs of which two taps make one product."""


class StripArguments(ctypes.Structure):
    """See ``sources/strip.cu``; as long as the alignment of a tensor map makes the structure there."""

    _fields_ = (
        ("source", ctypes.c_uint64 * 16),
        *((name, ctypes.c_uint64) for name in ("target", "weights", "bias", "slopes")),
        *((name, ctypes.c_uint64) for name in ("added", "added_later", "image")),
        *((name, ctypes.c_int) for name in ("height", "width")),
        *((name, ctypes.c_int) for name in ("target_pitch", "added_pitch", "added_later_pitch")),
        *((name, ctypes.c_int) for name in ("columns", "share", "rest", "parts")),
        ("factor", ctypes.c_float),
        ("unused", ctypes.c_uint64 * 4),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StripKind:
    """One variant of the kernel."""

    inputs: int
    """8, or a multiple of 16."""
    outputs: int
    """Of one block: 32 or 64, or 8 or 48 for a planar target."""
    activates: bool = False
    """Whether there is an activation."""
    adds: int = 0
    """Stored values that are added: up to 2."""
    enlarges: bool = False
    """Whether it convolves the source with every pixel repeated 2 x 2 times."""
    factor: int = 0
    """0: NHWC; otherwise of the pixel shuffle into a planar target."""
    has_base: bool = False
    """Whether the enlarged input is added to a planar target."""
    is_half: bool = True
    """Whether planar pictures are float16; otherwise float32."""
    consumers: int = 2
    """Warpgroups that compute."""
    swizzled: bool = True
    """How pixels lie in shared memory. Never for 8 inputs."""

    @property
    def is_swizzled(self) -> bool:
        """Whether a pixel's 64 channels lie in one row of shared memory."""
        return self.swizzled and self.inputs != NARROW

    @property
    def strip_width(self) -> int:
        """Pixels of the source that a block computes side by side."""
        return _PART if self.enlarges else _PART * self.consumers

    @property
    def slot_pixels(self) -> int:
        """Pixels of one row that a block loads."""
        return self.strip_width + (8 if self.inputs == NARROW else 2)

    @property
    def slot_planes(self) -> int:
        """Groups of 8 channels that are loaded at once."""
        return 1 if self.inputs == NARROW else 8

    @property
    def slots(self) -> int:
        """Rows of 64 channels that fit into shared memory beside the weights."""
        return min(_MOST_SLOTS, (_BLOCK_SHARED_BYTES - self._fixed_bytes) // (self._slot_bytes + 16))

    @property
    def fits(self) -> bool:
        """Whether enough of them do."""
        return self.slots >= max(_FEWEST_SLOTS, self._chunks + 1)

    @property
    def source(self) -> KernelSource:
        """What to compile."""
        defines = {
            "INPUTS": self.inputs,
            "OUTPUTS": self.outputs,
            "ACTIVATES": self.activates,
            "ADDS": self.adds,
            "ENLARGES": self.enlarges,
            "FACTOR": self.factor,
            "HAS_BASE": self.has_base,
            "IS_HALF": self.is_half,
            "COLOURS": 3,
            "CONSUMERS": self.consumers,
            "SWIZZLED": self.is_swizzled,
            "SLOTS": self.slots,
            "STRIP_SHARED_BYTES": self.shared_bytes,
        }
        return KernelSource(
            name="strip",
            defines=tuple((name, int(value)) for name, value in defines.items()),
            threads=128 * (1 + self.consumers),
            shared_bytes=self.shared_bytes,
            is_for_hopper=True,
        )

    @property
    def shared_bytes(self) -> int:
        """Of a block: slots, weights, tables, barriers."""
        return self._fixed_bytes + self.slots * (self._slot_bytes + 16)

    @property
    def _chunks(self) -> int:
        return -(-self.inputs // (8 * self.slot_planes))

    @property
    def _slot_bytes(self) -> int:
        return -(-self.slot_pixels * self.slot_planes * _CELL_BYTES // 1024) * 1024

    @property
    def _fixed_bytes(self) -> int:
        parities, shifts, blocks = (2, 2, 4) if self.enlarges else (1, 4 if self.inputs == NARROW else 3, 3)
        weight_bytes = parities * shifts * (self.inputs // 8) * blocks * self.outputs * _CELL_BYTES
        return weight_bytes + 2 * self.outputs * 4 + self._chunks * 8


def arrange_strip_weights(kernel: NDArray[np.float32], *, kind: StripKind) -> NDArray[np.float16]:
    """Kernels as they lie in shared memory, block after block of outputs.

    Args:
        kernel: (outputs, inputs, 3, 3); outputs a multiple of ``kind.outputs``.
        kind: Of its ``inputs``.

    Returns:
        All cells of 8 inputs, flat: for each block of outputs and each chunk of 64 inputs (parity, tap across, plane of
        8 inputs, row of output, output, 8).
    """
    if kind.enlarges:
        # taps that fall on one pixel of the source are added: across for each parity, down for each of four rows
        across = _folded(kernel.astype(np.float64), axis=3, parts=(((0,), (1, 2)), ((0, 1), (2,))))
        taps = _folded(across, axis=2, parts=(((2,), (1, 2), (0, 1), (0,)),))
        taps = taps[:, :, :, :, 0, :].transpose(2, 3, 0, 1, 4)  # (parity, tap, outputs, inputs, row of output)
    else:
        taps = kernel.astype(np.float64)[:, :, ::-1, :].transpose(3, 0, 1, 2)[np.newaxis]
        if kind.inputs == NARROW:
            taps = np.pad(taps, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    parts = []
    for first in range(0, kernel.shape[0], kind.outputs):
        for channel in range(0, kind.inputs, 8 * kind.slot_planes):
            some = taps[:, :, first : first + kind.outputs, channel : channel + 8 * kind.slot_planes]
            parity, shifts, outputs, inputs, rows = some.shape
            cells = some.reshape(parity, shifts, outputs, inputs // 8, 8, rows).transpose(0, 1, 3, 5, 2, 4)
            parts.append(cells.reshape(-1))
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float16)


def _folded(
    kernel: NDArray[np.float64], *, axis: int, parts: tuple[tuple[tuple[int, ...], ...], ...]
) -> NDArray[np.float64]:
    """Sums of taps along an axis, which goes away: (..., groups, sums)."""
    groups = [[sum(np.take(kernel, tap, axis=axis) for tap in taps) for taps in group] for group in parts]
    return np.moveaxis(np.array(groups), (0, 1), (-2, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """How blocks share out a picture."""

    columns: int
    """Strips side by side."""
    share: int
    """Rows of strips of every walker."""
    rest: int
    """How many walkers have one more."""
    walkers: int
    """At least one."""


def share_rows(*, batch: int, height: int, width: int, strip_width: int, walkers: int) -> Walks:
    """The same number of rows for everyone.

    Args:
        batch, height, width: Of the source.
        strip_width: Pixels.
        walkers: Blocks that run at the same time.
    """
    columns = -(-width // strip_width)
    rows = batch * columns * height
    walkers = max(1, min(walkers, rows))
    return Walks(columns=columns, share=rows // walkers, rest=rows % walkers, walkers=walkers)


def map_pixels(
    calls: Any, driver: Any, *, kind: StripKind, address: int, batch: int, height: int, width: int, pitch: int
) -> Any:
    """The tensor map by which blocks load rows of pixels; what is outside the picture becomes zeros.

    Args:
        calls: Of the driver.
        driver: Its module.
        kind: Says what a box is.
        address: Of the first channel of the first pixel; a multiple of 16.
        batch, height, width: Of the source.
        pitch: Distance of its pixels in numbers; a multiple of 8.

    Returns:
        16 words, as `StripArguments` wants them.
    """
    pixel = 2 * pitch
    row, picture = width * pixel, height * width * pixel
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    if kind.is_swizzled:
        sizes, strides = (kind.inputs, width, height, batch), (pixel, row, picture)
        box = (64, kind.slot_pixels, 1, 1)
    else:
        sizes, strides = (8, width, kind.inputs // 8, height, batch), (pixel, 16, row, picture)
        box = (8, kind.slot_pixels, kind.slot_planes, 1, 1)
    swizzle = "128B" if kind.is_swizzled else "NONE"
    made = calls.call(
        "cuTensorMapEncodeTiled",
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        len(sizes),
        address,
        [driver.cuuint64_t(size) for size in sizes],
        [driver.cuuint64_t(stride) for stride in strides],
        [driver.cuuint32_t(size) for size in box],
        [driver.cuuint32_t(1)] * len(sizes),
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(driver.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{swizzle}"),
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    return (ctypes.c_uint64 * 16)(*(int(word) for word in made.opaque))
