"""PyTorch on a CUDA GPU: the module as one CUDA graph, between copies that overlap with it.

Three streams: uploads, compute, downloads. All inferences compute one after the other in one stream, on one set of
activations; each slot only has staging memory of its own, so the copies of one inference overlap with the arithmetic of
another. Arrays that already lie on the GPU take no detour: a graph has fixed addresses, so its input is copied once
within the GPU, and its result once, to where it belongs and into the type and layout wanted there.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from engines.backends.torch import DTYPES, check_result
from engines.backends.torch_transfers import (
    IO_DTYPES,
    DeviceCompletion,
    Slot,
    first_line,
    is_on_device,
    run_failure,
    wrap_stream,
)
from engines.errors import EngineError, InferenceFailed, OutOfDeviceMemory, UnsupportedShape, speaks_of_memory
from engines.host_completion import HostCompletion
from engines.runner import Completion, Tiles, check_arrays
from engines.spec import RunnerSpec

logger = logging.getLogger(__name__)

_LAYOUTS = {
    "fp32": torch.contiguous_format,
    "fp16": torch.channels_last,
    "bf16": torch.channels_last,
}
"""How activations lie in memory. Measured on an H200 (torch 2.11), channels last against planar: realesr-animevideov3,
1920x1080, 18.6 against 26.4 ms in fp16, but 87 against 77 ms in fp32; RealESRGAN_x4plus, 640x360, fp32, 527 against
293 ms."""

_WARM_UP_RUNS = 3
"""Runs before the capture: the libraries choose their kernels and take their scratch memory in the first ones.
Source: torch's notes on CUDA graphs warm up as often."""


