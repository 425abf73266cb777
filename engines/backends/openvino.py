"""OpenVINO on the CPU: the default engine of machines without a GPU."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Self

import openvino

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.errors import EngineError, InferenceFailed, UnsupportedModel, UnsupportedPrecision
from engines.graph import build_graph
from engines.runner import Tiles, check_arrays
from engines.spec import ModelSpec, Precision, RunnerSpec
from engines.weights import load_weights

_DEVICE = "CPU"
_HINTS = {"fp32": "f32", "bf16": "bf16"}

STREAMS = 2
"""Inferences that compute side by side, each on half of the threads: a thread then waits less often for the others at
the end of a layer, most of all while decoder and encoder use the same cores. Measured: ``engines/README.md``."""

DEFAULT_SLOTS = STREAMS + 1
"""One inference more than compute, so that a stream goes on at once when it has finished."""

_BF16_MEMORY = 0.65
"""Share of fp32's activation memory in bf16: 371 of 588 bytes a pixel in animevideov3, 3884 of 8192 in
x4plus_anime_6B. Measured: ``engines/README.md``."""


class OpenVinoBackend:
    """Compiles float32 graphs; the plugin itself lowers them to bfloat16 where that is asked for."""

    def __init__(self) -> None:
        self._core = openvino.Core()

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest) -> BackendChoice:
        """See ``engines.backend.Backend``.

        ``auto`` takes the precision that the plugin itself prefers on this CPU: bf16 only where the instructions are
        native. A CPU that merely emulates bfloat16 accepts it when named.
        """
        if model.architecture == "nearest":
            raise UnsupportedModel(f"backend openvino cannot run {model.name}: it is no network", hint="use resize")
        device = str(self._core.get_property(_DEVICE, "FULL_DEVICE_NAME")).strip()
        native_bf16 = self._core.get_property(_DEVICE, "INFERENCE_PRECISION_HINT") == openvino.Type.bf16
        capabilities = self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        chosen: Precision
        if precision == "auto":
            chosen = "bf16" if native_bf16 else "fp32"
            why = "the CPU computes bfloat16 natively" if native_bf16 else "the CPU has no native bfloat16"
        else:
            chosen = precision
            why = "as the config says"
        if chosen not in _HINTS or (chosen == "bf16" and "BF16" not in capabilities):
            raise UnsupportedPrecision(
                f"OpenVINO cannot compute {chosen} on this CPU ({device})",
                hint="choose precision auto, fp32" + (" or bf16" if "BF16" in capabilities else ""),
            )
        return BackendChoice(
            backend="openvino",
            precision=chosen,
            device=device,
            slots=DEFAULT_SLOTS,
            streams=STREAMS,
            activation_share=_BF16_MEMORY if chosen == "bf16" else 1.0,
            reason=f"OpenVINO {openvino.get_version().split('-')[0]} runs {model.name} in {chosen}: {why}",
        )

    def open(self, request: RunnerRequest) -> OpenVinoRunner:
        """See ``engines.backend.Backend``."""
        graph = build_graph(
            load_weights(request.model, source=request.weights_source),
            batch=request.batch,
            height=request.height,
            width=request.width,
            output_scale=request.output_scale,
        )
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[request.precision],
            "NUM_STREAMS": 1 if request.threads == 1 else min(STREAMS, request.slots),
            "INFERENCE_NUM_THREADS": request.threads,
        }
        try:
            compiled = self._core.compile_model(self._core.read_model(graph.SerializeToString()), _DEVICE, options)
        except RuntimeError as exc:
            raise InferenceFailed(f"OpenVINO could not compile {request.model.name}: {exc}") from exc
        return OpenVinoRunner(
            request.runner_spec("openvino", slots=request.slots),
            compiled=compiled,
        )


class OpenVinoCompletion:
    """An inference that may still be running; how it ended is kept, whoever waited for it first."""

    def __init__(self, request: Any, *, arrays: tuple[Tiles, Tiles]) -> None:
        self._request = request
        self._arrays = arrays  # OpenVINO's tensors point into them without owning them
        self._is_over = False
        self._failure: RuntimeError | None = None

    def settle(self) -> None:
        """Block until the inference is over, well or not."""
        if self._is_over:
            return
        try:
            self._request.wait()
        except RuntimeError as exc:
            self._failure = exc
        self._is_over = True

    def wait(self) -> None:
        """See ``engines.runner.Completion``."""
        self.settle()
        if self._failure is not None:
            raise InferenceFailed(f"OpenVINO failed: {self._failure}") from self._failure


class OpenVinoRunner:
    """One compiled network with ``spec.slots`` requests that are used in turn, oldest first."""

    def __init__(self, spec: RunnerSpec, *, compiled: Any) -> None:
        self.spec = spec
        self._idle = deque(compiled.create_infer_request() for _ in range(spec.slots))
        self._running: deque[tuple[Any, OpenVinoCompletion]] = deque()
        self._closed = False

    def infer(self, tiles: Tiles, *, out: Tiles, stream: Any = None) -> OpenVinoCompletion:  # noqa: ARG002
        """See ``engines.runner.Runner``. With ``spec.slots`` in flight it first waits for the oldest."""
        if self._closed:
            raise EngineError("this runner is closed")
        check_arrays(self.spec, tiles=tiles, out=out)
        if not self._idle:
            request, completion = self._running.popleft()
            completion.settle()  # its own caller hears of a failure
            self._idle.append(request)
        request = self._idle.popleft()
        try:
            request.set_input_tensor(openvino.Tensor(tiles, shared_memory=True))
            request.set_output_tensor(openvino.Tensor(out, shared_memory=True))
            request.start_async()
        except RuntimeError as exc:
            self._idle.append(request)
            raise InferenceFailed(f"OpenVINO refused to start: {exc}") from exc
        completion = OpenVinoCompletion(request, arrays=(tiles, out))
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
