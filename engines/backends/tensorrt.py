"""TensorRT and TensorRT for RTX: engines that are compiled once for the GPU at hand, kept, and run on it."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.accuracy import check_accuracy
from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.cache.key import GpuIdentity
from engines.cache.store import EngineStore, StoredEngine
from engines.errors import CacheFailed, EngineMismatch, UnsupportedModel, UnsupportedPrecision
from engines.gpu import Device
from engines.gpu.cuda import DeviceIdentity, list_devices, open_device
from engines.gpu.naming import find_gpu
from engines.spec import ModelSpec, Precision, RunnerSpec
from engines.trt.library import TrtLibrary, TrtName, load_trt
from engines.trt.obtain import obtain_engine
from engines.trt.session import TrtSession, open_session
from engines.trt.settings import resolve_targets
from engines.verify import run_once

logger = logging.getLogger(__name__)

DEFAULT_SLOTS = 2
"""Two inferences in flight: one computes while the tiles of the other are copied in and its result is copied out."""

FP16_FROM = (7, 0)
"""Compute capability from which fp16 convolutions run on tensor cores. Source: CUDA programming guide, table of
arithmetic throughput."""

BF16_FROM = (8, 0)
"""The same for bf16."""

KERNELS = "kernels"
"""Attachment of an engine in the cache: what TensorRT-RTX compiled from it on this GPU."""

CHECK_LIMIT_FLOP = 3e13
"""Most arithmetic that is spent on the processor to compare a fresh engine with its float32 source, over all tiles:
about three minutes on two cores. Measured: 0.18 TFLOP/s with torch (realesr-animevideov3 at 320x180, 2 cores)."""

CHECK_TILES = 10
"""Tiles that ``check_accuracy`` compares, rounded up; only to estimate how long it takes."""

CHECK_SIDE_PX = 128
"""Side at which a dynamic engine is compared with its source; it may as well be another, so the cheap one is taken."""


class TensorRtBackend:
    """Compiles with TensorRT 10 or 11 and runs what it compiled."""

    name: ClassVar[TrtName] = "tensorrt"

    def __init__(self) -> None:
        self._library: TrtLibrary = load_trt(self.name)

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """See ``engines.backend.Backend``. ``auto`` is fp16 where the GPU has tensor cores for it, otherwise fp32.

        Opens no context on the GPU and builds nothing.
        """
        if model.architecture == "nearest":
            raise UnsupportedModel(
                f"backend {self.name} cannot run {model.name}: it is no network", hint="use backend resize"
            )
        gpu = find_gpu(device, gpus=list_devices(), backend=self.name)
        if self._library.builds_for_targets:
            resolve_targets(self._library, (), gpu=_identity(gpu))
        chosen: Precision
        if precision == "auto":
            chosen = "fp16" if gpu.compute_capability >= FP16_FROM else "fp32"
            why = "the GPU's fastest precision"
        else:
            chosen, why = precision, "as the config says"
        if chosen == "fp8":
            raise UnsupportedPrecision(
                f"backend {self.name} is given no ranges for fp8", hint="choose precision auto, or backend cudnn"
            )
        if chosen == "bf16" and gpu.compute_capability < BF16_FROM:
            raise UnsupportedPrecision(
                f"{gpu.name} (compute capability {_capability(gpu)}) does not compute in bf16",
                hint="choose precision auto, fp16 or fp32",
            )
        return BackendChoice(
            backend=self.name,
            precision=chosen,
            device=gpu.name,
            device_id=f"cuda:{gpu.index}",
            slots=DEFAULT_SLOTS,
            streams=DEFAULT_SLOTS,
            activation_share=0.0,
            compiles_engines=True,
            reason=f"{self._library.title} runs {model.name} in {chosen}: {why}",
        )

    def open(self, request: RunnerRequest) -> TrtSession:
        """See ``engines.backend.Backend``.

        Takes the engine from the cache or builds it, which can take minutes. One that the runtime refuses is built
        anew, once. One that was never compared with its float32 source is compared before it is used.

        Raises:
            BuildFailed: The compiler refused the network.
            AccuracyFailed: A fresh engine differs too much from its source.
            OutOfDeviceMemory: The engine does not fit.
            EngineError: See also ``obtain_engine`` and ``open_session``.
        """
        device = open_device(_index(request.device_id))
        spec = request.runner_spec(self.name, slots=request.slots)
        opening = _Opening(self._library, request, device)
        stored = opening.obtain()
        try:
            return opening.open(stored, spec)
        except EngineMismatch as exc:
            reason = str(exc)
        logger.warning("the engine %s is built anew: %s", stored.path.name, reason)
        return opening.open(opening.obtain(replacing=stored, reason=reason), spec)


class TensorRtRtxBackend(TensorRtBackend):
    """The same with TensorRT for RTX, whose engines finish compiling on the GPU that runs them."""

    name: ClassVar[TrtName] = "tensorrt_rtx"


class _Opening:
    """Opens one request: finds its engine, checks it, loads it."""

    def __init__(self, library: TrtLibrary, request: RunnerRequest, device: Device) -> None:
        self._library = library
        self._request = request
        self._device = device
        self._store = EngineStore(request.build.cache_dir)

    def obtain(self, *, replacing: StoredEngine | None = None, reason: str = "") -> StoredEngine:
        """The engine, from the cache or built."""
        request = self._request
        return obtain_engine(
            self._library,
            network=request.network,
            precision=request.precision,
            batch=request.batch,
            height=request.height,
            width=request.width,
            output_scale=request.output_scale,
            io_dtype=request.io_dtype,
            options=request.build,
            gpu=_identity(self._device),
            listener=request.listener,
            replacing=replacing,
            reason=reason,
        )

    def open(self, stored: StoredEngine, spec: RunnerSpec) -> TrtSession:
        """Load an engine, after it was compared with its source if it never was."""
        note = None
        if stored.record.accuracy is None:
            note = self._check(stored, replace(spec, slots=1))
        if note is not None:
            spec = replace(spec, notes=(*spec.notes, note))
        return self._session(stored, spec)

    def _session(self, stored: StoredEngine, spec: RunnerSpec) -> TrtSession:
        def keep(kernels: bytes) -> None:
            try:
                self._store.save_attachment(stored, kernels, name=KERNELS)
            except CacheFailed as exc:  # they are compiled again the next time
                logger.warning("the kernels that were compiled for this GPU are not kept: %s", exc)

        return open_session(
            spec,
            library=self._library,
            plan=stored.plan,
            device=self._device,
            cuda_graph=self._request.build.cuda_graph,
            kernels=self._store.load_attachment(stored, name=KERNELS),
            keep_kernels=keep,
        )

    def _check(self, stored: StoredEngine, spec: RunnerSpec) -> str | None:
        """Compare an engine with its source; returns why not, if that would take too long."""
        build, model = self._request.build, self._request.model
        if build.dynamic:
            side = max(build.min_px, min(CHECK_SIDE_PX, build.max_px))
            side += -side % model.size_multiple
            spec = replace(spec, height=side, width=side)
        cost_flop = model.flop_per_px * spec.height * spec.width * CHECK_TILES
        if cost_flop > CHECK_LIMIT_FLOP:
            return (
                f"the engine was not compared with its float32 source: at {spec.width}x{spec.height} that takes"
                f" {cost_flop / 1e12:.0f} TFLOP on the processor; python -m engines verify does it"
            )
        with ExitStack() as closing:
            session = closing.enter_context(self._session(stored, spec))

            def run(tiles: NDArray[np.float32]) -> NDArray[Any]:
                return run_once(session, tiles)

            accuracy = check_accuracy(
                run,
                network=self._request.network,
                precision="fp16" if spec.io_dtype == "float16" and spec.precision == "fp32" else spec.precision,
                batch=spec.batch,
                height=spec.height,
                width=spec.width,
                output_scale=spec.scale,
            )
        logger.info("%s: %.1f dB on film tiles against float32", stored.path.name, accuracy.psnr_film_db)
        try:
            self._store.record_accuracy(stored.key, asdict(accuracy))
        except CacheFailed as exc:  # it is compared again the next time
            logger.warning("the comparison with float32 is not kept: %s", exc)
        return None


def _identity(gpu: Device | DeviceIdentity) -> GpuIdentity:
    return GpuIdentity(name=gpu.name, compute_capability=_capability(gpu), driver_version=gpu.driver_version)


def _capability(gpu: Device | DeviceIdentity) -> str:
    return ".".join(str(part) for part in gpu.compute_capability)


def _index(device_id: str) -> int:
    return int(device_id.rpartition(":")[2])
