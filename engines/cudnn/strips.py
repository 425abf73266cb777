"""Convolutions that walk down strips (``sources/strip.cu``): their variants, weights, arguments and tensor maps."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.compile import KernelSource
from engines.cudnn.e4m3 import bits_of_e4m3

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
        *((name, ctypes.c_uint64) for name in ("added", "added_later", "image", "narrow_target", "descale")),
        *((name, ctypes.c_int) for name in ("height", "width")),
        *((name, ctypes.c_int) for name in ("target_pitch", "narrow_pitch", "added_pitch", "added_later_pitch")),
        *((name, ctypes.c_int) for name in ("columns", "share", "rest", "parts")),
        *((name, ctypes.c_float) for name in ("factor", "narrow_factor")),
        ("unused", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StripKind:
    """One variant of the kernel."""

    inputs: int
    """8, or a multiple of 16; of 32 in e4m3."""
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
    reads_e4m3: bool = False
    """Whether source and weights are e4m3; otherwise float16."""
    stores_half: bool = True
    """Whether the result is stored in float16. Not looked at where it is planar."""
    stores_e4m3: bool = False
    """Whether it is stored in e4m3, instead or too."""

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
    def cell_channels(self) -> int:
        """Channels of 16 bytes."""
        return _CELL_BYTES if self.reads_e4m3 else _CELL_BYTES // 2

    @property
    def slot_planes(self) -> int:
        """Groups of ``cell_channels`` that are loaded at once."""
        return 1 if self.inputs == NARROW else 8

    @property
    def slots(self) -> int:
        """Rows of 128 bytes a pixel that fit into shared memory beside the weights."""
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
            "READS_E4M3": self.reads_e4m3,
            "STORES_HALF": self.stores_half,
            "STORES_E4M3": self.stores_e4m3,
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
        return -(-self.inputs // (self.cell_channels * self.slot_planes))

    @property
    def _slot_bytes(self) -> int:
        return -(-self.slot_pixels * self.slot_planes * _CELL_BYTES // 1024) * 1024

    @property
    def _fixed_bytes(self) -> int:
        parities, shifts, blocks = (2, 2, 4) if self.enlarges else (1, 4 if self.inputs == NARROW else 3, 3)
        weight_bytes = parities * shifts * (self.inputs // self.cell_channels) * blocks * self.outputs * _CELL_BYTES
        return weight_bytes + (3 if self.reads_e4m3 else 2) * self.outputs * 4 + self._chunks * 8


def arrange_strip_weights(kernel: NDArray[np.float32], *, kind: StripKind) -> NDArray[np.float16 | np.uint8]:
    """Kernels as they lie in shared memory, block after block of outputs.

    Args:
        kernel: (outputs, inputs, 3, 3); outputs a multiple of ``kind.outputs``; numbers of e4m3 if the kind reads such.
        kind: Of its ``inputs``.

    Returns:
        All cells of C = ``kind.cell_channels`` inputs, flat: for each block of outputs and each chunk of 8 C inputs
        (parity, tap across, plane of C inputs, row of output, output, C); float16, or bytes of e4m3.
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
    parts, cell = [], kind.cell_channels
    for first in range(0, kernel.shape[0], kind.outputs):
        for channel in range(0, kind.inputs, cell * kind.slot_planes):
            some = taps[:, :, first : first + kind.outputs, channel : channel + cell * kind.slot_planes]
            parity, shifts, outputs, inputs, rows = some.shape
            cells = some.reshape(parity, shifts, outputs, inputs // cell, cell, rows).transpose(0, 1, 3, 5, 2, 4)
            parts.append(cells.reshape(-1))
    flat = np.concatenate(parts)
    return bits_of_e4m3(flat.astype(np.float32)) if kind.reads_e4m3 else flat.astype(np.float16)


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
        pitch: Distance of its pixels in numbers; a multiple of ``kind.cell_channels``.

    Returns:
        16 words, as `StripArguments` wants them.
    """
    cell = kind.cell_channels
    pixel = pitch * _CELL_BYTES // cell
    row, picture = width * pixel, height * width * pixel
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    if kind.is_swizzled:
        sizes, strides = (kind.inputs, width, height, batch), (pixel, row, picture)
        box = (8 * cell, kind.slot_pixels, 1, 1)
    else:
        sizes, strides = (cell, width, kind.inputs // cell, height, batch), (pixel, _CELL_BYTES, row, picture)
        box = (cell, kind.slot_pixels, kind.slot_planes, 1, 1)
    swizzle = "128B" if kind.is_swizzled else "NONE"
    numbers = "UINT8" if kind.reads_e4m3 else "FLOAT16"
    # more than a pixel has of the channels that are read would be fetched for nothing
    fetched_bytes = 64 if kind.inputs * _CELL_BYTES // cell <= 64 else 128
    made = calls.call(
        "cuTensorMapEncodeTiled",
        getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{numbers}"),
        len(sizes),
        address,
        [driver.cuuint64_t(size) for size in sizes],
        [driver.cuuint64_t(stride) for stride in strides],
        [driver.cuuint32_t(size) for size in box],
        [driver.cuuint32_t(1)] * len(sizes),
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(driver.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{swizzle}"),
        getattr(driver.CUtensorMapL2promotion, f"CU_TENSOR_MAP_L2_PROMOTION_L2_{fetched_bytes}B"),
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    return (ctypes.c_uint64 * 16)(*(int(word) for word in made.opaque))
