"""Puts a user's graph between adapters, so that it takes and gives pictures as we do: RGB NCHW in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import ExportFailed
from engines.graph_writer import INPUT_NAME, OUTPUT_NAME
from engines.layers import IMAGE_CHANNELS
from engines.networks.onnx_reading import STANDARD_DOMAINS, opset_of, walk_nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

    from engines.networks import GraphOptions
    from engines.networks.onnx_facts import Facts
    from engines.networks.onnx_signature import Layout, Signature

_PREFIX = "net/"
"""Before every name of the user's graph, so that none is the same as one of ours."""

_FIRST_IR_VERSION = 4
"""First version of the file format in which constants need not be listed among the inputs. Source: ONNX IR, 4."""


def with_input_sides(
    model: ModelProto, *, input_name: str, layout: Layout, batch: int | str, height: int | str, width: int | str
) -> ModelProto:
    """Copy a graph with other sizes of its input; what the file says of sizes elsewhere is forgotten.

    Args:
        model: A graph of one picture; not changed.
        input_name: The picture.
        layout: Order of its axes.
        batch, height, width: Constant sizes, or names of free ones.
    """
    from onnx import ModelProto

    result = ModelProto()
    result.CopyFrom(model)
    image = next(value for value in result.graph.input if value.name == input_name)
    sides: list[int | str] = [batch, height, width]
    sides.insert(1 if layout == "nchw" else 3, IMAGE_CHANNELS)
    unknown: list[int | str] = [f"result_{axis}" for axis in range(4)]
    del result.graph.value_info[:]
    for value, axes in ((image, sides), (result.graph.output[0], unknown)):
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for side in axes:
            axis = shape.dim.add()
            if isinstance(side, int):
                axis.dim_value = side
            else:
                axis.dim_param = side
    return result


def wrapped(body: ModelProto, *, name: str, signature: Signature, facts: Facts, options: GraphOptions) -> ModelProto:
    """Write the graph that ``Network.graph`` promises.

    Args:
        body: The user's graph in the precision asked for, with a float input and output; not changed.
        name: Of the network.
        signature, facts: Of that graph.
        options: Sizes, type of the arrays and operator set; the sizes are taken as possible.

    Raises:
        ExportFailed: The graph cannot be written with that operator set.
    """
    from onnx import compose, helper

    sized = with_input_sides(
        body,
        input_name=signature.input_name,
        layout=facts.input_layout,
        batch=options.batch or "batch",
        height=options.height or "height",
        width=options.width or "width",
    )
    _forget_remarks(sized)
    model = compose.add_prefix(sized, _PREFIX, inplace=True)
    adapters = _Adapters(io_dtype=options.io_dtype)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    image = next(value for value in graph.input if value.name not in constants)
    result = graph.output[0]
    before = adapters.before(image.name, kind=image.type.tensor_type.elem_type, facts=facts)
    after = adapters.after(result.name, kind=result.type.tensor_type.elem_type, facts=facts)
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(adapters.constants)
    height, width = options.height, options.width
    scale = facts.scale
    shapes = (
        [options.batch or "batch", IMAGE_CHANNELS, height or "height", width or "width"],
        [
            options.batch or "batch",
            IMAGE_CHANNELS,
            height * scale if height else f"{scale}*height",
            width * scale if width else f"{scale}*width",
        ],
    )
    graph.input.append(helper.make_tensor_value_info(INPUT_NAME, adapters.io_type, shapes[0]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, adapters.io_type, shapes[1]))
    graph.name = name
    return _finished(model, name=name, opset=options.opset)


def _forget_remarks(model: ModelProto) -> None:
    """Drop what exporters note beside the network (stack traces, paths): it would change the engine key."""
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in walk_nodes(model.graph):
        node.doc_string = ""
        del node.metadata_props[:]


def _finished(model: ModelProto, *, name: str, opset: int | None) -> ModelProto:
    """Set the operator set and the header."""
    import onnx
    from onnx import helper, version_converter

    used = [helper.make_opsetid("", opset_of(model))]
    del model.opset_import[:]
    model.opset_import.extend(used)
    if opset is not None and opset != used[0].version:
        try:
            model = version_converter.convert_version(model, opset)
            onnx.checker.check_model(model)
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as exc:
            reason = next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
            raise ExportFailed(
                f"{name} cannot be written with opset {opset}: {reason}",
                hint=f"leave the opset out; the file has opset {used[0].version}",
            ) from exc
    standard = [entry for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    model.ir_version = max(_FIRST_IR_VERSION, helper.find_min_ir_version_for(standard))
    model.producer_name, model.producer_version = "nightscale", ""
    return model


class _Adapters:
    """The nodes before and after the user's graph."""

    def __init__(self, *, io_dtype: str) -> None:
        from onnx import TensorProto

        self._float32 = TensorProto.FLOAT
        self.io_type = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[io_dtype]
        self.constants: list[TensorProto] = []
        self._nodes: list[NodeProto] = []

    def before(self, target: str, *, kind: int, facts: Facts) -> list[NodeProto]:
        """From our input to the user's: range, order of the axes, type."""
        self._nodes = []
        value, now = INPUT_NAME, self.io_type
        if facts.input_peak != 1.0:
            value = self._cast(value, now=now, kind=self._float32, name="in/wide")
            value, now = self._times(value, factor=facts.input_peak, name="in/range"), self._float32
        if facts.input_layout == "nhwc":
            value = self._node("Transpose", [value], name="in/nhwc", perm=[0, 2, 3, 1])
        value = self._cast(value, now=now, kind=kind, name="in/type")
        return self._ending(value, target=target)

    def after(self, source: str, *, kind: int, facts: Facts) -> list[NodeProto]:
        """From the user's output to ours."""
        self._nodes = []
        value, now = source, kind
        if facts.output_layout == "nhwc":
            value = self._node("Transpose", [value], name="out/nchw", perm=[0, 3, 1, 2])
        if facts.output_peak != 1.0:
            value = self._cast(value, now=now, kind=self._float32, name="out/wide")
            value, now = self._times(value, factor=1.0 / facts.output_peak, name="out/range"), self._float32
        value = self._cast(value, now=now, kind=self.io_type, name="out/type")
        return self._ending(value, target=OUTPUT_NAME)

    def _node(self, op: str, inputs: list[str], *, name: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def _cast(self, value: str, *, now: int, kind: int, name: str) -> str:
        """Convert to a type, if it is another."""
        return value if now == kind else self._node("Cast", [value], name=name, to=kind)

    def _times(self, value: str, *, factor: float, name: str) -> str:
        """Multiply by a constant, in float32."""
        from onnx import helper

        self.constants.append(helper.make_tensor(f"{name}.factor", self._float32, [], [factor]))
        return self._node("Mul", [value, f"{name}.factor"], name=name)

    def _ending(self, value: str, *, target: str) -> list[NodeProto]:
        """Give the last value the name that is waited for."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [target], name=f"{target}/name"))
        return self._nodes
