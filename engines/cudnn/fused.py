"""One fused convolution as a graph of cuDNN's: convolution, bias, activation, factors and additions in one kernel.

Written against cudnn-frontend 1.32 (its Python graph interface) over cuDNN 9.19. Addresses are given at every run, by
the numbers below, so that one graph serves all steps of one signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.e4m3 import bits_of_e4m3
from engines.cudnn.steps import Activate, AddStored, ConvStep, Multiply, Plan, Slice

SOURCE, KERNEL, BIAS, TARGET, WIDE_TARGET, NARROW_TARGET, DESCALE, NARROW_FACTOR = range(1, 9)
FIRST_EXTRA = 10
"""Numbers of the tensors in a graph; the epilogue's own follow, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Shape and strides of a slice as cuDNN takes them: (N, C, H, W), in numbers."""

    dims: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedSignature:
    """All that a fused kernel depends on beside addresses and weights."""

    source: Place
    kernel: tuple[int, int, int, int]
    pad_before: tuple[int, int]
    pad_after: tuple[int, int]
    epilogue: tuple[tuple[str, float, Place | None], ...]
    """(``prelu``, 0, None), (``leaky``, slope, None), (``multiply``, 0, None) or (``add``, 0, place)."""
    target: Place | None
    wide_target: Place | None
    narrow_target: Place | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it convolves float8."""
        return self.source.dtype == "float8"


def place_of(plan: Plan, part: Slice) -> Place:
    """Describe a slice."""
    buffer = plan.buffers[part.buffer]
    row = buffer.width * buffer.channels
    return Place(
        dims=(plan.batch, part.channels, buffer.height // part.step, buffer.width // part.step),
        strides=(buffer.height * row, 1, row * part.step, buffer.channels * part.step),
        dtype=buffer.dtype,
    )


def signature_of(plan: Plan, step: ConvStep) -> FusedSignature:
    """Describe what a step needs."""
    epilogue: list[tuple[str, float, Place | None]] = []
    for one in step.epilogue:
        if isinstance(one, Activate):
            is_shared = one.slopes.size == 1
            epilogue.append(("leaky", float(one.slopes[0]), None) if is_shared else ("prelu", 0.0, None))
        elif isinstance(one, Multiply):
            epilogue.append(("multiply", 0.0, None))
        else:
            epilogue.append(("add", 0.0, place_of(plan, one.value)))
    outputs, inputs, rows, columns = step.kernel.shape
    return FusedSignature(
        source=place_of(plan, step.source),
        kernel=(outputs, inputs, rows, columns),
        pad_before=step.pad_before,
        pad_after=step.pad_after,
        epilogue=tuple(epilogue),
        target=place_of(plan, step.target) if step.target else None,
        wide_target=place_of(plan, step.wide_target) if step.wide_target else None,
        narrow_target=place_of(plan, step.narrow_target) if step.narrow_target else None,
    )


def constants_of(step: ConvStep) -> dict[int, NDArray[Any]]:
    """The arrays that a step's graph reads, by tensor number.

    The kernel is (K, R, S, C) of float16, or of bytes of e4m3; all else is float32.
    """
    kernel = np.ascontiguousarray(step.kernel.transpose(0, 2, 3, 1))
    found: dict[int, NDArray[Any]] = {
        KERNEL: kernel.astype(np.float16) if step.descale is None else bits_of_e4m3(kernel),
        BIAS: step.bias.astype(np.float32),
    }
    if step.descale is not None:
        found[DESCALE] = step.descale.astype(np.float32)
    if step.narrow_target is not None:
        found[NARROW_FACTOR] = np.full(1, 1 / step.narrow_scale, np.float32)
    number = FIRST_EXTRA
    for one in step.epilogue:
        if isinstance(one, Activate) and one.slopes.size > 1:
            found[number] = one.slopes.astype(np.float32)
            found[number + 1] = (1 - one.slopes).astype(np.float32)
        elif isinstance(one, Multiply):
            found[number] = np.full(1, one.factor, np.float32)
        number += 2
    return found


def stored_operands(step: ConvStep) -> dict[int, Slice]:
    """The slices that a step's graph reads and writes, by tensor number."""
    found = {SOURCE: step.source}
    if step.target is not None:
        found[TARGET] = step.target
    if step.wide_target is not None:
        found[WIDE_TARGET] = step.wide_target
    if step.narrow_target is not None:
        found[NARROW_TARGET] = step.narrow_target
    for position, one in enumerate(step.epilogue):
        if isinstance(one, AddStored):
            found[FIRST_EXTRA + 2 * position] = one.value
    return found


