"""How the planes of one image lie in one block of memory, the same on the GPU and in page-locked host memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import SampleFormat
from pipeline.tiling import round_up

if TYPE_CHECKING:
    from pipeline.cuda import DevicePicture

PITCH_BYTES = 64
"""Rows begin at multiples of this: two of the 32-byte sectors in which a GPU reads memory (CUDA C++ Programming Guide,
"Device Memory Accesses"), and a cache line of the host. 1920 and 3840 samples need no padding for it."""

PLANE_BYTES = 256
"""Planes begin at multiples of this, as allocations do."""

FLOAT_ROW_PX = 32
"""The kernels' own float32 images have rows of multiples of this: 128 bytes (``pipeline.cuda``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneLayout:
    """Planes one after the other, each row padded to ``PITCH_BYTES``. One copy moves them all."""

    format: SampleFormat
    height: int
    """Of the image, pixels."""
    width: int
    is_surface: bool = False
    """As hardware encoders read it (NV12, P010), instead of three planes: luma, and directly behind it at the same
    pitch Cb and Cr by turns; samples of more than 8 bits in the upper bits of their 16. 4:2:0 only."""

    def __post_init__(self) -> None:
        if self.is_surface and self.format.subsampling != "420":
            raise ValueError(f"a surface is 4:2:0, not {self.format.subsampling}")

    @property
    def bytes(self) -> int:
        """Length of the block."""
        start, pitch, rows = self._spans()[-1]
        return start + pitch * rows

    def on_host(self, block: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """See a block of host memory as planes.

        Args:
            block: 1-D uint8, at least ``bytes`` long; stays the owner.

        Returns:
            2-D views of ``format.dtype``, three with the shapes of ``format.plane_shapes`` or a surface's two; rows
            contiguous.
        """
        planes = []
        for (start, pitch, rows), (_, columns) in zip(self._spans(), self._shapes(), strict=True):
            padded = block[start : start + rows * pitch].view(self.format.dtype).reshape(rows, -1)
            planes.append(padded[:, :columns])
        return tuple(planes)

    def on_device(self, pointer: int) -> DevicePicture:
        """See a block of device memory as planes.

        Args:
            pointer: Its address.
        """
        from pipeline.cuda import DevicePicture, DevicePlane

        return DevicePicture(
            planes=tuple(
                DevicePlane(pointer=pointer + start, pitch_bytes=pitch, height=rows, width=columns)
                for (start, pitch, _), (rows, columns) in zip(self._spans(), self._shapes(), strict=True)
            ),
            format=self.format,
            msb_aligned=self.is_surface and self.format.bit_depth > 8,
        )

    def _shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, samples per row) of each plane."""
        luma, chroma, other = self.format.plane_shapes(height=self.height, width=self.width)
        return (luma, (chroma[0], 2 * chroma[1])) if self.is_surface else (luma, chroma, other)

    def _spans(self) -> list[tuple[int, int, int]]:
        """(first byte, bytes per row, rows) of each plane."""
        spans = []
        start = 0
        itemsize = np.dtype(self.format.dtype).itemsize
        for rows, columns in self._shapes():
            pitch = round_up(columns * itemsize, PITCH_BYTES)
            spans.append((start, pitch, rows))
            start = round_up(start + pitch * rows, 1 if self.is_surface else PLANE_BYTES)
        return spans
