"""Runs a compiled engine: ``spec.slots`` execution contexts that take turns, on arrays of the host or of the GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from engines.errors import EngineError, InferenceFailed, UnsupportedShape
from engines.gpu import Device
from engines.gpu.device_arrays import DEFAULT_STREAMS, address_of, is_device_array
from engines.gpu.staging import StreamCompletion
from engines.runner import Tiles, check_arrays
from engines.spec import RunnerSpec
from engines.trt.contexts import RuntimeSettings, TrtContext, find_tensors, make_runtime_settings, save_kernels
from engines.trt.library import TrtLibrary
from engines.trt.loading import load_engine
from engines.trt.slot import TrtSlot

logger = logging.getLogger(__name__)


def open_session(
    spec: RunnerSpec,
    *,
    library: TrtLibrary,
    plan: bytes,
    device: Device,
    cuda_graph: bool = True,
    kernels: bytes | None = None,
    keep_kernels: Callable[[bytes], object] | None = None,
) -> TrtSession:
    """Load an engine and make everything that running it needs but the staging memory for arrays of the host.

    Args:
        spec: What to run: shape, dtype, slots.
        library: What compiled the engine.
        plan: The engine, checked against damage.
        device: The GPU.
        cuda_graph: Replay the engine as a CUDA graph for buffers that come again.
        kernels: TensorRT-RTX: kernels compiled on this GPU by an earlier session.
        keep_kernels: Takes them when the session closes, if there are others than ``kernels``.

    Raises:
        EngineMismatch: The engine does not load here; see ``load_engine``.
        BackendUnavailable: The library does not support the GPU.
        UnsupportedShape: The engine does not take this shape or dtype; the profile's maximum is named.
        OutOfDeviceMemory: Weights or activations do not fit.
        InferenceFailed: The library refused.
    """
    with ExitStack() as undo:
        loaded = load_engine(library, plan=plan, device=device)
        undo.callback(loaded.close)
        tensors = find_tensors(loaded, spec)
        settings = make_runtime_settings(loaded, cuda_graph=cuda_graph, kernels=kernels)
        undo.callback(settings.close)
        slots = []
        for _ in range(spec.slots):
            context = TrtContext(loaded, tensors=tensors, settings=settings, spec=spec)
            with ExitStack() as undo_context:
                undo_context.callback(context.close)
                slot = TrtSlot(context, device=device, spec=spec, captures=cuda_graph and not settings.captures_itself)
                undo_context.pop_all()
            undo.callback(slot.close)
            slots.append(slot)
        session = TrtSession(
            replace(spec, takes_device_arrays=True),
            device=device,
            slots=slots,
            settings=settings,
            kernels=kernels,
            keep_kernels=keep_kernels,
            closing=undo.pop_all(),
        )
    return session


class TrtSession:
    """A loaded engine. See ``engines.runner.Runner``; made by ``open_session``.

    Arrays of the host go through page-locked memory on a stream of the slot; with all slots busy, ``infer`` first waits
    for the oldest. Arrays of the device are bound as they are and ordered by the caller's stream alone: ``infer`` then
    never waits on the host.
    """

    def __init__(
        self,
        spec: RunnerSpec,
        *,
        device: Device,
        slots: list[TrtSlot],
        settings: RuntimeSettings,
        kernels: bytes | None,
        keep_kernels: Callable[[bytes], object] | None,
        closing: ExitStack,
    ) -> None:
        self.spec = spec
        self._device = device
        self._slots = slots
        self._settings: RuntimeSettings | None = settings
        self._kernels = kernels
        self._keep_kernels = keep_kernels
        self._closing = closing
        self._turn = 0

    def infer(self, tiles: Tiles | Any, *, out: Tiles | Any, stream: Any = None) -> StreamCompletion:
        """See ``engines.runner.Runner``.

        Args:
            tiles: Array of the host, or of the device (``__cuda_array_interface__``).
            out: Array of the same kind.
            stream: The stream that orders arrays of the device; arrays of the host need none.

        Raises:
            UnsupportedShape: Wrong shape, dtype, layout or alignment, or one array of each kind.
            EngineError: The session is closed, or arrays of the device come without a stream of their own.
            InferenceFailed: The library refused to start.
            OutOfDeviceMemory: There is no memory to stage arrays of the host.
        """
        if self._settings is None:
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
            return self._next_slot().run_host(tiles, out=out)
        source = address_of(self.spec, tiles, name="tiles", shape=self.spec.input_shape)
        target = address_of(self.spec, out, name="out", shape=self.spec.output_shape, is_written=True)
        if stream is None:
            raise EngineError("arrays of the device need the stream that orders them", hint="pass stream=")
        ordered = self._device.wrap_stream(stream)
        if ordered.handle in DEFAULT_STREAMS:
            raise EngineError(
                "the default stream cannot order an inference: it waits for all others",
                hint="pass a stream of your own, made as non-blocking",
            )
        self._device.make_current()
        return self._next_slot().run_device(tiles, out=out, input_pointer=source, output_pointer=target, stream=ordered)

    def close(self) -> None:
        """See ``engines.runner.Runner``. What a GPU that failed does not take back is left to its driver."""
        settings, self._settings = self._settings, None
        if settings is None:
            return
        for slot in self._slots:
            slot.settle()
        self._save_kernels(settings)
        try:
            self._closing.close()
        except InferenceFailed as exc:
            logger.warning("the engine was not given back in order: %s", exc)

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()

    def _next_slot(self) -> TrtSlot:
        slot = self._slots[self._turn % len(self._slots)]
        self._turn += 1
        return slot

    def _save_kernels(self, settings: RuntimeSettings) -> None:
        if self._keep_kernels is None:
            return
        kernels = save_kernels(settings)
        if kernels and kernels != self._kernels:
            self._keep_kernels(kernels)
