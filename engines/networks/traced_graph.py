"""What is done to a graph that torch wrote: compared, given our names and sizes, and its arrays the type asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.graph_writer import INPUT_NAME, OUTPUT_NAME
from engines.layers import IMAGE_CHANNELS
from engines.networks import GraphOptions
from engines.spec import FloatType, ModelSpec

if TYPE_CHECKING:
    from onnx import ModelProto


def is_same_graph(left: ModelProto, right: ModelProto) -> bool:
    """Whether two graphs compute the same, operation by operation and constant by constant."""
    return all(
        len(ours) == len(theirs)
        and all(
            one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
            for one, other in zip(ours, theirs, strict=True)
        )
        for ours, theirs in (
            (left.graph.node, right.graph.node),
            (left.graph.initializer, right.graph.initializer),
            (left.functions, right.functions),
        )
    )


def with_our_names(graph: ModelProto, *, model: ModelSpec, options: GraphOptions) -> ModelProto:
    """Give the graph our names and sizes, and drop what depends on the example."""
    graph.graph.name = model.name
    graph.graph.doc_string = ""
    graph.doc_string = ""
    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    scale = model.scale
    named: tuple[tuple[int | None, str, int], ...] = (
        (options.batch, "batch", 1),
        (options.height, "height", scale),
        (options.width, "width", scale),
    )
    for position, (value, name, factor) in zip((0, 2, 3), named, strict=True):
        for array, times in ((graph.graph.input[0], 1), (graph.graph.output[0], factor)):
            dimension = array.type.tensor_type.shape.dim[position]
            if value is None:
                dimension.dim_param = name if times == 1 else f"{times}*{name}"
            else:
                dimension.dim_value = value * times
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = IMAGE_CHANNELS
    return graph


def cast_ends(graph: ModelProto, *, inner_type: FloatType, io_type: FloatType) -> None:
    """Convert at the input and at the output where the arrays are of another type than the graph's ends."""
    if inner_type == io_type:
        return
    from onnx import TensorProto, helper

    types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
    nodes = graph.graph.node
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in {INPUT_NAME, OUTPUT_NAME}:
                    names[index] = f"inner_{name}"
    first = helper.make_node("Cast", [INPUT_NAME], [f"inner_{INPUT_NAME}"], name="cast_in", to=types[inner_type])
    last = helper.make_node("Cast", [f"inner_{OUTPUT_NAME}"], [OUTPUT_NAME], name="cast_out", to=types[io_type])
    nodes.insert(0, first)
    nodes.append(last)
    for value in (graph.graph.input[0], graph.graph.output[0]):
        value.type.tensor_type.elem_type = types[io_type]
