"""One frame through the stages of a plan, without threads, encoder or file."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.colour import planes_to_rgb
from pipeline.frames import Frame
from pipeline.plan import JobPlan
from pipeline.preflight import open_planned_runner
from pipeline.resample import plan_resample
from pipeline.show.wording import format_count
from pipeline.wiring import open_transforms

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What a frame becomes in one way."""

    name: str
    remark: str
    """How it was made."""
    pixels: Pixels
    """(H, W, 3) R'G'B', full range."""

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])


def upscale(plan: JobPlan, frame: Frame, *, name: str) -> Variant:
    """Upscale a frame as a run of the plan does, up to the encoder, in its samples.

    Args:
        plan: With frames in the host's memory.
        frame: Of its film, in the host's memory; stays the caller's.
        name: Of the result.

    Raises:
        SetupError: The buffers do not fit into memory.
        EngineError: The network cannot be opened or run.
    """
    started_s = time.perf_counter()
    with open_planned_runner(plan) as runner, open_transforms(plan, runner) as stages:
        opened_s = time.perf_counter()
        tiles = stages.tiler.run(iter([frame]))
        [result] = stages.stitcher.run(stages.upscaler.run(tiles))
        pixels = rgb_of(result)
        result.release()
    seconds = time.perf_counter() - opened_s
    choice, tiles_words = plan.backend, format_count(len(plan.grid.tiles), "tile")
    return Variant(
        name=name,
        remark=f"{choice.backend} on {choice.device}, {choice.precision}, {tiles_words}; "
        f"{seconds:.2f} s, after {opened_s - started_s:.1f} s for opening it",
        pixels=pixels,
    )


def enlarge(frame: Frame, *, height: int, width: int) -> Variant:
    """The frame as it was, enlarged by Lanczos."""
    image = _colours(frame)
    if (frame.height, frame.width) != (height, width):
        sized = np.empty((3, height, width), np.float32)
        plan_resample(height=frame.height, width=frame.width, out_height=height, out_width=width).run(image, out=sized)
        image = sized
    return Variant(name="source", remark=f"{frame.width}x{frame.height}, enlarged by Lanczos", pixels=_to_codes(image))


def rgb_of(frame: Frame) -> Pixels:
    """(H, W, 3) uint8 R'G'B' of a frame in the host's memory, as it is: HDR looks flat."""
    return _to_codes(_colours(frame))


def on_host(plan: JobPlan) -> JobPlan:
    """The plan with a decoder that gives frames in the host's memory."""
    return replace(plan, decoder=replace(plan.decoder, kind="libav")) if plan.decoder.kind == "nvdec" else plan


def _colours(frame: Frame) -> NDArray[np.float32]:
    image = np.empty((3, frame.height, frame.width), np.float32)
    planes: Any = frame.planes
    planes_to_rgb(planes, frame.format, out=image)
    return image


def _to_codes(image: NDArray[np.float32]) -> Pixels:
    codes = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(codes.transpose(1, 2, 0))
