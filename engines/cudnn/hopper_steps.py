"""Steps of a plan that our own Hopper convolutions can run, ready to be launched."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from engines.cudnn.compile import KernelSource, OwnKernel
from engines.cudnn.hopper import (
    Conv32Arguments,
    Conv64Arguments,
    arrange_walking_weights,
    arrange_weights,
    conv32_source,
    conv64_source,
    plan_walks,
    tiles_of,
)
from engines.cudnn.steps import Activate, ConvStep, Plan, Slice
from engines.gpu import Device, DeviceBuffer, Stream

HOPPER = (9, 0)
"""The one compute capability with wgmma."""

_MULTIPROCESSORS = "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT"


def own_source(step: ConvStep) -> KernelSource | None:
    """The kernel of ours that runs a step; None if there is none.

    8 or 64 -> 64 with nothing or one activation after it; 64, 96, 128 or 160 -> 32 with one LeakyReLU.
    """
    outputs, inputs, rows, columns = step.kernel.shape
    is_plain = (rows, columns) == (3, 3) and step.target is not None and step.wide_target is None
    if not is_plain or step.target is None or step.target.step != 1:
        return None
    kinds = [type(one) for one in step.epilogue]
    if outputs == 64 and inputs in {8, 64} and kinds in ([], [Activate]):
        return conv64_source(inputs=inputs, has_slopes=bool(kinds))
    first = step.epilogue[0] if step.epilogue else None
    is_leaky = len(kinds) == 1 and isinstance(first, Activate) and first.slopes.size == 1
    if outputs == 32 and inputs in {64, 96, 128, 160} and is_leaky:
        return conv32_source(inputs=inputs)
    return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnStep:
    """One step with its addresses."""

    kernel: OwnKernel
    arguments: ctypes.Structure
    blocks: int

    def launch(self, stream: Stream) -> None:
        """Enqueue it."""
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
        calls = CudaCalls(driver, context=None)
        self._multiprocessors = int(calls.call("cuDeviceGetAttribute", kind, calls.call("cuCtxGetDevice")))
        self._device = device
        self._stream = stream
        self._kernels: dict[KernelSource, OwnKernel] = {}
        self._buffers: list[DeviceBuffer] = []

    def prepare(self, plan: Plan, step: ConvStep, *, source: int, target: int) -> OwnStep | None:
        """Make a step ready; None if no kernel of ours runs it.

        Args:
            plan: Whose step it is.
            step: What is to be computed.
            source, target: Addresses of its slices.
        """
        walks = plan_walks(
            batch=plan.batch, height=step.height, width=step.width, multiprocessors=self._multiprocessors
        )
        build = own_source(step)
        if build is None or step.target is None:
            return None
        if build not in self._kernels:
            self._kernels[build] = OwnKernel(self._device, build)
        outputs = step.kernel.shape[0]
        arrange = arrange_weights if outputs == 64 else arrange_walking_weights
        weights = self._upload(arrange(step.kernel))
        bias = self._upload(step.bias.astype(np.float32))
        tiles = tiles_of(batch=plan.batch, height=step.height, width=step.width)
        arguments: Conv64Arguments | Conv32Arguments
        sizes = {
            "batch": plan.batch,
            "height": step.height,
            "width": step.width,
            "source_pitch": _pitch(plan, step.source),
            "target_pitch": _pitch(plan, step.target),
        }
        first = step.epilogue[0] if step.epilogue else None
        if outputs == 64:
            slopes = 0
            if isinstance(first, Activate):
                slopes = self._upload(np.broadcast_to(first.slopes, (outputs,)).astype(np.float32))
            arguments = Conv64Arguments(
                source=source, target=target, weights=weights, bias=bias, slopes=slopes, **sizes, **tiles
            )
        else:
            slope = float(first.slopes[0]) if isinstance(first, Activate) else 1.0
            arguments = Conv32Arguments(
                source=source,
                target=target,
                weights=weights,
                bias=bias,
                slope=slope,
                strips=walks.strips,
                segments=walks.segments,
                segment_rows=walks.segment_rows,
                **sizes,
            )
        blocks = min(self._multiprocessors, tiles["tiles"])
        if outputs == 32:
            blocks = plan.batch * walks.strips * walks.segments
        return OwnStep(kernel=self._kernels[build], arguments=arguments, blocks=blocks)

    def close(self) -> None:
        """Give everything back; nothing may be running."""
        while self._kernels:
            self._kernels.popitem()[1].close()
        while self._buffers:
            self._buffers.pop().close()

    def _upload(self, array: np.ndarray) -> int:
        contiguous = np.ascontiguousarray(array)
        buffer = self._device.allocate(contiguous.nbytes)
        self._buffers.append(buffer)
        self._stream.upload(contiguous, buffer.pointer)
        self._stream.synchronize()
        return buffer.pointer


def _pitch(plan: Plan, part: Slice) -> int:
    return plan.buffers[part.buffer].channels
