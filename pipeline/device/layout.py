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
    """Three planes, one after the other, each row padded to ``PITCH_BYTES``. One copy moves them all."""

    format: SampleFormat
    height: int
    """Of the image, pixels."""
    width: int

    @property
    def bytes(self) -> int:
        """Length of the block."""
        start, pitch, rows = self._spans()[-1]
        return start + pitch * rows

    def on_host(self, block: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """See a block of host memory as three planes.

        Args:
            block: 1-D uint8, at least ``bytes`` long; stays the owner.

        Returns:
            Three 2-D views of ``format.dtype`` with the shapes of ``format.plane_shapes``; rows contiguous.
        """
        planes = []
        shapes = self.format.plane_shapes(height=self.height, width=self.width)
        for (start, pitch, rows), (_, columns) in zip(self._spans(), shapes, strict=True):
            padded = block[start : start + rows * pitch].view(self.format.dtype).reshape(rows, -1)
            planes.append(padded[:, :columns])
        return tuple(planes)

    def on_device(self, pointer: int) -> DevicePicture:
        """See a block of device memory as three planes.

        Args:
            pointer: Its address.
        """
        from pipeline.cuda import DevicePicture, DevicePlane

        shapes = self.format.plane_shapes(height=self.height, width=self.width)
        return DevicePicture(
            planes=tuple(
                DevicePlane(pointer=pointer + start, pitch_bytes=pitch, height=rows, width=columns)
                for (start, pitch, _), (rows, columns) in zip(self._spans(), shapes, strict=True)
            ),
            format=self.format,
        )

    def _spans(self) -> list[tuple[int, int, int]]:
        """(first byte, bytes per row, rows) of each plane."""
        spans = []
        start = 0
        itemsize = np.dtype(self.format.dtype).itemsize
        for rows, columns in self.format.plane_shapes(height=self.height, width=self.width):
            pitch = round_up(columns * itemsize, PITCH_BYTES)
            spans.append((start, pitch, rows))
            start = round_up(start + pitch * rows, PLANE_BYTES)
        return spans
