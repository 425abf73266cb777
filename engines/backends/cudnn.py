"""cuDNN: fused convolutions on an NVIDIA GPU, at once, without an engine that is compiled beforehand."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.cache.store import default_cache_dir
from engines.cudnn.calibrating import HINT, Calibration, calibrate
from engines.cudnn.canary import measure_canary
from engines.cudnn.choices import ChoiceKey, ChoiceStore
from engines.cudnn.choosing import MOST_PLANS
from engines.cudnn.execute import CudnnNetwork
from engines.cudnn.graph import read_graph
from engines.cudnn.library import load_cudnn, words_of
from engines.cudnn.plan import plan_network
from engines.cudnn.session import CudnnSession
from engines.cudnn.steps import Plan
from engines.cudnn.support import check_supported, trial_size
from engines.errors import BackendUnavailable, InferenceFailed, UnsupportedModel, UnsupportedPrecision
from engines.gpu import Device
from engines.gpu.cuda import list_devices, open_device
from engines.gpu.naming import find_gpu
from engines.networks import GraphOptions
from engines.spec import ModelSpec, Precision

logger = logging.getLogger(__name__)

SLOTS: Final = 3
"""One inference that uploads, one that computes and one that downloads, as with torch; see ``backends/torch.py``."""

LEAST_CAPABILITY: Final = (8, 0)
"""cuDNN fuses convolutions with what follows them for tensors of float16 in NHWC from Ampere on. Source: cuDNN
developer guide, "Runtime Fusion Engines"."""

FP8_FROM: Final = (8, 9)
"""The first with tensor cores for e4m3. Source: CUDA C++ Programming Guide, table of compute capabilities."""

FOLDER: Final = "cudnn"
"""Of what was found out about kernels, in the folder of compiled engines."""


class CudnnBackend:
    """Runs a network's ONNX graph with cuDNN's fused kernels and our own: fp16, or fp8 in part; sums in fp32."""

    name: Final = "cudnn"

    def __init__(self) -> None:
        self._cudnn: Any = load_cudnn()

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """See ``engines.backend.Backend``. ``auto`` is fp16."""
        if model.architecture == "nearest":
            raise UnsupportedModel(
                f"backend cudnn cannot run {model.name}: it is no network", hint="use backend resize"
            )
        gpu = find_gpu(device, gpus=list_devices(), backend=self.name)
        if gpu.compute_capability < LEAST_CAPABILITY:
            raise BackendUnavailable(
                f"backend cudnn needs compute capability {_dotted(LEAST_CAPABILITY)}; {gpu.name} has "
                f"{_dotted(gpu.compute_capability)}",
                missing=f"compute capability {_dotted(LEAST_CAPABILITY)}",
                hint="choose backend auto or torch",
            )
        if precision not in {"auto", "fp16", "fp8"}:
            raise UnsupportedPrecision(
                f"backend cudnn computes in fp16 or fp8, not in {precision}", hint="choose precision auto or fp16"
            )
        chosen: Precision = "fp8" if precision == "fp8" else "fp16"
        if chosen == "fp8" and gpu.compute_capability < FP8_FROM:
            raise UnsupportedPrecision(
                f"fp8 needs compute capability {_dotted(FP8_FROM)}; {gpu.name} has {_dotted(gpu.compute_capability)}",
                hint="choose precision auto or fp16",
            )
        check_supported(model)
        why = "its own precision" if precision == "auto" else "as the config says"
        version = words_of(int(self._cudnn.backend_version()))
        return BackendChoice(
            backend=self.name,
            precision=chosen,
            device=gpu.name,
            device_id=f"cuda:{gpu.index}",
            slots=SLOTS,
            activation_share=0.0,
            device_memory_bytes=open_device(gpu.index).free_bytes(),
            reason=f"cuDNN {version} runs {model.name} in {chosen}: {why}",
        )

    def open(self, request: RunnerRequest) -> CudnnSession:
        """See ``engines.backend.Backend``.

        The first time for a network, a shape and a GPU, kernels are compared with a plain one and timed, which takes
        some seconds; and a small film tile is compared with the float32 network where that is installed.

        Raises:
            UnsupportedModel: The graph has an operator that is not known; it is named.
            AccuracyFailed: The network computes something else than its source.
            OutOfDeviceMemory: The activations do not fit.
            InferenceFailed: Nothing runs one of its convolutions rightly.
            UnsupportedPrecision: The same of one that would run in fp8.
            AccuracyFailed: In fp8 it is worse than the limit.
        """
        device = open_device(int(request.device_id.rpartition(":")[2]))
        plan, store = self._prepare(request, device)
        if request.precision != "fp8":
            return self._open(request, device, plan=plan, store=store)
        calibration = self._calibrate(request, device)
        try:
            session = self._open(request, device, plan=calibration.narrow(plan), store=store, narrow=calibration.narrow)
        except InferenceFailed as exc:
            raise UnsupportedPrecision(f"fp8 cannot be used: {exc}", hint=HINT) from exc
        session.spec = replace(session.spec, notes=(*session.spec.notes, calibration.note))
        return session

    def _calibrate(self, request: RunnerRequest, device: Device) -> Calibration:
        """What of a network runs in fp8: found out once, whatever the size of its tiles."""
        height, width = trial_size(request.model)
        _, store = self._prepare(_trial_of(request, height=height, width=width), device)
        if store.calibration is None:
            store.calibration = calibrate(request.network, output_scale=request.output_scale)
            store.save()
        return store.calibration

    def _open(
        self,
        request: RunnerRequest,
        device: Device,
        *,
        plan: Plan,
        store: ChoiceStore,
        narrow: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> CudnnSession:
        """Open a network after one tile of it was compared with float32; ``narrow``: applied to that tile's plan."""

        def open_trial(height: int, width: int) -> CudnnSession:
            trial = _trial_of(request, height=height, width=width)
            small, choices = self._prepare(trial, device)
            return self._session(trial, device, plan=narrow(small), store=choices, is_trial=True)

        note = measure_canary(
            request.network,
            output_scale=request.output_scale,
            store=store,
            open_session=open_trial,
            precision=request.precision,
        )
        session = self._session(request, device, plan=plan, store=store)
        if note:
            session.spec = replace(session.spec, notes=(*session.spec.notes, note))
        return session

    def _session(
        self, request: RunnerRequest, device: Device, *, plan: Plan, store: ChoiceStore, is_trial: bool = False
    ) -> CudnnSession:
        """Open a network.

        Args:
            request: Slots, options.
            device: The GPU.
            plan: What to run.
            store: What is known of it.
            is_trial: Take the first kernels that are right, not the fastest; record no graph.
        """
        stream = device.make_stream()
        try:
            network = CudnnNetwork(
                self._cudnn,
                plan=plan,
                device=device,
                stream=stream,
                store=store,
                io_dtype=request.io_dtype,
                most_plans=1 if is_trial else MOST_PLANS,
                graph=request.build.cuda_graph and not is_trial,
            )
        except BaseException:
            stream.close()
            raise
        logger.debug("%s: kernels in %.2f s", request.model.name, network.kernels.choosing_s)
        return CudnnSession(
            request.runner_spec(self.name, slots=request.slots), network=network, device=device, stream=stream
        )

    def _prepare(self, request: RunnerRequest, device: Device) -> tuple[Plan, ChoiceStore]:
        options: GraphOptions = request.graph_options("fp16")
        model = request.network.graph(options)
        key = ChoiceKey(
            onnx_sha256=hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
            gpu_name=device.name,
            compute_capability=device.compute_capability,
            driver_version=device.driver_version,
            cudnn_version=int(self._cudnn.backend_version()),
            frontend_version=str(self._cudnn.__version__),
            precision=request.precision,
        )
        folder: Path = (request.build.cache_dir or default_cache_dir()) / FOLDER
        return plan_network(read_graph(model)), ChoiceStore(folder, key)


def _trial_of(request: RunnerRequest, *, height: int, width: int) -> RunnerRequest:
    """The same network for one tile."""
    batch = request.model.fixed_batch or 1
    return replace(request, batch=batch, height=height, width=width, io_dtype="float32", slots=1)


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
