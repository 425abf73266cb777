"""Reads an ONNX graph of fixed sizes as the typed layers of ``engines.cudnn.layers``.

Reshape and Transpose are taken only where they are a pixel shuffle or unshuffle, with or without an addition in
between; anything that is not known is named in the error. Casts disappear: the engine has its own types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.layers import (
    ActivationLayer,
    AddLayer,
    ConcatLayer,
    ConvLayer,
    EnlargeLayer,
    ImageLayer,
    Layer,
    LayerGraph,
    ScaleLayer,
    ShuffleLayer,
    UnshuffleLayer,
)
from engines.cudnn.nodes import (
    HINT,
    attributes_of,
    constant_of,
    convolution_step,
    input_of,
    repetition_factor,
    unshuffled_kernel,
    unsupported,
)
from engines.cudnn.views import View, split_view
from engines.cudnn.widths import WideValues
from engines.errors import UnsupportedModel, UnsupportedShape

if TYPE_CHECKING:
    from onnx import ModelProto

_Value = int | View
_Kind = TypeVar("_Kind", bound=Layer)


def read_graph(model: ModelProto) -> LayerGraph:
    """Read a model as layers.

    Args:
        model: One input and one output; every size of the input is fixed.

    Raises:
        UnsupportedModel: It has an operator, or a form of one, that this engine does not know; it is named.
        UnsupportedShape: A size of the input is free.
    """
    return _Reader(model).read()


class _Reader:
    """Walks the nodes once, in their order, which ONNX demands to be one in which they can run."""

    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper

        self._graph = model.graph
        self._constants: dict[str, NDArray[Any]] = {
            tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer
        }
        self._values: dict[str, _Value] = {}
        self._layers: list[Layer] = []
        self._wide = WideValues(self._constants.values())
        self._readers: dict[str, Callable[[Any], _Value]] = {
            "Add": self._add,
            "Cast": self._cast,
            "Concat": self._concat,
            "Conv": self._conv,
            "DepthToSpace": self._depth_to_space,
            "Identity": lambda node: self._value(node, 0),
            "LeakyRelu": self._leaky,
            "Mul": self._mul,
            "PRelu": self._prelu,
            "Relu": lambda node: self._activation(node, np.zeros(1, np.float32)),
            "Reshape": self._reshape,
            "Resize": self._resize,
            "SpaceToDepth": self._space_to_depth,
            "Transpose": self._transpose,
        }

    def read(self) -> LayerGraph:
        batch = self._read_image()
        for node in self._graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = constant_of(node)
                continue
            reader = self._readers.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
            if reader is None:
                raise unsupported(node, "this operator")
            value = reader(node)
            self._values[node.output[0]] = value
            self._wide.follow(node)
        if len(self._graph.output) != 1:
            raise UnsupportedModel(f"the graph has {len(self._graph.output)} outputs instead of one", hint=HINT)
        output = self._values.get(self._graph.output[0].name)
        if not isinstance(output, int):
            raise UnsupportedModel("the graph's output is not a picture", hint=HINT)
        return LayerGraph(batch=batch, layers=tuple(self._layers), output=output)

    def _read_image(self) -> int:
        name, (batch, channels, height, width) = input_of(self._graph, constants=self._constants)
        self._values[name] = self._append(ImageLayer(name=name, channels=channels, height=height, width=width))
        return batch

    def _append(self, layer: Layer) -> int:
        self._layers.append(layer)
        return len(self._layers) - 1

    def _add_layer(self, kind: type[_Kind], node: Any, *sources: int, **fields: Any) -> int:
        """Append a layer; sizes that are not given are those of its first source."""
        first = self._layers[sources[0]]
        sizes = {"channels": first.channels, "height": first.height, "width": first.width}
        return self._append(kind(name=node.name or node.output[0], sources=sources, **{**sizes, **fields}))

    def _value(self, node: Any, position: int) -> _Value:
        name = node.input[position]
        if name not in self._values:
            raise unsupported(node, f"the constant input {name}" if name in self._constants else f"the input {name}")
        return self._values[name]

    def _picture(self, node: Any, position: int = 0) -> int:
        """Index of a layer that the node reads, where a view would not do."""
        value = self._value(node, position)
        if isinstance(value, View):
            raise unsupported(node, "an input with six axes")
        return value

    def _constant(self, node: Any, position: int) -> NDArray[Any]:
        name = node.input[position] if position < len(node.input) else ""
        if name not in self._constants:
            raise unsupported(node, f"input {position} that is not constant")
        return self._constants[name]

    def _cast(self, node: Any) -> _Value:
        from onnx import TensorProto

        if attributes_of(node)["to"] not in {TensorProto.FLOAT, TensorProto.FLOAT16}:
            raise unsupported(node, "a type other than float32 and float16")
        return self._value(node, 0)

    def _conv(self, node: Any) -> _Value:
        source = self._picture(node)
        kernel = self._constant(node, 1).astype(np.float32)
        outputs = kernel.shape[0]
        bias = self._constant(node, 2).astype(np.float32) if len(node.input) > 2 else np.zeros(outputs, np.float32)
        step = convolution_step(node, kernel=kernel, channels=self._layers[source].channels)
        if step > 1:  # of step pixels in steps of as many: an unshuffle and a convolution in steps of one
            source = self._unshuffle(node, source, factor=step)
            kernel = unshuffled_kernel(kernel, step=step)
        return self._add_layer(
            ConvLayer, node, source, channels=outputs, kernel=np.ascontiguousarray(kernel), bias=bias
        )

    def _prelu(self, node: Any) -> _Value:
        return self._activation(node, self._constant(node, 1).astype(np.float32).reshape(-1))

    def _leaky(self, node: Any) -> _Value:
        return self._activation(node, np.full(1, attributes_of(node).get("alpha", 0.01), np.float32))

    def _activation(self, node: Any, slopes: NDArray[np.float32]) -> _Value:
        source = self._picture(node)
        if slopes.size not in {1, self._layers[source].channels}:
            raise unsupported(node, f"{slopes.size} slopes for {self._layers[source].channels} channels")
        return self._add_layer(ActivationLayer, node, source, slopes=slopes)

    def _mul(self, node: Any) -> _Value:
        position = next((at for at, name in enumerate(node.input) if name in self._constants), None)
        if position is None or self._constant(node, position).size != 1:
            raise unsupported(node, "a factor that is not one constant number")
        factor = float(self._constant(node, position).reshape(-1)[0])
        return self._add_layer(ScaleLayer, node, self._picture(node, 1 - position), factor=factor)

    def _add(self, node: Any) -> _Value:
        left, right = self._value(node, 0), self._value(node, 1)
        is_wide = self._wide.hold_all(node.input)
        if isinstance(left, View) and isinstance(right, View):
            by_kind = {view.kind: view for view in (left, right)}
            if set(by_kind) != {"space", "base"}:
                raise unsupported(node, "an addition of these views")
            space, base = by_kind["space"], by_kind["base"]
            shuffled = self._shuffle(node, space)
            enlarged = self._enlarge(node, base.value, factor=space.factor)
            self._check_same(node, shuffled, enlarged)
            total = self._add_layer(AddLayer, node, shuffled, enlarged, is_wide=is_wide)
            return View(kind="space", value=total, factor=1)
        if isinstance(left, View) or isinstance(right, View):
            raise unsupported(node, "an addition of values with four and with six axes")
        self._check_same(node, left, right)
        return self._add_layer(AddLayer, node, left, right, is_wide=is_wide)

    def _check_same(self, node: Any, left: int, right: int) -> None:
        one, other = self._layers[left], self._layers[right]
        if (one.channels, one.height, one.width) != (other.channels, other.height, other.width):
            raise unsupported(node, "an addition of values of two shapes")

    def _concat(self, node: Any) -> _Value:
        sources = [self._picture(node, position) for position in range(len(node.input))]
        sizes = {(self._layers[source].height, self._layers[source].width) for source in sources}
        if attributes_of(node)["axis"] not in {1, -3} or len(sizes) != 1:
            raise unsupported(node, "a concatenation along another axis than the channels")
        return self._add_layer(
            ConcatLayer, node, *sources, channels=sum(self._layers[source].channels for source in sources)
        )

    def _resize(self, node: Any) -> _Value:
        source = self._picture(node)
        before = self._layers[source]
        if len(node.input) > 3 and node.input[3]:
            sizes = [int(size) for size in self._constant(node, 3)]
            scales = [sizes[2] / before.height, sizes[3] / before.width] if len(sizes) == 4 else []
        else:
            scales = [float(scale) for scale in self._constant(node, 2)][-2:]
        return self._enlarge(node, source, factor=repetition_factor(node, scales=scales))

    def _enlarge(self, node: Any, source: int, *, factor: int) -> int:
        before = self._layers[source]
        sizes = {"height": before.height * factor, "width": before.width * factor}
        return self._add_layer(EnlargeLayer, node, source, factor=factor, **sizes)

    def _depth_to_space(self, node: Any) -> _Value:
        attributes = attributes_of(node)
        if attributes.get("mode", b"DCR") != b"CRD":
            raise unsupported(node, "DepthToSpace in mode DCR")
        return self._shuffle(node, View(kind="space", value=self._picture(node), factor=attributes["blocksize"]))

    def _shuffle(self, node: Any, view: View) -> int:
        before, factor = self._layers[view.value], view.factor
        if factor == 1:
            return view.value
        if before.channels % factor**2:
            raise unsupported(node, f"a pixel shuffle by {factor} of {before.channels} channels")
        sizes = {"height": before.height * factor, "width": before.width * factor}
        return self._add_layer(
            ShuffleLayer, node, view.value, factor=factor, channels=before.channels // factor**2, **sizes
        )

    def _space_to_depth(self, node: Any) -> _Value:
        """ONNX has the channels in the order (row, column, colour), torch in (colour, row, column)."""
        source = self._picture(node)
        if self._layers[source].channels != 1:
            raise unsupported(node, "SpaceToDepth, whose channels lie in another order than torch's pixel unshuffle")
        return self._unshuffle(node, source, factor=attributes_of(node)["blocksize"])

    def _unshuffle(self, node: Any, source: int, *, factor: int) -> int:
        before = self._layers[source]
        if before.height % factor or before.width % factor:
            raise UnsupportedShape(
                f"{node.name or node.op_type} takes sides that {factor} divides, not {before.height}x{before.width}",
                hint=f"use sides that are multiples of {factor}",
            )
        sizes = {"height": before.height // factor, "width": before.width // factor}
        return self._add_layer(
            UnshuffleLayer, node, source, factor=factor, channels=before.channels * factor**2, **sizes
        )

    def _reshape(self, node: Any) -> _Value:
        value = self._value(node, 0)
        target = [int(size) for size in self._constant(node, 1)]
        if isinstance(value, View):
            return self._join(node, value)
        layer = self._layers[value]
        if len(target) == 4 and target[1:] == [layer.channels, layer.height, layer.width]:
            return value
        view = split_view(layer, value=value, target=target)
        if view is None:
            raise unsupported(node, f"a Reshape to {target}")
        return view

    def _transpose(self, node: Any) -> _Value:
        value = self._value(node, 0)
        order = tuple(attributes_of(node).get("perm", ()))
        view = value.transposed(order) if isinstance(value, View) else None
        if view is None:
            raise unsupported(node, f"a Transpose to {list(order)}")
        return view

    def _join(self, node: Any, view: View) -> _Value:
        """Reshape of a view with six axes back to four."""
        target = [int(size) for size in self._constant(node, 1)]
        if view.kind == "space":
            value = self._shuffle(node, view)
        elif view.kind == "depth":
            value = self._unshuffle(node, view.value, factor=view.factor)
        else:
            raise unsupported(node, f"a Reshape to {target}")
        layer = self._layers[value]
        if target[1:] != [layer.channels, layer.height, layer.width]:
            raise unsupported(node, f"a Reshape to {target}")
        return value
