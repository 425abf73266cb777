"""``engines build``: compile a model's engine into the cache, for this GPU or for others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from engines.build_options import BuildOptions, HardwareCompatibility
from engines.cache.key import GpuIdentity
from engines.cache.store import EngineStore, StoredEngine
from engines.commands import Output
from engines.errors import BackendUnavailable, CacheFailed, EngineError
from engines.spec import FloatType, Precision

if TYPE_CHECKING:
    from engines.trt.library import TrtLibrary, TrtName
    from engines.trt.planning import EnginePlan

SUMMARY = "Compile a model into an engine for TensorRT or TensorRT-RTX and keep it in the cache."

_DEFAULTS = BuildOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``engines.commands.Command``."""
    parser.add_argument("--model", required=True, metavar="M", help="a model of `engines list`, or a file")
    parser.add_argument(
        "--denoise", type=float, metavar="D", help="for models that have it: 0 keeps noise, 1 removes it"
    )
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="fp16", help="arithmetic of the network (default: fp16)"
    )
    parser.add_argument(
        "--io-dtype",
        choices=get_args(FloatType),
        default="float32",
        help="type of the input and output arrays (default: float32)",
    )
    parser.add_argument(
        "--backend",
        choices=("auto", "tensorrt", "tensorrt_rtx"),
        default="auto",
        help="which library compiles; auto: TensorRT where it and a GPU are here, otherwise TensorRT-RTX",
    )
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU (default: 0)")
    parser.add_argument("--output-scale", type=int, metavar="S", help="enlargement, if not the model's own")

    sizes = parser.add_argument_group("tile sizes", "either one size, which is fastest, or a range")
    sizes.add_argument("--height", type=int, metavar="PX", help="tile height, input pixels")
    sizes.add_argument("--width", type=int, metavar="PX", help="tile width, input pixels")
    sizes.add_argument("--dynamic", action="store_true", help="for a range of sizes")
    for name, value in (("min", _DEFAULTS.min_px), ("opt", _DEFAULTS.opt_px), ("max", _DEFAULTS.max_px)):
        sizes.add_argument(f"--{name}", type=int, metavar="PX", help=f"with --dynamic: {name} side (default: {value})")
    sizes.add_argument("--batch", type=int, default=1, metavar="N", help="tiles per call (default: 1)")

    compiler = parser.add_argument_group("compiler")
    compiler.add_argument("--workspace-mb", type=int, metavar="MB", help="most scratch memory of one layer")
    compiler.add_argument("--optimization-level", type=int, metavar="0-5", help="TensorRT: how long to search")
    compiler.add_argument("--aux-streams", type=int, metavar="N", help="TensorRT: streams beside the caller's")
    compiler.add_argument("--version-compatible", action="store_true", help="TensorRT: for newer versions too; slower")
    compiler.add_argument(
        "--hardware-compatibility",
        choices=get_args(HardwareCompatibility),
        default="none",
        help="TensorRT: for other GPUs too; slower",
    )
    compiler.add_argument(
        "--compute-capability",
        metavar="X.Y[,...]",
        help="TensorRT-RTX: GPUs to compile for, such as 8.9,12.0; without it, the GPU here",
    )
    compiler.add_argument("--no-timing-cache", action="store_true", help="TensorRT: measure every kernel anew")

    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="folder of compiled engines")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the bare engine to a file")
    parser.add_argument("--json", action="store_true", help="print the result for programs")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """See ``engines.commands.Command``."""
    from engines.fold import check_output_scale
    from engines.models import find_model
    from engines.networks import load_network
    from engines.progress_bar import make_listener
    from engines.trt.obtain import obtain_planned
    from engines.trt.planning import plan_engine

    options = read_options(arguments)
    height, width = _tile_sides(arguments, options)
    model = find_model(arguments.model, denoise=arguments.denoise)
    scale = check_output_scale(model, output_scale=arguments.output_scale)
    library, gpu = _choose_library(arguments, options, output)
    plan = plan_engine(
        library,
        network=load_network(model),
        precision=arguments.precision,
        io_dtype=arguments.io_dtype,
        batch=arguments.batch,
        height=height,
        width=width,
        output_scale=scale,
        options=options,
        gpu=gpu,
    )
    store = EngineStore(options.cache_dir)
    was_there = store.get(plan.key) is not None
    engine = obtain_planned(plan, store=store, listener=make_listener(output.say))
    if arguments.output is not None:
        _write_bare(arguments.output, engine.plan)
    _show(arguments, output, plan=plan, engine=engine, was_there=was_there)
    return 0


