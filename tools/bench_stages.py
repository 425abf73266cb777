"""The whole run, the engine alone and the encoders alone on the same frames, and what the run reaches of them.

    python tools/bench_stages.py configs/demo.yaml [--set key=value ...] [--frames N] [--height PX] [--repeat N]
        [--without PART ...] [--ring N] [--out RESULT.json] [--json]

Everything happens in one process on the film of the config, cut or repeated to ``--frames`` frames by ``film_clip.py``
(a computed film is computed so long), with the config's engine, tiles, lanes and encoder:

engine    the engine alone on the film's own tiles, driven as in the run: the median of 24 calls (the mean where several
          calls run side by side); on a GPU after two seconds of work, by when it has the clock that it keeps. Before
          the first and after every run, so that a machine that changes its speed meanwhile does not change the share
          quoted.
run       all stages, ``--repeat`` times, after a short run to warm up. ``fps`` is all frames over the time from the
          start of the stages to the last committed segment; ``steady`` is the rate at the encoder between 10 and 90 %
          of the frames, without filling and emptying, which a long film hardly notices. Of the same time: how many
          cores the process kept busy, and whether encoders lacked frames, or were through before others (each lane
          gets one segment, or more if ``output.segment_s`` is shorter).
encoders  as many encoders as there are lanes, side by side in threads of their own, alone, on ``--ring`` upscaled
          frames of the film kept in memory (the GPU's for an encoder that reads it), over and over; the same settings,
          threads and number of frames.
encoder   one encoder on these frames, with the threads that it has in a run with one lane.
stages    what the stages but the engine take of the processor with frames in the host's memory, each alone.

``--set encode.kind=null`` leaves the encoders out, ``--set run.lanes=N`` says how many there are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from film_clip import describe_clip, make_clip
from frame_ring import open_ring
from stage_figures import Figures, Flow
from stage_parts import measure_costs, measure_encoders, measure_engine, measure_run

from engines import EngineError
from pipeline.config import Config
from pipeline.config.load import load_config
from pipeline.errors import PipelineError
from pipeline.host import probe_host, probe_versions
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.show.plan_words import choice_lines, plan_as_json
from pipeline.warmup import compile_kernels

PARTS = ("engine", "run", "encoders", "encoder", "stages")
WARM_UP_FRAMES = 2
"""For each lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured."""

    config: Path
    overrides: tuple[str, ...]
    frames: int
    """Of the whole run."""
    height: int | None
    """Lines that the film is scaled to first; None: as it is."""
    repeat: int
    ring: int
    """Finished frames in memory."""
    parts: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Films:
    """The same run on films of other lengths."""

    plan: JobPlan
    warm_up: JobPlan
    single: JobPlan
    """With one lane."""
    on_host: JobPlan
    """With frames in the host's memory."""


def plan_films(task: Task, *, folder: Path) -> Films:
    """Make the films and plan their runs.

    Args:
        task: What is measured.
        folder: Where the clips go.
    """
    plan = _plan(_config(task, folder / "film.mp4", frames=task.frames), frames=task.frames)
    warm = WARM_UP_FRAMES * plan.lanes
    decoder = "libav" if plan.config.input.paths else "synthetic"
    return Films(
        plan=plan,
        warm_up=replace(
            plan,
            info=_plan(_config(task, folder / "warm-up.mp4", frames=warm), frames=warm).info,
            segment_frames=WARM_UP_FRAMES,
        ),
        single=_replan(task, plan, "run.lanes=1"),
        on_host=_replan(task, plan, "run.lanes=1", "run.frames_on=cpu", f"decode.kind={decoder}"),
    )


def _config(task: Task, clip: Path, *, frames: int) -> Config:
    """The config with a film of exactly so many frames."""
    config = load_config(task.config, task.overrides)
    if config.decode.kind == "synthetic":
        return load_config(task.config, [*task.overrides, f"decode.synthetic.frame_count={frames}"])
    make_clip(config.input.paths[0], clip, frame_count=frames, height=task.height)
    return load_config(task.config, [*task.overrides, f"input.paths=[{json.dumps(str(clip))}]"])


