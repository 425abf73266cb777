"""What steps read beside pictures, weights above all, in device memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.memory import ALIGNMENT_BYTES
from engines.gpu import Device, DeviceBuffer, Stream


class StepConstants:
    """Keeps arrays on the GPU until it is closed.

    Args:
        device: Where.
        stream: For uploads.
    """

    def __init__(self, device: Device, *, stream: Stream) -> None:
        self._device = device
        self._stream = stream
        self._kept: list[DeviceBuffer] = []

    def keep(self, constants: list[dict[int, NDArray[Any]]]) -> list[dict[int, int]]:
        """Copy arrays into one buffer.

        Args:
            constants: For each step, arrays by tensor number.

        Returns:
            Addresses in the same order.

        Raises:
            OutOfDeviceMemory: They do not fit.
        """
        places, buffer = self._upload(constants)
        self._kept.append(buffer)
        return places

    def lend(self, constants: dict[int, NDArray[Any]]) -> tuple[dict[int, int], Callable[[], None]]:
        """The same for one step and for a while: addresses, and what gives them back when nothing reads them."""
        (places,), buffer = self._upload([constants])
        return places, buffer.close

    def close(self) -> None:
        """Give everything back; nothing may be running. Can be called twice."""
        while self._kept:
            self._kept.pop().close()

    def _upload(self, constants: list[dict[int, NDArray[Any]]]) -> tuple[list[dict[int, int]], DeviceBuffer]:
        offset = 0
        places: list[dict[int, int]] = []
        for arrays in constants:
            place = {}
            for number, array in arrays.items():
                place[number] = offset
                offset += -(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            places.append(place)
        block = np.zeros(max(offset, 1), np.uint8)
        for arrays, place in zip(constants, places, strict=True):
            for number, array in arrays.items():
                block[place[number] : place[number] + array.nbytes] = array.reshape(-1).view(np.uint8)
        buffer = self._device.allocate(block.nbytes)
        self._stream.upload(block, buffer.pointer)
        self._stream.synchronize()
        return [{number: buffer.pointer + at for number, at in place.items()} for place in places], buffer
