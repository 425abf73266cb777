"""Compares what a fast kernel stored with a slow, plain kernel of our own: a wrong one is found before it is chosen."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from engines.cudnn.compile import KernelSource, OwnKernel
from engines.cudnn.fused import BIAS, DESCALE, FIRST_EXTRA, KERNEL, Place, place_of
from engines.cudnn.steps import Activate, AddStored, ConvStep, Multiply, Plan, Slice
from engines.errors import UnsupportedModel
from engines.gpu import Device, Stream

THREADS = 256

SAMPLES = 4096
"""Pixels that are looked at, all of their channels: 64 outputs of 192 inputs are 0.9 TFLOP less than all of a 720p
picture, and every position within a tile of any size up to 4096 pixels is among them (the stride has no common divisor
with the number of pixels)."""

EDGE_SAMPLES = 1024
"""Of these, pixels of the first and last rows and columns, where padding and cut tiles go wrong."""

_GOLDEN = (math.sqrt(5) - 1) / 2
"""Strides near this share of the whole spread evenly, however many are taken. Source: Weyl's equidistribution."""

SHARE = 5e-5
"""Of the sum of all products' sizes, what float32 may lose in adding them up."""

FOLDED_SHARE = 3e-4
"""The same where the kernel adds taps up beforehand. It and the plain one round different weights, by up to 2^-12 of
each: of 256 equal products that is 2e-5 of their sizes in the mean square, a wrong tap 6e-2."""

NARROW_SHARE = 2e-3
"""The same for products of e4m3. Hopper's tensor cores add those up with some 14 bits (DeepSeek-V3 technical report,
section 3.3.2): on an H200 the kernels that use them were off by up to 1e-3 of the sum of sizes, and cuDNN's others take
ten times as long (NOTES.md, "fp8"). A wrong tap is 6e-2. How it all adds up, the whole network's film tile says."""

_MOST_OPERATIONS = 6
_LEAKY, _PRELU, _MULTIPLY, _ADD_HALF, _ADD_FLOAT = 1, 2, 3, 4, 5


class Spot(ctypes.Structure):
    """See ``sources/check.cu``."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("picture", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("pixel", ctypes.c_int64),
    )


class Operation(ctypes.Structure):
    """See ``sources/check.cu``."""

    _fields_ = (("operand", Spot), ("number", ctypes.c_float), ("kind", ctypes.c_int))


class CheckArguments(ctypes.Structure):
    """See ``sources/check.cu``."""

    _fields_ = (
        *((name, Spot) for name in ("source", "target", "wide_target")),
        *((name, ctypes.c_uint64) for name in ("kernel", "bias", "verdict")),
        ("operations", Operation * _MOST_OPERATIONS),
        *((name, ctypes.c_int64) for name in ("stride", "edge_stride")),
        *((name, ctypes.c_int) for name in ("batch", "height", "width")),
        *((name, ctypes.c_int) for name in ("source_height", "source_width", "inputs")),
        *((name, ctypes.c_int) for name in ("rows", "columns", "pad_top", "pad_left", "outputs")),
        *((name, ctypes.c_int) for name in ("samples", "edge_samples")),
        *((name, ctypes.c_int) for name in ("factor", "colours", "is_half")),
        ("share", ctypes.c_float),
        *((name, ctypes.c_uint64) for name in ("image", "picture")),
        ("narrow_target", Spot),
        ("descale", ctypes.c_uint64),
        ("narrow_factor", ctypes.c_float),
        ("unused", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanarTarget:
    """A planar picture that a kernel makes of a step's result."""

    image: int
    """Address of the planar input that is added to every pixel of the picture; 0 if none is."""
    picture: int
    """Address of the result."""
    factor: int
    """Of the pixel shuffle."""
    colours: int
    is_half: bool
    """Whether both are float16; otherwise float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the comparison."""

    wrong: int
    """Stored values that are further off than rounding explains."""
    worst: float
    """Largest difference as a multiple of what rounding explains."""


