"""Measures parts of a run, and the run itself, for ``bench_stages.py``: each on the plan's own frames and settings."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import cycle, islice, pairwise, takewhile
from pathlib import Path
from typing import Any, cast

import numpy as np
from frame_ring import FrameRing, RingSource
from stage_figures import EncoderUse, EngineRate, Flow, StageCost

from engines import Runner
from engines.gpu import Device
from pipeline.frames import Frame, TileBatch
from pipeline.graph.metrics import GraphSnapshot, StageSnapshot
from pipeline.graph.pool import BufferPool
from pipeline.graph.runtime import run_graph
from pipeline.graph.stage import Stage
from pipeline.graph.stop import StopToken
from pipeline.lane_run import upscale_film
from pipeline.plan import JobPlan
from pipeline.run_terms import RunTerms
from pipeline.segments import SegmentWriter
from pipeline.stages import DecodeSource, EncodeSink
from pipeline.wiring import Wiring, make_stitcher, open_transforms, open_wiring, planned_decoder

ENGINE_CALLS = 24
ENGINE_LEAD_S = 2.0
"""An H200 at its power limit had lowered its clock, and the engine's speed by 15 %, after a tenth of a second of work;
a film is upscaled at the speed that lasts (call times in results/bench_stages-h200-cudnn-*.json)."""
"""Timed calls of the engine alone."""
WARM_UP_CALLS = 4
COST_FRAMES = 24
"""Frames for the processor's time per stage."""
LOOK_EVERY_S = 0.05
"""How often frames at the encoder are counted."""
STEADY_SHARE = (0.1, 0.9)
"""Of the frames, between which a run is neither filling nor emptying."""
STEADY_LEAST_FRAMES = 20
"""Between them at least: one frame more or less is 5 % then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The encoders at one moment."""

    time_s: float
    frames: int
    cpu_s: float
    """Of the process."""
    encoders: tuple[StageSnapshot, ...]


class FlowMeter:
    """Counts frames at the encoder while a graph runs, and what the process takes of the processor from now on."""

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._cpu_s = time.process_time()

    def look(self, graph: GraphSnapshot, done_before: int = 0) -> None:
        """Take one snapshot; see ``RunTerms.on_snapshot``."""
        self._looks.append(
            _Look(
                time_s=graph.elapsed_s,
                frames=done_before + graph.stages[-1].items_in,
                cpu_s=time.process_time(),
                encoders=tuple(lane.stages[-1] for lane in graph.lanes or (graph,)),
            )
        )

    def steady_fps(self, frames: int) -> float | None:
        """Frames per second while the graph was neither filling nor emptying; None if too few went through then."""
        steady = self._steady(frames)
        return (steady[1].frames - steady[0].frames) / (steady[1].time_s - steady[0].time_s) if steady else None

    def flow(self, frames: int, *, seconds: float, notes: tuple[str, ...] = ()) -> Flow:
        """All figures, at the graph's end.

        Args:
            frames: That went through.
            seconds: In how long.
            notes: What the run said of itself.
        """
        steady = self._steady(frames)
        cores = (time.process_time() - self._cpu_s) / seconds
        return Flow(
            frames=frames,
            seconds=seconds,
            steady_fps=self.steady_fps(frames),
            cores_busy=(steady[1].cpu_s - steady[0].cpu_s) / (steady[1].time_s - steady[0].time_s) if steady else cores,
            encoders=_use_of(*steady) if steady else (),
            notes=notes,
        )

    def _steady(self, frames: int) -> tuple[_Look, _Look] | None:
        """The first and last look at a graph that is neither filling nor emptying; None if they are too close."""
        low, high = (share * frames for share in STEADY_SHARE)
        inside = [look for look in self._looks if low <= look.frames <= high]
        is_enough = inside and inside[-1].frames - inside[0].frames >= STEADY_LEAST_FRAMES
        return (inside[0], inside[-1]) if is_enough else None


def _use_of(start: _Look, stop: _Look) -> tuple[EncoderUse, ...]:
    """What the encoders did between two looks; a stage's own time ends with it."""
    whole_s = stop.time_s - start.time_s
    found = []
    for before, after in zip(start.encoders, stop.encoders, strict=True):
        alive = min(1.0, (after.elapsed_s - before.elapsed_s) / whole_s)
        starved = min(alive, (after.wait_in_s - before.wait_in_s) / whole_s)
        found.append(EncoderUse(busy=alive - starved, starved=starved, over=1 - alive))
    return tuple(found)


