"""Small ONNX networks that enlarge pictures, in all the forms in which users have them, and broken ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "uint8": TensorProto.UINT8,
}


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a file has the one small network: two convolutions added to the nearest-enlarged picture."""

    scale: int = 2
    layout: str = "nchw"
    arithmetic: str = "float32"
    picture: str = ""
    """Element type at both ends; that of the arithmetic if empty."""
    peak: int = 1
    batch: int | None = None
    height: int | None = None
    width: int | None = None
    channels: int = 3
    unshuffle: int = 1
    has_sizes_inside: bool = False
    """Sub-pixels are moved by reshapes with the sizes written in, as exporters do for a fixed size."""
    opset: int = 17
    names: tuple[str, str] = ("input", "output")


def network(form: Form | None = None) -> onnx.ModelProto:
    """Build the network in a form; its weights are the same in all forms of one scale."""
    form = form or Form()
    return _Builder(form).model()


def expected(tiles: NDArray[np.float32], *, scale: int = 2, unshuffle: int = 1) -> NDArray[np.float32]:
    """What the network makes of tiles (N, 3, H, W) in [0, 1], by numpy in float64."""
    first, first_bias, second, second_bias = weights(scale=scale, unshuffle=unshuffle)
    count, _, height, width = tiles.shape
    value = tiles.astype(np.float64)
    if unshuffle > 1:
        factor = unshuffle
        value = value.reshape(count, 3, height // factor, factor, width // factor, factor)
        value = value.transpose(0, 3, 5, 1, 2, 4).reshape(count, 3 * factor**2, height // factor, width // factor)
    value = convolved(value, first, first_bias)
    value = np.where(value < 0, 0.2 * value, value)
    value = convolved(value, second, second_bias)
    block = scale * unshuffle
    rows, columns = value.shape[2:]
    value = value.reshape(count, 3, block, block, rows, columns).transpose(0, 1, 4, 2, 5, 3)
    value = value.reshape(count, 3, rows * block, columns * block)
    return (value + tiles.repeat(scale, axis=2).repeat(scale, axis=3)).astype(np.float32)


def convolved(value: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """3x3 convolution with zero padding, by its definition."""
    padded = np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, kernel) + bias[None, :, None, None]


def weights(*, scale: int, unshuffle: int = 1) -> tuple[NDArray[np.float32], ...]:
    """Kernels and biases; the convolutions add detail of a few hundredths to the picture."""
    random = np.random.default_rng(20 + scale + unshuffle)
    inputs, outputs = 3 * unshuffle**2, 3 * (scale * unshuffle) ** 2
    shapes = ((8, inputs, 3, 3), (8,), (outputs, 8, 3, 3), (outputs,))
    return tuple((random.standard_normal(shape) * 0.03).astype(np.float32) for shape in shapes)


class _Builder:
    """Nodes and constants of one network."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._type = ELEMENT_TYPES[form.arithmetic]

    def model(self) -> onnx.ModelProto:
        """Put it together."""
        form = self._form
        image, result = form.names
        picture_type = ELEMENT_TYPES[form.picture or form.arithmetic]
        value = image
        if form.layout == "nhwc":
            value = self.node("Transpose", [value], perm=[0, 3, 1, 2])
        if picture_type != self._type:
            value = self.node("Cast", [value], to=self._type)
        if form.peak != 1:
            value = self.node("Mul", [value, self.number("down", 1 / form.peak)])
        value = self.network(value)
        if form.peak != 1:
            value = self.node("Mul", [value, self.number("up", form.peak)])
        if form.picture == "uint8":
            half = self.node("Add", [value, self.number("half", 0.5)])
            value = self.node("Clip", [half, self.number("black", 0.0), self.number("white", 255.0)])
        if picture_type != self._type:
            value = self.node("Cast", [value], to=picture_type)
        if form.layout == "nhwc":
            value = self.node("Transpose", [value], perm=[0, 2, 3, 1])
        self._nodes.append(helper.make_node("Identity", [value], [result], name="last"))
        sides: list[Any] = [form.batch or "n", form.channels, form.height or "h", form.width or "w"]
        order = (0, 1, 2, 3) if form.layout == "nchw" else (0, 2, 3, 1)
        graph = helper.make_graph(
            self._nodes,
            "user",
            [helper.make_tensor_value_info(image, picture_type, [sides[axis] for axis in order])],
            [helper.make_tensor_value_info(result, picture_type, ["a", "b", "c", "d"])],
            initializer=self._constants,
        )
        opset = helper.make_opsetid("", form.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]))

    def network(self, image: str) -> str:
        """The network itself, on (N, 3, H, W) in [0, 1]."""
        form = self._form
        block = form.scale * form.unshuffle
        first, first_bias, second, second_bias = weights(scale=form.scale, unshuffle=form.unshuffle)
        value = image
        if form.unshuffle > 1:
            value = self.node("SpaceToDepth", [value], blocksize=form.unshuffle)
        value = self.conv(value, first, first_bias)
        value = self.conv(self.node("LeakyRelu", [value], alpha=0.2), second, second_bias)
        if form.has_sizes_inside:
            assert form.batch and form.height and form.width
            value = self.reshape(value, (form.batch, 3, block, block, form.height, form.width))
            value = self.node("Transpose", [value], perm=[0, 1, 4, 2, 5, 3])
            value = self.reshape(value, (form.batch, 3, form.height * block, form.width * block))
        else:
            value = self.node("DepthToSpace", [value], blocksize=block, mode="CRD")
        scales = self.constant("scales", np.asarray([1, 1, form.scale, form.scale], dtype=np.float32), exact=True)
        regions = "" if form.opset >= 13 else self.constant("regions", np.zeros(0, dtype=np.float32), exact=True)
        base = self.node(
            "Resize",
            [image, regions, scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return self.node("Add", [value, base])

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node without a name, as many files have them."""
        output = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def conv(self, value: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """3x3 convolution."""
        index = len(self._nodes)
        names = [self.constant(f"kernel_{index}", kernel), self.constant(f"bias_{index}", bias)]
        return self.node("Conv", [value, *names], pads=[1, 1, 1, 1])

    def reshape(self, value: str, shape: tuple[int, ...]) -> str:
        """Give a tensor constant sizes."""
        name = self.constant(f"shape_{len(self._nodes)}", np.asarray(shape, dtype=np.int64), exact=True)
        return self.node("Reshape", [value, name])

    def number(self, name: str, value: float) -> str:
        """A constant of one number."""
        return self.constant(name, np.asarray(value, dtype=np.float32))

    def constant(self, name: str, values: NDArray[Any], *, exact: bool = False) -> str:
        """Store a constant, in the type of the arithmetic unless it must be exact."""
        kind = helper.np_dtype_to_tensor_dtype(values.dtype) if exact else self._type
        converted = values.astype(helper.tensor_dtype_to_np_dtype(kind))
        self._constants.append(numpy_helper.from_array(converted, name=name))
        return name


def saved(model: onnx.ModelProto, folder: Path, *, name: str = "user.onnx") -> Path:
    """Write a model to a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def tiles(*, batch: int = 1, height: int = 12, width: int = 20, seed: int = 4) -> NDArray[np.float32]:
    """Random tiles (N, 3, H, W) in [0, 1]."""
    return np.random.default_rng(seed).random((batch, 3, height, width), dtype=np.float32)
