"""What a profile says, as a paragraph."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.plan import JobPlan
from tools.profile_advice import FULL, Advice, Facts
from tools.profile_figures import Figures
from tools.profile_predict import costs_of, predict_fps

WORK = {
    "decode": "reading the film",
    "tile": "cutting frames and converting their colours",
    "upscale": "the network",
    "stitch": "joining, resampling and converting frames",
    "encode": "the encoder",
}


def say_profile(
    plan: JobPlan, figures: Figures, *, facts: Facts, advice: Advice, nvdec_fps: float | None = None
) -> str:
    """What limits the run, by how much, and the one setting most likely to help.

    Args:
        plan: What ran.
        figures: Of the run.
        facts: Of it and the machine.
        advice: That was found for them.
        nvdec_fps: What ``measure_nvdec`` found.
    """
    name = figures.verdict.stage
    if not name:
        return f"{figures.verdict.text} Take more --frames."
    stage = figures.stage(name)
    costs = costs_of(figures, nvdec_fps=nvdec_fps)
    gained_fps, then = predict_fps(
        costs, measured_fps=figures.steady_fps, lanes=plan.lanes, cores=facts.cores, without=name
    )
    parts = [
        f"The run makes {figures.steady_fps:.3g} frames per second.",
        f"{_verdict(name, stage.shares['work'])}: it works {stage.shares['work']:.0%} of its time, "
        f"{1e3 * stage.service_mean_s / plan.lanes:.3g} ms for each frame.",
    ]
    if gained_fps < float("inf"):
        parts.append(
            f"If it took no time at all, the run would make {gained_fps:.3g} frames per second, "
            f"{gained_fps / figures.steady_fps:.1f} times as many, limited by {_limit(then)}"
            + (", if NVDEC is no slower, which --what-if measures." if _is_open(plan, name, nvdec_fps) else ".")
        )
    parts.append(f"It keeps {facts.cores_used:.1f} of {facts.cores} cores busy" + _wanted(facts) + ".")
    if figures.gpu:
        busiest = max(figures.gpu, key=lambda kind: kind.busy_share)
        parts.append(f"On the GPU, {busiest.kind} runs {busiest.busy_share:.0%} of the time.")
    if advice.setting:
        parts.append(f"Most likely to help: --set {advice.setting}, as {advice.reason}.")
    else:
        parts.append(f"Most likely to help: {advice.reason}.")
    return " ".join(parts)


def nvdec_notes(plan: JobPlan, nvdec_fps: float | None) -> Iterator[str]:
    """What to know of the figures of a stage whose frames come from NVDEC, a sentence or two."""
    if plan.decoder.kind != "nvdec":
        return
    yield (
        "The work of decode is feeding NVDEC and waiting for it. NVDEC decodes ahead of it: how much it could do does "
        "not show in these figures."
    )
    if nvdec_fps is not None:
        decoders = f"{plan.lanes} decoders" if plan.lanes > 1 else "One decoder"
        yield f"{decoders} alone made {nvdec_fps:.3g} frames per second."


def _is_open(plan: JobPlan, without: str, nvdec_fps: float | None) -> bool:
    """Whether a decoder in hardware that nobody measured may limit."""
    return plan.decoder.kind == "nvdec" and nvdec_fps is None and without != "decode"


def _verdict(name: str, load: float) -> str:
    work = WORK.get(name, name)
    if load >= FULL:
        return f"{name.capitalize()} ({work}) limits it"
    return f"No stage limits it alone; {name} ({work}) comes nearest"


def _wanted(facts: Facts) -> str:
    """What of the processor it did not get."""
    if facts.cores_wanted < 0.1 * facts.cores:
        return ""
    words = f", and would have used {facts.cores_wanted:.1f} more had they been free"
    return words + (": other programs use them" if facts.cores_used < FULL * facts.cores else "")


def _limit(then: str) -> str:
    return {
        "processor": "the processor's cores",
        "gpu": "the GPU",
        "decode (NVDEC)": "NVDEC",
        "": "nothing that was measured",
    }.get(then, then)