def _plan(config: Config, *, frames: int) -> JobPlan:
    """A plan in which every lane has a segment, however short the film is."""
    info = probe_film(config, config.input.paths[0] if config.input.paths else None)
    video = replace(info.video, duration_s=None, frame_count_from_header=None)
    plan = plan_film(config, replace(info, duration_s=None, video=video))  # lanes as for a film without end
    return replace(plan, info=info, segment_frames=min(plan.segment_frames, -(-frames // plan.lanes)))


def _replan(task: Task, plan: JobPlan, *overrides: str) -> JobPlan:
    """The same film with other settings."""
    paths = json.dumps([str(path) for path in plan.config.input.paths])
    config = load_config(task.config, [*task.overrides, f"input.paths={paths}", *overrides])
    other = plan_film(config, plan.info)
    return replace(other, segment_frames=min(other.segment_frames, task.frames))


def measure(task: Task, films: Films) -> Figures:
    """Measure the parts that are wanted, in the order of the table."""
    plan, parts = films.plan, task.parts
    figures = Figures()
    with open_planned_runner(plan) as runner:
        compile_kernels(plan)
        if "engine" in parts:
            figures.engine.append(measure_engine(plan, runner))
        if "run" in parts:
            measure_run(films.warm_up, runner)
            for _ in range(task.repeat):
                figures.runs.append(measure_run(plan, runner))
                if "engine" in parts:
                    figures.engine.append(measure_engine(plan, runner))
        if not plan.encode.encoder.codec:
            parts = parts - {"encoders", "encoder"}
        if parts & {"encoders", "encoder"}:
            with open_ring(plan, runner, count=min(task.ring, task.frames)) as ring:
                if "encoders" in parts:
                    figures.encoders = measure_encoders(plan, ring, frame_count=task.frames)
                if "encoder" in parts and not (plan.lanes == 1 and figures.encoders):
                    figures.encoder = measure_encoders(films.single, ring, frame_count=task.frames)
        if "stages" in parts:
            figures.costs = measure_costs(films.on_host, runner)
    return figures


def describe(task: Task, plan: JobPlan, figures: Figures) -> dict[str, Any]:
    """Everything needed to repeat the measurement, and its figures; file names without their folders."""
    planned = plan_as_json(plan)
    del planned["input"], planned["output"]
    config = load_config(task.config, task.overrides)
    film, made = "synthetic", f"computed, {task.frames} frames"
    if config.input.paths:
        film, made = config.input.paths[0].name, describe_clip(frame_count=task.frames, height=task.height)
    return {
        "config": task.config.name,
        "film": film,
        "film_as_measured": made,
        "overrides": [override for override in task.overrides if not override.startswith("input.paths")],
        "frames": task.frames,
        "ring_frames": task.ring,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=None),
        "plan": planned,
        "engine_fps": figures.engine_fps,
        "engine": [asdict(rate) for rate in figures.engine],
        "runs": [_flow_as_json(flow) for flow in figures.runs],
        "encoders": None if figures.encoders is None else _flow_as_json(figures.encoders),
        "encoder": None if figures.encoder is None else _flow_as_json(figures.encoder),
        "ratios": figures.ratios(),
        "costs": [asdict(cost) for cost in figures.costs],
    }


def _flow_as_json(flow: Flow) -> dict[str, Any]:
    return asdict(flow) | {"fps": flow.fps}


def table(plan: JobPlan, figures: Figures) -> Iterator[str]:
    """The figures in lines."""
    yield from choice_lines(plan)
    if plan.lanes == 1:
        yield f"lanes: 1, {plan.lanes_reason}"
    for rate in figures.engine:
        low, high = min(rate.call_s) * 1e3, max(rate.call_s) * 1e3
        yield f"engine alone   {rate.fps:9.3f} fps   {len(rate.call_s)} calls of {low:.2f} to {high:.2f} ms"
    threads = plan.encode.threads or "its own choice of"
    words = f"{plan.lanes} of {threads} threads each" if plan.lanes > 1 else "1"
    named = [("whole run", flow, f"{flow.frames} frames, {flow.seconds:.1f} s") for flow in figures.runs]
    named += [("encoders alone", flow, words) for flow in [figures.encoders] if flow]
    named += [("one encoder", flow, "with the threads of a run with one lane") for flow in [figures.encoder] if flow]
    for name, flow, text in named:
        steady = "" if flow.steady_fps is None else f"steady {flow.steady_fps:9.3f}, "
        yield f"{name:14} {flow.fps:9.3f} fps   {steady}{text}"
        yield from (f"  {words}" for words in [flow.use_words()] if words)
        yield from (f"  note: {note}" for note in flow.notes)
    yield from (f"{name:26} {ratio:6.3f}" for name, ratio in figures.ratios().items())
    for cost in figures.costs:
        yield f"{cost.name:8} alone {cost.fps:8.1f} fps, {cost.cpu_ms_per_frame:7.2f} CPU ms per frame"


def main(argv: list[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--frames", type=int, default=48, help="frames of the run (default 48)")
    parser.add_argument("--height", type=int, help="scale the film to so many lines first")
    parser.add_argument("--repeat", type=int, default=3, help="runs (default 3)")
    parser.add_argument("--ring", type=int, default=32, help="finished frames kept for the encoders (default 32)")
    parser.add_argument("--without", action="append", default=[], choices=PARTS, help="leave a part out")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args(argv)
    for name in ("frames", "repeat", "ring"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    task = Task(
        config=arguments.config,
        overrides=tuple(arguments.overrides),
        frames=arguments.frames,
        height=arguments.height,
        repeat=arguments.repeat,
        ring=arguments.ring,
        parts=frozenset(PARTS) - set(arguments.without),
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            films = plan_films(task, folder=Path(folder))
            figures = measure(task, films)
    except (PipelineError, EngineError) as exc:
        print(f"error: {exc}" + (f"\n  {exc.hint}" if exc.hint else ""), file=sys.stderr)
        return 1
    text = json.dumps(describe(task, films.plan, figures), indent=2)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text if arguments.json else "\n".join(table(films.plan, figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
