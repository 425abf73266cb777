"""Runs a plan's film through the real stages for so many frames, and keeps what tells where the time went."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines import Runner
from engines.gpu import Device
from pipeline.decode.base import Decoder
from pipeline.frames import Frame
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.stage import Stage
from pipeline.graph.stop import StopToken
from pipeline.graph.tracing import GraphTrace, Tracer
from pipeline.instruments import DecoderOpener, Instruments
from pipeline.lane_run import upscale_film
from pipeline.plan import JobPlan
from pipeline.run_terms import RunTerms
from pipeline.wiring import GpuOpener, open_planned_gpu
from tools.gpu_overlap import Span
from tools.gpu_trace import ClockTie, Trace
from tools.profile_nvml import open_gpu_meter
from tools.profile_samples import Sample, Sampler, read_threads
from tools.profile_stages import find_ranges, watch_stages
from tools.traced_gpu import TracedDevice, TracedRunner, trace_kernels
from tools.traced_stages import TracedSource, TracedTransform
from tools.wrapped import WrappedDecoder

StageWrapper = Callable[[Sequence[Stage], int], Sequence[Stage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run that was watched."""

    frames: int
    seconds: float
    """From the start of the threads to the last committed segment."""
    graph: GraphTrace
    samples: tuple[Sample, ...]
    gpu_spans: tuple[Span, ...] = ()
    """On the host's clock, ``perf_counter`` seconds."""
    before: frozenset[int] = frozenset()
    """The system's numbers of the threads that there were before the run: the network's, and the main one."""
    notes: tuple[str, ...] = ()
    """What the run said of itself, and what could not be watched and why."""
    bytes: int = 0
    """Of all segments."""
    cpu_s: float = 0.0
    """Of the processor, from before the run's pools were made until they were gone."""
    watch_cpu_s: float = 0.0
    """How much of that the thread took that looks at the others and asks the GPU."""
    ask_cpu_s: float = 0.0
    """How much of that it took to ask the GPU."""


class LimitedDecoder(WrappedDecoder):
    """A film that ends after so many frames. See ``pipeline.decode.base.Decoder``."""

    def __init__(self, inner: Decoder, *, frame_count: int) -> None:
        super().__init__(inner)
        self._frame_count = frame_count

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """The film's frames, those behind the limit left out."""
        stop = self._frame_count if stop is None else min(stop, self._frame_count)
        return self._inner.frames(start, stop) if start < stop else iter(())


