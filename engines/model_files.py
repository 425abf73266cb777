"""Tells what network a user's own model file holds."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engines.costs import with_costs
from engines.errors import ModelFileError, WeightsError
from engines.spec import ModelSpec, WeightFile


def inspect_model_file(path: Path, *, table: Mapping[str, ModelSpec]) -> ModelSpec:
    """Tell a file's network from its content.

    Args:
        path: An ONNX file (``.onnx``), or a PyTorch or safetensors checkpoint of any architecture that is known here or
            to spandrel, or one of the weight files of the table, under any name.
        table: The models of the table: a file that has the name of one's official file must be that file.

    Returns:
        The model with its costs; ``path`` is set and ``name`` is the file's name without suffix.

    Raises:
        ModelFileError: The file is missing, empty or damaged, or no network that upscales RGB pictures.
        WeightsError: It cannot be read, or has the name of an official file, but not its content.
        BackendUnavailable: A library that reads it is not installed.
    """
    _check_is_file(path, table=table)
    if path.suffix.lower() == ".onnx":
        from engines.networks.onnx_file import inspect_onnx

        return inspect_onnx(path)
    from engines.weights.checkpoint import read_tensors
    from engines.weights.layouts import arrange_tensors, detect_model
    from engines.weights.loading import read_weights_file
    from engines.weights.ncnn import FLOAT16_TAG

    content = read_weights_file(path)
    digest = hashlib.sha256(content).hexdigest()
    known = next((model for model, file in _official_files(table) if file.sha256 == digest), None)
    _check_official_name(path, digest=digest, byte_count=len(content), table=table)
    if content.startswith(FLOAT16_TAG):
        if known is None:
            raise ModelFileError(
                f"{path} is an ncnn weight file, which does not say what network it belongs to",
                hint="use the network's .pth, .safetensors or .onnx file",
            )
        return replace(known, name=path.stem, path=path)
    tensors = read_tensors(path, content=content)
    model = detect_model(tensors, name=path.stem, origin=str(path))
    if model is None:
        from engines.networks.spandrel_file import inspect_checkpoint

        return inspect_checkpoint(path)
    arrange_tensors(model, tensors=tensors, origin=str(path))
    return with_costs(replace(model, path=path, summary="from a file"))


def _check_is_file(path: Path, *, table: Mapping[str, ModelSpec]) -> None:
    """Say in one sentence why a path cannot be a model file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as exc:
        hint = f"the model of the table is called {path.stem}" if path.stem in table else "check the path"
        raise ModelFileError(f"there is no model file {path}", hint=hint) from exc
    except (OSError, ValueError) as exc:  # ValueError: a null character in the path
        raise ModelFileError(f"cannot look at the model file {path}: {exc}", hint="check the path") from exc
    if stat.S_ISDIR(status.st_mode):
        raise ModelFileError(f"{path} is a folder, not a model file", hint="name the .pth, .safetensors or .onnx file")
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path} is not a regular file", hint="name the .pth, .safetensors or .onnx file")
    if status.st_size == 0:
        raise ModelFileError(f"{path} is empty", hint="copy or download the file again")


def _official_files(table: Mapping[str, ModelSpec]) -> list[tuple[ModelSpec, WeightFile]]:
    """All published files and their models, siblings last."""
    return [(model, file) for model in table.values() for file in model.files] + [
        (model, file) for model in table.values() for file in model.denoise_files
    ]


def _check_official_name(path: Path, *, digest: str, byte_count: int, table: Mapping[str, ModelSpec]) -> None:
    """Refuse a file that has the name of an official one, but not its content: it is damaged, or misleads."""
    for _, file in _official_files(table):
        if file.name == path.name and file.sha256 != digest:
            source = f"download it again from {file.url}, or " if file.url else ""
            raise WeightsError(
                f"{path} has the name of a published file, but not its content: SHA-256 {digest[:16]}..., expected "
                f"{file.sha256[:16]}... ({byte_count} bytes)",
                hint=f"{source}give the file a name of its own if it is meant to be different",
            )
