"""How the morning's figures are said: the night in one sentence, totals, sizes, spans."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from pipeline.show.morning.summary import FilmStatus, JobSummary, RunSummary
from pipeline.show.wording import format_count

Tone = Literal["good", "mixed", "bad", "stopped"]

STATUS_WORDS: dict[FilmStatus, str] = {
    "done": "done",
    "damaged": "damaged input",
    "failed": "failed",
    "stopped": "unfinished",
    "skipped": "skipped",
    "held": "held elsewhere",
}
"""What people read for each result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightVerdict:
    """The night in one sentence."""

    tone: Tone
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All films of a run together."""

    finished: int
    """Films that have their result now: done and damaged ones."""
    frames: int
    """Made by this run."""
    fps: float
    """While frames flowed; 0 if none did."""
    upscaling_s: float
    read_bytes: int
    """Of the finished films' inputs, as far as known."""
    written_bytes: int
    """Of the finished films' outputs, as far as known."""

    @classmethod
    def of(cls, summary: RunSummary) -> Totals:
        """Add up."""
        finished = [job for job in summary.jobs if is_finished(job)]
        frames = sum(max(0, job.frames_done - job.frames_resumed) for job in summary.jobs)
        upscaling_s = sum(job.upscaling_s for job in summary.jobs)
        return cls(
            finished=len(finished),
            frames=frames,
            fps=frames / upscaling_s if upscaling_s > 0 else 0.0,
            upscaling_s=upscaling_s,
            read_bytes=sum((job.source.size_bytes or 0) for job in finished if job.source is not None),
            written_bytes=sum((job.output.size_bytes or 0) for job in finished if job.output is not None),
        )


def is_finished(job: JobSummary) -> bool:
    """Whether this run made the film's result."""
    return job.status in ("done", "damaged")


def needs_attention(job: JobSummary) -> bool:
    """Whether a person should look at the film."""
    return job.status not in ("done", "skipped")


def say_verdict(summary: RunSummary) -> NightVerdict:
    """Say what became of the night."""
    counts = Counter(job.status for job in summary.jobs)
    total, finished = len(summary.jobs), counts["done"] + counts["damaged"] + counts["skipped"]
    if not total:
        return NightVerdict(tone="stopped" if summary.was_stopped else "good", text="There was nothing to do.")
    others = [
        f"{count} {words}"
        for count, words in (
            (counts["failed"], "failed"),
            (counts["stopped"], "unfinished and can go on"),
            (counts["held"], "held by another run"),
            (counts["skipped"], "by an earlier run"),
        )
        if count
    ]
    if counts["skipped"] == total:
        text = "The film was" if total == 1 else f"All {total} films were"
        text, others = f"{text} finished by an earlier run", []
    elif finished == total:
        text = "The film is done" if total == 1 else f"All {total} films are done"
    elif total == 1:
        text = f"The film is {STATUS_WORDS[summary.jobs[0].status]}" if not counts["failed"] else "The film failed"
        others = []
    else:
        text = f"{finished or 'None'} of {total} films {'is' if finished == 1 else 'are'} done"
    if counts["damaged"]:
        others.insert(0, f"{counts['damaged']} from damaged input" if total > 1 else "its input is damaged")
    sentence = f"{text}: {', '.join(others)}." if others else f"{text}."
    if summary.was_stopped:
        sentence = f"Stopped before the end. {sentence}"
    tone: Tone = "good"
    if counts["failed"]:
        tone = "mixed" if finished or counts["skipped"] else "bad"
    elif counts["stopped"] or counts["held"] or summary.was_stopped:
        tone = "stopped"
    elif counts["damaged"]:
        tone = "mixed"
    return NightVerdict(tone=tone, text=sentence)


def spell_span(seconds: float) -> str:
    """Write a span with its two largest units: ``8 h 07 min``, ``3 min 20 s``, ``12 s``, ``0.4 s``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def spell_bytes(count: int | None) -> str:
    """Write a size with three digits: ``1.42 GiB``, ``310 MiB``, ``12 bytes``; a dash if it is not known."""
    if count is None:
        return "–"
    if count < 1024:
        return format_count(count, "byte")
    size, unit = count / 1024, "KiB"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        if size < 999.5 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f} {unit}"


def spell_frames(job: JobSummary) -> str:
    """Write how many frames there are: ``1,234``; of an unfinished film ``1,234 of 5,000``."""
    if is_finished(job) or job.frames_expected is None or job.frames_expected < job.frames_done:
        return f"{job.frames_done:,}"
    return f"{job.frames_done:,} of {job.frames_expected:,}"


def spell_bottleneck(job: JobSummary) -> str:
    """Write which stage limited a film: ``upscale 97 %``; a dash if too little was measured."""
    if job.bottleneck is None or not job.bottleneck.stage:
        return "–"
    return f"{job.bottleneck.stage} {100 * job.bottleneck.load:.0f} %"