def limited_plan(plan: JobPlan, *, frame_count: int) -> JobPlan:
    """A plan in which every lane has a segment, however few the frames are."""
    return replace(plan, segment_frames=min(plan.segment_frames, max(1, -(-frame_count // plan.lanes))))


def limit_decoder(frame_count: int) -> Callable[[DecoderOpener], DecoderOpener]:
    """Let every decoder end after so many frames of the film."""

    def wrap(opener: DecoderOpener) -> DecoderOpener:
        @contextmanager
        def opened() -> Iterator[Decoder]:
            with opener() as decoder:
                yield LimitedDecoder(decoder, frame_count=frame_count)

        return opened

    return wrap


def run_plain(plan: JobPlan, runner: Runner, *, frame_count: int) -> tuple[float, float]:
    """Run so many frames without a record, as a job does.

    Returns:
        Seconds, from the start of the threads to the last committed segment, and ``Recorded.cpu_s``.
    """
    with tempfile.TemporaryDirectory() as folder:
        terms = _terms(Path(folder), Instruments(wrap_decoder=limit_decoder(frame_count)))
        before_s = time.process_time()
        film = upscale_film(limited_plan(plan, frame_count=frame_count), runner, terms)
        return film.graph_s, time.process_time() - before_s


def record_run(
    plan: JobPlan,
    runner: Runner,
    *,
    frame_count: int,
    wrap_stages: StageWrapper | None = None,
    wrap_decoder: Callable[[DecoderOpener], DecoderOpener] | None = None,
    open_gpu: GpuOpener | None = None,
    stop: StopToken | None = None,
    on_snapshot: Callable[[GraphSnapshot, int], None] | None = None,
    interval_s: float = 1.0,
) -> Recorded:
    """Run so many frames, and keep what every thread, the GPU and the machine did meanwhile.

    Args:
        plan: What to run.
        runner: Opened for it; stays the caller's.
        frame_count: Frames of the film, from its beginning; fewer if it is shorter.
        wrap_stages: Put around the stages of a lane before they are watched.
        wrap_decoder: Puts another decoder in the place of the film's.
        open_gpu: The GPU and its kernels; None: the plan's.
        stop: Ends the run; None: nothing does.
        on_snapshot, interval_s: See ``RunTerms``.

    Raises:
        Aborted: By ``stop``.
        GraphFailed, MediaError, SetupError: As ``upscale_film`` says.
    """
    limited = limit_decoder(frame_count)
    tracer = Tracer()
    notes: list[str] = []
    ranges, missing = find_ranges()
    notes += [missing] if missing and plan.is_on_gpu else []
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        meter = None
        if plan.is_on_gpu or plan.backend.device_id.startswith("cuda"):
            meter, missing = open_gpu_meter(int((plan.backend.device_id.partition(":")[2]) or 0))
            notes += [missing] if missing else []
        if meter is not None:
            stack.enter_context(meter)
        gpu = _open_traced(plan, open_gpu, stack=stack) if plan.is_on_gpu else None

        def wrap(stages: Sequence[Stage], lane: int) -> Sequence[Stage]:
            stages = stages if wrap_stages is None else wrap_stages(stages, lane)
            if gpu is not None:
                stages = _trace_stages(stages, trace=gpu.trace, lane=lane)
            return watch_stages(stages, ranges=ranges, look=sampler.look)

        sampler = Sampler(read_gpu=None if meter is None else meter.read)
        before = frozenset(read_threads())
        instruments = Instruments(
            tracer=tracer,
            open_gpu=None if gpu is None else gpu.opener,
            wrap_stages=wrap,
            wrap_decoder=lambda opener: limited(opener if wrap_decoder is None else wrap_decoder(opener)),
        )
        network: Any = runner if gpu is None else TracedRunner(runner, trace=gpu.trace, device=gpu.device)
        with sampler:
            terms = _terms(Path(name), instruments)
            terms = replace(
                terms,
                stop=stop or terms.stop,
                on_snapshot=on_snapshot or terms.on_snapshot,
                interval_s=interval_s,
            )
            before_s = time.process_time()
            film = upscale_film(limited_plan(plan, frame_count=frame_count), network, terms)
            cpu_s = time.process_time() - before_s
        spans = [] if gpu is None else _on_host_clock(*gpu.trace.finish())
    return Recorded(
        frames=film.frame_count,
        seconds=film.graph_s,
        graph=tracer.graphs[-1],
        samples=tuple(sorted(sampler.samples, key=lambda sample: sample.time_s)),
        gpu_spans=tuple(spans),
        before=before,
        notes=(*film.notes, *notes),
        bytes=sum(segment.bytes for segment in film.segments),
        cpu_s=cpu_s,
        watch_cpu_s=sampler.cpu_s,
        ask_cpu_s=sampler.ask_cpu_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _TracedGpu:
    """A GPU whose work is timed."""

    trace: Trace
    device: Device
    opener: GpuOpener


def _open_traced(plan: JobPlan, open_gpu: GpuOpener | None, *, stack: ExitStack) -> _TracedGpu:
    device, make_kernels = (open_gpu or open_planned_gpu)(plan)
    trace = stack.enter_context(closing(Trace(device)))
    return _TracedGpu(
        trace=trace,
        device=device,
        opener=lambda _: (TracedDevice(device, trace=trace), trace_kernels(make_kernels, trace=trace)),
    )


def _trace_stages(stages: Sequence[Stage], *, trace: Trace, lane: int) -> tuple[Stage, ...]:
    source, *middle, sink = stages
    return (
        TracedSource(source, trace=trace, lane=lane, pools=()),  # type: ignore[arg-type]
        *(TracedTransform(stage, trace=trace, lane=lane) for stage in middle),  # type: ignore[arg-type]
        sink,
    )


def _on_host_clock(spans: Sequence[Span], clock: ClockTie) -> list[Span]:
    """The GPU's own work on the clock of the threads."""
    rate = (clock.host_stop_s - clock.host_start_s) / clock.gpu_stop_s
    return [
        replace(
            span,
            start_s=clock.host_start_s + span.start_s * rate,
            stop_s=clock.host_start_s + span.stop_s * rate,
        )
        for span in spans
        if not span.is_on_host
    ]


def _terms(folder: Path, instruments: Instruments) -> RunTerms:
    return RunTerms(work=folder, stop=StopToken(), on_snapshot=lambda *_: None, interval_s=1.0, instruments=instruments)
