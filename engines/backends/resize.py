"""Nearest-neighbour enlarging in numpy, for models of architecture ``nearest``: the pipeline without a network."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np

from engines.backend import BackendChoice, PrecisionRequest, RunnerRequest
from engines.errors import BackendUnavailable, EngineError, UnsupportedModel, UnsupportedPrecision, UnsupportedShape
from engines.runner import FinishedCompletion, Tiles, check_arrays
from engines.spec import ModelSpec, RunnerSpec


class ResizeBackend:
    """Runs models that only repeat pixels."""

    def choose(self, *, model: ModelSpec, precision: PrecisionRequest, device: str = "auto") -> BackendChoice:
        """See ``engines.backend.Backend``. Values are copied, so there is no precision to choose."""
        if model.architecture != "nearest":
            raise UnsupportedModel(
                f"backend resize cannot run {model.name}: it only repeats pixels",
                hint="choose model nearest-x4, or backend auto for a network",
            )
        if precision not in ("auto", "fp32"):
            raise UnsupportedPrecision(f"backend resize has no {precision}", hint="choose precision auto or fp32")
        if device.casefold() not in ("auto", "cpu"):
            raise BackendUnavailable(
                f"backend resize has no device {device}", missing=device, hint="choose device auto or cpu"
            )
        return BackendChoice(
            backend="resize",
            precision="fp32",
            device="CPU",
            device_id="cpu",
            reason=f"{model.name} repeats pixels and needs no network",
        )

    def open(self, request: RunnerRequest) -> ResizeRunner:
        """See ``engines.backend.Backend``."""
        if request.output_scale != request.model.scale:
            raise UnsupportedShape(
                f"{request.model.name} enlarges by {request.model.scale}, not {request.output_scale}"
            )
        return ResizeRunner(request.runner_spec("resize"))


class ResizeRunner:
    """Copies every pixel scale x scale times; the values keep their bits."""

    def __init__(self, spec: RunnerSpec) -> None:
        self.spec = spec
        self._closed = False

    def infer(self, tiles: Tiles, *, out: Tiles, stream: Any = None) -> FinishedCompletion:  # noqa: ARG002
        """See ``engines.runner.Runner``; done when it returns."""
        if self._closed:
            raise EngineError("this runner is closed")
        check_arrays(self.spec, tiles=tiles, out=out)
        scale = self.spec.scale
        batch, channels, height, width = self.spec.input_shape
        blocks = out.reshape(batch, channels, height, scale, width, scale)
        np.copyto(blocks, tiles[:, :, :, None, :, None])
        return FinishedCompletion()

    def close(self) -> None:
        """See ``engines.runner.Runner``; there is nothing to give back."""
        self._closed = True

    def __enter__(self) -> Self:
        """Return the runner itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the runner."""
        self.close()
