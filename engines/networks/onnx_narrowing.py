"""Rewrites a float32 graph for float16 arithmetic, operator by operator, as each operator's definition allows.

onnxconverter-common does the same by a list of operators, but fails on graphs that torch exports: it leaves casts to
float32 whose readers it has turned into float16, and it changes numbers below 1e-7. Here the types come from the
operators' own definitions in the ONNX standard, so that every graph stays consistent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.errors import UnsupportedPrecision
from engines.networks.onnx_reading import opset_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from onnx.defs import OpSchema

_WIDE_OPERATORS = frozenset(
    (
        "BatchNormalization",
        "CumSum",
        "Exp",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GridSample",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "MeanVarianceNormalization",
        "Pow",
        "RMSNormalization",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Softmax",
        "Sqrt",
    )
)
"""Operators that stay float32: long sums and powers leave float16's range of 65504, variances fall below its smallest
number of 6e-8, and sampling positions need more than its 11 bits."""

_SIZE_OPERATORS = ("Shape", "Size")
"""Operators whose result does not depend on the numbers of the picture, only on its size."""


def narrowed(model: ModelProto, *, name: str) -> ModelProto:
    """Copy a float32 graph with float16 arithmetic and float16 input and output.

    Arithmetic on sizes stays float32: a picture of 4095 pixels has no float16 width.

    Args:
        model: A float32 graph with one input and one output; it is not changed.
        name: Of the network, for errors.

    Returns:
        The float16 graph; constants are rounded to the nearest float16.

    Raises:
        UnsupportedPrecision: The graph has inner graphs (``If``, ``Loop``), or a constant is beyond float16's range.
    """
    return _Narrowing(model, name=name).result()


class _Narrowing:
    """One pass over the nodes in order of execution."""

    def __init__(self, model: ModelProto, *, name: str) -> None:
        from onnx import ModelProto, TensorProto, shape_inference

        self._name = name
        self._wide, self._narrow = TensorProto.FLOAT, TensorProto.FLOAT16
        self._model = ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self._opset = opset_of(model)
        inferred = shape_inference.infer_shapes(model).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._type_before = {value.name: value.type.tensor_type.elem_type for value in values}
        self._type_now: dict[str, int] = {}
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._type_before |= {key: tensor.data_type for key, tensor in self._constants.items()}
        self._converted: dict[tuple[str, int], str] = {}
        self._pictures: set[str] = set()
        self._nodes: list[NodeProto] = []

    def result(self) -> ModelProto:
        """Rewrite the graph."""
        graph = self._graph
        image = next(value for value in graph.input if value.name not in self._constants)
        image.type.tensor_type.elem_type = self._narrow
        self._type_now[image.name] = self._narrow
        self._pictures.add(image.name)
        for node in list(graph.node):
            self._rewrite(node)
        self._finish_output()
        del graph.value_info[:]
        del graph.node[:]
        graph.node.extend(self._nodes)
        self._drop_unread_constants()
        return self._model

    def _rewrite(self, node: NodeProto) -> None:
        """Give one node inputs of the right types and note the types of its outputs."""
        from onnx import defs

        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise UnsupportedPrecision(
                f"{self._name} cannot be made float16: node {node.name or node.op_type} has an inner graph",
                hint="choose precision fp32, or export the network in float16",
            )
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            tensor = self._graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            self._constants[tensor.name] = tensor
            self._type_before[tensor.name] = tensor.data_type
            return
        if node.op_type == "Cast" and node.attribute[0].i == self._wide == self._type_before[node.input[0]]:
            node.op_type = "Identity"  # no conversion before, so none to keep
            del node.attribute[:]
        schema = defs.get_schema(node.op_type, max_inclusive_version=self._opset)
        is_picture = node.op_type not in _SIZE_OPERATORS and any(name in self._pictures for name in node.input)
        wants_narrow = is_picture and node.op_type not in _WIDE_OPERATORS
        variables = {_type_variable(schema, index, is_input=False) for index in range(len(node.output))}
        narrow_variables = {variable for variable in variables if wants_narrow and _allows_float16(schema, variable)}
        types: dict[str, int] = {}
        for index, name in enumerate(node.input):
            if not name:
                continue
            variable = _type_variable(schema, index, is_input=True)
            types.setdefault(variable, self._type_before[name])
            if self._type_before[name] == self._wide:
                kind = self._narrow if variable in narrow_variables else self._wide
                node.input[index] = self._as_type(name, kind)
        narrow_variables &= {variable for variable, kind in types.items() if kind == self._wide}
        self._nodes.append(node)
        for index, name in enumerate(node.output):
            if not name:
                continue
            if is_picture:
                self._pictures.add(name)
            variable = _type_variable(schema, index, is_input=False)
            if self._type_before.setdefault(name, types.get(variable, self._wide)) == self._wide:
                self._type_now[name] = self._narrow if variable in narrow_variables else self._wide

    def _as_type(self, name: str, kind: int) -> str:
        """Return the name under which a value is there in a type, converting it once if need be."""
        tensor = self._constants.get(name)
        if tensor is not None:
            return name if kind == self._wide else self._narrow_constant(name)
        if self._type_now.get(name, self._wide) == kind:
            return name
        from onnx import helper

        key = (name, kind)
        if key not in self._converted:
            converted = f"{name}/{'float16' if kind == self._narrow else 'float32'}"
            self._nodes.append(helper.make_node("Cast", [name], [converted], name=converted, to=kind))
            self._converted[key] = converted
        return self._converted[key]

    def _narrow_constant(self, name: str) -> str:
        """Store a constant in float16 as well."""
        from onnx import numpy_helper

        key = (name, self._narrow)
        if key not in self._converted:
            values = numpy_helper.to_array(self._constants[name])
            with np.errstate(over="ignore"):
                rounded = values.astype(np.float16)
            if np.isinf(rounded).sum() != np.isinf(values).sum():
                raise UnsupportedPrecision(
                    f"{self._name} cannot be made float16: constant {name} reaches {np.abs(values).max():g}, "
                    "float16 ends at 65504",
                    hint="choose precision fp32",
                )
            converted = f"{name}/float16"
            self._graph.initializer.append(numpy_helper.from_array(rounded, name=converted))
            self._converted[key] = converted
        return self._converted[key]

    def _finish_output(self) -> None:
        """Declare the output float16, with a cast if the last operator stayed float32."""
        from onnx import helper

        output = self._graph.output[0]
        output.type.tensor_type.elem_type = self._narrow
        if self._type_now.get(output.name, self._wide) == self._narrow:
            return
        inner = f"{output.name}/float32"
        for node in self._nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == output.name:
                        names[index] = inner
        self._nodes.append(helper.make_node("Cast", [inner], [output.name], name=f"{inner}/out", to=self._narrow))

    def _drop_unread_constants(self) -> None:
        """Remove the float32 originals of constants that only float16 readers are left of."""
        read = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        declared = [value for value in self._graph.input if value.name in read and value.name not in self._constants]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.input[:]
        self._graph.input.extend(declared)


def _type_variable(schema: OpSchema, index: int, *, is_input: bool) -> str:
    """Name of the type variable, or the type, of an operator's input or output."""
    parameters = schema.inputs if is_input else schema.outputs
    return str(parameters[min(index, len(parameters) - 1)].type_str)  # the last one may stand for any number


def _allows_float16(schema: OpSchema, variable: str) -> bool:
    """Whether a type variable may be float16."""
    return any(
        constraint.type_param_str == variable and "tensor(float16)" in constraint.allowed_type_strs
        for constraint in schema.type_constraints
    )