class StepChecker:
    """Checks kernels of one plan's steps. Not thread-safe.

    Args:
        device: The GPU.
        stream: Where the kernels run.
    """

    def __init__(self, device: Device, *, stream: Stream) -> None:
        self._stream = stream
        self._kernels: dict[int, OwnKernel] = {}
        self._verdict = device.allocate(8)
        try:
            for poison in (0, 1):
                source = KernelSource(name="check", defines=(("POISON", poison),), threads=THREADS)
                self._kernels[poison] = OwnKernel(device, source)
        except BaseException:
            self.close()
            raise

    def check(
        self,
        plan: Plan,
        step: ConvStep,
        *,
        run: Callable[[], object],
        address: Callable[[Slice], int],
        constants: Mapping[int, int],
        planar: PlanarTarget | None = None,
        share: float = SHARE,
    ) -> Verdict:
        """Run a kernel once and compare what it stored.

        Args:
            plan: Whose step it is.
            step: What is to be computed.
            run: Enqueues the kernel.
            address: Gives the device address of a slice.
            constants: Addresses of ``fused.constants_of``.
            planar: What the kernel writes instead of the step's target.
            share: How far sums may be off, of the sum of their parts' sizes.

        Raises:
            InferenceFailed: The GPU failed.
        """
        arguments = check_arguments(
            plan,
            step,
            address=address,
            constants=constants,
            verdict=self._verdict.pointer,
            planar=planar,
            share=share,
        )
        blocks = (-(-arguments.samples * arguments.outputs // THREADS), 1, 1)
        result = np.zeros(2, np.uint32)
        self._stream.upload(result, self._verdict.pointer)
        self._kernels[1].launch(arguments, blocks=blocks, stream=self._stream)
        run()
        self._kernels[0].launch(arguments, blocks=blocks, stream=self._stream)
        self._stream.download(self._verdict.pointer, result)
        self._stream.synchronize()
        return Verdict(wrong=int(result[0]), worst=float(result[1:].view(np.float32)[0]))

    def close(self) -> None:
        """Give everything back; nothing may be running. Can be called twice."""
        while self._kernels:
            self._kernels.popitem()[1].close()
        self._verdict.close()


def check_arguments(
    plan: Plan,
    step: ConvStep,
    *,
    address: Callable[[Slice], int],
    constants: Mapping[int, int],
    verdict: int,
    planar: PlanarTarget | None = None,
    share: float = SHARE,
) -> CheckArguments:
    """Describe a step to ``check.cu``.

    Raises:
        UnsupportedModel: More follows a convolution than the kernel has room for.
    """
    if len(step.epilogue) > _MOST_OPERATIONS:
        raise UnsupportedModel(
            f"backend cudnn cannot check {step.name}: {len(step.epilogue)} operations follow it",
            hint="choose another backend for this model, such as torch or onnxruntime",
        )
    outputs, inputs, rows, columns = step.kernel.shape
    source = place_of(plan, step.source)
    pixels, lines = plan.batch * step.height * step.width, plan.batch * 2 * (step.height + step.width)
    edge_samples = min(EDGE_SAMPLES, lines)
    arguments = CheckArguments(
        source=_spot(source, address(step.source)),
        kernel=constants[KERNEL],
        bias=constants[BIAS],
        verdict=verdict,
        stride=_stride(pixels),
        edge_stride=_stride(lines),
        batch=plan.batch,
        height=step.height,
        width=step.width,
        source_height=source.dims[2],
        source_width=source.dims[3],
        inputs=inputs,
        rows=rows,
        columns=columns,
        pad_top=step.pad_before[0],
        pad_left=step.pad_before[1],
        outputs=outputs,
        samples=edge_samples + min(SAMPLES - EDGE_SAMPLES, pixels),
        edge_samples=edge_samples,
        share=share,
    )
    if planar is not None:
        arguments.image, arguments.picture = planar.image, planar.picture
        arguments.factor, arguments.colours, arguments.is_half = planar.factor, planar.colours, int(planar.is_half)
    if step.descale is not None:
        arguments.descale = constants[DESCALE]
    arguments.narrow_factor = 1 / step.narrow_scale
    targets = (("target", step.target), ("wide_target", step.wide_target), ("narrow_target", step.narrow_target))
    for name, part in targets:
        if part is not None and planar is None:
            setattr(arguments, name, _spot(place_of(plan, part), address(part)))
    for position, one in enumerate(step.epilogue):
        operation = arguments.operations[position]
        if isinstance(one, AddStored):
            place = place_of(plan, one.value)
            operation.kind = _ADD_FLOAT if place.dtype == "float32" else _ADD_HALF
            operation.operand = _spot(place, address(one.value))
        elif isinstance(one, Multiply):
            operation.kind, operation.number = _MULTIPLY, one.factor
        elif isinstance(one, Activate) and one.slopes.size == 1:
            operation.kind, operation.number = _LEAKY, float(one.slopes[0])
        else:
            operation.kind, operation.operand.address = _PRELU, constants[FIRST_EXTRA + 2 * position]
    return arguments


def _spot(place: Place, address: int) -> Spot:
    picture, _, row, pixel = place.strides
    return Spot(address=address, picture=picture, row=row, pixel=pixel)


def _stride(count: int) -> int:
    """A step that comes to each of ``count`` places once before it comes to one again."""
    stride = max(1, round(count * _GOLDEN))
    while math.gcd(stride, count) != 1:
        stride += 1
    return stride
