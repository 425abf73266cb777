"""What a run would make if one of its stages took no time: predicted from the profile, and measured."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from engines import Runner
from pipeline.instruments import DecoderOpener
from pipeline.plan import JobPlan
from pipeline.wiring import GpuOpener
from tools.profile_figures import Figures, measure
from tools.profile_kept_gpu import keep_tiles
from tools.profile_predict import Cost, costs_of, predict_fps
from tools.profile_record import record_run
from tools.profile_repeat import repeat_decoder
from tools.profile_replaced import KEPT_FRAMES, Replacement, count_kept, keep_results, replacements

SHORT_S = 2.0
"""What runs shorter than this make is mostly their beginning and end."""
FAR = 10.0
"""How many times as fast a run without a stage can be before its prediction is doubtful. Figures:
``tools/results/profile_run-cpu2.txt``."""
LONG_S = 4.0
"""How long a run of one lane is made by repeating its film, if it would be over sooner. A GPU lowers its clock within
the first seconds of work: short whole runs would not be comparable with longer ones."""
DecoderWrapper = Callable[[DecoderOpener], DecoderOpener]
QUIET = 0.1
"""Runs of the same thing that differ by more are no measure of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """One stage replaced."""

    stage: str
    replacement: str
    """What stood in its place."""
    predicted_fps: float
    predicted_limit: str
    """What would bound the run then: a stage, ``processor``, ``gpu`` or ``decode (NVDEC)``."""
    measured_fps: float
    base_fps: float
    """Of the whole run, mean of right before and right after."""
    around_fps: tuple[float, ...]
    """Of all whole runs that ``base_fps`` is made of, in the order in which they ran."""
    encode_cpu: float
    """What the encoder took of the processor for a frame, as a share of what it took in those; 1 where nothing is
    encoded."""
    measured_s: float
    """Seconds of the run that was measured, the shortest if there were several."""
    drift: float
    """How much faster the fastest of all whole runs was than the slowest: what the machine itself did meanwhile."""

    @property
    def error(self) -> float:
        """By which share of what was measured the prediction was off."""
        return self.predicted_fps / self.measured_fps - 1

    @property
    def spread(self) -> float:
        """How much faster the fastest of the whole runs around was than the slowest."""
        return max(self.around_fps) / min(self.around_fps) - 1

    @property
    def gain(self) -> float:
        """How many times as fast as the whole run."""
        return self.measured_fps / self.base_fps


def measure_what_ifs(
    plan: JobPlan,
    runner: Runner,
    *,
    frame_count: int,
    repeat: int = 1,
    nvdec_fps: float | None = None,
    open_gpu: GpuOpener | None = None,
) -> list[WhatIf]:
    """Replace one stage after the other.

    The run as it is comes before and after every one with a stage replaced, so that a machine that changes its speed
    meanwhile does not change what is quoted.

    Args:
        plan: What to run.
        runner: Opened for it.
        frame_count: Frames of each run, at least.
        repeat: Runs for each stage; their median counts.
        nvdec_fps: What ``measure_nvdec`` found.
        open_gpu: As ``record_run`` has it.
    """
    kept = keep_results(plan, runner, frame_count=count_kept(plan, frame_count=frame_count))
    with ExitStack() as stack:
        tiles_kept = None
        if plan.is_on_gpu:
            context = keep_tiles(plan, runner, frame_count=frame_count, least_count=KEPT_FRAMES, open_gpu=open_gpu)
            tiles_kept = stack.enter_context(context)
        entries = replacements(plan, runner, kept, tiles_kept=tiles_kept)
        return _measure_replaced(
            plan, runner, entries, frame_count=frame_count, repeat=repeat, nvdec_fps=nvdec_fps, open_gpu=open_gpu
        )


def _measure_replaced(
    plan: JobPlan,
    runner: Runner,
    entries: Sequence[Replacement],
    *,
    frame_count: int,
    repeat: int,
    nvdec_fps: float | None,
    open_gpu: GpuOpener | None,
) -> list[WhatIf]:
    costs: list[list[Cost]] = []
    bases: list[Figures] = []

    def run_base(fps: float = 0.0) -> Figures:
        count, wrap_decoder = _long_enough(plan, None, fps=fps, frame_count=frame_count)
        run = record_run(plan, runner, frame_count=count, wrap_decoder=wrap_decoder, open_gpu=open_gpu)
        figures = measure(run)
        bases.append(figures)
        costs.append(costs_of(figures, nvdec_fps=nvdec_fps))
        return figures

    before = run_base()
    base_fps = before.steady_fps
    if _long_enough(plan, None, fps=base_fps, frame_count=frame_count)[0] > frame_count:
        bases.clear()
        costs.clear()
        before = run_base(base_fps)
    found: list[WhatIf] = []
    for replaced in entries:
        expected_fps, _ = predict_fps(
            costs[-1],
            measured_fps=before.steady_fps,
            lanes=plan.lanes,
            cores=len(os.sched_getaffinity(0)),
            without=replaced.stage,
        )
        count, wrap_decoder = _long_enough(
            replaced.plan, replaced.wrap_decoder, fps=expected_fps, frame_count=frame_count
        )
        seen: list[tuple[float, float]] = []
        elapsed_s: list[float] = []
        for _ in range(repeat):
            run = record_run(
                replaced.plan,
                replaced.runner,
                frame_count=count,
                wrap_decoder=wrap_decoder,
                wrap_stages=replaced.wrap_stages,
                open_gpu=open_gpu,
            )
            after = run_base(base_fps)
            alone = measure(run)
            elapsed_s.append(alone.seconds)
            seen.append((alone.steady_fps, (before.steady_fps + after.steady_fps) / 2))
            before = after
        beside_fps = statistics.median(base for _, base in seen)
        around, beside = mean_costs(costs[-repeat - 1 :]), bases[-repeat - 1 :]
        predicted_fps, limit = predict_fps(
            around, measured_fps=beside_fps, lanes=plan.lanes, cores=usable_cores(beside), without=replaced.stage
        )
        found.append(
            WhatIf(
                stage=replaced.stage,
                replacement=replaced.words,
                predicted_fps=predicted_fps,
                predicted_limit=limit,
                measured_fps=statistics.median(fps for fps, _ in seen),
                base_fps=beside_fps,
                around_fps=tuple(figures.steady_fps for figures in beside),
                encode_cpu=_encode_cpu(replaced, alone, around),
                measured_s=min(elapsed_s),
                drift=0.0,
            )
        )
    rates = [figures.steady_fps for figures in bases]
    return [replace(what_if, drift=max(rates) / min(rates) - 1) for what_if in found]


