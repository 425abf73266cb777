"""Loads a compiled engine, and says in words why one does not load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.errors import (
    BackendUnavailable,
    EngineError,
    EngineMismatch,
    InferenceFailed,
    OutOfDeviceMemory,
    speaks_of_memory,
)
from engines.gpu import Device
from engines.trt.library import TrtLibrary
from engines.trt.log import strip_source
from engines.trt.recorder import make_recorder

_REBUILD = "it is built anew on the next run; or build it now with: python -m engines build"

_DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was compiled by another version",
    "UNSUPPORTED_CC": "it was not compiled for this GPU",
    "OLD_CUDA_DRIVER": "the display driver is too old",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
    "MALFORMED_ENGINE": "it is damaged or no engine at all",
    "CUDA_ERROR": "CUDA cannot be used",
}
"""``EngineInvalidityDiagnostics`` of TensorRT-RTX in words."""

_REASONS = (
    ("does not support this compute capability", "this GPU is not supported"),
    ("engine cannot run on this GPU", "it was not compiled for this GPU"),
    ("incompatible device", "it was compiled for another GPU"),
    ("not compatible with this version", "it was compiled by another version"),
    ("has been created with", "it was compiled by another version"),
    ("serialization version", "it is damaged, or was compiled by another version"),
    ("blobSize", "it is cut off or damaged"),
    ("empty memory buffer", "it is empty"),
    ("EngineHostCodeAllowed", "it holds host code, which is not allowed to run"),
)
"""Pieces of the libraries' messages and what they mean. Source: observed with TensorRT-RTX 1.7, read in TensorRT 11.4.
They only help to explain: whatever the message, an engine that does not load is of no use."""


@dataclass(slots=True, eq=False)
class LoadedEngine:
    """An engine in device memory. ``close`` lets go of it before its runtime; contexts must be gone by then."""

    library: TrtLibrary
    """What runs it."""
    device: Device
    """Where its weights lie."""
    runtime: Any
    """``IRuntime``."""
    engine: Any
    """``ICudaEngine``."""
    recorder: Any
    """Hears the errors of both."""

    def close(self) -> None:
        """Give engine and runtime back, in this order. Can be called twice."""
        self.engine = None
        self.runtime = None
        self.recorder = None


def load_engine(library: TrtLibrary, *, plan: bytes, device: Device) -> LoadedEngine:
    """Load an engine onto a GPU.

    Args:
        library: What compiled it and will run it.
        plan: The engine as the compiler wrote it; checked against damage by whoever stored it.
        device: The GPU; its context becomes current in this thread.

    Raises:
        EngineMismatch: It does not load here: another version, another GPU, damage. Building it anew may help.
        BackendUnavailable: The library does not support this GPU or driver at all.
        OutOfDeviceMemory: The weights do not fit.
    """
    device.make_current()
    recorder = make_recorder(library.trt)
    with library.log.collect() as lines:
        try:
            runtime = library.trt.Runtime(library.log.logger)
        except TypeError as exc:  # the bindings' answer to a factory that gave nothing
            raise BackendUnavailable(
                f"{library.title} has no runtime here: {lines.essence() or 'it gives no reason'}",
                missing=library.name,
                hint="see whether nvidia-smi lists the GPU, and update its driver",
            ) from exc
        runtime.error_recorder = recorder
        objection = _validity(library, runtime, plan)
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        said = recorder.take() or lines.essence()
        raise _load_error(library, device, said=said, objection=objection)
    engine.error_recorder = recorder
    return LoadedEngine(library=library, device=device, runtime=runtime, engine=engine, recorder=recorder)


def call_error(library: TrtLibrary, recorder: Any, what: str) -> EngineError:
    """The error of a call that gave None or False.

    Args:
        library: Whose call.
        recorder: What it reported to.
        what: What was tried, for the message.
    """
    said = strip_source(recorder.take()) or "it gives no reason"
    if speaks_of_memory(said):
        return OutOfDeviceMemory(
            f"the GPU has not enough free memory: {library.title} could not {what}: {said}",
            hint="choose smaller tiles, a smaller batch or fewer slots, or end other programs on the GPU",
        )
    return InferenceFailed(f"{library.title} could not {what}: {said}")


def _validity(library: TrtLibrary, runtime: Any, plan: bytes) -> str:
    """What TensorRT-RTX objects to by the engine's header; empty without objection or where it cannot be asked."""
    if not library.has_runtime_cache:
        return ""
    _, found = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    diagnostics = library.trt.EngineInvalidityDiagnostics.__members__
    return ", ".join(_DIAGNOSTICS.get(name, name) for name, flag in diagnostics.items() if found & flag.value)


def _load_error(library: TrtLibrary, device: Device, *, said: str, objection: str) -> EngineError:
    why = objection or next((words for piece, words in _REASONS if piece in said), "it is not accepted")
    here = f"{device.name} (compute capability {'.'.join(map(str, device.compute_capability))})"
    text = f"{library.title} does not load the engine on {here}: {why}"
    if said:
        text += f" ({strip_source(said)})"
    if "does not support this compute capability" in said:
        return BackendUnavailable(
            f"{library.title} does not support {here}",
            missing=device.name,
            hint="choose backend tensorrt, torch or auto for this GPU",
        )
    if "cudaError 35" in said or _DIAGNOSTICS["OLD_CUDA_DRIVER"] in objection:
        return BackendUnavailable(text, missing="NVIDIA driver", hint="update the NVIDIA driver")
    if speaks_of_memory(said):
        return OutOfDeviceMemory(
            f"the weights do not fit on {here}: {strip_source(said)}",
            free_bytes=device.free_bytes(),
            hint="end other programs on the GPU, or choose a smaller model",
        )
    return EngineMismatch(text, hint=_REBUILD)
