"""Steps of a plan that our own Hopper convolutions can run, ready to be launched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.compile import KernelSource, OwnKernel
from engines.cudnn.steps import Activate, AddStored, ConvStep, EnlargeStep, FinishStep, Multiply, Plan, Slice
from engines.cudnn.strips import NARROW, StripArguments, StripKind, arrange_strip_weights, map_pixels, share_rows
from engines.gpu import Device, DeviceBuffer, Stream

HOPPER = (9, 0)
"""The one compute capability with wgmma."""

_MULTIPROCESSORS: Final = "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT"
_COLOURS: Final = 3


def strip_kind(step: ConvStep) -> StripKind | None:
    """The kernel of ours that runs a step; None if there is none.

    3x3, of 8 or a multiple of 16 inputs (of 32 in e4m3), to a multiple of 32 outputs in float16, e4m3 or both, with an
    activation, one or two stored values that are added, or nothing.
    """
    outputs, inputs, rows, columns = step.kernel.shape
    reads_e4m3 = step.descale is not None
    targets = [one for one in (step.target, step.narrow_target) if one is not None]
    if (rows, columns) != (3, 3) or not targets or step.wide_target is not None or outputs % 32:
        return None
    if any(one.step != 1 for one in (step.source, *targets)):
        return None
    if inputs % (32 if reads_e4m3 else 16) and (reads_e4m3 or inputs != NARROW):
        return None
    epilogue = list(step.epilogue)
    activates = bool(epilogue) and isinstance(epilogue[0], Activate)
    kinds = [type(one) for one in epilogue[int(activates) :]]
    if kinds not in ([], [AddStored], [AddStored, Multiply, AddStored]):
        return None
    widths = (64, 32) if outputs % 64 == 0 else (32,)
    adds = kinds.count(AddStored)
    kind = StripKind(
        inputs=inputs,
        outputs=outputs,
        activates=activates,
        adds=adds,
        reads_e4m3=reads_e4m3,
        stores_half=step.target is not None,
        stores_e4m3=step.narrow_target is not None,
    )
    choices = (replace(kind, outputs=width) for width in widths)
    return next((one for one in choices if one.fits), None)


def enlarging_kind(step: ConvStep) -> StripKind | None:
    """The kernel that also does the enlargement, by 2, of what a step reads; None if there is none."""
    kind = strip_kind(step)
    if kind is None or kind.inputs != 64 or kind.outputs != 64 or step.kernel.shape[0] != 64:
        return None
    if kind.reads_e4m3 or kind.stores_e4m3:
        return None
    return replace(kind, enlarges=True)


def finishing_kind(step: ConvStep, finish: FinishStep, *, is_half: bool) -> StripKind | None:
    """The kernel that also makes the planar picture of a step's result; None if there is none."""
    outputs, inputs, rows, columns = step.kernel.shape
    is_known = (rows, columns) == (3, 3) and inputs % 16 == 0 and (outputs, finish.factor) in {(8, 1), (48, 4)}
    is_known = is_known and step.descale is None and step.narrow_target is None
    if not is_known or step.epilogue or step.wide_target is not None or finish.colours != _COLOURS:
        return None
    kind = StripKind(inputs=inputs, outputs=outputs, factor=finish.factor, has_base=finish.has_base, is_half=is_half)
    return kind if kind.fits else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnStep:
    """One step with its addresses."""

    kernel: OwnKernel
    arguments: StripArguments
    blocks: int
    is_planar: bool = False
    """Whether its result is the caller's picture, at another address each time."""

    def launch(self, stream: Stream, *, image: int = 0, picture: int = 0) -> None:
        """Enqueue it.

        Args:
            stream: Where.
            image: Address of the planar input; used if the step adds it.
            picture: Address of the planar result; used if the step makes it.
        """
        if self.is_planar:
            self.arguments.image, self.arguments.target = image, picture
        self.kernel.launch(self.arguments, blocks=(self.blocks, 1, 1), stream=stream)


