"""What settings that change the picture do to it: precisions against fp32, presets against what was encoded."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines import EngineError
from pipeline.config import Config
from pipeline.decode import open_decoder
from pipeline.errors import PipelineError
from pipeline.frames import Frame
from pipeline.plan import JobPlan, plan_film
from pipeline.preflight import open_planned_runner
from pipeline.probe import probe_media
from pipeline.segments import SegmentWriter
from tools.profile_replaced import Kept, keep_results

PRECISIONS: tuple[Literal["fp32", "fp16", "bf16", "fp8"], ...] = ("fp32", "fp16", "bf16", "fp8")
"""The first is what the others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetQuality:
    """What an encoder makes of the first frames with a preset."""

    psnr_db: float
    """Of all planes' samples, against what was encoded; infinite without any loss."""
    frame_bytes: float


def on_host(plan: JobPlan) -> JobPlan:
    """The same with frames in the host's memory, where they can be looked at, and one lane."""
    run = plan.config.run.model_copy(update={"frames_on": "cpu", "lanes": 1})
    return plan_film(plan.config.model_copy(update={"run": run}), plan.info)


def with_precision(config: Config, precision: Any) -> Config:
    """A config whose network computes in a precision."""
    infer = config.infer.model_copy(update={"precision": precision})
    return config.model_copy(update={"infer": infer})


def precision_psnr(plan: JobPlan, precisions: Sequence[str]) -> dict[str, float]:
    """How far precisions are from fp32 on tiles of the film's first frame, dB.

    Args:
        plan: Of the film.
        precisions: Which; those that cannot be are left out.

    Returns:
        By precision; empty if fp32 itself cannot be computed here. Values beyond black and white count as these.
    """
    wanted = ("fp32", *(precision for precision in precisions if precision != "fp32"))
    tiles: np.ndarray[Any, Any] | None = None
    truth: np.ndarray[Any, Any] | None = None
    found: dict[str, float] = {}
    for precision in wanted:
        try:
            own = on_host(replace(plan, config=with_precision(plan.config, precision)))
            with open_planned_runner(own) as runner:
                if tiles is None:
                    kept = keep_results(own, runner, frame_count=1).cut[0]
                    tiles = np.ascontiguousarray(kept.tiles)
                shaped = tiles.astype(runner.spec.io_dtype)
                out = np.empty(runner.spec.output_shape, dtype=runner.spec.io_dtype)
                runner.infer(shaped, out=out).wait()
                result = out.astype(np.float32).clip(0, 1)
        except (PipelineError, EngineError):
            if truth is None:
                return {}
            continue
        truth = result if truth is None else truth
        found[precision] = _psnr_db(float(np.square(result - truth).mean()), peak=1.0)
    return found


def preset_quality(plan: JobPlan, presets: Iterable[str | None]) -> Mapping[str | None, PresetQuality]:
    """Encode the first frames with each preset.

    Args:
        plan: Of the film, with an encoder of software.
        presets: Which; None: the encoder's default.

    Raises:
        PipelineError, EngineError: The frames cannot be made or encoded.
    """
    own = on_host(plan)
    with open_planned_runner(own) as runner:
        kept = keep_results(own, runner)
    found: dict[str | None, PresetQuality] = {}
    for preset in presets:
        with tempfile.TemporaryDirectory() as folder:
            found[preset] = _encode(replace(own, encode=replace(own.encode, preset=preset)), kept, folder=Path(folder))
    return found


def _encode(plan: JobPlan, kept: Kept, *, folder: Path) -> PresetQuality:
    with SegmentWriter(folder, plan.encode, segment_frames=len(kept.finished)) as writer:
        for frame in kept.finished:
            writer.write(frame)
        (segment,) = writer.finish()
    assert segment.path is not None
    info = probe_media(segment.path)
    with closing(open_decoder("libav", info=info)) as decoder:
        errors = [_squares(a, b) for a, b in zip(kept.finished, decoder.frames(), strict=True)]
    squares, count = sum(error for error, _ in errors), sum(samples for _, samples in errors)
    return PresetQuality(
        psnr_db=_psnr_db(squares / count, peak=float(2**plan.encode.format.bit_depth - 1)),
        frame_bytes=segment.bytes / len(kept.finished),
    )


def _squares(a: Frame, b: Frame) -> tuple[float, int]:
    squares = [np.square(x.astype(np.float64) - y).sum() for x, y in zip(a.planes, b.planes, strict=True)]
    return float(sum(squares)), sum(plane.size for plane in a.planes)


def _psnr_db(mse: float, *, peak: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)
