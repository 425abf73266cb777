"""OpenVINO: the default engine of machines without an NVIDIA GPU. Runs on CPUs, Intel GPUs and NPUs."""

from __future__ import annotations

from collections import deque
from functools import partial
from types import TracebackType
from typing import Any, Self

import openvino

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.errors import (
    BackendUnavailable,
    EngineError,
    UnsupportedModel,
    UnsupportedPrecision,
    run_error,
)
from engines.host_completion import HostCompletion
from engines.runner import Tiles, check_arrays
from engines.spec import ModelSpec, Precision, RunnerSpec

_CPU = "CPU"
_HINTS: dict[Precision, openvino.Type] = {
    "fp32": openvino.Type.f32,
    "fp16": openvino.Type.f16,
    "bf16": openvino.Type.bf16,
}
_CAPABILITIES: dict[Precision, str] = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}
"""What a device lists among its OPTIMIZATION_CAPABILITIES if it computes in a precision. Source: OpenVINO's API."""

STREAMS = 2
"""CPU: inferences that compute side by side, each on half of the threads: a thread then waits less often for the others
at the end of a layer, most of all while decoder and encoder use the same cores. Measured: ``engines/README.md``."""

DEFAULT_SLOTS = STREAMS + 1
"""CPU: one inference more than compute, so that a stream goes on at once when it has finished."""

_GPU_SLOTS = 2
"""Other devices: one inference computes while another's arrays are copied."""

_BF16_MEMORY = 0.65
"""Share of fp32's activation memory in bf16: 371 of 588 bytes a pixel in animevideov3, 3884 of 8192 in
x4plus_anime_6B. Measured: ``engines/README.md``."""