class OwnConvolutions:
    """Loads kernels and weights for the steps of one plan.

    Args:
        device: Of compute capability 9.0.
        stream: For uploads.
    """

    def __init__(self, device: Device, *, stream: Stream) -> None:
        from engines.gpu.cuda_driver import CudaCalls, load_driver

        driver = load_driver()
        kind = getattr(driver.CUdevice_attribute, _MULTIPROCESSORS)
        device.make_current()
        self._calls = CudaCalls(driver, context=None)
        self._driver = driver
        self._multiprocessors = int(self._calls.call("cuDeviceGetAttribute", kind, self._calls.call("cuCtxGetDevice")))
        self._device = device
        self._stream = stream
        self._kernels: dict[KernelSource, OwnKernel] = {}
        self._buffers: list[DeviceBuffer] = []

    def prepare(self, plan: Plan, step: ConvStep, *, address: Callable[[Slice], int]) -> OwnStep | None:
        """Make a step ready; None if no kernel of ours runs it.

        Args:
            plan: Whose step it is.
            step: What is to be computed.
            address: Gives the device address of a slice.
        """
        kind = strip_kind(step)
        return None if kind is None else self.make(kind, plan, step, source=step.source, address=address)

    def prepare_enlarging(
        self, plan: Plan, enlarge: EnlargeStep, step: ConvStep, *, address: Callable[[Slice], int]
    ) -> OwnStep | None:
        """The same for a step together with the enlargement before it."""
        kind = enlarging_kind(step)
        if kind is None or enlarge.factor != 2 or enlarge.source.step != 1:
            return None
        return self.make(kind, plan, step, source=enlarge.source, address=address)

    def prepare_finishing(
        self, plan: Plan, step: ConvStep, finish: FinishStep, *, is_half: bool, address: Callable[[Slice], int]
    ) -> OwnStep | None:
        """The same for a step together with the last; ``is_half``: of the planar pictures."""
        kind = finishing_kind(step, finish, is_half=is_half)
        return None if kind is None else self.make(kind, plan, step, source=step.source, address=address)

    def make(
        self, kind: StripKind, plan: Plan, step: ConvStep, *, source: Slice, address: Callable[[Slice], int]
    ) -> OwnStep:
        """Make a step ready with one kernel."""
        build = kind.source
        if build not in self._kernels:
            self._kernels[build] = OwnKernel(self._device, build)
        outputs = step.kernel.shape[0]
        parts = outputs // kind.outputs
        scale = 2 if kind.enlarges else 1
        height, width = step.height // scale, step.width // scale
        walks = share_rows(
            batch=plan.batch,
            height=height,
            width=width,
            strip_width=kind.strip_width,
            walkers=self._multiprocessors // parts,
        )
        arguments = StripArguments(
            source=map_pixels(
                self._calls,
                self._driver,
                kind=kind,
                address=address(source),
                batch=plan.batch,
                height=height,
                width=width,
                pitch=_pitch(plan, source),
            ),
            weights=self._upload(arrange_strip_weights(step.kernel, kind=kind)),
            bias=self._upload(step.bias.astype(np.float32)),
            height=height,
            width=width,
            columns=walks.columns,
            share=walks.share,
            rest=walks.rest,
            parts=parts,
        )
        if kind.factor == 0 and step.target is not None:
            arguments.target, arguments.target_pitch = address(step.target), _pitch(plan, step.target)
        if step.narrow_target is not None:
            arguments.narrow_target = address(step.narrow_target)
            arguments.narrow_pitch = _pitch(plan, step.narrow_target)
            arguments.narrow_factor = 1 / step.narrow_scale
        if step.descale is not None:
            arguments.descale = self._upload(step.descale.astype(np.float32))
        places = iter((("added", "added_pitch"), ("added_later", "added_later_pitch")))
        for one in step.epilogue:
            if isinstance(one, Activate):
                arguments.slopes = self._upload(np.broadcast_to(one.slopes, (outputs,)).astype(np.float32))
            elif isinstance(one, Multiply):
                arguments.factor = one.factor
            else:
                name, pitch = next(places)
                setattr(arguments, name, address(one.value))
                setattr(arguments, pitch, _pitch(plan, one.value))
        blocks = walks.walkers * parts
        return OwnStep(kernel=self._kernels[build], arguments=arguments, blocks=blocks, is_planar=kind.factor > 0)

    def close(self) -> None:
        """Give everything back; nothing may be running."""
        while self._kernels:
            self._kernels.popitem()[1].close()
        while self._buffers:
            self._buffers.pop().close()

    def _upload(self, array: NDArray[np.generic]) -> int:
        contiguous = np.ascontiguousarray(array)
        buffer = self._device.allocate(contiguous.nbytes)
        self._buffers.append(buffer)
        self._stream.upload(contiguous, buffer.pointer)
        self._stream.synchronize()
        return buffer.pointer


def _pitch(plan: Plan, part: Slice) -> int:
    return plan.buffers[part.buffer].channels
