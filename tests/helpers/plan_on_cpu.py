"""Runs a plan of ``engines.cudnn`` with torch on the processor, in one block of memory laid out as planned.

Every stored value is rounded to its buffer's type, every sum is float32: what the GPU path does. Memory starts as NaN,
so that a value that was overwritten too early, or never written, shows.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

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


class PlanOnCpu:
    def __init__(self, plan: Plan, *, memory: MemoryPlan | None = None, rounds: bool = True) -> None:
        self._plan = plan
        self._rounds = rounds
        memory = memory or plan_memory(plan)
        widths = {"float16": torch.float16 if rounds else torch.float32, "float32": torch.float32}
        scale = 1 if rounds else 2  # float32 everywhere takes at most twice the bytes
        block = torch.full((scale * memory.bytes,), 0xFF, dtype=torch.uint8)
        self._arrays = []
        for buffer, offset in zip(plan.buffers, memory.offsets, strict=True):
            shape = (plan.batch, buffer.height, buffer.width, buffer.channels)
            count = int(np.prod(shape)) * ITEM_BYTES[buffer.dtype]
            count *= 1 if rounds or buffer.dtype == "float32" else 2
            part = block[scale * offset : scale * offset + count]
            self._arrays.append(part.view(widths[buffer.dtype]).view(shape))

    def run(self, tiles: np.ndarray) -> np.ndarray:
        """float32 NCHW in and out."""
        image = torch.from_numpy(tiles).float()
        for step in self._plan.steps:
            if isinstance(step, PackStep):
                pixels = F.pixel_unshuffle(image, step.factor).permute(0, 2, 3, 1)
                nearest = pixels.half().float() if self._rounds else pixels
                both = torch.cat((nearest, pixels - nearest), 3)
                self._write(step.target, F.pad(both, (0, step.target.channels - both.shape[3])))
            elif isinstance(step, EnlargeStep):
                pixels = self._read(step.source)
                self._write(step.target, pixels.repeat_interleave(step.factor, 1).repeat_interleave(step.factor, 2))
            elif isinstance(step, ConvStep):
                self._convolve(step)
            else:
                return self._finish(step, image).numpy()
        raise AssertionError("the plan does not end")

    def _convolve(self, step: ConvStep) -> None:
        (top, left), (bottom, right) = step.pad_before, step.pad_after
        pixels = F.pad(self._read(step.source).permute(0, 3, 1, 2), (left, right, top, bottom))
        kernel = torch.from_numpy(step.kernel)
        kernel = kernel.half().float() if self._rounds else kernel
        value = F.conv2d(pixels, kernel, torch.from_numpy(step.bias)).permute(0, 2, 3, 1)
        assert value.shape[1:3] == (step.height, step.width)
        for one in step.epilogue:
            if isinstance(one, Activate):
                value = torch.where(value > 0, value, value * torch.from_numpy(one.slopes))
            elif isinstance(one, Multiply):
                value = value * one.factor
            else:
                value = value + self._read(one.value)
        for target in (step.target, step.wide_target):
            if target is not None:
                self._write(target, value)

    def _finish(self, step: FinishStep, image: torch.Tensor) -> torch.Tensor:
        value = self._read(step.source)[..., : step.colours * step.factor**2].permute(0, 3, 1, 2)
        value = F.pixel_shuffle(value, step.factor)
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
