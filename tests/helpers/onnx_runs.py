"""Runs an ONNX model in memory, as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto


def run_onnx(model: ModelProto, tiles: NDArray[Any]) -> NDArray[Any]:
    """The output for one batch."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["output"], {"input": tiles})[0])
