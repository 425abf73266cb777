"""A picture of what a GPU really did during a run, and figures of how much of it happened at once.

    python tools/gpu_timeline.py CONFIG [--set key=value ...] [--frames N] [--skip N] [--out PNG] [--json FILE]

The film of the config goes through the real stages, with its engine, tiles, lanes and encoder, twice: first as it is,
then with two timed events around every piece of GPU work (`tools.gpu_trace` says what the times mean). Both speeds are
printed, so that one sees what the events cost. Frames must stay on the GPU.

Each lane works on frames of its own, over and over if the film is shorter. Figures and picture are of the time from
where the engine has begun frame ``--skip`` in every lane to where it has ended ``--frames`` more in one of them; some
frames follow, so that the end of a run is not in it. One row per kind of work and lane, frames coloured by number:
decode (host), surface copy, upload, cut, engine, blend, finish, download, encode (host). A decoding row is the time of
the stage's thread without its waits for a free surface, an encoding row that of the encoder without its waits for
frames. Inferences of several lanes take turns: each is drawn from when its turn came.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines import Runner
from pipeline.config.load import load_config
from pipeline.frames import Frame
from pipeline.graph.pool import Pool
from pipeline.graph.runtime import run_graph
from pipeline.graph.shared_runner import SharedRunner
from pipeline.graph.stage import Source, Stage
from pipeline.host import probe_host, probe_versions
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.show.plan_words import choice_lines, plan_as_json
from pipeline.wiring import GpuOpener, open_planned_gpu, open_wiring
from tools.gpu_overlap import OverlapFigures, Span, measure_overlap, steady_window
from tools.gpu_trace import ClockTie, Trace
from tools.plot_timeline import plot_timeline
from tools.traced_gpu import TracedDevice, TracedRunner, trace_kernels
from tools.traced_stages import TracedSink, TracedSource, TracedTransform

TAIL_FRAMES = 16
"""Frames that follow the window in each lane: more than the queues and pools of a default plan hold ahead of the
engine, so that the window ends before the decoder does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRun:
    """What was measured of one run."""

    spans: list[Span]
    tie: ClockTie
    fps: float
    """Frames of all lanes over the whole run, its beginning and end included."""


class LoopedSource:
    """The first frames of a film, over and over if it is shorter, with timestamps that go on.

    Args:
        source: The film's; every run of it reads the film anew.
        frame_count: How many frames there are to be.
    """

    name = "decode"

    def __init__(self, source: Source[Frame], *, frame_count: int) -> None:
        self._source = source
        self._frame_count = frame_count

    def run(self) -> Iterator[Frame]:
        """Yield exactly ``frame_count`` frames."""
        index = offset = 0
        while index < self._frame_count:
            before, end = index, offset
            frames: Any = self._source.run()
            with closing(frames):
                for frame in frames:
                    stamp = replace(frame.stamp, index=index, pts=frame.stamp.pts + offset)
                    end = stamp.pts + (stamp.duration or 1)
                    index += 1
                    yield replace(frame, stamp=stamp)
                    if index == self._frame_count:
                        return
            offset = end
            if index == before:
                raise SystemExit("the film has no frames")


def run_plain(plan: JobPlan, runner: Runner, *, frame_count: int) -> float:
    """Run a plan as it is.

    Args:
        plan: With frames on the GPU.
        runner: Opened for it.
        frame_count: Frames of each lane.

    Returns:
        Frames per second, of all lanes.
    """
    return _run(plan, runner, frame_count=frame_count, open_gpu=open_planned_gpu, trace=None)


def run_traced(
    plan: JobPlan,
    runner: Runner,
    *,
    frame_count: int,
    open_gpu: GpuOpener | None = None,
) -> TracedRun:
    """Run a plan with a timed event on either side of all GPU work.

    Args:
        plan: With frames on the GPU.
        runner: Opened for it.
        frame_count: Frames of each lane.
        open_gpu: The GPU and its kernels; None: the plan's.
    """
    device, make_kernels = (open_gpu or open_planned_gpu)(plan)
    with closing(Trace(device)) as trace:
        fps = _run(
            plan,
            TracedRunner(runner, trace=trace, device=device),
            frame_count=frame_count,
            open_gpu=lambda _: (TracedDevice(device, trace=trace), trace_kernels(make_kernels, trace=trace)),
            trace=trace,
        )
        spans, tie = trace.finish()
    return TracedRun(spans=spans, tie=tie, fps=fps)


