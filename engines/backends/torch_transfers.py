"""How arrays come to a torch runner on a GPU and go back: staging, completions, streams of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.errors import EngineError, InferenceFailed, run_error
from engines.runner import Tiles
from engines.spec import RunnerSpec

IO_DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""torch's type by ``RunnerSpec.io_dtype``."""


class Slot:
    """Staging memory of one inference in flight."""

    def __init__(self, spec: RunnerSpec, *, device: torch.device) -> None:
        dtype = IO_DTYPES[spec.io_dtype]
        self.image = torch.empty(spec.input_shape, dtype=dtype, device=device)
        self.picture = torch.empty(spec.output_shape, dtype=dtype, device=device)
        self.uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.computed = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # blocking: the waiting thread sleeps
        self.done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._dtype = dtype
        self._staged_input: Tensor | None = None
        self._staged_output: Tensor | None = None
        self._target: Tensor | None = None

    def stage_input(self, tiles: Tiles) -> Tensor:
        """Page-locked memory with the tiles: their own, or a copy."""
        source = torch.from_numpy(tiles) if tiles.flags.writeable else torch.tensor(tiles)
        if source.is_pinned():
            return source
        if self._staged_input is None:
            self._staged_input = torch.empty(tiles.shape, dtype=self._dtype, pin_memory=True)
        return self._staged_input.copy_(source)

    def stage_output(self, out: Tiles) -> Tensor:
        """Page-locked memory to download into: the array's own, or one to copy from in ``finish``."""
        target = torch.from_numpy(out)
        if target.is_pinned():
            self._target = None
            return target
        if self._staged_output is None:
            self._staged_output = torch.empty(out.shape, dtype=self._dtype, pin_memory=True)
        self._target = target
        return self._staged_output

    def finish(self) -> None:
        """Block until the download is done, and hand its result over."""
        self.done.synchronize()
        if self._target is not None and self._staged_output is not None:
            with torch.inference_mode():
                self._target.copy_(self._staged_output)
            self._target = None


class DeviceCompletion:
    """An inference on arrays of the GPU; only ``wait`` makes the host wait."""

    def __init__(self, done: torch.cuda.Event, *, arrays: tuple[Tensor, Tensor]) -> None:
        self._done = done
        self._arrays = arrays

    def wait(self) -> None:
        """See ``engines.runner.Completion``."""
        try:
            self._done.synchronize()
        except RuntimeError as exc:
            raise run_failure(exc) from exc


def wrap_stream(stream: Any, *, device: torch.device) -> torch.cuda.Stream:
    """See the caller's stream as torch's: None is the current one, otherwise a handle or ``__cuda_stream__``.

    Raises:
        InferenceFailed: It is no stream.
    """
    if stream is None:
        return torch.cuda.current_stream(device)
    if isinstance(stream, torch.cuda.Stream):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        _, stream = stream.__cuda_stream__()  # (version of the protocol, handle)
    if not isinstance(stream, int):
        raise InferenceFailed(f"stream must be a CUDA stream or its handle, not {type(stream).__name__}")
    if stream == 0:
        return torch.cuda.default_stream(device)
    return torch.cuda.ExternalStream(stream, device=device)  # type: ignore[no-untyped-call]


def is_on_device(array: Any) -> bool:
    """Whether an array claims to lie on a GPU: nothing of numpy does."""
    if isinstance(array, np.ndarray):
        return False
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__dlpack__")


def run_failure(exc: RuntimeError) -> EngineError:
    """What torch raised while a network ran on a GPU, as this package's error."""
    return run_error(f"torch failed: {first_line(exc)}", on_gpu=True)


def first_line(exc: BaseException) -> str:
    """What an error of torch says, without the advice that follows."""
    return str(exc).strip().partition("\n")[0]
