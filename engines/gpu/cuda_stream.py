"""CUDA's streams, events and graphs, behind ``engines.gpu``'s protocols."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from engines.errors import InferenceFailed
from engines.gpu import Event, Stream, TimedEvent
from engines.gpu.cuda_driver import CudaCalls


class CudaEvent:
    """A point in a stream, given back when nobody holds it any more. See ``engines.gpu.Event``."""

    def __init__(self, calls: CudaCalls, *, stream: int) -> None:
        self._calls = calls
        kinds = calls.driver.CUevent_flags
        flags = int(kinds.CU_EVENT_BLOCKING_SYNC) | int(kinds.CU_EVENT_DISABLE_TIMING)
        self.handle = int(calls.call("cuEventCreate", flags))
        weakref.finalize(self, calls.driver.cuEventDestroy, self.handle).atexit = False
        calls.call("cuEventRecord", self.handle, stream)

    def wait(self) -> None:
        """See ``engines.gpu.Event``."""
        self._calls.call("cuEventSynchronize", self.handle)


class CudaTimedEvent:
    """A point in a stream with a time, given back when nobody holds it any more. See ``engines.gpu.TimedEvent``.

    Streams wait fastest for events that were made with CU_EVENT_DISABLE_TIMING (CUDA driver API, ``cuEventCreate``), so
    `CudaEvent` has no time and this is a class of its own.
    """

    def __init__(self, calls: CudaCalls) -> None:
        self._calls = calls
        flags = int(calls.driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC)
        self.handle = int(calls.call("cuEventCreate", flags))
        weakref.finalize(self, calls.driver.cuEventDestroy, self.handle).atexit = False

    def record(self, stream: Stream) -> None:
        """See ``engines.gpu.TimedEvent``."""
        self._calls.call("cuEventRecord", self.handle, stream.handle)

    def wait(self) -> None:
        """See ``engines.gpu.Event``. Returns at once if it was not recorded."""
        self._calls.call("cuEventSynchronize", self.handle)

    def seconds_since(self, earlier: TimedEvent) -> float:
        """See ``engines.gpu.TimedEvent``. CUDA gives a float32 of milliseconds, which resolves half a microsecond."""
        if not isinstance(earlier, CudaTimedEvent):
            raise TypeError(f"a CUDA event has no time since a {type(earlier).__name__}")
        return float(self._calls.call("cuEventElapsedTime", earlier.handle, self.handle)) * 1e-3


class CudaGraph:
    """An instantiated graph. See ``engines.gpu.Graph``."""

    def __init__(self, calls: CudaCalls, *, handle: int) -> None:
        self._calls = calls
        self._handle = handle

    def launch(self, stream: Stream) -> None:
        """See ``engines.gpu.Graph``."""
        self._calls.call("cuGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        """See ``engines.gpu.Graph``."""
        handle, self._handle = self._handle, 0
        if handle:
            self._calls.call("cuGraphExecDestroy", handle)


class CudaStream:
    """A stream of our own or of the caller. See ``engines.gpu.Stream``."""

    def __init__(self, calls: CudaCalls, *, handle: int, is_owned: bool) -> None:
        self._calls = calls
        self.handle = handle
        self._is_owned = is_owned

    def upload(self, source: NDArray[Any], pointer: int) -> None:
        """See ``engines.gpu.Stream``."""
        self._calls.call("cuMemcpyHtoDAsync", pointer, source.ctypes.data, source.nbytes, self.handle)

    def download(self, pointer: int, target: NDArray[Any]) -> None:
        """See ``engines.gpu.Stream``."""
        self._calls.call("cuMemcpyDtoHAsync", target.ctypes.data, pointer, target.nbytes, self.handle)

    def copy(self, source: int, target: int, *, bytes: int) -> None:
        """See ``engines.gpu.Stream``."""
        self._calls.call("cuMemcpyDtoDAsync", target, source, bytes, self.handle)

    def record(self) -> CudaEvent:
        """See ``engines.gpu.Stream``."""
        return CudaEvent(self._calls, stream=self.handle)

    def wait_for(self, event: Event) -> None:
        """See ``engines.gpu.Stream``."""
        if not isinstance(event, CudaEvent | CudaTimedEvent):
            raise TypeError(f"a CUDA stream cannot wait for a {type(event).__name__}")
        self._calls.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def capture(self, enqueue: Callable[[], None]) -> CudaGraph:
        """See ``engines.gpu.Stream``.

        The capture is thread-local, so that allocations of other threads (a decoder's) neither break it nor fail.
        """
        driver = self._calls.driver
        self._calls.call(
            "cuStreamBeginCapture", self.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        )
        is_whole = False
        try:
            enqueue()
            is_whole = True
        finally:
            error, graph = driver.cuStreamEndCapture(self.handle)
            if not is_whole and int(error) == 0 and int(graph):
                driver.cuGraphDestroy(graph)
        if int(error) != 0:
            raise InferenceFailed(f"CUDA failed: cuStreamEndCapture gave {error.name}")
        try:
            return CudaGraph(self._calls, handle=int(self._calls.call("cuGraphInstantiate", graph, 0)))
        finally:
            self._calls.call("cuGraphDestroy", graph)

    def synchronize(self) -> None:
        """See ``engines.gpu.Stream``."""
        self._calls.call("cuStreamSynchronize", self.handle)

    def close(self) -> None:
        """See ``engines.gpu.Stream``."""
        handle, self.handle = self.handle, 0
        if handle and self._is_owned:
            self._calls.call("cuStreamSynchronize", handle)
            self._calls.call("cuStreamDestroy", handle)
