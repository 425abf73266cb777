"""Weights that kernels look up: many small arrays in one piece of device memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.gpu import Device, DeviceBuffer, Stream

_ALIGNMENT_BYTES = 256
"""Each table begins a cache line of its own on every GPU."""


class DeviceTables:
    """Arrays that are written once, before the first frame.

    Args:
        device: Where they go.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._arrays: list[tuple[int, NDArray[Any]]] = []
        self._bytes = 0
        self._buffer: DeviceBuffer | None = None

    def add(self, array: NDArray[np.float32] | NDArray[np.int32]) -> int:
        """Take one more array.

        Returns:
            Its place, for ``pointer``.
        """
        place = self._bytes
        self._arrays.append((place, np.ascontiguousarray(array)))
        self._bytes += -(-max(array.nbytes, 1) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        return place

    def upload(self, stream: Stream) -> None:
        """Allocate, copy everything, and wait for it: any stream may read the tables afterwards.

        Raises:
            OutOfDeviceMemory: There is not as much memory.
        """
        if not self._arrays:
            return
        self._buffer = self._device.allocate(self._bytes)
        image = np.zeros(self._bytes, np.uint8)
        for place, array in self._arrays:
            image[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
        stream.upload(image, self._buffer.pointer)
        stream.synchronize()

    def pointer(self, place: int) -> int:
        """Device address of a table; valid after ``upload``."""
        if self._buffer is None:
            raise ValueError("tables have no address before they are uploaded")
        return self._buffer.pointer + place

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(address, bytes) of all of it; nothing before ``upload`` or without tables."""
        return () if self._buffer is None else ((self._buffer.pointer, self._bytes),)

    def close(self) -> None:
        """Give the memory back; no kernel may be using it. Can be called twice."""
        if self._buffer is not None:
            self._buffer.close()
