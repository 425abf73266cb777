"""Runs one job after the other in one process for minutes, and fails if memory, files or threads become more.

    python tools/endurance.py configs/demo.yaml --minutes 8 --jobs 200 [--set key=value ...] [--short-frames N]
        [--loop-s SECONDS] [--every-s SECONDS] [--out RESULT.json] [--plot PICTURE.png]

First ``--jobs`` short jobs, each the first frames of one of the config's films in turn, whole: planned, opened,
decoded, encoded, assembled and verified. Then the first film, repeated to ``--loop-s`` seconds, over and over until the
minutes are over. Memory of host and GPU, open files and threads are sampled after every job and every few seconds
within.

Exit status: 0 all flat; 1 something grows (``growth.py`` says what counts as that); 2 a job failed or too few samples
were taken to say.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from film_clip import make_clip
from growth import LIMIT_BYTES_PER_MIN, Leak, Phase, Sampler, Slope, find_leaks, fit_slopes

from engines import EngineError
from pipeline.config.load import load_config
from pipeline.device.choice import device_index
from pipeline.errors import GraphFailed, PipelineError
from pipeline.graph.stop import StopToken
from pipeline.host import probe_host, probe_versions
from pipeline.job import run_job
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.show.plan_words import choice_lines

MIB = 1 << 20
SAY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is run."""

    config: Path
    overrides: tuple[str, ...]
    minutes: float
    jobs: int
    """Short ones."""
    short_frames: int
    loop_s: float
    """Length of the film that is run over and over, seconds."""
    every_s: float
    """Between two samples within a job, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A film to run."""

    path: Path
    frame_count: int


def make_clips(task: Task, *, folder: Path) -> tuple[list[Clip], Clip]:
    """Write the short films, and the long one."""
    films = load_config(task.config, task.overrides).input.paths
    short = []
    for index, film in enumerate(films):
        clip = Clip(path=folder / f"short-{index}.mp4", frame_count=task.short_frames)
        make_clip(film, clip.path, frame_count=clip.frame_count)
        short.append(clip)
    config = load_config(task.config, task.overrides)
    rate = probe_film(config, films[0]).video.average_rate or Fraction(25)
    loop = Clip(path=folder / "loop.mp4", frame_count=math.ceil(task.loop_s * rate))
    make_clip(films[0], loop.path, frame_count=loop.frame_count)
    return short, loop


def plan_clip(task: Task, clip: Clip, *, folder: Path) -> JobPlan:
    """Plan a job as a user's would be; its result goes into ``folder``."""
    overrides = [
        *task.overrides,
        f"input.paths=[{json.dumps(str(clip.path))}]",
        f"output.dir={json.dumps(str(folder))}",
        "output.overwrite=true",
    ]
    config = load_config(task.config, overrides)
    return plan_film(config, probe_film(config, clip.path))


def endure(task: Task, sampler: Sampler, *, folder: Path, say: Callable[[str], None]) -> None:
    """Run all jobs.

    Args:
        task: Which.
        sampler: Takes the samples.
        folder: For films and results.
        say: Told how far it is, a line each.

    Raises:
        PipelineError, GraphFailed, EngineError: A job failed.
    """
    short, loop = make_clips(task, folder=folder)
    for line in choice_lines(plan_clip(task, short[0], folder=folder)):
        say(line)
    begun, said_s = 0, sampler.elapsed_s
    for clip, phase in _schedule(task, sampler, short=short, loop=loop):
        begun += 1
        run_one(task, sampler, clip, phase=phase, job=begun, folder=folder)
        if sampler.elapsed_s - said_s >= SAY_EVERY_S or begun == task.jobs:
            said_s = sampler.elapsed_s
            last = sampler.samples[-1]
            gpu = "" if last.device_bytes is None else f", GPU {last.device_bytes / MIB:+.1f} MiB"
            say(
                f"{last.t_s:6.1f} s, {begun} jobs: {last.rss_bytes / MIB:.1f} MiB{gpu}, {last.files} files, "
                f"{last.threads} threads"
            )
    if begun < task.jobs:
        raise PipelineError(
            f"only {begun} of {task.jobs} short jobs ran in {task.minutes:g} minutes", hint="give more --minutes"
        )


def _schedule(task: Task, sampler: Sampler, *, short: list[Clip], loop: Clip) -> Iterator[tuple[Clip, Phase]]:
    """The films in order, until the time is over."""
    for index in range(task.jobs):
        if sampler.elapsed_s >= task.minutes * 60:
            return
        yield short[index % len(short)], "short"
    while sampler.elapsed_s < task.minutes * 60:
        yield loop, "loop"


def run_one(task: Task, sampler: Sampler, clip: Clip, *, phase: Phase, job: int, folder: Path) -> None:
    """One job from its plan to its verified file."""
    plan = plan_clip(task, clip, folder=folder)
    outcome = run_job(
        plan,
        report=lambda progress: sampler.within(phase=phase, job=job, frames=progress.frames_done),
        interval_s=min(1.0, task.every_s),
        stop=StopToken(),
    )
    if outcome.frames_done != clip.frame_count or outcome.damage:
        raise PipelineError(
            f"job {job}: {outcome.frames_done} of {clip.frame_count} frames of {clip.path.name} were upscaled"
            + (f"; {outcome.damage}" if outcome.damage else "")
        )
    sampler.between(phase=phase, job=job, frames=outcome.frames_done)