def _run(
    plan: JobPlan,
    runner: Runner,
    *,
    frame_count: int,
    open_gpu: GpuOpener,
    trace: Trace | None,
) -> float:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        shared = SharedRunner(runner, lane_count=plan.lanes)
        lanes: list[tuple[Stage, ...]] = []
        pools: list[Pool] = []
        for lane in range(plan.lanes):
            folder = Path(name) / str(lane)
            folder.mkdir()
            network = runner if plan.lanes == 1 else shared.open_lane()
            wiring = stack.enter_context(open_wiring(plan, network, work=folder, open_gpu=open_gpu))
            source = LoopedSource(wiring.source, frame_count=frame_count)
            stages: tuple[Stage, ...] = (source, *wiring.stages[1:])
            if trace is not None:
                stages = (
                    TracedSource(source, trace=trace, lane=lane, pools=wiring.pools),
                    *(
                        TracedTransform(stage, trace=trace, lane=lane)
                        for stage in (wiring.tiler, wiring.upscaler, wiring.stitcher)
                    ),
                    TracedSink(wiring.sink, trace=trace, lane=lane),
                )
            lanes.append(stages)
            pools += wiring.pools
        snapshot = run_graph(
            lanes[0],
            more_lanes=lanes[1:],
            capacities=wiring.capacities,
            pools=pools,
            drop=lambda item: item.release(),
        )
    return frame_count * plan.lanes / snapshot.elapsed_s


def describe(
    plan: JobPlan, run: TracedRun, figures: OverlapFigures, *, window: tuple[float, float], plain_fps: float
) -> dict[str, Any]:
    """Everything that was measured, and what is needed to repeat it; file names without their folders."""
    planned = plan_as_json(plan)
    del planned["input"], planned["output"]
    return {
        "film": plan.info.path.name,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=None),
        "plan": planned,
        "plain_fps": plain_fps,
        "traced_fps": run.fps,
        "clock": asdict(run.tie) | {"drift_s": run.tie.drift_s},
        "window_s": window,
        "window_fps": figures.frame_count / figures.window_s,
        "figures": asdict(figures),
        "spans": [
            [span.kind, span.lane, span.frame, round(span.start_s, 7), round(span.stop_s, 7)]
            for span in run.spans
            if span.start_s < window[1] and span.stop_s > window[0]
        ],
    }


def summary(run: TracedRun, figures: OverlapFigures, *, plain_fps: float) -> list[str]:
    """The figures in words."""
    engine = figures.kinds["engine"]
    lines = [
        f"{plain_fps:.1f} fps as it is, {run.fps:.1f} fps with the events, beginning and end included;"
        f" {figures.frame_count / figures.window_s:.1f} fps within the window",
        f"engine busy {engine.busy_share:.2%} of {figures.window_s * 1e3:.1f} ms; {figures.engine_gap_count} gaps"
        f" ({figures.engine_long_gap_count} of 0.1 ms or more), the longest {figures.engine_longest_gap_ms:.3f} ms, all"
        f" together {figures.engine_gaps_ms:.3f} ms",
        f"two kinds of work or more at once {figures.two_kinds_share:.1%} of the time, of the GPU's own"
        f" {figures.two_gpu_kinds_share:.1%}",
    ]
    lines += [
        f"{kind:13} busy {part.busy_share:6.1%}, median {part.median_ms:8.3f} ms, least {part.least_ms:8.3f} ms,"
        f" {part.count:5} times, {part.beside_engine_share:6.1%} of it beside the engine"
        for kind, part in figures.kinds.items()
    ]
    tie = run.tie
    lines.append(
        f"clocks tied to {tie.uncertainty_s * 1e6:.0f} us; the GPU's went {tie.drift_s * 1e6:+.0f} us ahead of the"
        f" host's in {tie.gpu_stop_s:.2f} s"
    )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Run, print the figures, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--frames", type=int, default=60, help="frames of each lane that are looked at (default 60)")
    parser.add_argument("--skip", type=int, default=60, help="frames of each lane before them (default 60)")
    parser.add_argument("--out", type=Path, metavar="PNG")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    if arguments.frames < 1 or arguments.skip < 0:
        parser.error("--frames must be 1 or more, --skip 0 or more")
    config = load_config(arguments.config, arguments.overrides)
    plan = plan_film(config, probe_film(config, config.input.paths[0] if config.input.paths else None))
    if not plan.is_on_gpu:
        raise SystemExit("frames are not on a GPU in this run, so there is nothing to see: set run.frames_on=gpu")
    for line in choice_lines(plan):
        print(line)
    count = arguments.skip + arguments.frames + TAIL_FRAMES
    with open_planned_runner(plan) as runner:
        run_plain(plan, runner, frame_count=2)  # compiles the kernels
        plain_fps = run_plain(plan, runner, frame_count=count)
        run = run_traced(plan, runner, frame_count=count)
    try:
        window = steady_window(run.spans, first=arguments.skip, last=arguments.skip + arguments.frames - 1)
    except ValueError as exc:
        raise SystemExit(f"{exc}: take more --frames") from exc
    figures = measure_overlap(run.spans, start_s=window[0], stop_s=window[1])
    lines = summary(run, figures, plain_fps=plain_fps)
    print("\n".join(lines))
    if arguments.json is not None:
        report = describe(plan, run, figures, window=window, plain_fps=plain_fps)
        arguments.json.write_text(json.dumps(report) + "\n")
    if arguments.out is not None:
        title = f"{plan.backend.device}: {plan.model.name}, {plan.grid.width}x{plan.grid.height} to"
        title += f" {plan.width}x{plan.height}, {plan.encode.encoder.name}, {plan.lanes} lane(s)"
        plot_timeline(run.spans, arguments.out, window=window, title=title, words=lines[:3])
    return 0


if __name__ == "__main__":
    sys.exit(main())
