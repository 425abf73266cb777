"""onnxruntime: an independent second engine on the CPU, and whatever its execution providers run on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.errors import (
    BackendUnavailable,
    EngineError,
    InferenceFailed,
    UnsupportedModel,
    UnsupportedPrecision,
    run_error,
)
from engines.gpu.driver import has_nvidia_driver
from engines.graph_writer import INPUT_NAME, OUTPUT_NAME
from engines.runner import FinishedCompletion, Tiles, check_arrays
from engines.spec import ModelSpec, Precision, RunnerSpec

_FATAL_ONLY = 4
"""Log severity: what goes wrong is raised, so nothing needs to be printed as well."""

_CPU_PROVIDER = "CPUExecutionProvider"

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "cpu": _CPU_PROVIDER,
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "rocm": "ROCMExecutionProvider",
        "migraphx": "MIGraphXExecutionProvider",
        "directml": "DmlExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
        "coreml": "CoreMLExecutionProvider",
    }
)
"""Execution provider by the short name that users write. Source: onnxruntime's list of execution providers."""

_INSTALL: Mapping[str, str] = MappingProxyType(
    {
        "cuda": "pip install onnxruntime-gpu",
        "tensorrt": "pip install onnxruntime-gpu",
        "directml": "pip install onnxruntime-directml",
        "openvino": "pip install onnxruntime-openvino",
    }
)

_LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
    ValueError,  # provider options that the provider does not know
)


class OnnxRuntimeBackend:
    """Runs the graph of the precision asked for on one execution provider."""

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """See ``engines.backend.Backend``.

        ``auto`` is fp32 on a CPU, where fp16 is stored, but computed by conversion; fp16 elsewhere.
        """
        if model.architecture == "nearest":
            raise UnsupportedModel(f"backend onnxruntime cannot run {model.name}: it is no network", hint="use resize")
        provider, number = _find_provider(device)
        on_cpu = provider == _CPU_PROVIDER
        if precision in {"bf16", "fp8"}:
            raise UnsupportedPrecision(
                f"onnxruntime has no {precision} convolution in {provider}", hint="choose precision auto, fp32 or fp16"
            )
        chosen: Precision = ("fp32" if on_cpu else "fp16") if precision == "auto" else precision
        why = (
            f"its fastest precision on {'a CPU' if on_cpu else 'a GPU'}"
            if precision == "auto"
            else "as the config says"
        )
        where = "" if on_cpu else f" by {provider}"
        return BackendChoice(
            backend="onnxruntime",
            precision=chosen,
            device="CPU" if on_cpu else provider + (f" {number}" if number else ""),
            device_id="cpu" if on_cpu else f"{provider}:{number}" if number else provider,
            activation_share=1.0 if on_cpu else 0.0,
            reason=f"onnxruntime {onnxruntime.__version__} runs {model.name} in {chosen}{where}: {why}",
        )

    def open(self, request: RunnerRequest) -> OnnxRuntimeRunner:
        """See ``engines.backend.Backend``. A provider that leaves part of the network to the CPU is an error."""
        provider, number = _find_provider(request.device_id)
        graph = request.network.graph(request.graph_options(request.precision))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request.threads
        options.log_severity_level = _FATAL_ONLY
        if provider != _CPU_PROVIDER:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(
                graph.SerializeToString(),
                options,
                providers=[(provider, {"device_id": number} if number else {})],
                enable_fallback=0,  # which would print, and take the CPU instead
            )
        except _LIBRARY_ERRORS as exc:
            raise run_error(
                f"onnxruntime could not load {request.model.name} with {provider}: {exc}",
                on_gpu=provider != _CPU_PROVIDER,
                hint="" if provider == _CPU_PROVIDER else "update its libraries and the driver, or choose device cpu",
            ) from exc
        if session.get_providers()[0] != provider:
            raise InferenceFailed(
                f"onnxruntime could not start {provider} and took {session.get_providers()[0]} instead",
                hint="install the libraries that it needs, or choose device cpu",
            )
        return OnnxRuntimeRunner(request.runner_spec("onnxruntime"), session=session)


def _find_provider(device: str) -> tuple[str, str]:
    """Say the execution provider that is meant by the user's words, and the number of the device or nothing.

    Raises:
        BackendUnavailable: This onnxruntime has none of that name; those that it has are listed.
    """
    available = onnxruntime.get_available_providers()
    words, _, number = device.partition(":")
    if words.casefold() == "auto":
        words = "cuda" if PROVIDERS["cuda"] in available and has_nvidia_driver() else "cpu"
    wanted = PROVIDERS.get(words.casefold(), words)
    for provider in available:
        if provider.casefold() == wanted.casefold() and (not number or number.isdecimal()):
            return provider, number
    short = {name for name, provider in PROVIDERS.items() if provider in available}
    raise BackendUnavailable(
        f"onnxruntime {onnxruntime.__version__} has no device {device}; it has "
        f"{', '.join(name for name in PROVIDERS if name in short)} ({', '.join(available)})",
        missing=device,
        hint=_INSTALL.get(words.casefold(), "choose one of these, with :1 for the second GPU"),
    )


class OnnxRuntimeRunner:
    """One session; it reads and writes the caller's arrays in place and returns when it is done."""

    def __init__(self, spec: RunnerSpec, *, session: onnxruntime.InferenceSession) -> None:
        self.spec = spec
        self._session: onnxruntime.InferenceSession | None = session

    def infer(self, tiles: Tiles, *, out: Tiles, stream: Any = None) -> FinishedCompletion:  # noqa: ARG002
        """See ``engines.runner.Runner``; done when it returns."""
        if self._session is None:
            raise EngineError("this runner is closed")
        check_arrays(self.spec, tiles=tiles, out=out)
        binding = self._session.io_binding()
        try:
            for name, array, bind in (
                (INPUT_NAME, tiles, binding.bind_input),
                (OUTPUT_NAME, out, binding.bind_output),
            ):
                bind(name, "cpu", 0, self.spec.io_dtype, array.shape, array.ctypes.data)
            self._session.run_with_iobinding(binding)
        except _LIBRARY_ERRORS as exc:
            on_gpu = self._session.get_providers()[0] != _CPU_PROVIDER
            raise run_error(f"onnxruntime failed: {exc}", on_gpu=on_gpu) from exc
        return FinishedCompletion()

    def close(self) -> None:
        """See ``engines.runner.Runner``."""
        self._session = None

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()
