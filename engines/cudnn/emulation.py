"""Runs a plan with torch on the processor, in one block of memory laid out as planned: what the GPU path computes.

Every stored value is rounded to its buffer's type, every sum is float32. Memory starts as NaN, so that a value that was
overwritten too early, or never written, shows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from engines.cudnn.e4m3 import LARGEST
from engines.cudnn.memory import MemoryPlan, plan_memory
from engines.cudnn.steps import (
    ITEM_BYTES,
    Activate,
    ConvStep,
    EnlargeStep,
    FinishStep,
    Multiply,
    PackStep,
    Plan,
    Slice,
)
from engines.errors import EngineError

_TYPES = {"float8": torch.float8_e4m3fn, "float16": torch.float16, "float32": torch.float32}


class EmulatedPlan:
    """One network for one shape on the processor.

    Args:
        plan: What to run.
        memory: Where its buffers lie; None plans it.
        rounds: Whether stored values and weights are rounded; otherwise all is float32, and none may be float8.
    """

    def __init__(self, plan: Plan, *, memory: MemoryPlan | None = None, rounds: bool = True) -> None:
        self.peaks: dict[str, float] = {}
        """Largest absolute value that each convolution gave, by name, over all runs."""
        self._plan = plan
        self._rounds = rounds
        memory = memory or plan_memory(plan)
        scale = 1 if rounds else 2  # float32 everywhere takes at most twice the bytes
        block = torch.full((scale * memory.bytes,), 0xFF, dtype=torch.uint8)
        self._arrays: list[torch.Tensor] = []
        for buffer, offset in zip(plan.buffers, memory.offsets, strict=True):
            dtype = buffer.dtype if rounds else "float32"
            shape = (plan.batch, buffer.height, buffer.width, buffer.channels)
            count = int(np.prod(shape)) * ITEM_BYTES[dtype]
            part = block[scale * offset : scale * offset + count]
            if part.numel() == count:
                self._arrays.append(part.view(_TYPES[dtype]).view(shape))
            else:  # nothing uses it
                self._arrays.append(torch.empty(0))

    def run(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, H, W) float32 to (N, C, s*H, s*W) float32."""
        image = torch.from_numpy(np.ascontiguousarray(tiles)).float()
        for step in self._plan.steps:
            if isinstance(step, PackStep):
                pixels = functional.pixel_unshuffle(image, step.factor).permute(0, 2, 3, 1)
                nearest = pixels.half().float() if self._rounds else pixels
                both = torch.cat((nearest, pixels - nearest), 3)
                self._write(step.target, functional.pad(both, (0, step.target.channels - both.shape[3])))
            elif isinstance(step, EnlargeStep):
                pixels = self._read(step.source)
                self._write(step.target, pixels.repeat_interleave(step.factor, 1).repeat_interleave(step.factor, 2))
            elif isinstance(step, ConvStep):
                self._convolve(step)
            else:
                result: NDArray[np.float32] = self._finish(step, image).numpy()
                return result
        raise EngineError("the plan does not end")

    def _convolve(self, step: ConvStep) -> None:
        (top, left), (bottom, right) = step.pad_before, step.pad_after
        pixels = functional.pad(self._read(step.source).permute(0, 3, 1, 2), (left, right, top, bottom))
        kernel = torch.from_numpy(step.kernel)
        kernel = kernel.half().float() if self._rounds else kernel  # float16 holds all of e4m3
        value = functional.conv2d(pixels, kernel).permute(0, 2, 3, 1)
        if step.descale is not None:
            value = value * torch.from_numpy(step.descale)
        value = value + torch.from_numpy(step.bias)
        for one in step.epilogue:
            if isinstance(one, Activate):
                value = torch.where(value > 0, value, value * torch.from_numpy(one.slopes))
            elif isinstance(one, Multiply):
                value = value * one.factor
            else:
                value = value + self._read(one.value)
        self.peaks[step.name] = max(self.peaks.get(step.name, 0.0), float(value.abs().max()))
        for target in (step.target, step.wide_target):
            if target is not None:
                self._write(target, value)
        if step.narrow_target is not None:
            self._write(step.narrow_target, (value * (1 / step.narrow_scale)).clamp(-LARGEST, LARGEST))

    def _finish(self, step: FinishStep, image: torch.Tensor) -> torch.Tensor:
        value = self._read(step.source)[..., : step.colours * step.factor**2].permute(0, 3, 1, 2)
        value = functional.pixel_shuffle(value, step.factor)
        if step.has_base:
            value = value + image.repeat_interleave(step.factor, 2).repeat_interleave(step.factor, 3)
        return value

    def _view(self, place: Slice) -> torch.Tensor:
        array = self._arrays[place.buffer]
        return array[:, place.row :: place.step, place.column :: place.step, place.first : place.first + place.channels]

    def _read(self, place: Slice) -> torch.Tensor:
        return self._view(place).float()

    def _write(self, place: Slice, value: torch.Tensor) -> None:
        self._view(place).copy_(value)
