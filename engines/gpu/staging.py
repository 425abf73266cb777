"""What runners on CUDA streams share: memory for arrays of the host, and the end of an inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import InferenceFailed
from engines.gpu import Device, DeviceBuffer, Event, PinnedBuffer
from engines.spec import RunnerSpec


class StreamCompletion:
    """The end of one inference; how it ended is kept, whoever waited for it first.

    Args:
        done: Reached when everything in the stream is done.
        tiles, out: The caller's arrays, kept alive until then.
        staged: Pinned memory whose content goes into ``out`` then; None if it went there already.
    """

    def __init__(self, done: Event, *, tiles: Any, out: Any, staged: NDArray[Any] | None = None) -> None:
        self.done = done
        self._arrays: tuple[Any, Any] | None = (tiles, out)
        self._staged = staged
        self._failure: InferenceFailed | None = None

    def settle(self) -> None:
        """Block until the inference is over, well or not, and the output is where the caller wants it."""
        if self._arrays is None:
            return
        _, out = self._arrays
        try:
            self.done.wait()
        except InferenceFailed as exc:
            self._failure = exc
        else:
            if self._staged is not None:
                np.copyto(out, self._staged)
        self._arrays = self._staged = None

    def wait(self) -> None:
        """See ``engines.runner.Completion``."""
        self.settle()
        if self._failure is not None:
            raise self._failure


class Staging:
    """Input and output memory of one slot on the device and, page-locked, on the host.

    Args:
        device: The GPU.
        spec: Shapes and dtype.

    Raises:
        OutOfDeviceMemory: It does not fit.
    """

    def __init__(self, device: Device, spec: RunnerSpec) -> None:
        self._buffers: list[DeviceBuffer | PinnedBuffer] = []
        item_bytes = np.dtype(spec.io_dtype).itemsize
        try:
            self.input_pointer, self.tiles = self._pair(device, spec.input_shape, spec.io_dtype, item_bytes)
            self.output_pointer, self.out = self._pair(device, spec.output_shape, spec.io_dtype, item_bytes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the memory back; nothing may be using it. Can be called twice."""
        while self._buffers:
            self._buffers.pop().close()

    def _pair(self, device: Device, shape: tuple[int, ...], dtype: str, item_bytes: int) -> tuple[int, NDArray[Any]]:
        count = int(np.prod(shape)) * item_bytes
        buffer = device.allocate(count)
        self._buffers.append(buffer)
        pinned = device.allocate_pinned(count)
        self._buffers.append(pinned)
        return buffer.pointer, pinned.array.view(dtype).reshape(shape)
