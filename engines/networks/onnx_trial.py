"""Runs a user's graph on the CPU for trials and as its own reference: onnxruntime if it is installed, else OpenVINO."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError

if TYPE_CHECKING:
    from onnx import ModelProto

_FATAL_ONLY = 4
"""onnxruntime log severity: trials are expected to fail, and what fails is raised."""


class TrialFailed(ModelFileError):
    """The library could not load or run the graph with that input; the message is the library's own, in one line."""


class Trial(Protocol):
    """A loaded graph with one input. Takes arrays of every shape that the graph allows."""

    def run(self, tile: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run once.

        Args:
            tile: The input, in the graph's own shape and type.

        Returns:
            The outputs by name; the arrays are the caller's.

        Raises:
            TrialFailed: The library cannot run it.
        """
        ...


def open_trial(model: ModelProto) -> Trial:
    """Load a graph into the first library that takes it.

    Raises:
        TrialFailed: No library takes it.
    """
    content = model.SerializeToString()
    if importlib.util.find_spec("onnxruntime") is None:
        return OpenVinoTrial(content)
    try:
        return OnnxRuntimeTrial(content)
    except TrialFailed:
        return OpenVinoTrial(content)


class OnnxRuntimeTrial:
    """The graph in onnxruntime, on the CPU in the graph's own precision."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        self._errors: tuple[type[Exception], ...] = (
            native.EPFail,
            native.Fail,
            native.InvalidArgument,
            native.InvalidGraph,
            native.NotImplemented,
            native.RuntimeException,
            RuntimeError,
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except self._errors as exc:
            raise TrialFailed(_one_line(exc)) from exc
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, tile: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See ``Trial``."""
        try:
            results = self._session.run(self._outputs, {self._input: tile})
        except self._errors as exc:
            raise TrialFailed(_one_line(exc)) from exc
        return {name: np.asarray(result) for name, result in zip(self._outputs, results, strict=True)}


class OpenVinoTrial:
    """The graph in OpenVINO, on the CPU in float32."""

    def __init__(self, content: bytes) -> None:
        import openvino

        core = openvino.Core()
        try:
            self._compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as exc:
            raise TrialFailed(_one_line(exc)) from exc

    def run(self, tile: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See ``Trial``."""
        try:
            results = self._compiled([tile])
        except RuntimeError as exc:
            raise TrialFailed(_one_line(exc)) from exc
        return {name: np.array(value) for output, value in results.items() for name in output.names}


def _one_line(error: Exception) -> str:
    """The library's message without its line breaks."""
    return " ".join(str(error).split())