def read_options(arguments: argparse.Namespace) -> BuildOptions:
    """The build options that a command line names.

    Raises:
        EngineError: A value is out of range, or is given where it means nothing.
    """
    sides = {"min_px": arguments.min, "opt_px": arguments.opt, "max_px": arguments.max}
    given = {name: value for name, value in sides.items() if value is not None}
    if given and not arguments.dynamic:
        raise EngineError("--min, --opt and --max are for dynamic engines", hint="add --dynamic")
    capabilities = [one.strip() for one in (arguments.compute_capability or "").split(",") if one.strip()]
    options = BuildOptions(
        dynamic=arguments.dynamic,
        **given,
        workspace_bytes=None if arguments.workspace_mb is None else arguments.workspace_mb * 2**20,
        optimization_level=arguments.optimization_level,
        max_aux_streams=arguments.aux_streams,
        version_compatible=arguments.version_compatible,
        hardware_compatibility=arguments.hardware_compatibility,
        compute_capabilities=tuple(capabilities),
        timing_cache=not arguments.no_timing_cache,
        cache_dir=arguments.cache_dir,
    )
    options.check()
    return options


def _tile_sides(arguments: argparse.Namespace, options: BuildOptions) -> tuple[int, int]:
    """Height and width to compile for; those of a dynamic engine only have to lie in its range."""
    if options.dynamic:
        return arguments.height or options.opt_px, arguments.width or options.opt_px
    if arguments.height is None or arguments.width is None:
        raise EngineError(
            "the tile size is missing: an engine is compiled for one size or for a range",
            hint="give --height and --width (the frame's, or the tile's), or --dynamic",
        )
    return arguments.height, arguments.width


def _choose_library(
    arguments: argparse.Namespace, options: BuildOptions, output: Output
) -> tuple[TrtLibrary, GpuIdentity | None]:
    """The compiler and the GPU of this machine, which is None where there is none."""
    from engines.gpu.cuda import open_device
    from engines.trt.library import load_trt

    gpu, reason = find_gpu(arguments.device)
    library: TrtLibrary | None = None
    if arguments.backend != "auto":
        library = load_trt(cast("TrtName", arguments.backend))
    elif gpu is not None and not options.compute_capabilities:
        try:
            library = load_trt("tensorrt")
        except BackendUnavailable as exc:
            reason = f"{exc} ({exc.hint})"
    if library is None:
        library = load_trt("tensorrt_rtx")
        if not options.compute_capabilities:
            output.say(f"compiling with TensorRT-RTX; TensorRT, which compiles on the GPU itself, cannot: {reason}")
    if gpu is not None and not library.builds_for_targets:
        open_device(arguments.device).make_current()
    return library, gpu


def find_gpu(index: int) -> tuple[GpuIdentity | None, str]:
    """One GPU of this machine; or None and why there is none.

    Raises:
        BackendUnavailable: There are GPUs, but none of that number.
    """
    from engines.gpu.cuda import list_devices

    try:
        devices = list_devices()
    except BackendUnavailable as exc:
        return None, str(exc)
    if not 0 <= index < len(devices):
        raise BackendUnavailable(
            f"there is no GPU number {index}: this machine shows {len(devices)}",
            missing=f"cuda:{index}",
            hint=f"choose --device 0 to {len(devices) - 1}",
        )
    device = devices[index]
    major, minor = device.compute_capability
    identity = GpuIdentity(
        name=device.name, compute_capability=f"{major}.{minor}", driver_version=device.driver_version
    )
    return identity, ""


def _write_bare(path: Path, plan: bytes) -> None:
    from engines.atomic import write_atomic

    try:
        write_atomic(path, plan)
    except OSError as exc:
        raise CacheFailed(
            f"the engine cannot be written to {path} ({len(plan)} bytes): {exc.strerror}",
            folder=path.parent,
            hint="choose another file with --output; the engine is in the cache",
        ) from exc


def _show(
    arguments: argparse.Namespace, output: Output, *, plan: EnginePlan, engine: StoredEngine, was_there: bool
) -> None:
    if arguments.json:
        output.put_json(describe(engine, was_there=was_there))
        return
    for note in dict.fromkeys(plan.settings.notes):
        output.say(f"note: {note}")
    how = "was in the cache" if was_there else f"compiled in {engine.record.build_s:.1f} s"
    output.say(f"{plan.text}, {plan.library.title}: {how}, {len(engine.plan) / 1e6:.1f} MB")
    if engine.record.scratch_bytes is not None:
        output.say(f"it needs {engine.record.scratch_bytes / 1e6:.0f} MB of GPU memory per inference in flight")
    output.put(str(engine.path))


def describe(engine: StoredEngine, *, was_there: bool) -> dict[str, Any]:
    """An engine as JSON values."""
    return {
        "path": str(engine.path),
        "from_cache": was_there,
        "digest": engine.key.digest,
        "plan_bytes": len(engine.plan),
        "key": engine.key.to_json(),
        "record": engine.record.to_json(),
    }
