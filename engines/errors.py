"""What can go wrong with a model, a backend or an engine.

::

    EngineError              .hint: one line, what to do next
    ├── UnknownModel         no model of that name; the hint names the nearest
    ├── WeightsError         the weight file is missing, short, long or not what its table entry says
    ├── ModelFileError       the user's ONNX or PyTorch file is not a network that upscales pictures
    ├── ExportFailed         the network cannot be written as ONNX in that way
    ├── BuildFailed          the compiler refused the network or ran out of memory or disk
    │   └── BuildCancelled   the user stopped it
    ├── CacheFailed          the folder of compiled engines cannot be used; .folder
    ├── AccuracyFailed       a compiled or exported network differs too much from its source
    ├── BackendUnavailable   the library or the device that a backend needs is not there; .missing
    ├── UnsupportedModel     the backend cannot run that model at all
    ├── UnsupportedPrecision the backend cannot compute in that precision on this device
    ├── UnsupportedShape     the engine cannot take tiles of that size
    ├── EngineMismatch       a compiled engine does not load here: damaged, or of another version or GPU
    ├── OutOfMemory          the host has not as much free memory as is needed; .needed_bytes, .free_bytes
    │   └── OutOfDeviceMemory    the GPU has not
    └── InferenceFailed      the library failed while running a loaded model

`engines` never imports `pipeline`; the command line turns both trees into one line each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final


class EngineError(Exception):
    """Base of all errors of this package.

    Args:
        message: What is wrong, with the value that is wrong.
        hint: One line that says what to do next; empty if the message says it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownModel(EngineError):
    """No model of that name is in the table."""


class WeightsError(EngineError):
    """A weight file is missing, or its length or content is not that of the model."""


class ModelFileError(EngineError):
    """The user's own ONNX or PyTorch file cannot be read, or is not a network that upscales RGB pictures."""


class ExportFailed(EngineError):
    """The network cannot be written as ONNX with the options asked for."""


class BuildFailed(EngineError):
    """The engine compiler refused the network or its options, or ran out of memory or disk."""


class BuildCancelled(BuildFailed):
    """The user stopped an engine build; nothing of it is kept."""


class CacheFailed(EngineError):
    """The folder of compiled engines cannot be made, read, written or locked.

    Args:
        message: What could not be done, with the folder and the system's reason.
        folder: The cache folder.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, folder: Path, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.folder = folder


class AccuracyFailed(EngineError):
    """An exported or compiled network differs more from the float32 original than its precision explains."""


class BackendUnavailable(EngineError):
    """A backend's library or device is not there.

    Args:
        message: What is missing and for which backend.
        missing: Name of the missing package, library or device.
        hint: The command that installs it, or what to choose instead.
    """

    def __init__(self, message: str, *, missing: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class UnsupportedModel(EngineError):
    """The backend cannot run that model at all."""


class UnsupportedPrecision(EngineError):
    """The backend cannot compute in the precision asked for on this device."""


class UnsupportedShape(EngineError):
    """The engine cannot take tiles of the size or dtype asked for, or not give that enlargement."""


class EngineMismatch(EngineError):
    """A compiled engine does not load here: it is damaged, or was compiled by another version or for another GPU."""


class OutOfMemory(EngineError):
    """There is less free memory than is needed: of the host, where it is not an `OutOfDeviceMemory`.

    Args:
        message: What the memory was for.
        needed_bytes: What was asked for; 0 if the library does not say.
        free_bytes: What was free; 0 if unknown.
        hint: What makes it fit.
    """

    def __init__(self, message: str, *, needed_bytes: int = 0, free_bytes: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class OutOfDeviceMemory(OutOfMemory):
    """The GPU has less free memory than is needed."""


class InferenceFailed(EngineError):
    """The inference library reported an error while a loaded model ran."""


_MEMORY_WORDS: Final = (
    "out of memory",  # CUDA, cuDNN, OpenVINO's GPU plug-in
    "outofmemory",  # TensorRT
    "failed_allocation",  # TensorRT: kFAILED_ALLOCATION
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    "bad_alloc",  # std::bad_alloc: OpenVINO, onnxruntime
    "bad allocation",  # the same in words
    "not enough memory",  # torch on the processor: DefaultCPUAllocator
    "t allocate memory",  # torch and the C library: can't, cannot allocate memory
    "failed to allocate memory",  # onnxruntime's arena
    "memory object allocation",  # OpenCL's CL_MEM_OBJECT_ALLOCATION_FAILURE in OpenVINO's words
    "mem_object_allocation_failure",
)
"""What libraries say, in lower case, when memory ran out. Source: their messages as observed (torch, OpenVINO,
onnxruntime, TensorRT) and their headers' names for such codes."""


def speaks_of_memory(text: str) -> bool:
    """Whether a library's message says that memory ran out."""
    lowered = text.lower()
    return any(words in lowered for words in _MEMORY_WORDS)


def run_error(message: str, *, on_gpu: bool, hint: str = "") -> EngineError:
    """The error of a library that failed while it opened or ran a network, by what it said.

    Args:
        message: What failed, with the library's words.
        on_gpu: Whether the network's arrays are in the memory of a GPU.
        hint: For anything but a lack of memory.

    Returns:
        `OutOfDeviceMemory` or `OutOfMemory` if the words are about memory, else `InferenceFailed`.
    """
    if not speaks_of_memory(message):
        return InferenceFailed(message, hint=hint)
    kind = OutOfDeviceMemory if on_gpu else OutOfMemory
    return kind(message, hint="choose smaller tiles or a smaller batch, or end other programs")
