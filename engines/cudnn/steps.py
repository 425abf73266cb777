"""What a plan is made of: buffers, slices of them, and steps that read and write slices.

Activations lie in NHWC. A step that convolves does everything up to the next stored value at once: bias, activations,
factors, additions, in float32, rounded once when it stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

CHANNEL_MULTIPLE = 8
"""Channels of every stored value: 16 bytes of float16, the widest access of a GPU's thread, and what cuDNN asks of
tensors for its tensor-core kernels. Source: cuDNN developer guide, "Tensor Core Operations"."""

ITEM_BYTES = {"float8": 1, "float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Pixels in NHWC, packed."""

    name: str
    """Of the first layer that is stored in it."""
    channels: int
    """A multiple of `CHANNEL_MULTIPLE`."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    dtype: Literal["float8", "float16", "float32"] = "float16"
    """Type of its numbers; float8 is e4m3."""

    def bytes(self, batch: int) -> int:
        """Length for ``batch`` pictures."""
        return batch * self.height * self.width * self.channels * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some channels of a buffer, of every pixel or of every ``step``-th."""

    buffer: int
    """Index of the buffer."""
    first: int
    """First channel."""
    channels: int
    """Number of channels, padding included."""
    step: int = 1
    """Distance of the pixels in rows and columns: more than 1 for one phase of an enlarged picture."""
    row: int = 0
    """First row, below ``step``."""
    column: int = 0
    """First column, below ``step``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activate:
    """``x if x > 0 else x * slope``."""

    slopes: Array
    """(channels,), or (1,) for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiply:
    """Times a constant."""

    factor: float
    """That constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStored:
    """Plus a stored value of the same size."""

    value: Slice
    """Where it is."""


Epilogue = Activate | Multiply | AddStored


@dataclass(frozen=True, slots=True, kw_only=True)
class PackStep:
    """The planar input into NHWC: pixel unshuffle by ``factor``, the same channels again with what float16 left of each
    value, then zeros up to the slice's channels.

    A convolution with its kernel twice then reads the input with 22 bits instead of 11, at no cost where the channels
    are there anyway (3 of 8). RealESRGAN_x4plus, ramps of 48x64: rounding nothing but the input costs it 51.7 dB.
    """

    name: str
    target: Slice
    factor: int
    """1: no unshuffle."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvStep:
    """A convolution with bias, and everything after it up to the next stored value."""

    name: str
    source: Slice
    kernel: Array
    """(outputs, inputs, rows, columns), zeros where channels are padding."""
    bias: Array
    """(outputs,)."""
    pad_before: tuple[int, int]
    """Zeros above and left of the picture."""
    pad_after: tuple[int, int]
    """Zeros below and right of the picture."""
    epilogue: tuple[Epilogue, ...]
    """In order."""
    target: Slice | None
    """Where the result goes in float16."""
    wide_target: Slice | None = None
    """Where it goes in float32."""
    narrow_target: Slice | None = None
    """Where it goes in float8."""
    narrow_scale: float = 1.0
    """What it is divided by there."""
    descale: Array | None = None
    """(outputs,): what the sums of a convolution of float8 are multiplied by; its kernel then holds numbers of e4m3.
    None: it reads float16."""
    height: int
    """Rows that it computes."""
    width: int
    """Columns that it computes."""

    @property
    def flop_per_picture(self) -> int:
        """Multiplications and additions that the network asks for, padding of channels included."""
        return 2 * prod(self.kernel.shape) * self.height * self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargeStep:
    """Every pixel repeated ``factor`` x ``factor`` times."""

    name: str
    source: Slice
    target: Slice
    factor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStep:
    """NHWC into the planar output: pixel shuffle, plus the enlarged input if ``has_base``."""

    name: str
    source: Slice
    factor: int
    """1: no shuffle."""
    colours: int
    """Of the output."""
    has_base: bool


Step = PackStep | ConvStep | EnlargeStep | FinishStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A network as steps, one after the other."""

    batch: int
    """Pictures per call."""
    channels: int
    """Of the input."""
    height: int
    """Of the input."""
    width: int
    """Of the input."""
    output_shape: tuple[int, int, int, int]
    """(N, C, H, W)."""
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]


def reads(step: Step) -> tuple[Slice, ...]:
    """Every slice that a step reads."""
    if isinstance(step, PackStep):
        return ()
    if isinstance(step, ConvStep):
        return (step.source, *(one.value for one in step.epilogue if isinstance(one, AddStored)))
    return (step.source,)


def writes(step: Step) -> tuple[Slice, ...]:
    """Every slice that a step writes."""
    if isinstance(step, FinishStep):
        return ()
    if isinstance(step, ConvStep):
        return tuple(one for one in (step.target, step.wide_target, step.narrow_target) if one is not None)
    return (step.target,)
