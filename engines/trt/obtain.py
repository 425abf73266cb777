"""Gives an engine: from the cache, or built once and kept there, however many processes want it at the same time."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from engines.build_options import BuildListener, BuildOptions
from engines.cache.key import GpuIdentity
from engines.cache.record import EngineRecord
from engines.cache.store import EngineStore, StoredEngine
from engines.cache.timing import TimingScope
from engines.errors import CacheFailed
from engines.networks import Network
from engines.spec import FloatType, Precision
from engines.trt.builder import BuiltPlan, build_plan
from engines.trt.library import TrtLibrary
from engines.trt.planning import EnginePlan, plan_engine

logger = logging.getLogger(__name__)

PLAN_SHARE = 1.5
"""Bytes of an engine by bytes of its ONNX file, to know beforehand whether it will fit. Measured with TensorRT-RTX 1.7,
fp32 and fp16, static and dynamic: 1.05 (RealESRGAN_x4plus fp32) to 1.45 (realesr-animevideov3 fp16, dynamic)."""


def obtain_engine(
    library: TrtLibrary,
    *,
    network: Network,
    precision: Precision,
    batch: int,
    height: int,
    width: int,
    output_scale: int,
    options: BuildOptions,
    gpu: GpuIdentity | None,
    io_dtype: FloatType = "float32",
    listener: BuildListener | None = None,
    replacing: StoredEngine | None = None,
    reason: str = "",
) -> StoredEngine:
    """Load an engine from the cache that ``options`` name, or build and store it.

    TensorRT builds on the current GPU of the calling thread: make ``gpu``'s context current before.

    Args:
        library, network, precision, batch, height, width, output_scale, options, gpu, io_dtype: See ``plan_engine``.
        listener, replacing, reason: See ``obtain_planned``.

    Raises:
        EngineError: See ``plan_engine`` and ``obtain_planned``.
    """
    plan = plan_engine(
        library,
        network=network,
        precision=precision,
        batch=batch,
        height=height,
        width=width,
        output_scale=output_scale,
        options=options,
        gpu=gpu,
        io_dtype=io_dtype,
    )
    store = EngineStore(options.cache_dir)
    return obtain_planned(plan, store=store, listener=listener, replacing=replacing, reason=reason)


def obtain_planned(
    plan: EnginePlan,
    *,
    store: EngineStore,
    listener: BuildListener | None = None,
    replacing: StoredEngine | None = None,
    reason: str = "",
) -> StoredEngine:
    """Load a planned engine from a cache, or build and store it.

    Of several processes that want the same engine one builds, and the others wait and load what it built.

    Args:
        plan: From ``plan_engine``.
        store: The cache.
        listener: Hears of a build; nothing is said to it if the engine is in the cache.
        replacing: An engine from the cache that its runtime did not load. It is built anew, once: what another process
            put in its place meanwhile is taken.
        reason: Why ``replacing`` did not load, for the warning.

    Raises:
        BuildFailed: The compiler refused the network.
        BuildCancelled: The user or the listener stopped the build; nothing of it is kept.
        CacheFailed: The cache folder cannot be used or its disk is full; the folder and the bytes are named.
    """
    stored = store.get(plan.key)
    if stored is not None and not _is_same(stored, replacing):
        return stored
    with store.lock(plan.key):
        stored = store.get(plan.key)
        if stored is not None:
            if not _is_same(stored, replacing):
                return stored
            store.discard(plan.key, reason=reason or "its runtime does not load it")
        _check_free_space(store.folder, plan)
        scope = _timing_scope(plan)
        built = build_plan(
            plan.library,
            onnx=plan.onnx,
            profile=plan.profile,
            settings=plan.settings,
            text=plan.text,
            listener=listener,
            timing_cache=store.load_timing_cache(scope) if scope is not None else None,
        )
        for note in built.notes:
            logger.info("%s: %s", plan.text, note)
        if scope is not None and built.timing_cache is not None:
            store.save_timing_cache(scope, built.timing_cache)
        return store.put(plan.key, plan=built.plan, record=_record(plan, built))


def _is_same(stored: StoredEngine, other: StoredEngine | None) -> bool:
    return other is not None and stored.plan == other.plan


def _check_free_space(folder: Path, plan: EnginePlan) -> None:
    """Refuse before minutes are spent on an engine that cannot be kept."""
    needed = int(len(plan.onnx) * PLAN_SHARE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CacheFailed(
            f"no room for the engine {plan.key.file_stem} in the engine cache {folder}: it needs about {needed} bytes,"
            f" and {free} are free",
            folder=folder,
            hint=f"free {max(1, -(-(needed - free) // 10**6))} MB there, for instance with python -m engines prune,"
            " or choose another folder for compiled engines",
        )


def _timing_scope(plan: EnginePlan) -> TimingScope | None:
    options = plan.settings.options
    if not (options.timing_cache and plan.library.has_timing_cache) or plan.gpu is None:
        return None
    return TimingScope(
        compiler=plan.library.name,
        compiler_version=plan.library.version,
        gpu=plan.gpu,
        workspace_bytes=options.workspace_bytes,
    )


def _record(plan: EnginePlan, built: BuiltPlan) -> EngineRecord:
    details: dict[str, Any] = {
        "plan_bytes": len(built.plan),
        "onnx_bytes": len(plan.onnx),
        "weights_bytes": built.weights_bytes,
        "layer_count": built.layer_count,
        "operators": plan.operators,
        "compiler_log": list(built.log_tail),
    }
    return EngineRecord(
        driver_version="" if plan.gpu is None else plan.gpu.driver_version,
        build_s=built.build_s,
        model_path=None if plan.model.path is None else str(plan.model.path),
        denoise=plan.model.denoise,
        scratch_bytes=built.scratch_bytes,
        notes=built.notes,
        details=details,
    )
