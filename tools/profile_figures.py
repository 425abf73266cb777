"""The figures of a run that was watched: shares and times of the stages, channels, GPU, threads, memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.graph.metrics import GraphSnapshot, Verdict, find_bottleneck
from tools.gpu_overlap import Span, clipped, length, merged
from tools.profile_record import Recorded
from tools.profile_samples import Sample
from tools.profile_shares import Kind, pieces_of, service_times, snapshot_of, spent_s, steady_window
from tools.profile_threads import Used, owners_of, used_by_owner, work_queued_s

GPU_STAGES = {
    "surface copy": "decode",
    "surface upload": "decode",
    "surface download": "decode",
    "upload": "tile",
    "cut": "tile",
    "engine": "upscale",
}
"""Whose work it is; of the others, the stitching stage's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """One stage, of all lanes together, in the steady part of the run.

    What the last stage takes for a frame is of the whole run: an encoder has taken dozens of frames before it codes the
    first, and codes them when no more come. In the middle of a short run that work is missing.
    """

    name: str
    shares: dict[Kind, float]
    """Of its threads' time; they add up to 1."""
    service_mean_s: float
    """Work for one frame, of one lane, waits left out."""
    service_p50_s: float
    service_p90_s: float
    service_p99_s: float
    cpu_s: float
    """Processor time for one frame, of all threads that are the stage's."""
    queued_s: float
    """About how much of ``service_mean_s`` its threads could have run, but no core was free."""
    gpu_s: float
    """Of the GPU for one frame, its kernels. Copies have engines of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFigures:
    """One channel, of all lanes together, in the steady part."""

    name: str
    capacity: int
    occupancy: float
    """Share of the time in which at least one item waited."""
    full: float
    """Share of the time in which there was no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuKindFigures:
    """All GPU work of one kind in the steady part."""

    kind: str
    stage: str
    count: int
    busy_share: float
    median_s: float
    per_frame_s: float
    bytes: int
    """That copies moved."""
    gb_per_s: float
    """10^9 bytes in a second of copying; 0 for kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFigures:
    """Threads of one owner."""

    owner: str
    """A stage; ``engine`` for the network's own; ``others``."""
    count: int
    cpu_share: float
    """Cores that they kept busy."""
    queued_share: float
    """Cores that they would have kept busy too, had they been free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that was measured."""

    frames: int
    seconds: float
    steady_frames: int
    steady_s: float
    window: tuple[float, float]
    """The steady part, ``perf_counter`` seconds."""
    stages: tuple[StageFigures, ...]
    channels: tuple[ChannelFigures, ...]
    gpu: tuple[GpuKindFigures, ...]
    threads: tuple[ThreadFigures, ...]
    rss_peak_bytes: int
    device_peak_bytes: int | None
    gpu_means: dict[str, float]
    """Means of what the GPU said of itself, by the names of ``GpuReading``."""
    verdict: Verdict
    notes: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Of the whole run, beginning and end included."""
        return self.frames / self.seconds

    @property
    def steady_fps(self) -> float:
        """Of the steady part."""
        return self.steady_frames / self.steady_s if self.steady_s > 0 else self.fps

    def stage(self, name: str) -> StageFigures:
        """One stage."""
        return next(stage for stage in self.stages if stage.name == name)


def measure(run: Recorded) -> Figures:
    """Work the figures of a run out."""
    start_s, stop_s, steady_frames = steady_window(run.graph)
    snapshot = snapshot_of(run.graph, start_s=start_s, stop_s=stop_s)
    names = [stage.name for stage in run.graph.lanes[0].stages]
    owners = owners_of(run)
    used = used_by_owner(run, owners, start_s=start_s, stop_s=stop_s)
    ever_used = used_by_owner(run, owners, start_s=run.graph.started_s, stop_s=run.graph.ended_s)
    per_frame = 1 / max(1, steady_frames)
    gpu = tuple(_gpu_figures(run.gpu_spans, start_s=start_s, stop_s=stop_s, frames=steady_frames))
    return Figures(
        frames=run.frames,
        seconds=run.seconds,
        steady_frames=steady_frames,
        steady_s=stop_s - start_s,
        window=(start_s, stop_s),
        stages=tuple(
            _stage_figures(
                run,
                place,
                window=(start_s, stop_s),
                used={
                    number: spent
                    for owner, threads in (ever_used if name == names[-1] else used).items()
                    if owner == name or (name, owner) == ("upscale", "engine")
                    for number, spent in threads.items()
                },
                gpu_s=sum(kind.per_frame_s for kind in gpu if kind.stage == name and not kind.bytes),
                per_frame=per_frame,
            )
            for place, name in enumerate(names)
        ),
        channels=_channel_figures(snapshot),
        gpu=gpu,
        threads=tuple(
            ThreadFigures(
                owner=owner,
                count=len(entry),
                cpu_share=sum(cpu_s for cpu_s, _ in entry.values()) / (stop_s - start_s),
                queued_share=sum(queued_s for _, queued_s in entry.values()) / (stop_s - start_s),
            )
            for owner, entry in used.items()
        ),
        rss_peak_bytes=max((sample.rss_bytes for sample in run.samples), default=0),
        device_peak_bytes=max(
            (sample.gpu.used_bytes for sample in run.samples if sample.gpu and sample.gpu.used_bytes), default=None
        ),
        gpu_means=_gpu_means([sample for sample in run.samples if start_s <= sample.time_s <= stop_s]),
        verdict=find_bottleneck(snapshot),
        notes=run.notes,
    )


def _stage_figures(
    run: Recorded, place: int, *, window: tuple[float, float], used: Used, gpu_s: float, per_frame: float
) -> StageFigures:
    stages = [lane.stages[place] for lane in run.graph.lanes]
    pieces = [piece for stage in stages for piece in pieces_of(stage)]
    spent = spent_s(pieces, start_s=window[0], stop_s=window[1])
    whole_s = sum(spent.values()) or 1.0
    shares = {kind: seconds / whole_s for kind, seconds in spent.items()}
    if place == len(run.graph.lanes[0].stages) - 1:
        spent = spent_s(pieces, start_s=run.graph.started_s, stop_s=run.graph.ended_s)
        whole_s = sum(spent.values()) or 1.0
        per_frame = 1 / max(1, run.frames)
    within = [mark for lane in run.graph.lanes for mark in lane.stages[-1].marks if window[0] <= mark[0] < window[1]]
    frames = (
        (min(mark[1] for mark in within), max(mark[2] for mark in within))
        if len(run.graph.lanes) == 1 and within
        else None
    )
    times = service_times(pieces, frames=frames)
    own = {stage.thread_id for stage in stages}
    cpu_s = sum(thread[0] for thread in used.values())
    queued_s = work_queued_s(
        work_s=spent["work"],
        work_share=spent["work"] / whole_s,
        own=[thread for number, thread in used.items() if number in own],
        helpers=[thread for number, thread in used.items() if number not in own],
    )
    return StageFigures(
        name=stages[0].name,
        shares=shares,
        service_mean_s=spent["work"] * per_frame,
        service_p50_s=times.p50_s,
        service_p90_s=times.p90_s,
        service_p99_s=times.p99_s,
        cpu_s=cpu_s * per_frame,
        queued_s=queued_s * per_frame,
        gpu_s=gpu_s,
    )


def _channel_figures(snapshot: GraphSnapshot) -> tuple[ChannelFigures, ...]:
    return tuple(
        ChannelFigures(name=channel.name, capacity=channel.capacity, occupancy=channel.occupancy, full=channel.full)
        for channel in snapshot.channels
    )


def _gpu_figures(spans: Sequence[Span], *, start_s: float, stop_s: float, frames: int) -> list[GpuKindFigures]:
    found = []
    for kind in sorted({span.kind for span in spans}):
        own = [span for span in spans if span.kind == kind and span.start_s < stop_s and span.stop_s > start_s]
        if not own:
            continue
        lengths = [span.stop_s - span.start_s for span in own]
        busy_s = length(clipped(merged((s.start_s, s.stop_s) for s in own), start_s=start_s, stop_s=stop_s))
        moved = sum(span.bytes for span in own)
        found.append(
            GpuKindFigures(
                kind=kind,
                stage=GPU_STAGES.get(kind, "stitch"),
                count=len(own),
                busy_share=busy_s / (stop_s - start_s),
                median_s=statistics.median(lengths),
                per_frame_s=busy_s / max(1, frames),
                bytes=moved,
                gb_per_s=moved / sum(lengths) / 1e9 if moved and sum(lengths) > 0 else 0.0,
            )
        )
    return found


def _gpu_means(samples: Sequence[Sample]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for sample in samples:
        if sample.gpu is None:
            continue
        for name in type(sample.gpu).__dataclass_fields__:
            value = getattr(sample.gpu, name)
            if value is not None:
                found.setdefault(name, []).append(float(value))
    return {name: statistics.fmean(values) for name, values in found.items()}
