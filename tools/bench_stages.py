"""Each stage alone, all stages together, and what the whole run reaches of what the engine alone could.

    python tools/bench_stages.py configs/demo.yaml [--set key=value ...] [--frames N] [--repeat N] [--json]

``--set run.lanes=N`` runs N lanes side by side, each with ``--frames`` frames, if the film has as many segments (a
short one: ``--set output.segment_s=1``); ``--set encode.kind=null`` leaves the encoder out. What the encoders alone
reach on finished frames, as many of them as there are lanes, is printed too.

Everything happens in one process on the film of the config, with the config's engine, tiles and encoder. In this order,
``--repeat`` times over: the engine alone, the whole run, the engine alone again. The share quoted is the run's frames
per second over the mean of the engine's before and after it, so that a machine that changes its speed while it is
measured does not change the share; the median of the repeats counts. The other stages are then measured alone, on
cached inputs: their CPU seconds per frame are what the engine loses when cores are scarce.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engines import Runner
from pipeline.config.load import load_config
from pipeline.frames import Frame, TileBatch
from pipeline.graph.pool import BufferPool, Pool
from pipeline.graph.runtime import run_graph
from pipeline.graph.shared_runner import SharedRunner
from pipeline.graph.stage import Stage
from pipeline.host import probe_host, probe_versions
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.segments import SegmentWriter
from pipeline.show.plan_words import choice_lines, plan_as_json
from pipeline.stages import EncodeSink, Upscaler
from pipeline.wiring import Wiring, make_stitcher, open_wiring, planned_decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One repeat: engine, run, engine."""

    engine_before_fps: float
    run_fps: float
    engine_after_fps: float

    @property
    def share(self) -> float:
        """Run over engine."""
        return self.run_fps / statistics.mean((self.engine_before_fps, self.engine_after_fps))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage alone."""

    name: str
    fps: float
    cpu_ms_per_frame: float
    """All threads of the process."""


def measure_engine(plan: JobPlan, runner: Runner, *, frame_count: int) -> float:
    """Frames per second of the engine on the plan's tiles, as the pipeline drives it, without any other stage."""
    spec = runner.spec
    rng = np.random.default_rng(0)
    inputs = [rng.random(spec.input_shape, dtype=np.float32) for _ in range(spec.slots + 1)]
    batch_count = -(-frame_count * len(plan.grid.tiles) // spec.batch)
    pool = BufferPool("bench", shape=spec.output_shape, dtype=np.float32, count=spec.slots + 2)
    batches = (TileBatch(tiles=inputs[index % len(inputs)], slots=()) for index in range(batch_count))
    start = time.perf_counter()
    for result in Upscaler(runner, pool=pool).run(batches):
        result.release()
    elapsed = time.perf_counter() - start
    return batch_count * spec.batch / len(plan.grid.tiles) / elapsed


class LimitedSource:
    """The first frames of a film, over and over if it is shorter, with timestamps that go on."""

    name = "decode"

    def __init__(self, plan: JobPlan, *, frame_count: int) -> None:
        self._plan = plan
        self._frame_count = frame_count

    def run(self) -> Iterator[Frame]:
        """Yield exactly ``frame_count`` frames."""
        index = 0
        offset = 0
        while index < self._frame_count:
            last = 0
            with planned_decoder(self._plan)() as decoder:
                for frame in decoder.frames():
                    if index == self._frame_count:
                        return
                    stamp = replace(frame.stamp, index=index, pts=frame.stamp.pts + offset)
                    last = frame.stamp.pts + (frame.stamp.duration or 1)
                    index += 1
                    yield replace(frame, stamp=stamp)
            offset += last


def measure_run(plan: JobPlan, runner: Runner, *, frame_count: int) -> float:
    """Frames per second of decode, tile, upscale, stitch and encode together, to the last committed segment.

    Every lane works on ``frame_count`` frames of its own.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        shared = SharedRunner(runner, lane_count=plan.lanes)
        lanes: list[tuple[Stage, ...]] = []
        pools: list[Pool] = []
        for lane in range(plan.lanes):
            folder = Path(name) / str(lane)
            folder.mkdir()
            network = runner if plan.lanes == 1 else shared.open_lane()
            wiring = stack.enter_context(open_wiring(plan, network, work=folder))
            lanes.append((LimitedSource(plan, frame_count=frame_count), *wiring.stages[1:]))
            pools += wiring.pools
        snapshot = run_graph(
            lanes[0],
            more_lanes=lanes[1:],
            capacities=wiring.capacities,
            pools=pools,
            drop=lambda item: item.release(),
        )
    return frame_count * plan.lanes / snapshot.elapsed_s


class CachedSource:
    """Finished frames, from memory."""

    name = "cached"

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    def run(self) -> Iterator[Frame]:
        """Yield them all."""
        yield from self._frames


def measure_encoders(plan: JobPlan, finished: list[Frame]) -> float:
    """Frames per second of the plan's encoders side by side, one per lane, to the last committed segment.

    Args:
        plan: The plan; its encoders get the threads that it gives them.
        finished: Frames of the output's size that each encoder gets.
    """
    with tempfile.TemporaryDirectory() as name:
        lanes: list[tuple[Stage, ...]] = []
        for lane in range(plan.lanes):
            folder = Path(name) / str(lane)
            folder.mkdir()
            lanes.append((CachedSource(finished), make_sink(plan, folder)))
        snapshot = run_graph(lanes[0], more_lanes=lanes[1:], drop=lambda item: item.release())
    return len(finished) * plan.lanes / snapshot.elapsed_s


def make_sink(plan: JobPlan, folder: Path) -> EncodeSink:
    """The last stage of a plan, writing into ``folder``."""
    return EncodeSink(lambda: SegmentWriter(folder, plan.encode, segment_frames=plan.segment_frames))


def measure_costs(plan: JobPlan, runner: Runner, *, frame_count: int) -> tuple[list[StageCost], float]:
    """CPU time per frame of every stage but the engine, each alone; and what all lanes' encoders reach together."""
    costs = []

    def measure(name: str, count: int, work: Callable[[], Any]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        costs.append(StageCost(name=name, fps=count / wall, cpu_ms_per_frame=cpu / count * 1e3))

    count = min(frame_count, 24)
    frames: list[Frame] = []
    source = LimitedSource(plan, frame_count=count)
    measure("decode", count, lambda: frames.extend(source.run()))
    with tempfile.TemporaryDirectory() as folder, open_wiring(plan, runner, work=Path(folder)) as wiring:
        drain(wiring.tiler.run(iter(frames[:1])))  # compiles the kernels
        measure("tile", count, lambda: drain(wiring.tiler.run(iter(frames))))
        upscaled = upscale_one(plan, wiring, frames[0])
        drain(wiring.stitcher.run(iter(upscaled)))
        repeated = [replace(batch, slots=batch.slots) for _ in range(count) for batch in upscaled]
        measure("stitch", count, lambda: drain(wiring.stitcher.run(iter(repeated))))
        stitched = stitch_all(plan, upscaled, frames)
        sink = make_sink(plan, Path(folder))
        measure("encode", count, lambda: sink.run(iter(stitched)))
    return costs, measure_encoders(plan, stitched)


def drain(items: Iterator[Any]) -> None:
    """Take everything and give it back."""
    for item in items:
        item.release()


def upscale_one(plan: JobPlan, wiring: Wiring, frame: Frame) -> list[TileBatch]:
    """The engine's output for one frame, in memory of its own."""
    del plan
    return [
        TileBatch(tiles=copied.tiles, slots=copied.slots)
        for copied in (copy_batch(batch) for batch in wiring.upscaler.run(wiring.tiler.run(iter([frame]))))
    ]


def copy_batch(batch: TileBatch) -> TileBatch:
    """A batch outside the pool; the original goes back."""
    result = TileBatch(tiles=batch.tiles.copy(), slots=batch.slots)
    batch.release()
    return result


def stitch_all(plan: JobPlan, upscaled: list[TileBatch], frames: list[Frame]) -> list[Frame]:
    """As many finished frames as there are sources, all with the first one's picture, in memory of their own."""
    pool = BufferPool("bench", shape=plan.pool("frames out").shape, dtype=np.uint8, count=2)
    first = next(iter(make_stitcher(plan, pool=pool).run(iter(upscaled))))
    return [replace(first, stamp=frame.stamp, lease=None) for frame in frames]


def describe(
    plan: JobPlan,
    rounds: list[Round],
    costs: list[StageCost],
    *,
    encoders_fps: float,
    frame_count: int,
    overrides: list[str],
) -> dict[str, Any]:
    """Everything needed to repeat the measurement, and its figures; file names without their folders."""
    planned = plan_as_json(plan)
    del planned["input"], planned["output"]
    return {
        "film": plan.info.path.name,
        "overrides": [override for override in overrides if not override.startswith("input.paths")],
        "frames": frame_count,
        "host": probe_host(),
        "versions": probe_versions(ffmpeg=None),
        "plan": planned,
        "rounds": [asdict(one) | {"share": one.share} for one in rounds],
        "share_median": statistics.median(one.share for one in rounds),
        "costs": [asdict(cost) for cost in costs],
        "encoders_fps": encoders_fps,
    }


def plan_on_host(arguments: argparse.Namespace) -> JobPlan:
    """The same film with frames in the host's memory: the stages there can be measured alone, on cached inputs."""
    config = load_config(arguments.config, [*arguments.overrides, "run.frames_on=cpu"])
    return plan_film(config, probe_film(config, config.input.paths[0] if config.input.paths else None))


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--frames", type=int, default=48, help="frames per measurement (default 48)")
    parser.add_argument("--repeat", type=int, default=3, help="repeats (default 3)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.overrides)
    plan = plan_film(config, probe_film(config, config.input.paths[0] if config.input.paths else None))
    count = arguments.frames
    with open_planned_runner(plan) as runner:
        measure_engine(plan, runner, frame_count=2)
        measure_run(plan, runner, frame_count=2)  # compiles the kernels
        rounds = []
        engine = measure_engine(plan, runner, frame_count=count)
        for _ in range(arguments.repeat):
            run = measure_run(plan, runner, frame_count=count)
            after = measure_engine(plan, runner, frame_count=count)
            rounds.append(Round(engine_before_fps=engine, run_fps=run, engine_after_fps=after))
            engine = after
        on_host = plan_on_host(arguments) if plan.is_on_gpu else plan
        costs, encoders_fps = measure_costs(on_host, runner, frame_count=count)
    share = statistics.median(one.share for one in rounds)
    if arguments.json:
        figures = describe(
            plan, rounds, costs, encoders_fps=encoders_fps, frame_count=count, overrides=arguments.overrides
        )
        print(json.dumps(figures, indent=2))
        return 0
    for line in choice_lines(plan):
        print(line)
    if plan.lanes == 1:
        print(f"lanes: 1, {plan.lanes_reason}")
    for one in rounds:
        engine = statistics.mean((one.engine_before_fps, one.engine_after_fps))
        print(f"engine alone {engine:8.3f} fps   whole run {one.run_fps:8.3f} fps   share {one.share:.1%}")
    print(f"median share {share:.1%}")
    for cost in costs:
        print(f"{cost.name:8} alone {cost.fps:8.1f} fps, {cost.cpu_ms_per_frame:7.2f} CPU ms per frame")
    print(f"{plan.lanes} encoder(s) of {plan.encode.threads or 'all'} threads alone: {encoders_fps:.1f} fps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
