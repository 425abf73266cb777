"""What a profile says, as a paragraph."""

from __future__ import annotations

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


def say_profile(plan: JobPlan, figures: Figures, *, facts: Facts, advice: Advice) -> str:
    """What limits the run, by how much, and the one setting most likely to help."""
    name = figures.verdict.stage
    if not name:
        return f"{figures.verdict.text} Take more --frames."
    stage = figures.stage(name)
    gained_fps, then = predict_fps(
        costs_of(figures), measured_fps=figures.steady_fps, lanes=plan.lanes, cores=facts.cores, without=name
    )
    parts = [
        f"The run makes {figures.steady_fps:.3g} frames per second.",
        f"{_verdict(name, stage.shares['work'])}: it works {stage.shares['work']:.0%} of its time, "
        f"{1e3 * stage.service_mean_s / plan.lanes:.3g} ms for each frame.",
    ]
    if gained_fps < float("inf"):
        parts.append(
            f"If it took no time at all, the run would make {gained_fps:.3g} frames per second, "
            f"{gained_fps / figures.steady_fps:.1f} times as many, limited by {_limit(then)}."
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
    return {"processor": "the processor's cores", "gpu": "the GPU", "": "nothing that was measured"}.get(then, then)
