"""Looks whether a stored engine is still the one that would be built today, and still computes its network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.build_options import BuildOptions
from engines.cache.key import EngineKey, GpuIdentity
from engines.cache.record import EngineRecord
from engines.cache.store import EngineStore, StoredEngine
from engines.errors import (
    BackendUnavailable,
    EngineError,
    ModelFileError,
    OutOfDeviceMemory,
    UnknownModel,
    WeightsError,
)
from engines.gpu import Device
from engines.models import find_model
from engines.networks import Network, load_network
from engines.runner import Runner
from engines.spec import ModelSpec, RunnerSpec

if TYPE_CHECKING:
    from engines.trt.library import TrtLibrary

Verdict = Literal["ok", "unchecked", "stale", "wrong"]
"""``unchecked``: nothing speaks against it, but it could not be run here. ``stale``: sound, but nothing on this machine
asks for it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCheck:
    """What was found out about one engine."""

    verdict: Verdict
    """The result."""
    remarks: tuple[str, ...]
    """What is wrong, or why something was not checked; one sentence each."""
    accuracy: dict[str, Any] | None = None
    """How it differs from the float32 original, as measured now; JSON values."""


def check_engine(store: EngineStore, key: EngineKey, *, runs: bool = True) -> EngineCheck:
    """Check an engine as far as this machine can; its accuracy is noted beside it if it could be measured.

    Args:
        store: Where it is.
        key: Which it is.
        runs: Load it on the GPU and compare it with its source, too.

    Raises:
        CacheFailed: The cache folder cannot be read.
    """
    stored = store.get(key, notes_use=False)
    if stored is None:
        return EngineCheck(
            verdict="wrong", remarks=("it is gone: another process removed it, or it was damaged and is removed",)
        )
    try:
        library = _load_library(key)
    except BackendUnavailable as exc:
        return EngineCheck(verdict="unchecked", remarks=(f"not looked at further: {exc}",))
    if library.version != key.compiler_version:
        return EngineCheck(
            verdict="stale", remarks=(f"compiled by {key.compiler} {key.compiler_version}; here is {library.version}",)
        )
    try:
        network = load_network(_find_model(key, stored.record))
        current = _current_key(library, key, network=network, folder=store.folder)
    except (WeightsError, ModelFileError, UnknownModel) as exc:
        return EngineCheck(verdict="unchecked", remarks=(f"not compared with its source: {exc}",))
    except EngineError as exc:
        return EngineCheck(verdict="stale", remarks=(f"it would not be built today: {exc}",))
    if current != key:
        return EngineCheck(verdict="stale", remarks=(f"an engine built today has {_differences(current, key)}",))
    if not runs:
        return EngineCheck(verdict="unchecked", remarks=("not run, as asked for",))
    return _run_and_compare(store, stored, library=library, network=network)


def _run_and_compare(store: EngineStore, stored: StoredEngine, *, library: TrtLibrary, network: Network) -> EngineCheck:
    from engines.accuracy import check_accuracy
    from engines.trt.session import open_session

    key = stored.key
    try:
        device = _find_device(key)
        spec = _runner_spec(key, network=network, device=device)
        with open_session(spec, library=library, plan=stored.plan, device=device, cuda_graph=False) as session:
            accuracy = check_accuracy(
                lambda tiles: _infer(session, tiles),
                network=network,
                precision=key.precision,
                batch=spec.batch,
                height=spec.height,
                width=spec.width,
                output_scale=spec.scale,
            )
    except (BackendUnavailable, OutOfDeviceMemory) as exc:
        return EngineCheck(verdict="unchecked", remarks=(f"not run: {exc}",))
    except EngineError as exc:  # it does not load, does not run, or computes something else
        return EngineCheck(verdict="wrong", remarks=(str(exc),))
    measured = asdict(accuracy)
    store.record_accuracy(key, measured)
    return EngineCheck(verdict="ok", remarks=(), accuracy=measured)


def _load_library(key: EngineKey) -> TrtLibrary:
    from engines.trt.library import load_trt

    return load_trt(key.compiler)


def _find_model(key: EngineKey, record: EngineRecord) -> ModelSpec:
    if record.model_path is None:
        return find_model(key.model, denoise=record.denoise)
    return find_model(Path(record.model_path))


def _current_key(library: TrtLibrary, key: EngineKey, *, network: Network, folder: Path) -> EngineKey:
    """The key that the same wishes have today, with the GPU of the old one."""
    from engines.trt.planning import plan_engine

    batch, _, height, width = key.inputs[0].optimum
    gpu = GpuIdentity(name=key.gpu_name, compute_capability=key.gpu_compute_capability) if key.gpu_name else None
    plan = plan_engine(
        library,
        network=network,
        precision=key.precision,
        batch=batch,
        height=height,
        width=width,
        output_scale=key.output_scale,
        options=_options(key, folder=folder),
        gpu=gpu,
        io_dtype=key.io_dtype,
    )
    return plan.key


def _options(key: EngineKey, *, folder: Path) -> BuildOptions:
    """The build options that led to a key."""
    profile = key.inputs[0]
    known = {field.name for field in fields(BuildOptions)}
    values: dict[str, Any] = {name: value for name, value in key.options if name in known}
    if not profile.is_static:
        sides = {
            "min_px": profile.minimum[2],
            "opt_px": profile.optimum[2],
            "max_px": profile.maximum[2],
        }
        values |= {"dynamic": True, **sides}
    return BuildOptions(**values, cache_dir=folder)


def _differences(current: EngineKey, key: EngineKey) -> str:
    words = {"onnx_sha256": "other weights or another graph"}
    names = [field.name for field in fields(EngineKey) if getattr(current, field.name) != getattr(key, field.name)]
    return ", ".join(words.get(name, f"another {name}") for name in names)


def _find_device(key: EngineKey) -> Device:
    """A GPU that the engine was compiled for.

    Raises:
        BackendUnavailable: There is none here.
    """
    from engines.gpu.cuda import list_devices, open_device

    targets = key.option_values.get("compute_capabilities") or ()
    for identity in list_devices():
        capability = ".".join(map(str, identity.compute_capability))
        if key.gpu_name:
            fits = (identity.name, capability) == (key.gpu_name, key.gpu_compute_capability)
        else:
            fits = not targets or (isinstance(targets, tuple) and capability in targets)
        if fits:
            return open_device(identity.index)
    raise BackendUnavailable(f"it was compiled for {key.target}, which is not in this machine", missing=key.target)


def _runner_spec(key: EngineKey, *, network: Network, device: Device) -> RunnerSpec:
    batch, _, height, width = key.inputs[0].optimum
    return RunnerSpec(
        model=network.spec,
        backend=key.compiler,
        device=device.name,
        precision=key.precision,
        batch=batch,
        height=height,
        width=width,
        scale=key.output_scale,
        io_dtype=key.io_dtype,
    )


def _infer(session: Runner, tiles: NDArray[np.float32]) -> NDArray[np.floating]:
    out: NDArray[Any] = np.empty(session.spec.output_shape, dtype=session.spec.io_dtype)
    session.infer(np.ascontiguousarray(tiles, dtype=session.spec.io_dtype), out=out).wait()
    return out
