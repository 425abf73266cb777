"""One of the inferences that may be in flight: an execution context, a stream, graphs, and staging memory for arrays of
the host.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, InferenceFailed, OutOfDeviceMemory
from engines.gpu import Device, Graph, Stream
from engines.gpu.staging import Staging, StreamCompletion
from engines.runner import Tiles
from engines.spec import RunnerSpec
from engines.trt.contexts import TrtContext

logger = logging.getLogger(__name__)

MAX_GRAPHS = 8
"""CUDA graphs that one slot keeps, one for each pair of an input and an output address. A caller that reuses its
buffers has a few pairs; one that does not would fill the GPU with graphs that are launched once."""


class TrtSlot:
    """Runs one inference after the other. Its owner waits for the one before, unless a stream can.

    Args:
        context: Owned from here on.
        device: The GPU.
        spec: Shapes and dtype.
        captures: Whether to record a CUDA graph for each pair of addresses that comes a second time.
    """

    def __init__(self, context: TrtContext, *, device: Device, spec: RunnerSpec, captures: bool) -> None:
        self._context = context
        self._device = device
        self._spec = spec
        self._captures = captures
        self._graphs: dict[tuple[int, int], Graph | None] = {}
        self._staging: Staging | None = None
        self._latest: StreamCompletion | None = None
        self._is_staged = False
        self._stream = device.make_stream()

    def run_host(self, tiles: Tiles, *, out: Tiles) -> StreamCompletion:
        """Start an inference on arrays of the host, on the slot's own stream.

        Memory for it is taken the first time, so that a caller whose arrays lie on the device does not pay for it.
        """
        self._let_go()
        if self._staging is None:
            self._staging = Staging(self._device, self._spec)
        staging = self._staging
        if self._latest is not None:
            self._stream.wait_for(self._latest.done)  # the context's memory is in use until then
        is_direct = self._device.is_pinned(out)
        source: NDArray[Any] = tiles
        if not self._device.is_pinned(tiles):
            np.copyto(staging.tiles, tiles)
            source = staging.tiles
        try:
            self._stream.upload(source, staging.input_pointer)
            self._enqueue(self._stream, staging.input_pointer, staging.output_pointer)
            self._stream.download(staging.output_pointer, out if is_direct else staging.out)
            done = self._stream.record()
        except EngineError:
            with suppress(InferenceFailed):  # the caller may drop its arrays now, so nothing may go on with them
                self._stream.synchronize()
            raise
        completion = StreamCompletion(done, tiles=tiles, out=out, staged=None if is_direct else staging.out)
        self._latest, self._is_staged = completion, True
        return completion

    def run_device(
        self, tiles: Any, *, out: Any, input_pointer: int, output_pointer: int, stream: Stream
    ) -> StreamCompletion:
        """Start an inference on arrays in device memory, ordered by the caller's stream, without waiting here."""
        self._let_go()
        if self._latest is not None:
            stream.wait_for(self._latest.done)  # the context's memory is in use until then
        self._enqueue(stream, input_pointer, output_pointer)
        completion = StreamCompletion(stream.record(), tiles=tiles, out=out)
        self._latest, self._is_staged = completion, False
        return completion

    def settle(self) -> None:
        """Block until nothing of this slot is in flight."""
        if self._latest is not None:
            self._latest.settle()
            self._latest = None

    def close(self) -> None:
        """Wait for what is in flight and give everything back. Can be called twice."""
        self.settle()
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs.clear()
        self._context.close()
        if self._staging is not None:
            self._staging.close()
            self._staging = None
        self._stream.close()

    def _let_go(self) -> None:
        """Wait for the inference before on the host if its output still has to be copied from the staging memory."""
        if self._is_staged:
            self.settle()
            self._is_staged = False

    def _enqueue(self, stream: Stream, input_pointer: int, output_pointer: int) -> None:
        """Launch the graph of these addresses, or record it if they come a second time, or enqueue plainly.

        The first time is always plain, because TensorRT settles its kernels in the first call after a change of shape.
        """
        pair = (input_pointer, output_pointer)
        graph = self._graphs.get(pair)
        if graph is None and self._captures and pair in self._graphs:
            graph = self._capture(pair)
        if graph is not None:
            graph.launch(stream)
            return
        self._context.enqueue(stream=stream.handle, input_pointer=input_pointer, output_pointer=output_pointer)
        if self._captures and len(self._graphs) < MAX_GRAPHS:
            self._graphs.setdefault(pair, None)

    def _capture(self, pair: tuple[int, int]) -> Graph | None:
        try:
            graph = self._stream.capture(
                lambda: self._context.enqueue(stream=self._stream.handle, input_pointer=pair[0], output_pointer=pair[1])
            )
        except (InferenceFailed, OutOfDeviceMemory) as exc:
            logger.warning("the engine is not replayed as a CUDA graph: %s", exc)
            self._captures = False
            return None
        self._graphs[pair] = graph
        return graph
