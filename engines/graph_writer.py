"""Collects the nodes and constants of one ONNX graph in one precision. Knows operators, not architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.layers import IMAGE_CHANNELS
from engines.spec import Precision
from engines.weights import ConvWeights

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT_NAME = "input"
OUTPUT_NAME = "output"

RESIDUAL_SCALE = 0.2
"""Factor on the branch of every residual connection of RRDBNet. Source: ESRGAN paper, section 3.1."""

LEAKY_SLOPE = 0.2
"""Negative slope of RRDBNet's LeakyReLU. Source: the official RRDBNet definition."""


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round finite float32 numbers to the nearest bfloat16, ties to even, and return their bits.

    bfloat16 is the upper half of a float32; adding just under half of the lower half, plus the last kept bit, carries
    into the upper half exactly where rounding goes up.
    """
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded


class GraphWriter:
    """Collects nodes and constants of one precision."""

    def __init__(self, *, precision: Precision, io_dtype: Literal["float32", "float16"]) -> None:
        from onnx import TensorProto, helper

        self._helper = helper
        self._wide = TensorProto.FLOAT
        self._type = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
        self._io_type = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[io_dtype]
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def node(self, op: str, inputs: list[str], *, name: str, **attributes: Any) -> str:
        """Append a node with one output and return that output's name."""
        output = f"{name}:0"
        self._nodes.append(self._helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def constant(self, values: NDArray[np.float32], *, name: str) -> str:
        """Store an array in the graph's precision, rounded to nearest even."""
        return self._store(name, values, element_type=self._type)

    def wide_constant(self, values: NDArray[np.float32], *, name: str) -> str:
        """Store an array as float32 whatever the graph's precision is."""
        return self._store(name, values, element_type=self._wide)

    def _store(self, name: str, values: NDArray[Any], *, element_type: int) -> str:
        """Make a constant, unless there is one of that name already."""
        from onnx import TensorProto

        if name not in self._constants:
            if element_type == TensorProto.BFLOAT16:
                raw = bfloat16_bits(values).tobytes()
            else:
                raw = values.astype(self._helper.tensor_dtype_to_np_dtype(element_type)).tobytes()
            self._constants[name] = self._helper.make_tensor(name, element_type, values.shape, raw, raw=True)
        return name

    def conv(self, value: str, layer: ConvWeights) -> str:
        """3x3 convolution with bias, zero padding of one pixel."""
        return self._conv(value, layer, kernel=layer.kernel, step=1)

    def unshuffled_conv(self, value: str, layer: ConvWeights, *, factor: int) -> str:
        """Pixel unshuffle by ``factor`` and a 3x3 convolution of the result, zero padding of one of its pixels.

        Written as one convolution of the picture: with kernels of 3 x factor pixels in steps of ``factor``, it
        multiplies the same numbers. So it needs no operator that a backend might lack, nor another order of the
        channels, in which ONNX's SpaceToDepth differs from torch. Sides that are no multiple of ``factor`` lose
        their last rows or columns without a word; callers check ``ModelSpec.size_multiple``.
        """
        outputs, _, height, width = layer.kernel.shape
        # From (out, colour, row, column, ky, kx) to (out, colour, ky, row, kx, column): the channels go in between.
        parts = layer.kernel.reshape(outputs, IMAGE_CHANNELS, factor, factor, height, width)
        kernel = parts.transpose(0, 1, 4, 2, 5, 3).reshape(outputs, IMAGE_CHANNELS, height * factor, width * factor)
        return self._conv(value, layer, kernel=kernel, step=factor)

    def _conv(self, value: str, layer: ConvWeights, *, kernel: NDArray[np.float32], step: int) -> str:
        """Convolution in steps of ``step``, with zero padding of as many pixels."""
        name = layer.shape.name
        weight = self.constant(np.ascontiguousarray(kernel), name=f"{name}.weight")
        bias = self.constant(layer.bias, name=f"{name}.bias")
        return self.node(
            "Conv",
            [value, weight, bias],
            name=name,
            kernel_shape=list(kernel.shape[2:]),
            pads=[step] * 4,
            **({"strides": [step, step]} if step > 1 else {}),
        )

    def prelu(self, value: str, slopes: NDArray[np.float32], *, name: str) -> str:
        """PReLU with one slope per channel."""
        return self.node(
            "PRelu", [value, self.constant(slopes.reshape(-1, 1, 1), name=f"{name}.slopes")], name=f"{name}_prelu"
        )

    def leaky(self, value: str, *, name: str) -> str:
        """LeakyReLU."""
        return self.node("LeakyRelu", [value], name=f"{name}_lrelu", alpha=LEAKY_SLOPE)

    def scaled(self, value: str, *, name: str, wide: bool = False) -> str:
        """Multiply by ``RESIDUAL_SCALE``; ``wide`` if the value is float32 whatever the graph's precision is."""
        factor = np.asarray(RESIDUAL_SCALE, dtype=np.float32)
        constant = self.wide_constant(factor, name="wide_scale") if wide else self.constant(factor, name="scale")
        return self.node("Mul", [value, constant], name=f"{name}_scaled")

    def widen(self, value: str, *, name: str) -> str:
        """Convert from the graph's precision to float32."""
        return value if self._type == self._wide else self.node("Cast", [value], name=f"{name}_wide", to=self._wide)

    def narrow(self, value: str, *, name: str) -> str:
        """Convert from float32 to the graph's precision."""
        return value if self._type == self._wide else self.node("Cast", [value], name=f"{name}_in", to=self._type)

    def add(self, left: str, right: str, *, name: str) -> str:
        """Elementwise sum."""
        return self.node("Add", [left, right], name=name)

    def reshape(self, value: str, shape: tuple[int, ...], *, name: str) -> str:
        """Give a tensor another shape of constant sizes."""
        from onnx import TensorProto

        target = self._store(f"{name}.shape", np.asarray(shape, dtype=np.int64), element_type=TensorProto.INT64)
        return self.node("Reshape", [value, target], name=name)

    def enlarge(self, value: str, *, factor: int, name: str) -> str:
        """Repeat every pixel factor x factor times."""
        scales = self.wide_constant(np.asarray([1, 1, factor, factor], dtype=np.float32), name=f"scales_{factor}")
        return self.node(
            "Resize",
            [value, "", scales],
            name=name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def cast_in(self) -> str:
        """Convert the input array to the graph's precision and name the result."""
        if self._io_type == self._type:
            return INPUT_NAME
        return self.node("Cast", [INPUT_NAME], name="cast_in", to=self._type)

    def cast_out(self, value: str) -> None:
        """Convert the result to the output array's type, under the output's name."""
        if self._io_type == self._type:
            node = self._helper.make_node("Identity", [value], [OUTPUT_NAME], name="cast_out")
        else:
            node = self._helper.make_node("Cast", [value], [OUTPUT_NAME], name="cast_out", to=self._io_type)
        self._nodes.append(node)

    def finish(
        self, *, name: str, input_shape: tuple[int | None, int | None, int | None], scale: int, opset: int
    ) -> ModelProto:
        """Put the graph together."""
        batch, height, width = input_shape
        image_shape = [batch or "batch", IMAGE_CHANNELS, height or "height", width or "width"]
        output_shape = [
            batch or "batch",
            IMAGE_CHANNELS,
            height * scale if height else f"{scale}*height",
            width * scale if width else f"{scale}*width",
        ]
        graph = self._helper.make_graph(
            self._nodes,
            name,
            [self._helper.make_tensor_value_info(INPUT_NAME, self._io_type, image_shape)],
            [self._helper.make_tensor_value_info(OUTPUT_NAME, self._io_type, output_shape)],
            initializer=list(self._constants.values()),
        )
        return self._helper.make_model(
            graph,
            producer_name="nightscale",
            opset_imports=[self._helper.make_opsetid("", opset)],
            ir_version=self._helper.find_min_ir_version_for([self._helper.make_opsetid("", opset)]),
        )
