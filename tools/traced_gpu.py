"""A GPU, its kernels and a network that tell a `Trace` when their work was done, and do nothing else differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines import Runner
from engines.gpu import Device, DeviceBuffer, Event, Graph, PinnedBuffer, Stream, TimedEvent
from engines.runner import Completion
from pipeline.device.kernels import Kernels
from pipeline.device.wiring import KernelMaker
from tools.gpu_overlap import ENGINE
from tools.gpu_trace import Trace
from tools.wrapped import WrappedRunner


class TracedStream:
    """A stream whose copies are timed. See ``engines.gpu.Stream``."""

    def __init__(self, inner: Stream, *, trace: Trace) -> None:
        self.inner = inner
        self.handle = inner.handle
        self._trace = trace
        self._is_capturing = False

    def upload(self, source: Any, pointer: int) -> None:
        """See ``engines.gpu.Stream``."""
        self.time("upload", lambda: self.inner.upload(source, pointer), bytes=source.nbytes)

    def download(self, pointer: int, target: Any) -> None:
        """See ``engines.gpu.Stream``."""
        self.time("download", lambda: self.inner.download(pointer, target), bytes=target.nbytes)

    def copy(self, source: int, target: int, *, bytes: int) -> None:
        """See ``engines.gpu.Stream``."""
        self.time("copy", lambda: self.inner.copy(source, target, bytes=bytes), bytes=bytes)

    def time(self, kind: str, enqueue: Callable[[], Any], *, bytes: int = 0) -> Any:
        """See `Trace.time`; a graph that is being recorded takes no times."""
        return enqueue() if self._is_capturing else self._trace.time(kind, self.inner, enqueue, bytes=bytes)

    def record(self) -> Event:
        """See ``engines.gpu.Stream``."""
        return self.inner.record()

    def wait_for(self, event: Event) -> None:
        """See ``engines.gpu.Stream``."""
        self.inner.wait_for(event)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """See ``engines.gpu.Stream``."""
        self._is_capturing = True
        try:
            return TracedGraph(self.inner.capture(enqueue), trace=self._trace)
        finally:
            self._is_capturing = False

    def synchronize(self) -> None:
        """See ``engines.gpu.Stream``."""
        self.inner.synchronize()

    def close(self) -> None:
        """See ``engines.gpu.Stream``."""
        self.inner.close()
        self.handle = self.inner.handle


class TracedGraph:
    """A graph whose launches are timed. See ``engines.gpu.Graph``."""

    def __init__(self, inner: Graph, *, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    def launch(self, stream: Stream) -> None:
        """See ``engines.gpu.Graph``."""
        plain = untraced(stream)
        self._trace.time("graph", plain, lambda: self._inner.launch(plain))

    def close(self) -> None:
        """See ``engines.gpu.Graph``."""
        self._inner.close()


class TracedDevice:
    """A GPU whose streams are timed. See ``engines.gpu.Device``."""

    def __init__(self, inner: Device, *, trace: Trace) -> None:
        self.inner = inner
        self.name = inner.name
        self.index = inner.index
        self.compute_capability = inner.compute_capability
        self.driver_version = inner.driver_version
        self._trace = trace

    def make_current(self) -> None:
        """See ``engines.gpu.Device``."""
        self.inner.make_current()

    def free_bytes(self) -> int:
        """See ``engines.gpu.Device``."""
        return self.inner.free_bytes()

    def allocate(self, count: int) -> DeviceBuffer:
        """See ``engines.gpu.Device``."""
        return self.inner.allocate(count)

    def allocate_pinned(self, count: int) -> PinnedBuffer:
        """See ``engines.gpu.Device``."""
        return self.inner.allocate_pinned(count)

    def is_pinned(self, array: Any) -> bool:
        """See ``engines.gpu.Device``."""
        return self.inner.is_pinned(array)

    def make_stream(self) -> Stream:
        """See ``engines.gpu.Device``."""
        return TracedStream(self.inner.make_stream(), trace=self._trace)

    def make_timed_event(self) -> TimedEvent:
        """See ``engines.gpu.Device``."""
        return self.inner.make_timed_event()

    def wrap_stream(self, stream: Any) -> Stream:
        """See ``engines.gpu.Device``. Without times: it has another owner."""
        return self.inner.wrap_stream(stream)


class TracedKernels:
    """Kernels that are timed. See ``pipeline.device.kernels.Kernels``."""

    def __init__(self, inner: Kernels, *, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    @property
    def canvas_bytes(self) -> int:
        """See ``Kernels``."""
        return self._inner.canvas_bytes

    def cut(self, picture: Any, *, tile: int, count: int = 1, out: int, stream: Stream) -> None:
        """See ``Kernels``."""
        plain = untraced(stream)
        self._time("cut", stream, lambda: self._inner.cut(picture, tile=tile, count=count, out=out, stream=plain))

    def blend(self, tile_pointer: int, *, tile: int, count: int = 1, canvas: int, stream: Stream) -> None:
        """See ``Kernels``. ``count`` rows of a batch."""
        plain = untraced(stream)
        for _ in range(count):
            self._trace.advance()
        self._time(
            "blend",
            stream,
            lambda: self._inner.blend(tile_pointer, tile=tile, count=count, canvas=canvas, stream=plain),
        )

    def finish(self, image: int, *, is_canvas: bool, out: Any, stream: Stream) -> None:
        """See ``Kernels``. Where frames are single tiles, one call for each row of a batch."""
        plain = untraced(stream)
        if not is_canvas:
            self._trace.advance()
        self._time("finish", stream, lambda: self._inner.finish(image, is_canvas=is_canvas, out=out, stream=plain))

    def close(self) -> None:
        """See ``Kernels``."""
        self._inner.close()

    def _time(self, kind: str, stream: Stream, enqueue: Callable[[], None]) -> None:
        if isinstance(stream, TracedStream):
            stream.time(kind, enqueue)
        else:
            enqueue()


class TracedRunner(WrappedRunner):
    """A network whose inferences on the GPU's memory are timed. See ``engines.runner.Runner``."""

    def __init__(self, inner: Runner, *, trace: Trace, device: Device) -> None:
        super().__init__(inner)
        self._trace = trace
        self._device = device

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> Completion:
        """See ``engines.runner.Runner``."""
        if stream is None:
            return self._inner.infer(tiles, out=out)
        completion: Completion = self._trace.time(
            ENGINE, self._device.wrap_stream(stream), lambda: self._inner.infer(tiles, out=out, stream=stream)
        )
        return completion


def trace_kernels(make_kernels: KernelMaker, *, trace: Trace) -> KernelMaker:
    """Let the kernels of a film be timed; they themselves never see a traced stream or device."""

    def make(device: Device, *, stream: Stream, **options: Any) -> Kernels:
        inner = device.inner if isinstance(device, TracedDevice) else device
        return TracedKernels(make_kernels(inner, stream=untraced(stream), **options), trace=trace)

    return make


def untraced(stream: Stream) -> Stream:
    """The stream itself."""
    return stream.inner if isinstance(stream, TracedStream) else stream