def measure_engine(
    plan: JobPlan, runner: Runner, *, calls: int = ENGINE_CALLS, lead_s: float | None = None
) -> EngineRate:
    """How fast the engine is on the film's own tiles, where the plan has them, driven by the plan's own stage.

    Args:
        plan: The run.
        runner: Opened for it, idle.
        calls: To time.
        lead_s: How long it works before that, and some calls at least; None: `ENGINE_LEAD_S` on a GPU, 0 elsewhere.
    """
    if lead_s is None:
        lead_s = ENGINE_LEAD_S if runner.spec.takes_device_arrays else 0.0
    with open_transforms(replace(plan, lanes=1), runner) as transforms, ExitStack() as stack:
        source = DecodeSource(planned_decoder(plan, transforms=transforms))
        frames = stack.enter_context(closing(cast(Any, source.run())))
        batches: list[TileBatch] = []
        with closing(cast(Any, transforms.tiler.run(frames))) as cut:
            for batch in islice(cut, 2):
                batches.append(batch)
                stack.callback(batch.release)
        together = plan.backend.streams
        ends: list[float] = []

        def is_enough() -> bool:
            least = WARM_UP_CALLS * together + calls + 1
            return len(ends) >= least and ends[-calls - 1] - ends[0] >= lead_s

        fed = takewhile(lambda _: not is_enough(), cycle(batches))
        drain = transforms.upscaler.lookahead
        for result in transforms.upscaler.run(replace(batch, lease=None) for batch in fed):
            ends.append(time.perf_counter())
            result.release()
    while_fed = ends[: len(ends) - drain]
    call_s = tuple(stop - start for start, stop in pairwise(while_fed[-calls - 1 :]))
    # calls that run side by side end in lumps, so that their median says nothing
    typical_s = statistics.median(call_s) if together == 1 else statistics.fmean(call_s)
    return EngineRate(fps=runner.spec.batch / typical_s / len(plan.grid.tiles), call_s=call_s)


def measure_run(plan: JobPlan, runner: Runner) -> Flow:
    """How fast the film goes through everything, to the last committed segment, as a job runs it."""
    meter = FlowMeter()
    with tempfile.TemporaryDirectory() as folder:
        terms = RunTerms(work=Path(folder), stop=StopToken(), on_snapshot=meter.look, interval_s=LOOK_EVERY_S)
        film = upscale_film(plan, runner, terms)
    return meter.flow(film.frame_count, seconds=film.graph_s, notes=film.notes)


def measure_encoders(plan: JobPlan, ring: FrameRing, *, frame_count: int) -> Flow:
    """How fast the plan's encoders are side by side, one per lane, to the last committed segment.

    Args:
        plan: The run; its encoders get the threads that it gives them.
        ring: Finished frames, where the encoders read them.
        frame_count: Of all encoders together, rounded up to as many for each.
    """
    share = -(-frame_count // plan.lanes)
    meter = FlowMeter()
    with tempfile.TemporaryDirectory() as name:
        lanes: list[tuple[Stage, ...]] = []
        for lane in range(plan.lanes):
            folder = Path(name) / str(lane)
            folder.mkdir()
            source = RingSource(ring, frame_count=share, step=_frame_ticks(plan), first=lane * share)
            lanes.append((source, _sink(plan, folder, device=ring.device)))
        graph = run_graph(
            lanes[0],
            more_lanes=lanes[1:],
            capacities=plan.config.queues.stitched_frames,
            drop=lambda item: item.release(),
            on_snapshot=meter.look,
            report_every_s=LOOK_EVERY_S,
        )
    return meter.flow(share * plan.lanes, seconds=graph.elapsed_s)


def _sink(plan: JobPlan, folder: Path, *, device: Device | None = None) -> EncodeSink:
    return EncodeSink(lambda: SegmentWriter(folder, plan.encode, segment_frames=plan.segment_frames, device=device))


def _frame_ticks(plan: JobPlan) -> int:
    """Display time of a frame in the film's time base."""
    video = plan.info.video
    return max(1, round(1 / ((video.average_rate or 25) * video.time_base)))


def measure_costs(plan: JobPlan, runner: Runner) -> list[StageCost]:
    """The processor's time per frame in every stage but the engine, each alone.

    Args:
        plan: The run with frames in the host's memory.
        runner: Opened for it, idle.
    """
    costs: list[StageCost] = []
    frames: list[Frame] = []

    def measure(name: str, work: Callable[[], object]) -> None:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        work()
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        costs.append(StageCost(name=name, fps=len(frames) / wall_s, cpu_ms_per_frame=cpu_s / len(frames) * 1e3))

    plan = replace(plan, lanes=1)
    with tempfile.TemporaryDirectory() as folder, open_wiring(plan, runner, work=Path(folder)) as wiring:

        def decode() -> None:
            with closing(cast(Any, wiring.source.run())) as decoded:
                frames.extend(islice(decoded, COST_FRAMES))

        measure("decode", decode)
        _drain(wiring.tiler.run(iter(frames[:1])))  # compiles the kernels
        measure("tile", lambda: _drain(wiring.tiler.run(iter(frames))))
        upscaled = _upscale_one(wiring, frames[0])
        _drain(wiring.stitcher.run(iter(upscaled)))
        repeated = [replace(batch) for _ in frames for batch in upscaled]
        measure("stitch", lambda: _drain(wiring.stitcher.run(iter(repeated))))
        pool = BufferPool("bench", shape=plan.pool("frames out").shape, dtype=np.uint8, count=2)
        first = next(iter(make_stitcher(plan, pool=pool).run(iter(upscaled))))
        stitched = [replace(first, stamp=frame.stamp, lease=None) for frame in frames]
        measure("encode", lambda: _sink(plan, Path(folder)).run(iter(stitched)))
    return costs


def _drain(items: Iterator[Any]) -> None:
    """Take everything and give it back."""
    for item in items:
        item.release()


def _upscale_one(wiring: Wiring, frame: Frame) -> list[TileBatch]:
    """The engine's output for one frame, in memory of its own."""
    copies = []
    for batch in wiring.upscaler.run(wiring.tiler.run(iter([frame]))):
        copies.append(TileBatch(tiles=batch.tiles.copy(), slots=batch.slots))
        batch.release()
    return copies