class OpenVinoBackend:
    """Compiles float32 graphs; the plugin of the device itself lowers them to the precision asked for."""

    def __init__(self) -> None:
        self._core = openvino.Core()

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """See ``engines.backend.Backend``.

        ``auto`` takes the precision that the plugin itself prefers on the device: on a CPU bf16 only where the
        instructions are native, on a GPU fp16. A CPU that merely emulates bfloat16 accepts it when named.
        """
        if model.architecture == "nearest":
            raise UnsupportedModel(f"backend openvino cannot run {model.name}: it is no network", hint="use resize")
        target = self._find_device(device)
        name = str(self._core.get_property(target, "FULL_DEVICE_NAME")).strip()
        chosen, why = self._choose_precision(precision, target=target, name=name)
        on_cpu = target == _CPU
        version = openvino.get_version().split("-")[0]
        return BackendChoice(
            backend="openvino",
            precision=chosen,
            device=name,
            device_id=target.casefold(),
            slots=DEFAULT_SLOTS if on_cpu else _GPU_SLOTS,
            streams=STREAMS if on_cpu else 1,
            activation_share=self._activation_share(target, precision=chosen),
            reason=f"OpenVINO {version} runs {model.name} in {chosen}{'' if on_cpu else f' on {target}'}: {why}",
        )

    def open(self, request: RunnerRequest) -> OpenVinoRunner:
        """See ``engines.backend.Backend``."""
        graph = request.network.graph(request.graph_options("fp32"))
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[request.precision]}
        if request.device_id == _CPU.casefold():
            options["NUM_STREAMS"] = 1 if request.threads == 1 else min(STREAMS, request.slots)
            options["INFERENCE_NUM_THREADS"] = request.threads
        try:
            network = self._core.read_model(graph.SerializeToString())
            compiled = self._core.compile_model(network, request.device_id.upper(), options)
        except RuntimeError as exc:
            on_gpu = request.device_id.upper() != _CPU
            raise run_error(f"OpenVINO could not compile {request.model.name}: {exc}", on_gpu=on_gpu) from exc
        spec = request.runner_spec("openvino", slots=request.slots)
        return OpenVinoRunner(spec, compiled=compiled, on_gpu=request.device_id.upper() != _CPU)

    def _find_device(self, device: str) -> str:
        """Say which of OpenVINO's devices is meant by the user's words; ``auto`` is a GPU before the CPU.

        Raises:
            BackendUnavailable: There is no such device here.
        """
        available = list(self._core.available_devices)
        wanted = device.upper().replace(":", ".")
        if wanted == "AUTO":
            return next((name for name in available if name.partition(".")[0] == "GPU"), _CPU)
        for name in available:
            # with one GPU it is listed as GPU, with two as GPU.0 and GPU.1; GPU is always the first
            if wanted in (name, name.removesuffix(".0"), f"{name}.0"):
                return str(name)
        raise BackendUnavailable(
            f"OpenVINO has no device {device} here, only {', '.join(name.casefold() for name in available)}",
            missing=device,
            hint="install Intel's driver for it" if wanted.partition(".")[0] in ("GPU", "NPU") else "choose device cpu",
        )

    def _choose_precision(self, precision: PrecisionRequest, *, target: str, name: str) -> tuple[Precision, str]:
        """Say the precision and why.

        Raises:
            UnsupportedPrecision: The device does not compute in it.
        """
        preferred = self._core.get_property(target, "INFERENCE_PRECISION_HINT")
        capabilities = self._core.get_property(target, "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            chosen: Precision = next((each for each, hint in _HINTS.items() if hint == preferred), "fp32")
            if target != _CPU:
                return chosen, "the device's own preference"
            native = "natively" if chosen != "fp32" else "fastest"
            return chosen, f"the CPU computes it {native}"
        possible = [each for each, capability in _CAPABILITIES.items() if capability in capabilities]
        if precision not in possible:
            raise UnsupportedPrecision(
                f"OpenVINO cannot compute {precision} on this {target} ({name})",
                hint=f"choose precision auto, {' or '.join(possible)}",
            )
        return precision, "as the config says"

    def _activation_share(self, target: str, *, precision: Precision) -> float:
        """Share of the activations that lies in the host's memory; integrated GPUs have no other."""
        if target == _CPU:
            return _BF16_MEMORY if precision == "bf16" else 1.0
        kind = self._core.get_property(target, "DEVICE_TYPE")
        return 0.0 if "DISCRETE" in str(kind).upper() else 1.0


def _run_failure(exc: RuntimeError, *, on_gpu: bool) -> EngineError:
    return run_error(f"OpenVINO failed: {exc}", on_gpu=on_gpu)


class OpenVinoRunner:
    """One compiled network with ``spec.slots`` requests that are used in turn, oldest first."""

    def __init__(self, spec: RunnerSpec, *, compiled: Any, on_gpu: bool = False) -> None:
        self.spec = spec
        self._on_gpu = on_gpu
        self._idle = deque(compiled.create_infer_request() for _ in range(spec.slots))
        self._running: deque[tuple[Any, HostCompletion]] = deque()
        self._closed = False

    def infer(self, tiles: Tiles, *, out: Tiles, stream: Any = None) -> HostCompletion:  # noqa: ARG002
        """See ``engines.runner.Runner``. With ``spec.slots`` in flight it first waits for the oldest."""
        if self._closed:
            raise EngineError("this runner is closed")
        check_arrays(self.spec, tiles=tiles, out=out)
        if not self._idle:
            request, completion = self._running.popleft()
            completion.settle()  # its own caller hears of a failure
            self._idle.append(request)
        request = self._idle.popleft()
        if not tiles.flags.writeable:
            tiles = tiles.copy()  # OpenVINO takes no memory that it could not write to
        try:
            request.set_input_tensor(openvino.Tensor(tiles, shared_memory=True))
            request.set_output_tensor(openvino.Tensor(out, shared_memory=True))
            request.start_async()
        except RuntimeError as exc:
            self._idle.append(request)
            raise run_error(f"OpenVINO refused to start: {exc}", on_gpu=self._on_gpu) from exc
        completion = HostCompletion(
            request.wait, arrays=(tiles, out), to_error=partial(_run_failure, on_gpu=self._on_gpu)
        )
        self._running.append((request, completion))
        return completion

    def close(self) -> None:
        """See ``engines.runner.Runner``."""
        self._closed = True
        while self._running:
            self._running.popleft()[1].settle()
        self._idle.clear()

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()
