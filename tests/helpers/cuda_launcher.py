"""Lets the TensorRT double compute on a real GPU: its kernels are host functions between two copies, so that the order
of streams, events and captured graphs is CUDA's own.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.gpu import PinnedBuffer
from engines.gpu.cuda import CudaDevice

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class CudaLauncher:
    """See ``helpers.trt_plan.Launcher``. ``close`` it when no stream has work of it any more."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self.compute_capability = device.compute_capability
        self.failures: list[BaseException] = []
        """What kernels raised; nothing can be raised out of a host function."""
        self._kept: list[Any] = []
        self._pinned: list[PinnedBuffer] = []
        self._staging: dict[Any, dict[tuple[int, int], NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()
        self._here: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def enqueue(
        self,
        handle: int,
        run: Callable[[], None],
        *,
        name: str,
        reads: tuple[tuple[int, int], ...],
        writes: tuple[tuple[int, int], ...],
    ) -> None:
        """Copy what is read to the host, run there, copy what is written back, all in the stream."""
        assert handle not in (0, 1, 2), f"{name} is put into a default stream"
        stream = self._device.wrap_stream(handle)
        staging = self._staging.get((reads, writes))
        if staging is None:  # only the first time: nothing can be allocated while a stream is captured
            staging = self._staging[reads, writes] = {}
            for span in dict.fromkeys((*reads, *writes)):
                pinned = self._device.allocate_pinned(span[1])
                self._pinned.append(pinned)
                staging[span] = pinned.array
        for span in reads:
            stream.download(span[0], staging[span])

        def call(_: int | None) -> None:
            with self._lock:
                self._here = staging
                try:
                    run()
                except Exception as exc:  # noqa: BLE001  # a host function has nobody to raise to
                    self.failures.append(exc)

        function = _HOST_FUNCTION(call)
        self._kept.append(function)
        # not through cuda.bindings: its wrapper frees itself after the first call, and a graph calls again
        error = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc(ctypes.c_void_p(handle), function, None)
        assert error == 0, error
        for span in writes:
            stream.upload(staging[span], span[0])

    def bytes_at(self, pointer: int, count: int) -> NDArray[np.uint8]:
        return self._here[(pointer, count)]

    def close(self) -> None:
        while self._pinned:
            self._pinned.pop().close()
        assert self.failures == []