def _encode_cpu(replaced: Replacement, alone: Figures, costs: Sequence[Cost]) -> float:
    """See ``WhatIf.encode_cpu``."""
    is_encoded = bool(replaced.plan.encode.encoder.codec)  # nor is what stands in for the encoder one
    return alone.stages[-1].cpu_s / costs[-1].cpu_s if is_encoded and costs[-1].cpu_s > 0 else 1.0


def _long_enough(
    plan: JobPlan, wrap_decoder: DecoderWrapper | None, *, fps: float, frame_count: int
) -> tuple[int, DecoderWrapper | None]:
    """How many frames a run has that is expected to make ``fps``, and what its decoder becomes for that."""
    if plan.lanes > 1:  # they begin anywhere in the film, which has to be what its index says
        return frame_count, wrap_decoder
    count = max(frame_count, math.ceil(LONG_S * fps))
    if wrap_decoder is not None or count == frame_count:
        return count, wrap_decoder
    # to open NVDEC anew takes as long as dozens of frames: what is behind those asked for comes first
    return count, repeat_decoder(count if plan.decoder.kind == "nvdec" else frame_count)


def mean_costs(runs: Sequence[Sequence[Cost]]) -> list[Cost]:
    """What the stages took in the mean of several runs."""
    return [
        Cost(
            stage=same[0].stage,
            alone_s=statistics.fmean(cost.alone_s for cost in same),
            cpu_s=statistics.fmean(cost.cpu_s for cost in same),
            gpu_s=statistics.fmean(cost.gpu_s for cost in same),
            nvdec_s=same[0].nvdec_s,
        )
        for same in zip(*runs, strict=True)
    ]


def usable_cores(runs: Sequence[Figures]) -> float:
    """Cores that runs can have: all that there are, unless other programs left them fewer."""
    cores = len(os.sched_getaffinity(0))
    used = statistics.fmean(sum(thread.cpu_share for thread in run.threads) for run in runs)
    wanted = statistics.fmean(sum(thread.queued_share for thread in run.threads) for run in runs)
    return used if used + wanted > cores else cores


def as_rows(what_ifs: Sequence[WhatIf]) -> list[dict[str, str]]:
    """The table in words."""
    return [
        {
            "stage": what_if.stage,
            "predicted": f"{what_if.predicted_fps:.3g}",
            "measured": f"{what_if.measured_fps:.3g}",
            "error": f"{what_if.error:+.0%}",
            "gain": f"{what_if.gain:.2f}",
            "limit": what_if.predicted_limit,
            "replacement": what_if.replacement,
        }
        for what_if in what_ifs
    ]


def as_json(what_ifs: Sequence[WhatIf]) -> list[dict[str, Any]]:
    """All figures."""
    return [
        asdict(what_if) | {name: getattr(what_if, name) for name in ("error", "gain", "spread")} for what_if in what_ifs
    ]


def doubts(what_ifs: Sequence[WhatIf]) -> list[str]:
    """What makes these figures doubtful, a sentence or two each."""
    found = []
    if what_ifs and what_ifs[0].drift > QUIET:
        found.append(
            f"The machine was not quiet: the same run was up to {what_ifs[0].drift:.0%} faster than at another time. "
            "What was predicted and measured can differ by as much."
        )
    found += [
        f"Around the runs without {what_if.stage} the whole run made {min(what_if.around_fps):.3g} to "
        f"{max(what_if.around_fps):.3g} frames per second."
        for what_if in what_ifs
        if what_if.spread > QUIET
    ]
    found += [
        f"Without {what_if.stage} the encoder took {what_if.encode_cpu:.2f} times as much of the processor for a frame "
        "as in the whole run: the pictures that it got, or what the other stages cost it, were not the same."
        for what_if in what_ifs
        if abs(what_if.encode_cpu - 1) > QUIET and abs(what_if.error) > QUIET
    ]
    found += [
        f"{what_if.gain:.0f} times as fast is far from the run that the prediction without {what_if.stage} is "
        "made of: what the other stages cost each other when they fill the machine does not show in it."
        for what_if in what_ifs
        if what_if.gain > FAR and what_if.error > QUIET
    ]
    found += [
        f"Without {what_if.stage} all was over in {what_if.measured_s:.1f} s, of which much is the beginning and the "
        "end. More frames (--frames, or a longer film) tell more."
        for what_if in what_ifs
        if what_if.measured_s < SHORT_S
    ]
    return found
