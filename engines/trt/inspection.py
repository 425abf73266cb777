"""What can be said about a compiled engine: its origin from the cache, its validity and layers from the library.

Layers and exact memory need the engine loaded, and thus a GPU that it runs on. Without one the report says what the
compiler said when it built the engine, and names what is missing and why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engines.cache.key import EngineKey
from engines.cache.listing import look_at_engine
from engines.cache.record import EngineRecord
from engines.cache.sealed import HEADER_BYTES, has_header
from engines.errors import EngineError
from engines.trt.library import TITLES, TrtLibrary
from engines.trt.log import strip_source

_REASONS = MappingProxyType(
    {
        "VERSION_MISMATCH": "it was built by another version of the library: build it anew",
        "UNSUPPORTED_CC": "it was not built for this GPU: build it for this GPU's compute capability",
        "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it: update the driver",
        "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it: update the library",
        "INSUFFICIENT_GPU_MEMORY": "this GPU has too little memory for it: build it for smaller tiles or batches",
        "MALFORMED_ENGINE": "it is damaged, or not an engine of this library",
        "CUDA_ERROR": "the GPU could not be asked: see the driver's state with nvidia-smi",
    }
)
"""What to do, by the library's reason (TensorRT-RTX ``EngineInvalidityDiagnostics``). Read-only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """One layer of the compiled engine."""

    name: str
    """The compiler's name; joined layers name all their parts."""
    kind: str
    """The compiler's type, empty where it says the name only."""
    tactic: str = ""
    """The kernel that was chosen, where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """An engine file as read from disk."""

    path: Path
    """The file."""
    plan: bytes
    """What a runtime loads."""
    key: EngineKey | None
    """What it was built from; None for a bare plan that is not from the cache."""
    record: EngineRecord | None
    """How it came to be; None for a bare plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What was found out about one engine on this machine."""

    file: EngineFile
    """The engine."""
    verdict: str
    """Whether it loads here, one sentence."""
    loads: bool | None
    """The same; None if it cannot be known here."""
    device_memory_bytes: int | None = None
    """Device memory for the activations of one context; None if it was not loaded."""
    layers: tuple[LayerReport, ...] = ()
    """Layers after the compiler joined them; empty if it was not loaded."""
    missing: tuple[str, ...] = ()
    """What could not be found out, and why, one sentence each."""


def read_engine_file(path: Path) -> EngineFile:
    """Read an engine of the cache, or a bare plan that another tool wrote.

    Raises:
        EngineError: There is no such file, or it is a damaged engine of the cache.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise EngineError(
            f"the engine file {path} cannot be read: {exc.strerror}", hint="list the cache with: python -m engines list"
        ) from exc
    if not has_header(content):
        return EngineFile(path=path, plan=content, key=None, record=None)
    entry = look_at_engine(path, check_content=True)
    if entry.kind == "damaged" or entry.key is None or entry.build is None:
        raise EngineError(
            f"the engine {path} is damaged: {entry.problem}", hint="build it anew: python -m engines build"
        )
    return EngineFile(path=path, plan=content[HEADER_BYTES:], key=entry.key, record=entry.build.record)


def inspect_engine(file: EngineFile, *, library: TrtLibrary | None, has_gpu: bool) -> EngineReport:
    """Find out what this machine can say about an engine.

    Args:
        file: The engine.
        library: The library that would load it; None if it is not installed.
        has_gpu: Whether there is an NVIDIA GPU here.
    """
    if library is None:
        wanted = TITLES[file.key.compiler] if file.key else "TensorRT"
        return _unknown(file, f"{wanted} is not installed here")
    if file.key is not None and file.key.compiler_version != library.version:
        return EngineReport(
            file=file,
            verdict=f"it does not load: {TITLES[file.key.compiler]} {file.key.compiler_version} wrote it, and"
            f" {library.version} is installed",
            loads=False,
            missing=("layers and memory of the compiled engine: it does not load here",),
        )
    with library.log.collect() as lines:
        runtime = library.trt.Runtime(library.log.logger)
        if hasattr(runtime, "get_engine_validity"):
            refused = _refusal(library, runtime, file)
            if refused is not None:
                return refused
        if not has_gpu:
            return _unknown(file, "there is no NVIDIA GPU here")
        engine = runtime.deserialize_cuda_engine(file.plan)
        if engine is None:
            return EngineReport(
                file=file,
                verdict=f"it does not load: {lines.essence() or 'the library gives no reason'}",
                loads=False,
                missing=("layers and memory of the compiled engine: it does not load here",),
            )
        return EngineReport(
            file=file,
            verdict=f"it loads with {library.title}",
            loads=True,
            device_memory_bytes=int(engine.device_memory_size_v2),
            layers=_layers(library, engine),
        )


def _unknown(file: EngineFile, reason: str) -> EngineReport:
    return EngineReport(
        file=file,
        verdict=f"whether it loads cannot be said: {reason}",
        loads=None,
        missing=(f"layers and memory of the compiled engine: {reason}",),
    )


def _refusal(library: TrtLibrary, runtime: Any, file: EngineFile) -> EngineReport | None:
    """TensorRT-RTX's judgement from the first bytes alone; None if it has nothing against the engine.

    Without a driver it says invalid and gives no reason (observed with 1.7), which says nothing about the engine.
    """
    validity, mask = runtime.get_engine_validity(file.plan[: runtime.engine_header_size])
    if validity != library.trt.EngineValidity.INVALID or not mask:
        return None
    names = [name for name, one in library.trt.EngineInvalidityDiagnostics.__members__.items() if mask & int(one)]
    reasons = [_REASONS.get(name, strip_source(name)) for name in names]
    return EngineReport(
        file=file,
        verdict=f"it does not load with {library.title}: {'; '.join(reasons)}",
        loads=False,
        missing=("layers and memory of the compiled engine: it does not load here",),
    )


def _layers(library: TrtLibrary, engine: Any) -> tuple[LayerReport, ...]:
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(library.trt.LayerInformationFormat.JSON)
    return tuple(_layer(one) for one in json.loads(text).get("Layers", []))


def _layer(value: Any) -> LayerReport:
    """One entry of the inspector: a name alone, or an object with details, as the engine's verbosity was."""
    if not isinstance(value, dict):
        return LayerReport(name=str(value), kind="")
    return LayerReport(
        name=str(value.get("Name", "")),
        kind=str(value.get("LayerType", "")),
        tactic=str(value.get("TacticName", "")),
    )