class TorchCudaRunner:
    """A module on one GPU for tiles of one shape.

    Args:
        spec: What it accepts.
        module: Computes in the precision's type, takes float32, lies on the CPU; it is moved.
        device: The GPU.
        use_graph: Whether to replay the network as one CUDA graph.

    Raises:
        OutOfDeviceMemory: The network, its activations or the staging do not fit.
        InferenceFailed: It does not run, or computes no numbers in this precision.
    """

    def __init__(self, spec: RunnerSpec, *, module: torch.nn.Module, device: torch.device, use_graph: bool) -> None:
        self.spec = replace(spec, takes_device_arrays=True)
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None
        self._running: deque[tuple[Slot, HostCompletion]] = deque()
        self._idle: deque[Slot] = deque()
        self._closed = False
        try:
            with self._errors("open"), torch.cuda.device(device), torch.inference_mode(), _cudnn():
                self._uploads, self._compute, self._downloads = (torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]
                layout = _LAYOUTS[spec.precision]
                self._module = module.to(device).to(memory_format=layout)  # type: ignore[call-overload]
                self._image = torch.empty(spec.input_shape, dtype=torch.float32, device=device)
                noise = np.random.default_rng(0).random((1, 3, 1, spec.width), dtype=np.float32)
                self._image.copy_(torch.from_numpy(noise))
                torch.cuda.synchronize(device)
                self._warm_up()
                if use_graph:
                    self._capture()
                self._idle.extend(Slot(self.spec, device=device) for _ in range(spec.slots))
        except EngineError:
            self.close()
            raise

    def infer(self, tiles: Tiles | Any, *, out: Tiles | Any, stream: Any = None) -> Completion:
        """See ``engines.runner.Runner``.

        Host arrays in page-locked memory are copied straight from and to it, others by way of staging. Arrays on the
        GPU (``__cuda_array_interface__`` or ``__dlpack__``) are ordered by ``stream``: None is torch's current stream,
        otherwise a handle or an object with ``__cuda_stream__``; what is put into that stream afterwards sees ``out``.
        """
        if self._closed:
            raise EngineError("this runner is closed")
        if not (is_on_device(tiles) and is_on_device(out)):
            check_arrays(self.spec, tiles=tiles, out=out)
            return self._infer_host(tiles, out)
        with torch.cuda.device(self._device), torch.inference_mode(), self._errors("start"):
            return self._infer_device(tiles, out, caller=wrap_stream(stream, device=self._device))

    def close(self) -> None:
        """See ``engines.runner.Runner``."""
        if self._closed:
            return
        self._closed = True
        while self._running:
            self._running.popleft()[1].settle()
        with torch.cuda.device(self._device):
            try:
                if hasattr(self, "_compute"):
                    self._compute.synchronize()
            except RuntimeError as exc:
                logger.warning("torch failed while a runner was closed: %s", first_line(exc))
            self._idle.clear()
            for name in ("_graph", "_result", "_image", "_module"):
                self.__dict__.pop(name, None)
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()

    def _infer_host(self, tiles: Tiles, out: Tiles) -> HostCompletion:
        """Upload, compute and download, in a slot of its own."""
        if not self._idle:
            self._running[0][1].settle()  # its own caller hears of a failure
            self._idle.append(self._running.popleft()[0])
        slot = self._idle.popleft()
        try:
            with torch.cuda.device(self._device), torch.inference_mode(), self._errors("start"):
                self._enqueue_host(slot, tiles=tiles, out=out)
        except EngineError:
            self._idle.append(slot)
            raise
        completion = HostCompletion(slot.finish, arrays=(tiles, out), to_error=run_failure)
        self._running.append((slot, completion))
        return completion

    def _enqueue_host(self, slot: Slot, *, tiles: Tiles, out: Tiles) -> None:
        source = slot.stage_input(tiles)
        target = slot.stage_output(out)
        with torch.cuda.stream(self._uploads):
            slot.image.copy_(source, non_blocking=True)
            slot.uploaded.record()
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(slot.uploaded)
            self._enqueue(slot.image, slot.picture)
            slot.computed.record()
        with torch.cuda.stream(self._downloads):
            self._downloads.wait_event(slot.computed)
            target.copy_(slot.picture, non_blocking=True)
            slot.done.record()

    def _infer_device(self, tiles: Any, out: Any, *, caller: torch.cuda.Stream) -> DeviceCompletion:
        """Compute between what the caller's stream did before and what it will do after."""
        with torch.cuda.stream(caller):  # a DLPack producer orders its own stream before this one
            image = self._view(tiles, name="tiles", shape=self.spec.input_shape)
            picture = self._view(out, name="out", shape=self.spec.output_shape)
        self._compute.wait_stream(caller)
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._compute):
            self._enqueue(image, picture)
            done.record()
        caller.wait_event(done)
        return DeviceCompletion(done, arrays=(image, picture))

    def _enqueue(self, image: Tensor, picture: Tensor) -> None:
        """Put one inference into the current stream, which is the compute stream."""
        self._image.copy_(image, non_blocking=True)
        if self._graph is not None and self._result is not None:
            self._graph.replay()
            picture.copy_(self._result, non_blocking=True)
        else:
            with _cudnn():
                picture.copy_(self._module(self._image), non_blocking=True)

    def _view(self, array: Any, *, name: str, shape: tuple[int, ...]) -> Tensor:
        """See an array of another library as a tensor, without copying it."""
        try:
            if isinstance(array, Tensor):
                tensor = array
            elif hasattr(array, "__cuda_array_interface__"):
                tensor = torch.as_tensor(array)
            else:
                tensor = from_dlpack(array)
        except (TypeError, ValueError, BufferError) as exc:
            raise UnsupportedShape(f"{name} cannot be read as an array on the GPU: {exc}") from exc
        wanted = IO_DTYPES[self.spec.io_dtype]
        if tuple(tensor.shape) != shape or tensor.dtype != wanted or tensor.device != self._device:
            raise UnsupportedShape(
                f"{name} is {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}; this torch runner of "
                f"{self.spec.model.name} takes {shape} {wanted} on {self._device}"
            )
        if not tensor.is_contiguous():
            raise UnsupportedShape(f"{name} is not C-contiguous", hint="pass a contiguous copy of it")
        return tensor

    def _warm_up(self) -> None:
        """Let the libraries choose their kernels, and see that the network gives numbers of the right shape."""
        with torch.cuda.stream(self._compute):
            for _ in range(_WARM_UP_RUNS):
                result = self._module(self._image)
            check_result(self.spec, result)
            is_finite = bool(torch.isfinite(result).all().item())
        if not is_finite:
            raise InferenceFailed(
                f"{self.spec.model.name} overflows in {self.spec.precision}: noise became values that are no numbers",
                hint="choose precision fp32 or bf16",
            )

    def _capture(self) -> None:
        """Record the network into a graph; one that cannot be recorded runs without, and the spec says so."""
        graph = torch.cuda.CUDAGraph()
        try:
            # the inner context does not leave its stream when the capture fails; the outer one does
            with (
                torch.cuda.stream(torch.cuda.current_stream(self._device)),
                torch.cuda.graph(graph, stream=self._compute, capture_error_mode="thread_local"),
            ):
                result = self._module(self._image)
        except RuntimeError as exc:
            # torch's random numbers stay in the capture that failed, for all of the process; a fresh state frees them
            generator = torch.cuda.default_generators[self._compute.device_index]
            generator.graphsafe_set_state(torch.Generator(self._device).manual_seed(generator.initial_seed()))
            if isinstance(exc, torch.OutOfMemoryError) or speaks_of_memory(first_line(exc)):
                raise
            note = f"{self.spec.model.name} runs without a CUDA graph, since it cannot be recorded: {first_line(exc)}"
            self.spec = replace(self.spec, notes=(*self.spec.notes, note))
            return
        self._graph, self._result = graph, result

    @contextmanager
    def _errors(self, step: str) -> Iterator[None]:
        """Turn torch's errors into ours, and let go of the memory that their tracebacks hold."""
        try:
            yield
        except torch.OutOfMemoryError as exc:
            traceback.clear_frames(exc.__traceback__)  # they hold the activations that were there already
            raise self._out_of_memory(exc) from exc
        except RuntimeError as exc:
            traceback.clear_frames(exc.__traceback__)
            if speaks_of_memory(first_line(exc)):  # cuDNN, cuBLAS and the driver say so in words
                raise self._out_of_memory(exc) from exc
            raise InferenceFailed(f"torch could not {step}: {first_line(exc)}") from exc

    def _out_of_memory(self, exc: RuntimeError) -> OutOfDeviceMemory:
        spec = self.spec
        float_bytes = DTYPES[spec.precision].itemsize
        px = spec.batch * spec.height * spec.width
        needed_bytes = px * spec.model.activation_bytes_per_px * float_bytes // 4
        free_bytes, _ = torch.cuda.mem_get_info(self._device)
        return OutOfDeviceMemory(
            f"{spec.device} has too little memory for {spec.batch} tile(s) of {spec.height}x{spec.width} of "
            f"{spec.model.name} in {spec.precision}: about {needed_bytes / 2**20:.0f} MiB of activations are needed, "
            f"{free_bytes / 2**20:.0f} MiB were free ({first_line(exc)})",
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
            hint="choose smaller tiles or batch 1" + (", or precision fp16" if float_bytes == 4 else ""),
        )


@contextmanager
def _cudnn() -> Iterator[None]:
    """fp32 is fp32, not TF32, and the same kernels are chosen in every process, so that a resumed run has the bits of
    one that never stopped.

    Choosing kernels by timing them instead gains nothing for realesr-animevideov3 and 2 % for RealESRGAN_x4plus, which
    then takes 8.0 instead of 4.4 GiB. Measured on an H200 with torch 2.11, fp16, 1920x1080 and 1280x720.
    """
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False, fp32_precision="ieee"
    ):
        yield
