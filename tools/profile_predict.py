"""How fast a run would be if one of its stages took no time, worked out from what its stages take.

Four things bound a line of stages: the slowest stage (each lane has one thread for it), the processor (all stages
share its cores), the GPU (all kernels share it) and its decoders (NVDEC, which works ahead of the stage that asks for
frames, so that it has to be measured alone). A stage's time for a frame is taken without the time in which it
waited for a core: that is what the second bound is about. What the bounds leave out (waking threads, uneven frames) is
taken to be the same share of the time as in the run that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tools.profile_figures import Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a stage takes for one frame, seconds."""

    stage: str
    alone_s: float
    """Of its thread, nobody else being there."""
    cpu_s: float = 0.0
    """Of the processor, all threads."""
    gpu_s: float = 0.0
    nvdec_s: float = 0.0
    """Of all decoders in hardware together; 0 where there are none, or nobody measured them."""


NVDEC = "decode (NVDEC)"
"""What bounds a run that waits for decoders in hardware."""


def costs_of(figures: Figures, *, nvdec_fps: float | None = None) -> list[Cost]:
    """What the stages of a run took.

    Args:
        figures: Of the run.
        nvdec_fps: What ``measure_nvdec`` found.
    """
    costs = [
        Cost(
            stage=stage.name,
            alone_s=max(stage.service_mean_s - stage.queued_s, 0.0),
            cpu_s=stage.cpu_s,
            gpu_s=stage.gpu_s,
        )
        for stage in figures.stages
    ]
    if nvdec_fps is None:
        return costs
    return [replace(cost, nvdec_s=1 / nvdec_fps) if cost.stage == "decode" else cost for cost in costs]


def bound_fps(costs: Sequence[Cost], *, lanes: int, cores: float, without: str = "") -> tuple[float, str]:
    """The least of the four bounds.

    Args:
        costs: Of all stages.
        lanes: Threads for each stage.
        cores: That the run can have.
        without: The stage that takes no time.

    Returns:
        Frames per second, and what bounds them: a stage, ``processor``, ``gpu`` or `NVDEC`.
    """
    left = [cost for cost in costs if cost.stage != without]
    bounds = [(lanes / cost.alone_s, cost.stage) for cost in left if cost.alone_s > 0]
    cpu_s, gpu_s = sum(cost.cpu_s for cost in left), sum(cost.gpu_s for cost in left)
    bounds += [(cores / cpu_s, "processor")] if cpu_s > 0 else []
    bounds += [(1 / gpu_s, "gpu")] if gpu_s > 0 else []
    bounds += [(1 / cost.nvdec_s, NVDEC) for cost in left if cost.nvdec_s > 0]
    return min(bounds, default=(float("inf"), ""))


def predict_fps(
    costs: Sequence[Cost], *, measured_fps: float, lanes: int, cores: float, without: str
) -> tuple[float, str]:
    """Frames per second if a stage took no time, and what would limit then.

    Args:
        costs: Of all stages.
        measured_fps: What the run reached with all of them.
        lanes, cores, without: As of `bound_fps`.
    """
    whole, _ = bound_fps(costs, lanes=lanes, cores=cores)
    rest, limit = bound_fps(costs, lanes=lanes, cores=cores, without=without)
    return measured_fps * rest / whole, limit
