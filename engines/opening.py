"""Chooses a backend, once and with a reason, and opens runners with it."""

from __future__ import annotations

import importlib
from pathlib import Path

from engines.backend import Backend, BackendChoice, PrecisionRequest, RunnerRequest
from engines.backends import BACKENDS
from engines.errors import BackendUnavailable, EngineError, UnsupportedModel, UnsupportedPrecision, UnsupportedShape
from engines.fold import check_output_scale
from engines.models import find_model
from engines.runner import Runner
from engines.spec import ModelSpec

AUTO = "auto"


def choose_backend(
    *, model: str | ModelSpec, backend: str = AUTO, precision: PrecisionRequest = "auto"
) -> BackendChoice:
    """Resolve ``auto`` for a model on this machine. Compiles nothing and reads no weights.

    Args:
        model: A name of the model table, or a model.
        backend: A name of the backend table, or ``auto``: the first of the table that can run the model here.
        precision: The arithmetic; ``auto`` is the fastest that the device has natively.

    Returns:
        The choice and its reason; the same arguments give the same choice on one machine.

    Raises:
        UnknownModel: No such model.
        BackendUnavailable: The named backend, or every backend, is unknown or cannot work here.
        UnsupportedModel: The named backend cannot run this model.
        UnsupportedPrecision: The named backend cannot compute in this precision here.
    """
    spec = find_model(model) if isinstance(model, str) else model
    if backend != AUTO:
        return load_backend(backend).choose(model=spec, precision=precision)
    refusals = []
    for name in BACKENDS:
        try:
            return load_backend(name).choose(model=spec, precision=precision)
        except (BackendUnavailable, UnsupportedModel, UnsupportedPrecision) as exc:
            refusals.append(exc)
    raise BackendUnavailable(
        f"no backend can run {spec.name} in precision {precision}: {'; '.join(str(exc) for exc in refusals)}",
        missing=AUTO,
        hint=next((exc.hint for exc in refusals if not isinstance(exc, UnsupportedModel)), refusals[0].hint),
    )


def open_runner(
    *,
    model: str | ModelSpec,
    height: int,
    width: int,
    backend: str = AUTO,
    precision: PrecisionRequest = "auto",
    batch: int = 1,
    output_scale: int | None = None,
    threads: int = 0,
    slots: int = 0,
    weights_source: Path | None = None,
) -> Runner:
    """Load a model and compile it for tiles of one shape.

    Args:
        model: A name of the model table, or a model.
        height, width: Tile size in input pixels, both >= 1.
        backend: A name of the backend table, or ``auto``.
        precision: Arithmetic of the network; the arrays are float32 whatever this is.
        batch: Tiles per call, >= 1.
        output_scale: Enlargement; None is the model's own. SRVGG models can fold a smaller one that divides it.
        threads: CPU threads; 0 is all cores.
        slots: Inferences in flight at once; 0 is the backend's default.
        weights_source: Weight file or a folder with it; None is the installed weights package.

    Returns:
        A runner, usable as a context manager; close it in the thread that uses it.

    Raises:
        UnknownModel, BackendUnavailable, UnsupportedModel, UnsupportedPrecision: See ``choose_backend``.
        WeightsError: The weights are missing or damaged.
        UnsupportedShape: A size is not positive, or the enlargement is not possible.
        InferenceFailed: The library refused the model.
    """
    spec = find_model(model) if isinstance(model, str) else model
    for name, value in (("height", height), ("width", width), ("batch", batch)):
        if value < 1:
            raise UnsupportedShape(f"{name} must be at least 1, not {value}")
    for name, value in (("threads", threads), ("slots", slots)):
        if value < 0:
            raise EngineError(f"{name} must be 0 (automatic) or more, not {value}")
    scale = check_output_scale(spec, output_scale=output_scale)
    choice = choose_backend(model=spec, backend=backend, precision=precision)
    return load_backend(choice.backend).open(
        RunnerRequest(
            model=spec,
            precision=choice.precision,
            batch=batch,
            height=height,
            width=width,
            output_scale=scale,
            device=choice.device,
            threads=threads,
            slots=slots or choice.slots,
            weights_source=weights_source,
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
    except ImportError as exc:
        missing = (exc.name or name).partition(".")[0]
        raise BackendUnavailable(
            f"backend {name} cannot be loaded: {exc}",
            missing=missing,
            hint=_INSTALL.get(name, f"pip install {missing}"),
        ) from exc
    backend: Backend = getattr(module, class_name)()
    return backend


_INSTALL = {"openvino": "pip install openvino", "onnxruntime": 'pip install "nightscale[onnxruntime]"'}
"""Command that brings a backend's library."""
