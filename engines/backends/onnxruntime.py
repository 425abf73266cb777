"""onnxruntime on the CPU: an independent second engine, in float32 or float16."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.errors import EngineError, InferenceFailed, UnsupportedModel, UnsupportedPrecision
from engines.graph import build_graph
from engines.graph_writer import INPUT_NAME, OUTPUT_NAME
from engines.runner import FinishedCompletion, Tiles, check_arrays
from engines.spec import ModelSpec, RunnerSpec
from engines.weights import load_weights

_FATAL_ONLY = 4
"""Log severity: what goes wrong is raised, so nothing needs to be printed as well."""

_LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
)


class OnnxRuntimeBackend:
    """Runs the graph of the precision asked for on the CPU execution provider."""

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest) -> BackendChoice:
        """See ``engines.backend.Backend``. ``auto`` is fp32: on a CPU fp16 is stored, but computed by conversion."""
        if model.architecture == "nearest":
            raise UnsupportedModel(f"backend onnxruntime cannot run {model.name}: it is no network", hint="use resize")
        if precision == "bf16":
            raise UnsupportedPrecision(
                "onnxruntime has no bf16 convolution on the CPU", hint="choose precision auto, fp32 or fp16"
            )
        chosen = "fp32" if precision == "auto" else precision
        why = "its fastest precision on a CPU" if precision == "auto" else "as the config says"
        return BackendChoice(
            backend="onnxruntime",
            precision=chosen,
            device="CPU",
            reason=f"onnxruntime {onnxruntime.__version__} runs {model.name} in {chosen}: {why}",
        )

    def open(self, request: RunnerRequest) -> OnnxRuntimeRunner:
        """See ``engines.backend.Backend``."""
        graph = build_graph(
            load_weights(request.model, source=request.weights_source),
            precision=request.precision,
            batch=request.batch,
            height=request.height,
            width=request.width,
            output_scale=request.output_scale,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request.threads
        options.log_severity_level = _FATAL_ONLY
        try:
            session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except _LIBRARY_ERRORS as exc:
            raise InferenceFailed(f"onnxruntime could not load {request.model.name}: {exc}") from exc
        return OnnxRuntimeRunner(
            request.runner_spec("onnxruntime"),
            session=session,
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
            raise InferenceFailed(f"onnxruntime failed: {exc}") from exc
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
