"""A plan in device memory: its weights, its buffers, the kernel of each step, all put into a stream in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import groupby
from typing import Any

import numpy as np

from engines.cudnn.choices import ChoiceStore
from engines.cudnn.choosing import MOST_PLANS
from engines.cudnn.ends import EndKernels
from engines.cudnn.hopper_steps import HOPPER
from engines.cudnn.joins import Join, find_joins
from engines.cudnn.kernels import StepKernels
from engines.cudnn.memory import plan_memory
from engines.cudnn.steps import ITEM_BYTES, EnlargeStep, FinishStep, PackStep, Plan, Slice
from engines.errors import InferenceFailed
from engines.gpu import Device, Graph, Stream

logger = logging.getLogger(__name__)

_NOISE_BYTES = 1 << 24


class CudnnNetwork:
    """One network for one shape. Inferences run one after the other: all use the same buffers.

    Args:
        cudnn: The module.
        plan: What to run.
        device: Where; stays the caller's.
        stream: Where kernels are timed and recorded; stays the caller's.
        store: Choices made before; new ones are added and saved.
        io_dtype: Type of the arrays taken and given.
        uses_own: Whether our own Hopper convolutions are tried for the steps that they can run.
        most_plans: Plans of cuDNN's that are tried for a kind of step.
        graph: Whether to record what lies between the ends as a CUDA graph.

    Raises:
        InferenceFailed: Nothing runs one of the steps rightly.
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
        uses_own: bool = True,
        most_plans: int = MOST_PLANS,
        graph: bool = True,
    ) -> None:
        self.plan = plan
        self._cudnn = cudnn
        self._device = device
        self._stream = stream
        self._graphs: dict[int, Graph] = {}
        self._closing = ExitStack()
        try:
            self._handle = cudnn.create_handle()
            self._closing.callback(cudnn.destroy_handle, self._handle)
            cudnn.set_stream(self._handle, stream.handle)
            joins: tuple[Join, ...] = ()
            if uses_own and device.compute_capability == HOPPER:
                joins = find_joins(plan, is_half=io_dtype == "float16")
            self._memory = plan_memory(plan, joins=joins)
            self._block = device.allocate(self._memory.bytes)
            self._closing.callback(self._block.close)
            self._ends = EndKernels(device, io_dtype=io_dtype)
            self._closing.callback(self._ends.close)
            self._ends.load(plan)
            self.kernels = StepKernels(
                cudnn,
                handle=self._handle,
                plan=plan,
                device=device,
                stream=stream,
                store=store,
                address=self.address,
                uses_own=uses_own,
                most_plans=most_plans,
                fill=self._fill_with_noise,
                ends=self._ends,
                joins=joins,
                io_dtype=io_dtype,
            )
            """What runs the convolutions."""
            self._closing.callback(self.kernels.close)
            if graph:
                self._record()
        except BaseException:
            self.close()
            raise

    @property
    def device_bytes(self) -> int:
        """Device memory of activations and scratch."""
        return self._block.bytes + self.kernels.scratch_bytes

    @property
    def is_recorded(self) -> bool:
        """Whether what lies between the ends is launched as a CUDA graph."""
        return bool(self._graphs)

    def enqueue(self, stream: Stream, *, image: int, picture: int) -> None:
        """Put one inference into a stream: the ends with the caller's addresses, between them a CUDA graph.

        Args:
            stream: Not the default one.
            image: Address of the input, (N, C, H, W).
            picture: Address of the output, (N, C, s*H, s*W).

        Raises:
            InferenceFailed: The GPU or cuDNN failed.
        """
        if not self._graphs:
            self._cudnn.set_stream(self._handle, stream.handle)
        for is_inside, indices in self._runs():
            if is_inside and indices[0] in self._graphs:
                self._graphs[indices[0]].launch(stream)
                continue
            for index in indices:
                self.enqueue_step(index, stream=stream, image=image, picture=picture)

    def enqueue_step(self, index: int, *, stream: Stream, image: int = 0, picture: int = 0) -> None:
        """Put one step into a stream, without graphs; cuDNN's handle must be set to that stream.

        Raises:
            InferenceFailed: The GPU or cuDNN failed.
        """
        step = self.plan.steps[index]
        if self.kernels.runs(index):
            self.kernels.launch(index, stream=stream, image=image, picture=picture)
        elif isinstance(step, PackStep):
            self._ends.pack(self.plan, step, image=image, target=self.address(step.target), stream=stream)
        elif isinstance(step, EnlargeStep):
            source, target = self.address(step.source), self.address(step.target)
            self._ends.enlarge(self.plan, step, source=source, target=target, stream=stream)
        elif isinstance(step, FinishStep):
            source = self.address(step.source)
            self._ends.finish(self.plan, step, source=source, image=image, picture=picture, stream=stream)

    def address(self, part: Slice) -> int:
        """Device address of the first number of a slice."""
        buffer = self.plan.buffers[part.buffer]
        first = (part.row * buffer.width + part.column) * buffer.channels + part.first
        return self._block.pointer + self._memory.offsets[part.buffer] + first * ITEM_BYTES[buffer.dtype]

    def close(self) -> None:
        """Give everything back; nothing may be running. Can be called twice."""
        self._forget_graphs()
        self._closing.close()

    def _runs(self) -> Iterable[tuple[bool, list[int]]]:
        """Indices of steps that follow each other, by whether they touch nothing but our own memory."""
        indexed = enumerate(self.plan.steps)
        for is_inside, group in groupby(indexed, lambda one: not isinstance(one[1], PackStep | FinishStep)):
            yield is_inside, [index for index, _ in group]

    def _record(self) -> None:
        """Record the steps between the ends, after a plain run in which libraries load what they need."""
        for is_inside, indices in self._runs():
            if not is_inside:
                continue

            def enqueue(indices: list[int] = indices) -> None:
                for index in indices:
                    self.enqueue_step(index, stream=self._stream)

            enqueue()
            self._stream.synchronize()
            try:
                self._graphs[indices[0]] = self._stream.capture(enqueue)
            except InferenceFailed as exc:
                logger.warning("the network is not replayed as a CUDA graph: %s", exc)
                self._forget_graphs()
                return

    def _forget_graphs(self) -> None:
        while self._graphs:
            self._graphs.popitem()[1].close()

    def _fill_with_noise(self) -> None:
        """Numbers like those of a picture: a GPU runs zeros faster than what it will really be given."""
        noise = np.random.default_rng(0).normal(0, 0.2, _NOISE_BYTES // 2).astype(np.float16).view(np.uint16)
        noise = (noise & 0xFFFE).view(np.uint8)  # read as float8, no byte of it is NaN
        first, whole = min(noise.nbytes, self._block.bytes), self._block.bytes
        self._stream.upload(noise[:first], self._block.pointer)
        for start in range(first, whole, first):
            count = min(first, whole - start)
            self._stream.copy(self._block.pointer, self._block.pointer + start, bytes=count)
        self._stream.synchronize()
