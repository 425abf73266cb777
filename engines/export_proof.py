"""Runs an exported file and compares it with its source."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.accuracy import Accuracy, check_accuracy
from engines.errors import ExportFailed
from engines.graph_writer import INPUT_NAME
from engines.networks import GraphOptions, Network
from engines.spec import ModelSpec

PROOF_SIZES = ((19, 26), (24, 14))
"""(height, width) of the tiles of the proof where sizes are free, before they are rounded up to what the network takes:
odd and non-square, and the other way round. Small, because the source runs on the CPU."""

Run = Callable[[NDArray[np.float32]], NDArray[np.floating]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Outcome of the comparison, or the reason that there was none."""

    library: str = ""
    accuracy: tuple[Accuracy, ...] = ()
    reason: str = ""


def prove(content: bytes, *, network: Network, options: GraphOptions) -> Proof:
    """Compare the file with its source."""
    opened = _open_file(content, options=options)
    if opened is None:
        return Proof(reason="neither onnxruntime nor OpenVINO is installed")
    library, run = opened
    measured = [
        check_accuracy(
            run,
            network=network,
            precision=options.precision,
            batch=options.batch or 1,
            height=height,
            width=width,
            output_scale=output_scale(network.spec, options),
        )
        for height, width in proof_sizes(network.spec, options)
    ]
    return Proof(library=library, accuracy=tuple(measured))


def proof_sizes(model: ModelSpec, options: GraphOptions) -> tuple[tuple[int, int], ...]:
    """The (height, width) at which a file is compared with its source: what was fixed, else ``PROOF_SIZES``, rounded up
    to what the network takes and never square.
    """
    multiple = model.size_multiple

    def fitting(side_px: int, *, other_px: int) -> int:
        least_px = max(side_px, model.min_px + multiple if side_px > other_px else model.min_px)
        return -(-least_px // multiple) * multiple

    sizes = (
        (options.height or fitting(height, other_px=width), options.width or fitting(width, other_px=height))
        for height, width in PROOF_SIZES
    )
    return tuple(dict.fromkeys(sizes))


def _open_file(content: bytes, *, options: GraphOptions) -> tuple[str, Run] | None:
    """Load the file with a library that runs its precision; None if there is none. onnxruntime has no bfloat16."""
    if options.precision != "bf16":
        try:
            return _open_onnxruntime(content, options=options)
        except ImportError:
            logger.info("onnxruntime is not installed; OpenVINO runs the file")
    try:
        return _open_openvino(content, options=options)
    except ImportError:
        return None


def _open_onnxruntime(content: bytes, *, options: GraphOptions) -> tuple[str, Run]:
    import onnxruntime

    failures = onnxruntime.capi.onnxruntime_pybind11_state
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what goes wrong is raised
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except (failures.Fail, failures.InvalidGraph, failures.InvalidArgument, failures.NotImplemented) as exc:
        raise _refused("onnxruntime", exc) from exc

    def run(tiles: NDArray[np.float32]) -> NDArray[np.floating]:
        try:
            outputs: NDArray[np.floating] = session.run(None, {INPUT_NAME: tiles.astype(options.io_dtype)})[0]
        except (failures.Fail, failures.InvalidArgument, failures.RuntimeException) as exc:
            raise _refused("onnxruntime", exc) from exc
        return outputs

    return f"onnxruntime {onnxruntime.__version__}", run


def _open_openvino(content: bytes, *, options: GraphOptions) -> tuple[str, Run]:
    import openvino

    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as exc:
        raise _refused("OpenVINO", exc) from exc

    def run(tiles: NDArray[np.float32]) -> NDArray[np.floating]:
        try:
            outputs: NDArray[np.floating] = np.array(compiled([tiles.astype(options.io_dtype)])[0])
        except RuntimeError as exc:
            raise _refused("OpenVINO", exc) from exc
        return outputs

    return f"OpenVINO {openvino.__version__.partition('-')[0]}", run


def _refused(library: str, exc: Exception) -> ExportFailed:
    reason = " ".join(str(exc).split())[:300]
    return ExportFailed(
        f"{library} cannot run the exported file: {reason}",
        hint="try another opset or fixed sizes; --no-verify writes the file all the same",
    )


def output_scale(model: ModelSpec, options: GraphOptions) -> int:
    """The enlargement of the file."""
    return model.scale if options.output_scale is None else options.output_scale
