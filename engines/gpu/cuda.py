"""The NVIDIA GPUs of this machine and their memory, behind ``engines.gpu``'s protocols."""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, EngineError, InferenceFailed
from engines.gpu.cuda_driver import CudaCalls, load_driver
from engines.gpu.cuda_stream import CudaStream, CudaTimedEvent

_VERSION_FILE = Path("/proc/driver/nvidia/version")
"""Where the Linux kernel driver says its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentity:
    """One GPU as it is listed; nothing of it is in use."""

    index: int
    """CUDA ordinal."""
    name: str
    """``NVIDIA H200`` ..."""
    compute_capability: tuple[int, int]
    """(9, 0) ..."""
    total_bytes: int
    """Device memory."""
    driver_version: str
    """Of the display driver where known, otherwise the CUDA version that the driver supports."""


def list_devices() -> tuple[DeviceIdentity, ...]:
    """List the GPUs without opening a context on any.

    Raises:
        BackendUnavailable: There is no CUDA driver or no GPU.
    """
    driver = load_driver()
    count = _count(driver)
    return tuple(_identify(driver, index) for index in range(count))


def open_device(index: int = 0) -> CudaDevice:
    """Open one GPU in its primary context, which all libraries of the process share.

    The context stays until the process ends: others may have made objects in it. Threads that wait for the GPU sleep:
    by default they keep a core busy, which software encoders need.

    Args:
        index: CUDA ordinal, as ``CUDA_VISIBLE_DEVICES`` leaves it.

    Raises:
        BackendUnavailable: There is no CUDA driver, no GPU, or none of that number.
        OutOfDeviceMemory: There is not even memory for a context.
    """
    driver = load_driver()
    count = _count(driver)
    if not 0 <= index < count:
        raise BackendUnavailable(
            f"there is no GPU number {index}: this machine shows {count}",
            missing=f"cuda:{index}",
            hint="choose device " + " or ".join(f"cuda:{known}" for known in range(count)),
        )
    calls = CudaCalls(driver, context=None)
    handle = calls.call("cuDeviceGet", index)
    with suppress(InferenceFailed):  # old drivers: of a context that is there already
        calls.call("cuDevicePrimaryCtxSetFlags", handle, int(driver.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC))
    context = calls.call("cuDevicePrimaryCtxRetain", handle)
    device = CudaDevice(CudaCalls(driver, context=context), identity=_identify(driver, index))
    device.make_current()
    return device


def _count(driver: Any) -> int:
    count = int(CudaCalls(driver, context=None).call("cuDeviceGetCount"))
    if count == 0:
        raise BackendUnavailable(
            "there is no NVIDIA GPU on this machine", missing="NVIDIA GPU", hint="choose device cpu"
        )
    return count


def _identify(driver: Any, index: int) -> DeviceIdentity:
    calls = CudaCalls(driver, context=None)
    handle = calls.call("cuDeviceGet", index)
    kinds = driver.CUdevice_attribute
    major = calls.call("cuDeviceGetAttribute", kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle)
    minor = calls.call("cuDeviceGetAttribute", kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle)
    return DeviceIdentity(
        index=index,
        name=calls.call("cuDeviceGetName", 256, handle).split(b"\0", 1)[0].decode(),
        compute_capability=(int(major), int(minor)),
        total_bytes=int(calls.call("cuDeviceTotalMem", handle)),
        driver_version=_driver_version(int(calls.call("cuDriverGetVersion"))),
    )


def _driver_version(cuda_version: int) -> str:
    """The display driver's version; the driver API itself knows only CUDA's, as 1000 * major + 10 * minor."""
    if _VERSION_FILE.is_file():
        found = re.search(r"\b(\d{3,}\.\d+(\.\d+)?)\b", _VERSION_FILE.read_text(encoding="utf-8", errors="replace"))
        if found is not None:
            return found.group(1)
    return f"CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}"


class CudaDevice:
    """One GPU. See ``engines.gpu.Device``."""

    def __init__(self, calls: CudaCalls, *, identity: DeviceIdentity) -> None:
        self._calls = calls
        self.identity = identity
        self.name = identity.name
        self.index = identity.index
        self.compute_capability = identity.compute_capability
        self.driver_version = identity.driver_version

    def make_current(self) -> None:
        """See ``engines.gpu.Device``."""
        self._calls.make_current()

    def free_bytes(self) -> int:
        """See ``engines.gpu.Device``."""
        free, _ = self._calls.call("cuMemGetInfo")
        return int(free)

    def allocate(self, count: int) -> CudaBuffer:
        """See ``engines.gpu.Device``. Not ordered by any stream; what it holds is undefined."""
        return CudaBuffer(self._calls, bytes=count)

    def allocate_pinned(self, count: int) -> CudaPinnedBuffer:
        """See ``engines.gpu.Device``."""
        return CudaPinnedBuffer(self._calls, bytes=count)

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """See ``engines.gpu.Device``."""
        driver = self._calls.driver
        self.make_current()
        start = array.ctypes.data
        for address in (start, start + max(array.nbytes, 1) - 1):
            error, kind = driver.cuPointerGetAttribute(
                driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address
            )
            # CUDA_ERROR_INVALID_VALUE is the documented answer for memory that CUDA does not know
            if int(error) != 0 or int(kind) != int(driver.CUmemorytype.CU_MEMORYTYPE_HOST):
                return False
        return True

    def make_stream(self) -> CudaStream:
        """See ``engines.gpu.Device``."""
        flags = int(self._calls.driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return CudaStream(self._calls, handle=int(self._calls.call("cuStreamCreate", flags)), is_owned=True)

    def make_timed_event(self) -> CudaTimedEvent:
        """See ``engines.gpu.Device``."""
        return CudaTimedEvent(self._calls)

    def wrap_stream(self, stream: Any) -> CudaStream:
        """See ``engines.gpu.Device``."""
        handle = stream
        if hasattr(stream, "__cuda_stream__"):
            _, handle = stream.__cuda_stream__()
        if not isinstance(handle, int):
            raise EngineError(f"a CUDA stream is an integer handle or has __cuda_stream__, not {type(stream).__name__}")
        return CudaStream(self._calls, handle=handle, is_owned=False)


class CudaBuffer:
    """Plain device memory. See ``engines.gpu.DeviceBuffer``; CUDA aligns it to 256 bytes at least."""

    def __init__(self, calls: CudaCalls, *, bytes: int) -> None:
        self._calls = calls
        self.bytes = bytes
        self.pointer = int(calls.call("cuMemAlloc", bytes, needed_bytes=bytes))

    def close(self) -> None:
        """See ``engines.gpu.DeviceBuffer``."""
        pointer, self.pointer = self.pointer, 0
        if pointer:
            self._calls.call("cuMemFree", pointer)


class CudaPinnedBuffer:
    """Page-locked host memory, known to every device. See ``engines.gpu.PinnedBuffer``."""

    def __init__(self, calls: CudaCalls, *, bytes: int) -> None:
        self._calls = calls
        self._pointer = int(calls.call("cuMemHostAlloc", bytes, calls.driver.CU_MEMHOSTALLOC_PORTABLE))
        self.array: NDArray[Any] = np.ctypeslib.as_array((ctypes.c_uint8 * bytes).from_address(self._pointer))

    def close(self) -> None:
        """See ``engines.gpu.PinnedBuffer``. No view of ``array`` may be used afterwards."""
        pointer, self._pointer = self._pointer, 0
        if pointer:
            self.array = np.empty(0, dtype=np.uint8)
            self._calls.call("cuMemFreeHost", pointer)
