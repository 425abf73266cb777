"""Writes a network to an ONNX file and proves that the file computes what the network does.

The proof runs the very bytes that are written, at an odd and at a non-square size where sizes are free, against the
source network in float32. A file whose figures are beyond the limits of its precision is not written.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.accuracy import Accuracy
from engines.atomic import write_atomic
from engines.errors import ExportFailed
from engines.export_proof import Proof, output_scale, prove
from engines.graph import BFLOAT16_OPSET
from engines.networks import GraphOptions, Network
from engines.spec import FloatType, Precision

if TYPE_CHECKING:
    from onnx import ModelProto

MIN_OPSET = 7
"""Oldest operator set that is accepted at all: the first whose element-wise operators broadcast as numpy does. Networks
may need a newer one, which the checker then says. Source: ONNX changelog, Add-7."""

SUFFIX = ".onnx"

MAX_FILE_BYTES = 2**31
"""What does not fit into one ONNX file. Source: Protocol Buffers, whose messages are smaller than 2 GiB."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written. ``dataclasses.asdict`` of it is JSON except for ``path``."""

    path: Path
    """The file."""
    model: str
    """Name of the network."""
    precision: Precision
    """Arithmetic and weights."""
    io_dtype: FloatType
    """Type of the input and output arrays."""
    scale: int
    """Enlargement from input to output array."""
    input_shape: tuple[int | str, ...]
    """(N, 3, H, W); names stand for free sizes."""
    output_shape: tuple[int | str, ...]
    """(N, 3, s*H, s*W); names stand for free sizes."""
    opset: int
    """ONNX operator set."""
    node_count: int
    """Operations in the graph."""
    file_bytes: int
    """Length of the file."""
    sha256: str
    """Of the whole file, lower-case hex."""
    verified_with: str
    """Library that ran the file for the proof; empty if it was not verified."""
    unverified_because: str
    """Why there was no proof; empty if there was."""
    accuracy: tuple[Accuracy, ...]
    """Figures of the proof, one entry per tile size."""
    export_s: float
    """Seconds that writing the graph took."""
    verify_s: float
    """Seconds that the proof took."""


def export_network(
    network: Network, path: Path, *, options: GraphOptions, verify: bool = True, force: bool = False
) -> ExportReport:
    """Write a network as an ONNX file.

    Args:
        network: The source.
        path: The file; its folder must exist.
        options: Precision, types, sizes, enlargement and operator set.
        verify: Compare the file with the source before it gets its name.
        force: Replace a file that is there.

    Returns:
        What was written, with the figures of the proof.

    Raises:
        ExportFailed: The path or the operator set is not possible, the network cannot be written like that, the ONNX
            checker refuses the graph, or the disk is full. Nothing is then left at ``path`` that was not there before.
        AccuracyFailed: The file does not compute what the source does.
        EngineError: As the network's ``graph`` and ``run_reference`` raise it.
    """
    _check_path(path, force=force)
    _check_opset(options)
    began_s = time.perf_counter()
    model = network.graph(options)
    content = _serialised(model, name=network.spec.name)
    _check_graph(content, name=network.spec.name, opset=_opset(model))
    export_s = time.perf_counter() - began_s
    logger.info("%s: %d nodes, %d bytes", network.spec.name, len(model.graph.node), len(content))
    began_s = time.perf_counter()
    proof = Proof(reason="it was not asked for")
    if verify:
        proof = prove(content, network=network, options=options)
    verify_s = time.perf_counter() - began_s
    try:
        write_atomic(path, content)
    except OSError as exc:
        raise ExportFailed(
            f"cannot write {path}: {exc.strerror or exc}", hint=f"the file needs {len(content)} bytes"
        ) from exc
    return ExportReport(
        path=path,
        model=network.spec.name,
        precision=options.precision,
        io_dtype=options.io_dtype,
        scale=output_scale(network.spec, options),
        input_shape=_dimensions(model.graph.input[0]),
        output_shape=_dimensions(model.graph.output[0]),
        opset=_opset(model),
        node_count=len(model.graph.node),
        file_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        verified_with=proof.library,
        unverified_because=proof.reason,
        accuracy=proof.accuracy,
        export_s=export_s,
        verify_s=verify_s,
    )


def _check_path(path: Path, *, force: bool) -> None:
    """Refuse what cannot be written, before anything long begins."""
    if path.suffix.lower() != SUFFIX:
        raise ExportFailed(f"{path} is not named as an ONNX file", hint=f"let it end in {SUFFIX}")
    if path.is_dir():
        raise ExportFailed(f"{path} is a folder", hint="give the name of a file in it")
    if path.exists() and not force:
        raise ExportFailed(f"{path} is there already", hint="choose another name, or --force to replace it")
    if not path.parent.is_dir():
        raise ExportFailed(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")


def _check_opset(options: GraphOptions) -> None:
    """Refuse operator sets that nobody here knows."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    opset = options.opset
    if opset is None:
        return
    if opset > newest:
        raise ExportFailed(
            f"opset {opset} is too new: the installed onnx {onnx.__version__} knows {MIN_OPSET} to {newest}",
            hint="leave opset out, or pip install --upgrade onnx",
        )
    if opset < MIN_OPSET:
        raise ExportFailed(f"opset {opset} is too old: {MIN_OPSET} to {newest} are possible", hint="leave opset out")
    if options.precision == "bf16" and opset < BFLOAT16_OPSET:
        raise ExportFailed(
            f"opset {opset} has no bfloat16 convolution", hint=f"use opset {BFLOAT16_OPSET} or newer, or leave it out"
        )


def _serialised(model: ModelProto, *, name: str) -> bytes:
    """The bytes of the file, the same for the same model."""
    if model.ByteSize() >= MAX_FILE_BYTES:
        raise ExportFailed(
            f"{name} takes {model.ByteSize()} bytes as ONNX, one file holds at most {MAX_FILE_BYTES}",
            hint="choose precision fp16, which halves it",
        )
    return bytes(model.SerializeToString(deterministic=True))


def _check_graph(content: bytes, *, name: str, opset: int) -> None:
    """Have onnx check the graph, with its types and shapes."""
    import onnx

    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        reason = str(exc).strip().partition("\n")[0]
        raise ExportFailed(
            f"{name} is no valid graph of opset {opset}: {reason}",
            hint="leave opset out; older operator sets lack some of the operations",
        ) from exc


def _opset(model: ModelProto) -> int:
    """The version of ONNX's own operators."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"})


def _dimensions(value: Any) -> tuple[int | str, ...]:
    """A graph input's or output's shape."""
    return tuple(
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param
        for dimension in value.type.tensor_type.shape.dim
    )
