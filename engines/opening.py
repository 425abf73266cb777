"""Chooses a backend, once and with a reason, and opens runners with it."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from pathlib import Path

from engines.backend import Backend, BackendChoice, PassedOver, PrecisionRequest, RunnerRequest
from engines.backends import BACKENDS, INSTALL, NVIDIA_DEVICE, Candidate, auto_order
from engines.build_options import BuildListener, BuildOptions
from engines.canary import CanaryDeath, try_canary
from engines.errors import BackendUnavailable, EngineError, UnsupportedShape
from engines.fold import check_output_scale
from engines.gpu.driver import has_nvidia_driver
from engines.models import find_model
from engines.networks import load_network
from engines.runner import Runner
from engines.spec import FloatType, ModelSpec

AUTO = "auto"


def choose_backend(
    *,
    model: str | Path | ModelSpec,
    backend: str = AUTO,
    precision: PrecisionRequest = "auto",
    device: str = AUTO,
    build: BuildOptions | None = None,
) -> BackendChoice:
    """Resolve ``auto`` for a model on this machine. Compiles nothing of the model and reads no weights.

    A backend that ``auto`` takes has computed a test tile correctly, here and now; a named one is taken at its word,
    and what it lacks is an error.

    Args:
        model: A name of the model table, a model file, or a model.
        backend: A name of the backend table, or ``auto``: the first of ``engines.backends.auto_order`` that works.
        precision: The arithmetic; ``auto`` is the fastest that the device has natively.
        device: ``auto``, or where to run, in the backends' words: ``cpu``, ``cuda``, ``cuda:1``, ``gpu`` (any) ...
        build: Where compiled engines are kept.

    Returns:
        The choice, its reason, and what ``auto`` passed over before it; the same arguments give the same choice within
        a process.

    Raises:
        UnknownModel: No such model.
        BackendUnavailable: The named backend, or every backend, is unknown or cannot work here.
        UnsupportedModel: The named backend cannot run this model.
        UnsupportedPrecision: The named backend cannot compute in this precision here.
    """
    spec = model if isinstance(model, ModelSpec) else find_model(model)
    if backend != AUTO:
        return load_backend(backend).choose(model=spec, precision=precision, device=device)
    cache_dir = build.cache_dir if build else None
    passed_over: list[PassedOver] = []
    for candidate in _candidates(spec, device=device):
        outcome = _try_candidate(candidate, spec=spec, precision=precision, cache_dir=cache_dir)
        if isinstance(outcome, BackendChoice):
            return replace(outcome, passed_over=tuple(passed_over))
        passed_over.append(outcome)
    where = "" if device == AUTO else f" on device {device}"
    reasons = "; ".join(f"{each.backend} on {each.device}: {each.reason}" for each in passed_over)
    raise BackendUnavailable(
        f"no backend can run {spec.name} in precision {precision}{where}: {reasons}",
        missing=device,
        hint=next((each.hint for each in passed_over if each.hint), "choose precision auto and device auto"),
    )


def open_runner(
    *,
    model: str | Path | ModelSpec,
    height: int,
    width: int,
    backend: str = AUTO,
    precision: PrecisionRequest = "auto",
    device: str = AUTO,
    batch: int = 1,
    output_scale: int | None = None,
    io_dtype: FloatType = "float32",
    threads: int = 0,
    slots: int = 0,
    denoise: float | None = None,
    build: BuildOptions | None = None,
    listener: BuildListener | None = None,
) -> Runner:
    """Load a model and compile it for tiles of one shape.

    Args:
        model: A name of the model table, a model file, or a model.
        height, width: Tile size in input pixels, both >= 1.
        backend: A name of the backend table, or ``auto``.
        precision: Arithmetic of the network; the arrays have ``io_dtype`` whatever this is.
        device: Where to run; see ``choose_backend``.
        batch: Tiles per call, >= 1.
        output_scale: Enlargement; None is the model's own. SRVGG models can fold a smaller one that divides it.
        io_dtype: Type of the input and output arrays.
        threads: CPU threads; 0 is all cores.
        slots: Inferences in flight at once; 0 is the backend's default.
        denoise: See ``find_model``. A ``ModelSpec`` already says it.
        build: Options of backends that compile engines ahead of time.
        listener: Hears of a build that takes long.

    Returns:
        A runner, usable as a context manager; close it in the thread that uses it.

    Raises:
        UnknownModel, BackendUnavailable, UnsupportedModel, UnsupportedPrecision: See ``choose_backend``.
        WeightsError: The weights are missing or damaged.
        ModelFileError: The model file cannot be read.
        UnsupportedShape: The model or the engine cannot take such tiles, or the enlargement is not possible.
        OutOfDeviceMemory: The GPU has too little memory for tiles of that size.
        BuildFailed: The engine could not be compiled.
        InferenceFailed: The library refused the model.
    """
    if not isinstance(model, ModelSpec):
        spec = find_model(model, denoise=denoise)
    elif denoise is None:
        spec = model
    else:
        raise EngineError(
            f"denoise {denoise} was given beside a ModelSpec",
            hint="pass denoise to find_model, which makes the ModelSpec",
        )
    for name, value in (("height", height), ("width", width), ("batch", batch)):
        if value < 1:
            raise UnsupportedShape(f"{name} must be at least 1, not {value}")
    for name, value in (("threads", threads), ("slots", slots)):
        if value < 0:
            raise EngineError(f"{name} must be 0 (automatic) or more, not {value}")
    _check_tile(spec, height=height, width=width)
    scale = check_output_scale(spec, output_scale=output_scale)
    build = build or BuildOptions()
    build.check()
    choice = choose_backend(model=spec, backend=backend, precision=precision, device=device, build=build)
    return load_backend(choice.backend).open(
        RunnerRequest(
            network=load_network(spec),
            precision=choice.precision,
            batch=batch,
            height=height,
            width=width,
            output_scale=scale,
            device=choice.device,
            device_id=choice.device_id,
            threads=threads,
            slots=slots or choice.slots,
            io_dtype=io_dtype,
            build=build,
            listener=listener,
        )
    )


def load_backend(name: str) -> Backend:
    """Import one backend of the table.

    Raises:
        BackendUnavailable: There is none of that name, or its library is not installed.
    """
    target = BACKENDS.get(name)
    if target is None:
        raise BackendUnavailable(
            f"unknown backend {name!r}", missing=name, hint=f"known backends: auto, {', '.join(BACKENDS)}"
        )
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, OSError) as exc:  # OSError: a library that the library itself needs
        missing = ((exc.name if isinstance(exc, ImportError) else None) or name).partition(".")[0]
        raise BackendUnavailable(
            f"backend {name} cannot be loaded: {exc}",
            missing=missing,
            hint=INSTALL.get(name, f"pip install {missing}"),
        ) from exc
    backend: Backend = getattr(module, class_name)()
    return backend


def _candidates(spec: ModelSpec, *, device: str) -> tuple[Candidate, ...]:
    """What ``auto`` tries where a device may be named: ``gpu`` stands for a GPU of any kind.

    A device that the order does not know (an execution provider, an NPU) is offered to every backend of it.
    """
    order = auto_order(spec.architecture)
    if device == AUTO:
        return order
    kind = device.replace(".", ":").partition(":")[0].casefold()
    fitting = []
    for candidate in order:
        if candidate.device == kind:
            fitting.append(replace(candidate, device=device))
        elif kind == "gpu" and candidate.device == NVIDIA_DEVICE:
            fitting.append(replace(candidate, device=NVIDIA_DEVICE + device[len(kind) :].replace(".", ":")))
    backends = dict.fromkeys(candidate.backend for candidate in order)
    return tuple(fitting) or tuple(Candidate(backend=name, device=device) for name in backends)


def _try_candidate(
    candidate: Candidate, *, spec: ModelSpec, precision: PrecisionRequest, cache_dir: Path | None
) -> BackendChoice | PassedOver:
    """Choose and run a test tile, or say why not."""

    def pass_over(reason: str, hint: str = "") -> PassedOver:
        return PassedOver(backend=candidate.backend, device=candidate.device, reason=reason, hint=hint)

    if candidate.device.partition(":")[0] == NVIDIA_DEVICE and not has_nvidia_driver():
        return pass_over("no NVIDIA GPU")
    try:
        choice = load_backend(candidate.backend).choose(model=spec, precision=precision, device=candidate.device)
    except EngineError as exc:
        return pass_over(str(exc), exc.hint)
    if spec.architecture == "nearest":  # copies pixels: nothing in it could be missing
        return choice
    # what differs from call to call, and plays no part in whether the backend works, is taken out
    death = _canary(replace(choice, reason="", device_memory_bytes=None), cache_dir=cache_dir)
    return pass_over(death.reason, death.hint) if death else choice


@functools.cache  # a process asks several times (plan, warm-up, run), and must get the same answer each time
def _canary(choice: BackendChoice, *, cache_dir: Path | None) -> CanaryDeath | None:
    """Run the test tile once per process and kind of choice; a failure is kept as well as a success."""
    return try_canary(load_backend(choice.backend), choice, cache_dir=cache_dir)


def _check_tile(spec: ModelSpec, *, height: int, width: int) -> None:
    """Check a tile against what the network itself can take.

    Raises:
        UnsupportedShape: A side is too short or not divisible.
    """
    for name, value in (("height", height), ("width", width)):
        if value < spec.min_px or value % spec.size_multiple:
            raise UnsupportedShape(
                f"{spec.name} takes tiles of at least {spec.min_px} px a side, divisible by {spec.size_multiple}; "
                f"{name} is {value}",
                hint="pad the tiles, or choose another tile size",
            )
