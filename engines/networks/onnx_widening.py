"""Makes a user's graph a float32 graph: of float16 or bfloat16 ones, and of uint8 pictures at its ends.

That is the form in which the graph is tried, measured and used as its own reference, and from which the others are
made. Widening changes no stored number; what rounding to float16 lost when the file was written stays lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.networks.onnx_reading import walk_nodes, walk_tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_MOVEMENTS = (
    "DepthToSpace",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that move numbers without looking at them, so that their type can be changed."""


def stored_precision(model: ModelProto) -> str:
    """Tell in which precision a file stores its network: ``fp32``, ``fp16`` or ``bf16``; the type of most numbers."""
    from onnx import TensorProto

    names: dict[int, str] = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    counts: dict[int, int] = dict.fromkeys(names, 0)
    for tensor in walk_tensors(model.graph):
        if tensor.data_type in counts:
            counts[tensor.data_type] += int(np.prod(tensor.dims, dtype=np.int64))
    if not any(counts.values()):
        counts[model.graph.input[0].type.tensor_type.elem_type] = 1
    return names.get(max(counts, key=lambda kind: counts[kind]), "fp32")


def widened(model: ModelProto) -> ModelProto:
    """Copy a graph with all float16 and bfloat16 types and constants turned into float32.

    Args:
        model: Any model; it is not changed.

    Returns:
        A model of the same arithmetic in float32. Its value types have to be inferred anew.
    """
    from onnx import ModelProto, TensorProto

    narrow = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in walk_tensors(result.graph):
        if tensor.data_type in narrow:
            _widen_tensor(tensor)
    for node in walk_nodes(result.graph):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype", "stash_type") and attribute.i in narrow:
                attribute.i = TensorProto.FLOAT
    _widen_values(result.graph)
    return result


def with_float_picture(model: ModelProto) -> ModelProto:
    """Copy a graph whose input or output picture is uint8 so that it takes and gives the same numbers as float32.

    The casts from and to uint8 go; truncation to whole numbers in [0, 255] at the end stays. Where something other than
    a movement of numbers stands between the picture and its cast, the picture stays uint8, between casts of its own.

    Args:
        model: From ``read_onnx``; it is not changed.

    Returns:
        A model with a float input and output, 0 to 255 where they were uint8.
    """
    from onnx import ModelProto, TensorProto

    result = ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name for tensor in result.graph.initializer}
    image = next(value for value in result.graph.input if value.name not in constants)
    if image.type.tensor_type.elem_type == TensorProto.UINT8:
        if not _is_moved_to_casts(result.graph, image.name):
            _cast_input(result.graph, image.name)
        image.type.tensor_type.elem_type = TensorProto.FLOAT
        del result.graph.value_info[:]
    output = result.graph.output[0]
    if output.type.tensor_type.elem_type == TensorProto.UINT8:
        cast = _last_cast(result.graph, output.name)
        if cast is None:
            _cast_output(result.graph, output.name)
        else:
            _truncate_instead(result.graph, cast)
        output.type.tensor_type.elem_type = TensorProto.FLOAT
        del result.graph.value_info[:]
    return result


def _widen_tensor(tensor: TensorProto) -> None:
    """Turn a constant into float32 in place."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, name=tensor.name))


def _widen_values(graph: GraphProto) -> None:
    """Turn the declared types of inputs, outputs and intermediate values into float32, in inner graphs too."""
    from onnx import TensorProto

    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _widen_values(inner)


def _is_moved_to_casts(graph: GraphProto, name: str) -> bool:
    """Whether everything that reads a value is a cast, with only movements between."""
    reached = {name}
    for node in graph.node:  # in order of execution
        if not reached.intersection(node.input):
            continue
        if node.op_type in _MOVEMENTS and node.input[0] in reached:
            reached.update(node.output)
        elif node.op_type not in ("Cast", "Shape", "Size"):
            return False
    return True


def _last_cast(graph: GraphProto, name: str) -> NodeProto | None:
    """Find the cast that made an output, with only movements after it."""
    makers: dict[str, NodeProto] = {output: node for node in graph.node for output in node.output}
    readers = [read for node in graph.node for read in node.input]
    while (maker := makers.get(name)) is not None and readers.count(name) <= 1:
        if maker.op_type == "Cast":
            return maker
        if maker.op_type not in _MOVEMENTS:
            return None
        name = maker.input[0]
    return None


def _truncate_instead(graph: GraphProto, cast: NodeProto) -> None:
    """Put truncation to whole numbers in [0, 255], as float32, in the place of a cast to uint8."""
    position = list(graph.node).index(cast)
    target = cast.output[0]
    nodes = _whole_numbers(graph, cast.input[0], target=target, rounding="Floor")
    del graph.node[position]
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)


def _whole_numbers(graph: GraphProto, source: str, *, target: str, rounding: str) -> list[NodeProto]:
    """Make nodes that turn floats into whole numbers in [0, 255], still as float32."""
    from onnx import TensorProto, helper

    low, high = f"{target}/low", f"{target}/high"
    graph.initializer.append(helper.make_tensor(low, TensorProto.FLOAT, [], [0.0]))
    graph.initializer.append(helper.make_tensor(high, TensorProto.FLOAT, [], [255.0]))
    return [
        helper.make_node("Cast", [source], [f"{target}/float"], name=f"{target}/float", to=TensorProto.FLOAT),
        helper.make_node("Max", [f"{target}/float", low], [f"{target}/above"], name=f"{target}/above"),
        helper.make_node("Min", [f"{target}/above", high], [f"{target}/within"], name=f"{target}/within"),
        helper.make_node(rounding, [f"{target}/within"], [target], name=f"{target}/whole"),
    ]


def _cast_input(graph: GraphProto, name: str) -> None:
    """Let the graph take floats and round them to uint8 itself."""
    from onnx import TensorProto, helper

    inner = f"{name}/uint8"
    _rename(graph, name, inner)
    # Round is not in opset 9 and 10: the nearest whole number is the floor of half more
    half = f"{name}/half"
    graph.initializer.append(helper.make_tensor(half, TensorProto.FLOAT, [], [0.5]))
    nodes = [
        helper.make_node("Add", [name, half], [f"{name}/shifted"], name=f"{name}/shifted"),
        *_whole_numbers(graph, f"{name}/shifted", target=f"{name}/whole", rounding="Floor"),
        helper.make_node("Cast", [f"{name}/whole"], [inner], name=inner, to=TensorProto.UINT8),
    ]
    for offset, node in enumerate(nodes):
        graph.node.insert(offset, node)


def _cast_output(graph: GraphProto, name: str) -> None:
    """Let the graph give its uint8 numbers as floats."""
    from onnx import TensorProto, helper

    inner = f"{name}/uint8"
    _rename(graph, name, inner)
    graph.node.append(helper.make_node("Cast", [inner], [name], name=f"{name}/float", to=TensorProto.FLOAT))


def _rename(graph: GraphProto, name: str, inner: str) -> None:
    """Give a value another name in all nodes."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, value in enumerate(names):
                if value == name:
                    names[index] = inner
