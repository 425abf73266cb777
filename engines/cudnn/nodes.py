"""Single nodes of an ONNX graph: which forms of them the engine knows, and what their attributes mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import UnsupportedModel, UnsupportedShape

HINT: Final = "choose another backend for this model, such as torch or onnxruntime"


def attributes_of(node: Any) -> dict[str, Any]:
    """All attributes of a node by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def unsupported(node: Any, what: str) -> UnsupportedModel:
    """The error of a node that the engine cannot run; names it."""
    return UnsupportedModel(
        f"backend cudnn does not know {what}: {node.op_type} {node.name or node.output[0]}", hint=HINT
    )


def constant_of(node: Any) -> NDArray[Any]:
    """The value of a ``Constant``.

    Raises:
        UnsupportedModel: It is no tensor.
    """
    from onnx import numpy_helper

    value = attributes_of(node).get("value")
    if value is None:
        raise unsupported(node, "a constant that is no tensor")
    return np.asarray(numpy_helper.to_array(value))


def input_of(graph: Any, *, constants: Collection[str]) -> tuple[str, tuple[int, int, int, int]]:
    """Name and shape of a graph's one input.

    Args:
        graph: ``GraphProto``.
        constants: Names that are constants, which old files list among the inputs.

    Raises:
        UnsupportedModel: It has none or several.
        UnsupportedShape: It is not (N, C, H, W) with all sizes fixed.
    """
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise UnsupportedModel(f"the graph has {len(inputs)} inputs instead of one", hint=HINT)
    axes = inputs[0].type.tensor_type.shape.dim
    sizes = [int(axis.dim_value) for axis in axes]
    if len(sizes) != 4 or min(sizes) < 1:
        named = [axis.dim_value or axis.dim_param or "?" for axis in axes]
        raise UnsupportedShape(
            f"the graph's input is {named}; this engine takes (N, C, H, W), all fixed", hint="export it at one size"
        )
    return inputs[0].name, (sizes[0], sizes[1], sizes[2], sizes[3])


def convolution_step(node: Any, *, kernel: NDArray[np.float32], channels: int) -> int:
    """Step of a convolution, in pixels: 1, or as many as its kernel has in each of an odd number of blocks.

    Args:
        node: A ``Conv``.
        kernel: (outputs, inputs, rows, columns).
        channels: Of what it reads.

    Raises:
        UnsupportedModel: It does not keep the size (divided by the step), or has groups or dilations.
    """
    attributes = attributes_of(node)
    _, inputs, rows, columns = kernel.shape
    steps = attributes.get("strides", [1, 1])
    step = int(steps[0])
    radius = (rows - step) // 2
    is_known = (
        rows == columns
        and list(steps) == [step, step]
        and rows % step == 0
        and (rows // step) % 2 == 1
        and list(attributes.get("pads", [0, 0, 0, 0])) == [radius] * 4
        and attributes.get("group", 1) == 1
        and set(attributes.get("dilations", [1, 1])) == {1}
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        and inputs == channels
    )
    if not is_known:
        raise unsupported(node, "a convolution that does not keep the size, or with groups or dilations")
    return step


def unshuffled_kernel(kernel: NDArray[np.float32], *, step: int) -> NDArray[np.float32]:
    """The kernel, in steps of one pixel, that does after an unshuffle by ``step`` what this one does in that step."""
    outputs, inputs, rows, _ = kernel.shape
    taps = rows // step
    parts = kernel.reshape(outputs, inputs, taps, step, taps, step).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(outputs, inputs * step * step, taps, taps)


def repetition_factor(node: Any, *, scales: list[float]) -> int:
    """How often a ``Resize`` repeats every pixel along both sides.

    Args:
        node: The node.
        scales: Of rows and columns; empty if the node has them for other axes.

    Raises:
        UnsupportedModel: It does anything else.
    """
    attributes = attributes_of(node)
    factor = int(scales[0]) if scales else 0
    is_known = (
        attributes.get("mode", b"nearest") == b"nearest"
        and attributes.get("coordinate_transformation_mode", b"half_pixel") == b"asymmetric"
        and attributes.get("nearest_mode", b"round_prefer_floor") == b"floor"
        and factor >= 1
        and scales == [factor, factor]
    )
    if not is_known:
        raise unsupported(node, "a Resize that is not the repetition of whole pixels")
    return factor
