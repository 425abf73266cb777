"""Runs a `CudnnNetwork` as a runner: arrays of the host through staging memory, arrays of the GPU where they are.

All inferences compute one after the other on one set of activations, whichever stream they are in: each begins after
the event of the one before. A slot is staging memory alone, so that the copies of one inference overlap with the
arithmetic of another.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.execute import CudnnNetwork
from engines.errors import EngineError, InferenceFailed, UnsupportedShape
from engines.gpu import Device, Event, Stream
from engines.gpu.device_arrays import DEFAULT_STREAMS, address_of, is_device_array
from engines.gpu.staging import Staging, StreamCompletion
from engines.runner import Tiles, check_arrays
from engines.spec import RunnerSpec

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Flight:
    """An inference on arrays of the host."""

    slot: Staging
    completion: StreamCompletion


class CudnnSession:
    """A loaded network. See ``engines.runner.Runner``.

    Args:
        spec: Shape, dtype, slots.
        network: Closed with the session.
        device: The GPU.
        stream: Where arrays of the host are computed; closed with the session.

    Raises:
        OutOfDeviceMemory: There is no memory for streams.
    """

    def __init__(self, spec: RunnerSpec, *, network: CudnnNetwork, device: Device, stream: Stream) -> None:
        self.spec = replace(spec, takes_device_arrays=True)
        self._network = network
        self._device = device
        self._compute = stream
        self._closing: ExitStack | None = ExitStack()
        self._closing.callback(stream.close)
        self._closing.callback(network.close)
        self._idle: deque[Staging] = deque()
        self._made = 0
        self._flying: deque[_Flight] = deque()
        self._latest: Event | None = None
        try:
            self._uploads, self._downloads = device.make_stream(), device.make_stream()
            self._closing.callback(self._uploads.close)
            self._closing.callback(self._downloads.close)
        except BaseException:
            self.close()
            raise

    def infer(self, tiles: Tiles | Any, *, out: Tiles | Any, stream: Any = None) -> StreamCompletion:
        """See ``engines.runner.Runner``.

        Args:
            tiles: Array of the host, or of the device (``__cuda_array_interface__``).
            out: Array of the same kind.
            stream: The stream that orders arrays of the device; arrays of the host need none.

        Raises:
            UnsupportedShape: Wrong shape, dtype, layout or alignment, or one array of each kind.
            EngineError: The session is closed, or arrays of the device come without a stream of their own.
            InferenceFailed: The GPU or cuDNN failed.
            OutOfDeviceMemory: There is no memory to stage arrays of the host.
        """
        if self._closing is None:
            raise EngineError("this runner is closed")
        kinds = {is_device_array(tiles), is_device_array(out)}
        if len(kinds) == 2:
            raise UnsupportedShape(
                "tiles and out must both be arrays of the host or both arrays of the device",
                hint="copy one of them, on the stream that orders the call",
            )
        if kinds == {False}:
            check_arrays(self.spec, tiles=tiles, out=out)
            self._device.make_current()
            return self._infer_host(tiles, out)
        image = address_of(self.spec, tiles, name="tiles", shape=self.spec.input_shape)
        picture = address_of(self.spec, out, name="out", shape=self.spec.output_shape, is_written=True)
        if stream is None:
            raise EngineError("arrays of the device need the stream that orders them", hint="pass stream=")
        ordered = self._device.wrap_stream(stream)
        if ordered.handle in DEFAULT_STREAMS:
            raise EngineError(
                "the default stream cannot order an inference: it waits for all others",
                hint="pass a stream of your own, made as non-blocking",
            )
        self._device.make_current()
        return StreamCompletion(self._enqueue(ordered, image=image, picture=picture), tiles=tiles, out=out)

    def close(self) -> None:
        """See ``engines.runner.Runner``. What a GPU that failed does not take back is left to its driver."""
        closing, self._closing = self._closing, None
        if closing is None:
            return
        while self._flying:
            flight = self._flying.popleft()
            flight.completion.settle()
            self._idle.append(flight.slot)
        with suppress(InferenceFailed):
            if self._latest is not None:
                self._latest.wait()
        try:
            while self._idle:
                self._idle.popleft().close()
            closing.close()
        except InferenceFailed as exc:
            logger.warning("the network was not given back in order: %s", exc)

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()

    def _enqueue(self, stream: Stream, *, image: int, picture: int) -> Event:
        """Compute after the inference before, whose activations lie in the same memory."""
        if self._latest is not None:
            stream.wait_for(self._latest)
        try:
            self._network.enqueue(stream, image=image, picture=picture)
        finally:
            self._latest = stream.record()
        return self._latest

    def _infer_host(self, tiles: Tiles, out: Tiles) -> StreamCompletion:
        slot = self._free_slot()
        is_direct = self._device.is_pinned(out)
        source: NDArray[Any] = tiles
        if not self._device.is_pinned(tiles):
            np.copyto(slot.tiles, tiles)
            source = slot.tiles
        try:
            self._uploads.upload(source, slot.input_pointer)
            self._compute.wait_for(self._uploads.record())
            computed = self._enqueue(self._compute, image=slot.input_pointer, picture=slot.output_pointer)
            self._downloads.wait_for(computed)
            self._downloads.download(slot.output_pointer, out if is_direct else slot.out)
            done = self._downloads.record()
        except EngineError:
            with suppress(InferenceFailed):  # the caller may drop its arrays now, so nothing may go on with them
                for stream in (self._uploads, self._compute, self._downloads):
                    stream.synchronize()
            self._idle.append(slot)
            raise
        completion = StreamCompletion(done, tiles=tiles, out=out, staged=None if is_direct else slot.out)
        self._flying.append(_Flight(slot=slot, completion=completion))
        return completion

    def _free_slot(self) -> Staging:
        """Staging memory that nothing uses; made the first times, so that callers with arrays on the GPU have none."""
        if self._idle:
            return self._idle.popleft()
        if self._made < self.spec.slots:
            slot = Staging(self._device, self.spec)
            self._made += 1
            return slot
        flight = self._flying.popleft()
        flight.completion.settle()
        return flight.slot