def build_fused_graph(cudnn: Any, signature: FusedSignature, *, handle: Any) -> Any:
    """Write the graph; plans are not made yet.

    Args:
        cudnn: The module.
        signature: What it computes.
        handle: Of ``cudnn.create_handle``.
    """
    half, single = cudnn.data_type.HALF, cudnn.data_type.FLOAT
    types = {"float8": cudnn.data_type.FP8_E4M3, "float16": half, "float32": single}
    graph = cudnn.pygraph(io_data_type=half, intermediate_data_type=single, compute_data_type=single, handle=handle)

    def stored(place: Place, number: int, name: str) -> Any:
        return graph.tensor(
            name=name, dim=list(place.dims), stride=list(place.strides), data_type=types[place.dtype], uid=number
        )

    outputs, inputs, rows, columns = signature.kernel

    def per_channel(number: int, name: str, channels: int = outputs) -> Any:
        return graph.tensor(
            name=name, dim=[1, channels, 1, 1], stride=[channels, 1, channels, channels], data_type=single, uid=number
        )

    kernel = graph.tensor(
        name="kernel",
        dim=[outputs, inputs, rows, columns],
        stride=[rows * columns * inputs, 1, columns * inputs, inputs],
        data_type=types[signature.source.dtype],
        uid=KERNEL,
    )
    value = graph.conv_fprop(
        image=stored(signature.source, SOURCE, "source"),
        weight=kernel,
        pre_padding=list(signature.pad_before),
        post_padding=list(signature.pad_after),
        stride=[1, 1],
        dilation=[1, 1],
        compute_data_type=single,
        name="convolution",
    )
    if signature.is_narrow:
        value = graph.mul(a=value, b=per_channel(DESCALE, "descale"), name="descaled")
    value = graph.add(a=value, b=per_channel(BIAS, "bias"), name="add_bias")
    number = FIRST_EXTRA
    for kind, slope, place in signature.epilogue:
        match kind:
            case "leaky":
                value = graph.leaky_relu(input=value, negative_slope=slope, name=f"leaky_{number}")
            case "prelu":  # slope * x + (1 - slope) * relu(x): no operator of cuDNN takes a slope per channel
                sloped = graph.mul(a=value, b=per_channel(number, f"slopes_{number}"), name=f"sloped_{number}")
                positive = graph.relu(input=value, name=f"positive_{number}")
                rest = graph.mul(a=positive, b=per_channel(number + 1, f"rest_{number}"), name=f"kept_{number}")
                value = graph.add(a=sloped, b=rest, name=f"prelu_{number}")
            case "multiply":
                value = graph.mul(a=value, b=per_channel(number, f"factor_{number}", 1), name=f"multiply_{number}")
            case _:
                assert place is not None
                value = graph.add(a=value, b=stored(place, number, f"stored_{number}"), name=f"add_{number}")
        number += 2
    is_given = False
    targets = (
        (signature.wide_target, WIDE_TARGET),
        (signature.target, TARGET),
        (signature.narrow_target, NARROW_TARGET),
    )
    for place, uid in targets:
        if place is None:
            continue
        result = value
        if uid == NARROW_TARGET:
            result = graph.mul(a=value, b=per_channel(NARROW_FACTOR, "narrow_factor", 1), name="narrowed")
        elif is_given:
            result = graph.identity(input=value, name="narrow")
        is_given = True
        result.set_output(True).set_data_type(types[place.dtype]).set_uid(uid)
        result.set_dim(list(place.dims)).set_stride(list(place.strides))
    return graph
