"""A plan in device memory: its weights, its buffers, the kernel of each step, all put into a stream in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cudnn.choosing import ChoiceStore, FusedKernel, choose_kernel, restore_kernel
from engines.cudnn.ends import EndKernels
from engines.cudnn.fused import FusedSignature, constants_of, signature_of, stored_operands
from engines.cudnn.hopper_steps import HOPPER, OwnConvolutions, OwnStep
from engines.cudnn.memory import ALIGNMENT_BYTES, plan_memory
from engines.cudnn.steps import ITEM_BYTES, ConvStep, EnlargeStep, FinishStep, PackStep, Plan, Slice
from engines.errors import InferenceFailed
from engines.gpu import Device, DeviceBuffer, Graph, Stream

_NOISE_BYTES = 1 << 24

CHOICE_BUDGET_S = 1.3
"""For one kind of step: RealESRGAN_x4plus has 19, so that a first start stays below 30 s."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Convolution:
    kernel: FusedKernel
    operands: dict[int, int]


class CudnnNetwork:
    """One network for one shape. Inferences run one after the other: all use the same buffers.

    Args:
        cudnn: The module.
        plan: What to run.
        device: Where; stays the caller's.
        stream: Where kernels are timed; stays the caller's.
        store: Choices made before; new ones are added and saved.
        io_dtype: Type of the arrays taken and given.
        uses_own: Whether our own Hopper convolutions run the steps that they can.
        budget_s: How long the choice for one kind of step may take.

    Raises:
        InferenceFailed: cuDNN runs one of the steps in no way.
        OutOfDeviceMemory: The buffers do not fit.
    """

    def __init__(
        self,
        cudnn: Any,
        *,
        plan: Plan,
        device: Device,
        stream: Stream,
        store: ChoiceStore,
        io_dtype: str,
        uses_own: bool = False,
        budget_s: float = CHOICE_BUDGET_S,
    ) -> None:
        self.plan = plan
        self._cudnn = cudnn
        self._device = device
        self._owned: list[DeviceBuffer] = []
        self._scratch: DeviceBuffer | None = None
        self._budget_s = budget_s
        self._own_steps: dict[int, OwnStep] = {}
        self.choosing_s = 0.0
        """How long the kernels took to be built and chosen."""
        try:
            self._handle = cudnn.create_handle()
            self._memory = plan_memory(plan)
            self._block = self._own(self._memory.bytes)
            self._fill_with_noise(stream)
            self._ends = EndKernels(device, io_dtype=io_dtype)
            if uses_own and device.compute_capability == HOPPER:
                self._hopper = OwnConvolutions(device, stream=stream)
                self._own_steps = self._prepare_own()
            self.convolutions = self._prepare(stream, store)
        except BaseException:
            self.close()
            raise

    @property
    def device_bytes(self) -> int:
        """Device memory that it holds, without what its libraries hold."""
        return sum(buffer.bytes for buffer in self._owned) + (self._scratch.bytes if self._scratch else 0)

    def enqueue(self, stream: Stream, *, image: int, picture: int) -> None:
        """Put one inference into a stream.

        Args:
            stream: Not the default one.
            image: Address of the input, (N, C, H, W).
            picture: Address of the output, (N, C, s*H, s*W).
        """
        self._cudnn.set_stream(self._handle, stream.handle)
        for index, step in enumerate(self.plan.steps):
            self.enqueue_step(index, step, stream=stream, image=image, picture=picture)

    def enqueue_step(self, index: int, step: Any, *, stream: Stream, image: int, picture: int) -> None:
        """Put one step into a stream; the handle must be set to that stream."""
        if index in self._own_steps:
            self._own_steps[index].launch(stream)
        elif isinstance(step, ConvStep):
            one = self.convolutions[index]
            scratch = self._scratch.pointer if self._scratch is not None else 0
            one.kernel.graph.execute_plan_at_index(one.operands, scratch, one.kernel.index, self._handle)
        elif isinstance(step, PackStep):
            self._ends.pack(self.plan, step, image=image, target=self.address(step.target), stream=stream)
        elif isinstance(step, EnlargeStep):
            self._ends.enlarge(
                self.plan, step, source=self.address(step.source), target=self.address(step.target), stream=stream
            )
        elif isinstance(step, FinishStep):
            self._ends.finish(
                self.plan, step, source=self.address(step.source), image=image, picture=picture, stream=stream
            )

    def capture(self, stream: Stream, *, image: int, picture: int) -> Graph:
        """Record one inference with fixed addresses as one CUDA graph."""
        return stream.capture(lambda: self.enqueue(stream, image=image, picture=picture))

    def address(self, part: Slice) -> int:
        """Device address of the first number of a slice."""
        buffer = self.plan.buffers[part.buffer]
        first = (part.row * buffer.width + part.column) * buffer.channels + part.first
        return self._block.pointer + self._memory.offsets[part.buffer] + first * ITEM_BYTES[buffer.dtype]

    def close(self) -> None:
        """Give everything back; nothing may be running. Can be called twice."""
        self.convolutions = {}
        self._own_steps = {}
        own = self.__dict__.pop("_hopper", None)
        if own is not None:
            own.close()
        ends = self.__dict__.pop("_ends", None)
        if ends is not None:
            ends.close()
        handle = self.__dict__.pop("_handle", None)
        if handle is not None:
            self._cudnn.destroy_handle(handle)
        if self._scratch is not None:
            self._owned.append(self._scratch)
            self._scratch = None
        while self._owned:
            self._owned.pop().close()

    def _prepare(self, stream: Stream, store: ChoiceStore) -> dict[int, _Convolution]:
        """Upload the weights and find a kernel for every signature."""
        self._cudnn.set_stream(self._handle, stream.handle)
        started = time.perf_counter()
        steps = {
            index: step
            for index, step in enumerate(self.plan.steps)
            if isinstance(step, ConvStep) and index not in self._own_steps
        }
        constants = self._upload([constants_of(step) for step in steps.values()], stream)
        kernels: dict[FusedSignature, FusedKernel] = {}
        found: dict[int, _Convolution] = {}
        is_new = False
        for (index, step), addresses in zip(steps.items(), constants, strict=True):
            operands = addresses | {number: self.address(part) for number, part in stored_operands(step).items()}
            signature = signature_of(self.plan, step)
            if signature not in kernels:
                kernel = self._restore(signature, store)
                if kernel is None:
                    kernel = choose_kernel(
                        self._cudnn,
                        signature,
                        handle=self._handle,
                        device=self._device,
                        stream=stream,
                        operands=operands,
                        workspace=self._workspace(stream),
                        budget_s=self._budget_s,
                    )
                    store.add(signature, kernel.choice)
                    is_new = True
                self._workspace(stream)(kernel.workspace_bytes)
                kernels[signature] = kernel
            found[index] = _Convolution(kernel=kernels[signature], operands=operands)
        self.choosing_s = time.perf_counter() - started
        if is_new:
            store.save()
        return found

    def _prepare_own(self) -> dict[int, OwnStep]:
        found = {}
        for index, step in enumerate(self.plan.steps):
            if isinstance(step, ConvStep) and step.target is not None:
                own = self._hopper.prepare(
                    self.plan, step, source=self.address(step.source), target=self.address(step.target)
                )
                if own is not None:
                    found[index] = own
        return found

    def _restore(self, signature: FusedSignature, store: ChoiceStore) -> FusedKernel | None:
        choice = store.find(signature)
        if choice is None:
            return None
        try:
            return restore_kernel(self._cudnn, signature, choice=choice, handle=self._handle)
        except InferenceFailed:
            return None

    def _workspace(self, stream: Stream) -> Callable[[int], int]:
        """Scratch memory that all steps share: it grows to the largest need."""

        def give(count: int) -> int:
            if count == 0:
                return self._scratch.pointer if self._scratch is not None else 0
            if self._scratch is None or self._scratch.bytes < count:
                stream.synchronize()
                if self._scratch is not None:
                    self._scratch.close()
                    self._scratch = None
                self._scratch = self._device.allocate(count)
            return self._scratch.pointer

        return give

    def _upload(self, constants: list[dict[int, NDArray[Any]]], stream: Stream) -> list[dict[int, int]]:
        """Copy all weights into one buffer."""
        offset = 0
        places: list[dict[int, int]] = []
        for arrays in constants:
            place = {}
            for number, array in arrays.items():
                place[number] = offset
                offset += -(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            places.append(place)
        block = np.zeros(max(offset, 1), np.uint8)
        for arrays, place in zip(constants, places, strict=True):
            for number, array in arrays.items():
                block[place[number] : place[number] + array.nbytes] = array.reshape(-1).view(np.uint8)
        buffer = self._own(block.nbytes)
        stream.upload(block, buffer.pointer)
        stream.synchronize()
        return [{number: buffer.pointer + at for number, at in place.items()} for place in places]

    def _fill_with_noise(self, stream: Stream) -> None:
        """Numbers like those of a picture: a GPU runs zeros faster than what it will really be given."""
        noise = np.random.default_rng(0).normal(0, 0.2, _NOISE_BYTES // 2).astype(np.float16).view(np.uint8)
        for start in range(0, self._block.bytes, noise.nbytes):
            stream.upload(noise[: self._block.bytes - start], self._block.pointer + start)
        stream.synchronize()

    def _own(self, count: int) -> DeviceBuffer:
        buffer = self._device.allocate(count)
        self._owned.append(buffer)
        return buffer
