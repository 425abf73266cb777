"""What a user's network costs per input pixel and how far it looks, from its graph and the shapes in it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from engines.layers import IMAGE_CHANNELS
from engines.networks.onnx_trial import open_trial

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

_FLOAT32_BYTES = 4

_POINTWISE = frozenset(
    (
        "Abs",
        "Add",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Concat",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Slice",
        "Softplus",
        "Softsign",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Swish",
        "Tanh",
        "ThresholdedRelu",
        "Transpose",
        "Unsqueeze",
        "Where",
    )
)
"""Operators whose result at one place depends on that place alone (``Pad`` and ``Slice`` shift the places, which a
convolution without padding beside them undoes; ``Transpose`` only renames axes)."""

_SIZES = ("Shape", "Size")
_INTERPOLATION_RADIUS = {"nearest": 1, "linear": 1, "bilinear": 1, "cubic": 2}
"""Source pixels on each side that an interpolated pixel can depend on. Source: the kernels' supports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Figures per input pixel."""

    flop_per_px: int
    """2 x multiply-adds of all convolutions and matrix products."""
    activation_bytes_per_px: int
    """Peak memory of the values that are alive at once, in float32, none of them computed in place."""
    receptive_px: int | None
    """Input pixels on each side that one output pixel can depend on; None where the network has operators that mix the
    whole tile (attention, pooling over everything) or whose reach is not known."""
    features: int
    """Most frequent number of channels that convolutions give; 0 without convolutions."""


def measure_costs(model: ModelProto, *, tile: NDArray[float32]) -> Costs:
    """Work out a network's costs at one size.

    Args:
        model: A float32 graph whose input has the shape of ``tile`` as constant sizes.
        tile: Pictures as the graph takes them; run only if the shapes in the graph cannot be inferred.
    """
    shapes = _shapes(model, tile=tile)
    constants = {tensor.name for tensor in model.graph.initializer}
    image = next(value.name for value in model.graph.input if value.name not in constants)
    area_px = tile.size // IMAGE_CHANNELS
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    features = Counter(shapes[node.output[0]][1] for node in convolutions if len(shapes[node.output[0]]) > 1)
    flop = sum(_flop(node, shapes) for node in model.graph.node)
    return Costs(
        flop_per_px=math.ceil(flop / area_px),
        activation_bytes_per_px=math.ceil(_peak_elements(model, shapes, image=image) * _FLOAT32_BYTES / area_px),
        receptive_px=_reach(model, shapes, image=image),
        features=features.most_common(1)[0][0] if features else 0,
    )


def _shapes(model: ModelProto, *, tile: NDArray[float32]) -> dict[str, tuple[int, ...]]:
    """Shapes of all values: inferred, or measured by running the graph where that leaves some open."""
    from onnx import ModelProto, shape_inference

    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
            shapes.setdefault(value.name, tuple(axis.dim_value for axis in kind.shape.dim))
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.value_info, *inferred.output)
        if value.type.HasField("tensor_type")
    }
    missing = [name for node in model.graph.node for name in node.output if name in types and name not in shapes]
    if missing:
        talking = ModelProto()
        talking.CopyFrom(model)
        present = {value.name for value in talking.graph.output}
        for name in missing:
            if name not in present:
                value = talking.graph.output.add()
                value.name = name
                value.type.tensor_type.elem_type = types[name]
        shapes |= {name: result.shape for name, result in open_trial(talking).run(tile).items()}
    return shapes


def _flop(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Operations of one convolution or matrix product; 0 for other operators."""
    operands = [shapes.get(name, ()) for name in node.input]
    match node.op_type:
        case "Conv":  # every output needs one kernel: inputs of its group x edges
            return 2 * math.prod(shapes[node.output[0]]) * math.prod(operands[1][1:])
        case "ConvTranspose":  # every input is spread by one kernel: outputs of its group x edges
            return 2 * math.prod(operands[0]) * math.prod(operands[1][1:])
        case "MatMul" if operands[0]:
            return 2 * math.prod(shapes[node.output[0]]) * operands[0][-1]
        case "Gemm" if operands[0]:
            return 2 * math.prod(operands[0]) * shapes[node.output[0]][-1]
    return 0


def _peak_elements(model: ModelProto, shapes: dict[str, tuple[int, ...]], *, image: str) -> int:
    """Most numbers that are alive at once: a value lives from the node that makes it to the last that reads it."""
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    last_read = {name: index for index, node in enumerate(nodes) for name in node.input if name not in constants}
    alive = math.prod(shapes[image])
    peak = alive
    for index, node in enumerate(nodes):
        alive += sum(math.prod(shapes.get(name, ())) for name in node.output if name)
        peak = max(peak, alive)
        for name in {*node.input, *node.output}:
            if name and last_read.get(name, index) == index and name in shapes and name not in constants:
                alive -= math.prod(shapes[name])
    return peak


def _reach(model: ModelProto, shapes: dict[str, tuple[int, ...]], *, image: str) -> int | None:
    """Sum the radii of the operators along the widest way from the input to the output, in input pixels."""
    _, first, input_side, _ = shapes[image]
    if first not in (IMAGE_CHANNELS, input_side):
        return None  # NHWC and not square: which axis is the height is not followed through the graph
    reach: dict[str, Fraction] = {image: Fraction(0)}
    side: dict[str, int] = {image: input_side}
    for node in model.graph.node:
        sources = [name for name in node.input if name in reach]
        if not sources or node.op_type in _SIZES:
            continue
        source_side = max(side[name] for name in sources)
        radius = _radius_px(node, shapes, source_side=source_side)
        if radius is None or source_side == 0:
            return None
        total = max(reach[name] for name in sources) + radius * Fraction(input_side, source_side)
        for name in node.output:
            reach[name] = total
            shape = shapes.get(name, ())
            side[name] = shape[2] if len(shape) == 4 else source_side
    result = reach.get(model.graph.output[0].name)
    return None if result is None else math.ceil(result)


def _radius_px(node: NodeProto, shapes: dict[str, tuple[int, ...]], *, source_side: int) -> Fraction | None:
    """Pixels of its own input on each side that an operator looks at; None if that is not known or everything."""
    from onnx import helper

    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    result = shapes.get(node.output[0], ())
    match node.op_type:
        case "Conv" | "MaxPool" | "AveragePool":
            kernel = values.get("kernel_shape") or shapes[node.input[1]][2:]
            dilations = values.get("dilations") or [1] * len(kernel)
            return Fraction(max((edge - 1) * step + 1 for edge, step in zip(kernel, dilations, strict=True)) // 2)
        case "ConvTranspose":
            kernel = values.get("kernel_shape") or shapes[node.input[1]][2:]
            return Fraction(math.ceil(max(kernel) / min(values.get("strides") or [1])) // 2)
        case "Resize" | "Upsample":
            mode = values.get("mode", b"nearest").decode()
            shrunk = math.ceil(source_side / result[2]) if len(result) == 4 else 1
            return Fraction(_INTERPOLATION_RADIUS.get(mode, 2) * max(shrunk, 1))
        case "DepthToSpace":
            return Fraction(0)
        case "SpaceToDepth":
            return Fraction(int(values["blocksize"]) - 1)
        case "Reshape":  # sub-pixels are folded in or out; what mixes them afterwards has a radius of its own
            folded = source_side // result[2] if len(result) == 4 and 0 < result[2] < source_side else 1
            return Fraction(folded - 1)
        case name if name in _POINTWISE:
            return Fraction(0)
    return None