def describe(task: Task, sampler: Sampler, *, slopes: list[Slope], leaks: list[Leak], error: str) -> dict[str, Any]:
    """Everything that was seen."""
    return {
        "config": task.config.name,
        "overrides": [override for override in task.overrides if not override.startswith("input.paths")],
        "films": [path.name for path in load_config(task.config, task.overrides).input.paths],
        "minutes": task.minutes,
        "short_jobs": task.jobs,
        "short_frames": task.short_frames,
        "loop_s": task.loop_s,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=None),
        "error": error,
        "limit_bytes_per_min": LIMIT_BYTES_PER_MIN,
        "slopes": [asdict(slope) | {"grown_bytes": slope.grown_bytes, "grows": slope.grows} for slope in slopes],
        "leaks": [asdict(leak) for leak in leaks],
        "samples": [asdict(sample) for sample in sampler.samples],
    }


def verdict_lines(slopes: list[Slope], leaks: list[Leak]) -> Iterator[str]:
    """What was found, a line each."""
    for slope in slopes:
        yield (
            f"{slope.what:12} {slope.phase:5} jobs, {slope.place:7}: {slope.bytes_per_min / MIB:+8.3f} "
            f"+- {slope.error_bytes_per_min / MIB:.3f} MiB per minute, {slope.samples} samples in {slope.span_s:.0f} s"
            + (", GROWS" if slope.grows else "")
        )
    for leak in leaks:
        yield f"{leak.what} of {leak.phase} jobs: {leak.after} at the end, at most {leak.before} before, LEAK"


def plot(sampler: Sampler, path: Path) -> None:
    """Draw host memory, GPU memory, files and threads over time; dots are samples between jobs."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: list[tuple[str, list[tuple[str, str, float]]]] = [
        ("host, MiB", [("rss_bytes", "#2f7ed8", MIB)]),
        ("GPU, MiB", [("device_bytes", "#1f9e77", MIB)]),
        ("count", [("files", "#b5651d", 1), ("threads", "#5b6b7a", 1)]),
    ]
    if not any(sample.device_bytes is not None for sample in sampler.samples):
        del panels[1]
    figure, axes = plt.subplots(len(panels), 1, figsize=(11, 2.6 * len(panels)), sharex=True, squeeze=False)
    for axis, (label, lines) in zip(axes[:, 0], panels, strict=True):
        for what, colour, unit in lines:
            for place, style in (("within", {"lw": 0.8, "alpha": 0.6}), ("between", {"lw": 0, "marker": ".", "ms": 4})):
                found = [sample for sample in sampler.samples if place in {"within", sample.place}]
                times = [sample.t_s for sample in found]
                values = [getattr(sample, what) / unit for sample in found]
                axis.plot(times, values, color=colour, label=what if place == "between" else None, **style)
        axis.set_ylabel(label)
        low, high = axis.get_ylim()
        axis.set_ylim(min(0, low), 1.1 * high)
        axis.legend(loc="lower right", fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    loops = [sample.t_s for sample in sampler.samples if sample.phase == "loop"]
    if loops:
        for axis in axes[:, 0]:
            axis.axvline(loops[0], color="black", lw=0.6, ls=":")
    axes[-1, 0].set_xlabel("seconds (dots: between jobs; dotted line: short jobs end, the long film begins)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def open_sampler(task: Task) -> Sampler:
    """A sampler that also looks at the GPU, if the network runs on one."""
    config = load_config(task.config, task.overrides)
    plan = plan_film(config, probe_film(config, config.input.paths[0]))
    free = None
    if plan.backend.device_id.partition(":")[0] == "cuda":
        from engines.gpu.cuda import open_device

        free = open_device(device_index(plan.backend)).free_bytes
    return Sampler(free_device_bytes=free, every_s=task.every_s)


def main(argv: list[str] | None = None) -> int:
    """Run, judge, say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=8.0, help="of everything (default 8)")
    parser.add_argument("--jobs", type=int, default=200, help="short jobs (default 200)")
    parser.add_argument("--short-frames", type=int, default=8, help="frames of a short job (default 8)")
    parser.add_argument("--loop-s", type=float, default=60.0, help="length of the long film (default 60)")
    parser.add_argument("--every-s", type=float, default=2.0, help="between samples within a job (default 2)")
    parser.add_argument("--out", type=Path, help="write samples and verdict as JSON")
    parser.add_argument("--plot", type=Path, help="draw them")
    arguments = parser.parse_args(argv)
    task = Task(
        config=arguments.config,
        overrides=tuple(arguments.overrides),
        minutes=arguments.minutes,
        jobs=arguments.jobs,
        short_frames=arguments.short_frames,
        loop_s=arguments.loop_s,
        every_s=arguments.every_s,
    )
    error = ""
    sampler = open_sampler(task)
    try:
        with tempfile.TemporaryDirectory() as folder:
            endure(task, sampler, folder=Path(folder), say=lambda line: print(line, flush=True))
    except (PipelineError, EngineError, GraphFailed) as exc:
        members = exc.exceptions if isinstance(exc, GraphFailed) else ()
        error = " | ".join(str(one) for one in (exc, *members))
        print(f"error: {error}", file=sys.stderr)
    slopes, leaks = fit_slopes(sampler.samples), find_leaks(sampler.samples)
    for line in verdict_lines(slopes, leaks):
        print(line)
    if arguments.out is not None:
        figures = describe(task, sampler, slopes=slopes, leaks=leaks, error=error)
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None and sampler.samples:
        plot(sampler, arguments.plot)
    if error:
        return 2
    if leaks or any(slope.grows for slope in slopes):
        return 1
    if not slopes:
        print(f"too few samples to say anything: {len(sampler.samples)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
