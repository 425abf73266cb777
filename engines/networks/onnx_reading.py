"""Reads the user's ONNX file into memory, whole and checked, or says in one sentence why that cannot be done.

After it, the model holds its own weights (no files beside it), consists of standard operators only, and is consistent
in itself. What the network does with a picture is not known yet: see ``onnx_signature`` and ``onnx_probing``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import ModelFileError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

OLDEST_OPSET = 9
"""First operator set that TensorRT's parser documents, and the oldest that exporters of such networks wrote.
Source: TensorRT, ONNX operator support (opset 9 and later)."""

MOST_BYTES = 2**31 - 1
"""Longest message that protobuf writes, and so the largest network in one piece. Source: protobuf, encoding limits."""

STANDARD_DOMAINS = ("", "ai.onnx")
"""Names of the domain of the ONNX standard's own operators; both mean the same."""

_OTHER_FORMATS = (
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer, not the file itself",
        "run git lfs pull, or download it again",
    ),
    (b"PK\x03\x04", "it is a ZIP archive or a PyTorch file", "unpack it, or give a PyTorch file its ending .pth"),
    (b"<", "it is a web page", "download the file itself, not the page about it"),
)
"""What downloads really hold: their first bytes, what they are, and what to do."""


def read_onnx(path: Path) -> ModelProto:
    """Read an ONNX file with everything that belongs to it.

    Args:
        path: The file. Weights stored outside it are looked for beside it.

    Returns:
        The model, weights inside, local functions expanded, standard operators only. The caller owns it.

    Raises:
        ModelFileError: It cannot be read, is not ONNX or cut short, has an operator set too old or too new, weights
            are missing, or an operator is not standard; the message says which, the hint what to do.
    """
    model = _parse(path)
    _check_opset(model, path=path)
    _load_external_weights(model, path=path)
    return _checked(_without_functions(model, path=path), path=path)


def walk_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Go through all nodes of a graph and of the graphs inside them (bodies of ``If``, ``Loop`` and ``Scan``)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from walk_nodes(inner)


def walk_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Go through all constants of a graph: initializers and tensors in attributes, those of inner graphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from walk_tensors(inner)


def opset_of(model: ModelProto) -> int:
    """Operator set of the standard domain that a model declares; 0 if none."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)


def _parse(path: Path) -> ModelProto:
    """Turn the file's bytes into a model, without weights stored elsewhere."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelFileError(f"{path} cannot be read: {exc.strerror}", hint="check the path of the model file") from exc
    if not content:
        raise ModelFileError(f"{path} is empty", hint="download or export it again")
    for magic, what, hint in _OTHER_FORMATS:
        if content[:64].lstrip().startswith(magic):
            raise ModelFileError(f"{path} is not an ONNX file: {what}", hint=hint)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as exc:
        raise ModelFileError(
            f"{path} cannot be read as ONNX: it is cut short, damaged or another kind of file",
            hint="compare its length with the original's, and download or export it again",
        ) from exc
    if not model.HasField("graph") or not model.ir_version:
        raise ModelFileError(f"{path} is not an ONNX file: it holds no graph", hint="download or export it again")
    if not model.graph.node:
        raise ModelFileError(f"{path} holds an empty graph: it has no operators", hint="export the network again")
    return model


def _check_opset(model: ModelProto, *, path: Path) -> None:
    """Check that the operator set is one that is known here."""
    from onnx.defs import onnx_opset_version

    opset, newest = opset_of(model), onnx_opset_version()
    if opset > newest:
        raise ModelFileError(
            f"{path} uses ONNX opset {opset}; the installed onnx knows opset {newest} at most",
            hint=f"export it with opset {newest} or older, or update the package onnx",
        )
    if opset < OLDEST_OPSET:
        raise ModelFileError(
            f"{path} uses ONNX opset {opset}; the oldest that is supported is {OLDEST_OPSET}",
            hint="export it again with opset 17 or newer",
        )


def _load_external_weights(model: ModelProto, *, path: Path) -> None:
    """Put weights that are stored in files beside the model into it."""
    from onnx.checker import ValidationError
    from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

    folder = path.absolute().parent
    needed_bytes = 0
    for tensor in walk_tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        place = ExternalDataInfo(tensor)
        file = folder / place.location
        if not file.is_file():
            raise ModelFileError(
                f"{path} keeps its weights in {place.location}, which is not there",
                hint=f"put {place.location} into {folder}",
            )
        stop = (place.offset or 0) + (place.length or 0)
        if file.stat().st_size < stop:
            raise ModelFileError(
                f"{file} is cut short: {path.name} expects at least {stop} bytes, it has {file.stat().st_size}",
                hint="download both files again",
            )
        needed_bytes += place.length or file.stat().st_size
        if needed_bytes > MOST_BYTES:
            raise ModelFileError(f"the weights of {path} take more than {MOST_BYTES} bytes, which no engine takes")
        try:
            load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, RuntimeError, ValidationError) as exc:
            reason = " ".join(str(exc).split())
            raise ModelFileError(
                f"the weights of {path} in {place.location} cannot be read: {reason}",
                hint=f"export the network again, with its weights inside or in a file in {folder}",
            ) from exc
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def _without_functions(model: ModelProto, *, path: Path) -> ModelProto:
    """Expand functions that the file defines itself (torch's exporter writes some) into standard operators."""
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except (RuntimeError, ValueError) as exc:
        raise ModelFileError(
            f"the functions that {path} defines cannot be expanded: {exc}", hint="export the network again"
        ) from exc


def _checked(model: ModelProto, *, path: Path) -> ModelProto:
    """Check that all operators are standard and the graph is consistent."""
    import onnx

    unknown = _unknown_operators(model)
    if unknown:
        raise ModelFileError(
            f"{path} uses operators that are not part of ONNX opset {opset_of(model)}: {', '.join(unknown)}",
            hint="export the network with standard operators only, not a file that onnxruntime has optimised",
        )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as exc:
        reason = next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
        raise ModelFileError(f"{path} is not valid ONNX: {reason}", hint="export the network again") from exc
    return model


def _unknown_operators(model: ModelProto) -> list[str]:
    """Name every operator that the declared operator set does not have, with its nodes, in order of appearance."""
    from onnx import defs

    opset = opset_of(model)
    places: dict[str, list[str]] = {}
    for index, node in enumerate(walk_nodes(model.graph)):
        if node.domain in STANDARD_DOMAINS:
            try:
                if not defs.get_schema(node.op_type, max_inclusive_version=opset).deprecated:
                    continue
            except defs.SchemaError:
                pass
            name = node.op_type
        else:
            name = f"{node.domain}::{node.op_type}"
        places.setdefault(name, []).append(node.name or f"number {index}")
    return [f"{operator} (node {', '.join(nodes)})" for operator, nodes in places.items()]
