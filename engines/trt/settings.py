"""Turns build options into a compiler's settings: what it cannot do is refused by the option's name, what it ignores is
said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engines.build_options import BuildOptions
from engines.cache.key import GpuIdentity
from engines.errors import BackendUnavailable, BuildFailed
from engines.trt.library import TrtLibrary


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """Options that a compiler was found to take."""

    options: BuildOptions
    """The user's choices; ``compute_capabilities`` resolved to what is compiled for."""
    flags: tuple[str, ...]
    """Builder flags that are set, beyond the library's defaults and the options; ``-`` before one that is cleared."""
    notes: tuple[str, ...]
    """What the user should know, one sentence each."""


def plan_settings(library: TrtLibrary, options: BuildOptions, *, gpu: GpuIdentity | None) -> BuildSettings:
    """Check the options against what the library can do and resolve the GPUs to compile for.

    Args:
        library: The compiler.
        options: The user's choices.
        gpu: The GPU of this machine; None if there is none.

    Raises:
        EngineError: A value is out of range.
        BuildFailed: The library cannot do what an option asks for; the option is named.
        BackendUnavailable: The library cannot compile for the GPU of this machine, or needs one and there is none.
    """
    options.check()
    notes: list[str] = []
    if not library.has_compatibility:
        _refuse_compatibility(library, options)
    if not library.has_build_effort:
        ignored = {
            "optimization_level": options.optimization_level,
            "max_aux_streams": options.max_aux_streams,
        }
        notes += [
            f"{name} {value} changes nothing: {library.title} ignores it"
            for name, value in ignored.items()
            if value is not None
        ]
    if library.builds_for_targets:
        targets = resolve_targets(library, options.compute_capabilities, gpu=gpu)
        if not targets:
            notes.append(
                f"compiled for {library.title}'s default GPUs (8.0, 8.6, 8.9, 12.0 and later): none was named"
                " with compute_capabilities, and none of this machine is among those that it lists"
            )
        options = replace(options, compute_capabilities=targets)
    else:
        if options.compute_capabilities:
            raise BuildFailed(
                f"compute_capabilities {', '.join(options.compute_capabilities)}: {library.title} compiles for the GPU"
                " of this machine only",
                hint="leave the option out, or choose backend tensorrt_rtx",
            )
        if gpu is None:
            raise BackendUnavailable(
                f"{library.title} compiles on the GPU itself, and this machine has none",
                missing="NVIDIA GPU",
                hint="build on the machine that will run the engine; backend tensorrt_rtx builds without a GPU",
            )
    return BuildSettings(options=options, flags=_flags(library, options), notes=tuple(notes))


def resolve_targets(library: TrtLibrary, asked: tuple[str, ...], *, gpu: GpuIdentity | None) -> tuple[str, ...]:
    """The compute capabilities to compile for.

    Args:
        library: A library that compiles for named GPUs.
        asked: What the user named; empty: the GPU here.
        gpu: The GPU of this machine; None if there is none.

    Returns:
        Ascending and distinct. Empty for the library's default: GPUs of 8.0, 8.6, 8.9, 12.0 and later.
        Source: TensorRT-RTX documentation, CPU-only ahead-of-time engines.

    Raises:
        BuildFailed: One that was named is unknown; the known ones are listed.
        BackendUnavailable: The GPU here is one that the library does not support.
    """
    known = library.targets
    unknown = [one for one in asked if one not in known]
    if unknown:
        raise BuildFailed(
            f"compute_capabilities: {library.title} knows no GPU of compute capability {', '.join(unknown)}",
            hint=f"it knows {', '.join(known)}",
        )
    if asked:
        return tuple(one for one in known if one in asked)
    if gpu is None or _number(gpu.compute_capability) > _number(known[-1]):
        return ()
    if gpu.compute_capability not in known:
        raise BackendUnavailable(
            f"{library.title} does not support compute capability {gpu.compute_capability} ({gpu.name}); it supports"
            f" {', '.join(known)} and later",
            missing=gpu.name,
            hint="choose backend tensorrt or torch for this GPU; name others with compute_capabilities",
        )
    return (gpu.compute_capability,)


def apply_settings(library: TrtLibrary, config: Any, settings: BuildSettings) -> None:
    """Write the settings into an ``IBuilderConfig``.

    Raises:
        BuildFailed: The library refuses one.
    """
    trt, options = library.trt, settings.options
    for flag in settings.flags:
        name = flag.removeprefix("-")
        (config.clear_flag if name != flag else config.set_flag)(getattr(trt.BuilderFlag, name))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that `engines inspect` can show layers
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if library.has_build_effort:
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.max_aux_streams is not None:
            config.max_aux_streams = options.max_aux_streams
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility != "none":
        config.hardware_compatibility_level = getattr(
            trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper()
        )
    if options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for index, target in enumerate(options.compute_capabilities):
            if not config.set_compute_capability(library.target(target), index):
                raise BuildFailed(f"{library.title} refuses to compile for compute capability {target}")


def _refuse_compatibility(library: TrtLibrary, options: BuildOptions) -> None:
    if options.version_compatible:
        raise BuildFailed(
            f"version_compatible: engines of {library.title} load in the version that wrote them only",
            hint="leave the option out; the engine is rebuilt after an update, in seconds",
        )
    if options.hardware_compatibility != "none":
        raise BuildFailed(
            f"hardware_compatibility {options.hardware_compatibility}: {library.title} has no such levels",
            hint="name the GPUs with compute_capabilities instead; one engine can hold several",
        )


def _flags(library: TrtLibrary, options: BuildOptions) -> tuple[str, ...]:
    """Flags that engines of ours are built with.

    TF32 is cleared: it rounds the factors of float32 convolutions to 10 bits, and who asks for fp32 wants the exact
    network (fp16 is faster and hardly less exact). REQUIRE_USER_ALLOCATION, where there is one, keeps the engine from
    allocating while it runs, without which no CUDA graph can be captured. Source: TensorRT-RTX, ``BuilderFlag``.
    """
    flags = ["-TF32"]
    if options.cuda_graph and hasattr(library.trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        flags.append("REQUIRE_USER_ALLOCATION")
    return tuple(flags)


def _number(compute_capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in compute_capability.split("."))
