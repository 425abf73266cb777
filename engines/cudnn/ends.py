"""Our own kernels around the convolutions: planar to NHWC, enlargement, NHWC to the finished picture."""

from __future__ import annotations

import ctypes

from engines.cudnn.compile import KernelSource, OwnKernel
from engines.cudnn.steps import EnlargeStep, FinishStep, PackStep, Plan
from engines.gpu import Device, Stream

THREADS = 256
FINISH_PIXELS = 64
"""Pixels of the source that a block of ``finish`` takes: 6 KiB of shared memory at 48 channels, so that a
multiprocessor holds eight blocks of 256 threads."""


class PackArguments(ctypes.Structure):
    """See ``sources/pack.cu``."""

    _fields_ = (
        ("image", ctypes.c_uint64),
        ("target", ctypes.c_uint64),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("pitch", ctypes.c_int),
        ("unused", ctypes.c_int),
    )


class EnlargeArguments(ctypes.Structure):
    """See ``sources/enlarge.cu``."""

    _fields_ = (
        ("source", ctypes.c_uint64),
        ("target", ctypes.c_uint64),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("source_pitch", ctypes.c_int),
        ("target_pitch", ctypes.c_int),
    )


class FinishArguments(ctypes.Structure):
    """See ``sources/finish.cu``."""

    _fields_ = (
        ("source", ctypes.c_uint64),
        ("image", ctypes.c_uint64),
        ("picture", ctypes.c_uint64),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("pitch", ctypes.c_int),
        ("unused", ctypes.c_int),
    )


def pack_source(plan: Plan, step: PackStep, *, io_dtype: str) -> KernelSource:
    """The variant of ``pack`` for a step."""
    defines = {
        "FACTOR": step.factor,
        "COLOURS": plan.channels,
        "CHANNELS": step.target.channels,
        "IS_HALF": int(io_dtype == "float16"),
    }
    return KernelSource(name="pack", defines=tuple(defines.items()), threads=THREADS)


def enlarge_source(step: EnlargeStep) -> KernelSource:
    """The variant of ``enlarge`` for a step."""
    return KernelSource(
        name="enlarge", defines=(("FACTOR", step.factor), ("CHANNELS", step.source.channels)), threads=THREADS
    )


def finish_source(step: FinishStep, *, io_dtype: str) -> KernelSource:
    """The variant of ``finish`` for a step."""
    defines = {
        "FACTOR": step.factor,
        "COLOURS": step.colours,
        "PIXELS": FINISH_PIXELS,
        "HAS_BASE": int(step.has_base),
        "IS_HALF": int(io_dtype == "float16"),
    }
    return KernelSource(name="finish", defines=tuple(defines.items()), threads=THREADS)


def pack_call(plan: Plan, step: PackStep, *, image: int, target: int) -> tuple[PackArguments, tuple[int, int, int]]:
    """Arguments and grid of ``pack``."""
    buffer = plan.buffers[step.target.buffer]
    arguments = PackArguments(
        image=image, target=target, height=buffer.height, width=buffer.width, pitch=buffer.channels
    )
    return arguments, (-(-buffer.width // THREADS), buffer.height, plan.batch)


def enlarge_call(
    plan: Plan, step: EnlargeStep, *, source: int, target: int
) -> tuple[EnlargeArguments, tuple[int, int, int]]:
    """Arguments and grid of ``enlarge``."""
    small, large = plan.buffers[step.source.buffer], plan.buffers[step.target.buffer]
    arguments = EnlargeArguments(
        source=source,
        target=target,
        height=large.height,
        width=large.width,
        source_pitch=small.channels,
        target_pitch=large.channels,
    )
    return arguments, (-(-large.width * step.source.channels // 8 // THREADS), large.height, plan.batch)


def finish_call(
    plan: Plan, step: FinishStep, *, source: int, image: int, picture: int
) -> tuple[FinishArguments, tuple[int, int, int]]:
    """Arguments and grid of ``finish``."""
    buffer = plan.buffers[step.source.buffer]
    arguments = FinishArguments(
        source=source,
        image=image,
        picture=picture,
        height=buffer.height,
        width=buffer.width,
        pitch=buffer.channels,
    )
    return arguments, (-(-buffer.width // FINISH_PIXELS), buffer.height, plan.batch)


class EndKernels:
    """Compiled as they are first needed, for one device and one type of arrays."""

    def __init__(self, device: Device, *, io_dtype: str) -> None:
        self._device = device
        self._io_dtype = io_dtype
        self._kernels: dict[KernelSource, OwnKernel] = {}

    def load(self, plan: Plan) -> None:
        """Compile all that a plan needs, so that its first inference waits for nothing."""
        for step in plan.steps:
            if isinstance(step, PackStep):
                self._kernel(pack_source(plan, step, io_dtype=self._io_dtype))
            elif isinstance(step, EnlargeStep):
                self._kernel(enlarge_source(step))
            elif isinstance(step, FinishStep):
                self._kernel(finish_source(step, io_dtype=self._io_dtype))

    def pack(self, plan: Plan, step: PackStep, *, image: int, target: int, stream: Stream) -> None:
        """Planar input to NHWC."""
        arguments, blocks = pack_call(plan, step, image=image, target=target)
        self._kernel(pack_source(plan, step, io_dtype=self._io_dtype)).launch(arguments, blocks=blocks, stream=stream)

    def enlarge(self, plan: Plan, step: EnlargeStep, *, source: int, target: int, stream: Stream) -> None:
        """Repeat pixels."""
        arguments, blocks = enlarge_call(plan, step, source=source, target=target)
        self._kernel(enlarge_source(step)).launch(arguments, blocks=blocks, stream=stream)

    def finish(self, plan: Plan, step: FinishStep, *, source: int, image: int, picture: int, stream: Stream) -> None:
        """NHWC to the finished picture."""
        arguments, blocks = finish_call(plan, step, source=source, image=image, picture=picture)
        self._kernel(finish_source(step, io_dtype=self._io_dtype)).launch(arguments, blocks=blocks, stream=stream)

    def close(self) -> None:
        """Unload all; none may be running."""
        while self._kernels:
            self._kernels.popitem()[1].close()

    def _kernel(self, source: KernelSource) -> OwnKernel:
        if source not in self._kernels:
            self._kernels[source] = OwnKernel(self._device, source)
        return self._kernels[source]
