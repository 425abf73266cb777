"""A run as a file that Perfetto (ui.perfetto.dev) and chrome://tracing open: the Chrome trace event format.

A process ``stages`` with a track for each stage and lane, a process ``gpu`` with one for each kind of work and lane,
and counters for channels, memory, cores and the GPU's load. Times are microseconds since the run began. Source of the
fields: "Trace Event Format" (Duan Nguyen, Google): ``ph`` X complete events with ``ts`` and ``dur``, C counters, M
metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.profile_record import Recorded
from tools.profile_samples import cores_busy
from tools.profile_shares import pieces_of

STAGES, GPU, COUNTERS = 1, 2, 3
"""Numbers of the processes."""
COLOURS = {"work": "good", "starved": "grey", "blocked": "bad", "unbuffered": "terrible"}
"""Names that the format reserves."""


def chrome_trace(run: Recorded) -> dict[str, Any]:
    """The whole file, as JSON-native values."""
    return {
        "traceEvents": [*_names(run), *_stage_events(run), *_gpu_events(run), *_counters(run)],
        "displayTimeUnit": "ms",
    }


def _us(time_s: float, run: Recorded) -> float:
    return round(1e6 * (time_s - run.graph.started_s), 3)


def _names(run: Recorded) -> Iterator[dict[str, Any]]:
    processes = [(STAGES, "stages"), *([(GPU, "gpu")] if run.gpu_spans else []), (COUNTERS, "channels and machine")]
    for number, name in processes:
        yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": number, "tid": 0, "args": {"sort_index": number}}
    for thread, name in _stage_tracks(run):
        yield {"ph": "M", "name": "thread_name", "pid": STAGES, "tid": thread, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": STAGES, "tid": thread, "args": {"sort_index": thread}}
    for (kind, lane), thread in _gpu_tracks(run).items():
        yield {"ph": "M", "name": "thread_name", "pid": GPU, "tid": thread, "args": {"name": f"{kind} {lane}"}}


def _stage_tracks(run: Recorded) -> Iterator[tuple[int, str]]:
    is_single = len(run.graph.lanes) == 1
    for lane, line in enumerate(run.graph.lanes):
        for place, stage in enumerate(line.stages):
            yield _track(run, lane=lane, place=place), stage.name if is_single else f"{stage.name}[{lane}]"


def _track(run: Recorded, *, lane: int, place: int) -> int:
    return 1 + lane * len(run.graph.lanes[0].stages) + place


def _stage_events(run: Recorded) -> Iterator[dict[str, Any]]:
    for lane, line in enumerate(run.graph.lanes):
        for place, stage in enumerate(line.stages):
            for piece in pieces_of(stage):
                is_work = piece.kind == "work"
                yield {
                    "ph": "X",
                    "name": f"frame {piece.first}" if is_work and piece.stop > piece.first else piece.kind,
                    "cat": piece.kind,
                    "pid": STAGES,
                    "tid": _track(run, lane=lane, place=place),
                    "ts": _us(piece.start_s, run),
                    "dur": round(1e6 * piece.length_s, 3),
                    "cname": COLOURS[piece.kind],
                    "args": {"frames": list(range(piece.first, piece.stop)), "stage": stage.name},
                }


def _gpu_tracks(run: Recorded) -> dict[tuple[str, int], int]:
    rows = sorted({(span.kind, span.lane) for span in run.gpu_spans})
    return {row: number for number, row in enumerate(rows, start=1)}


def _gpu_events(run: Recorded) -> Iterator[dict[str, Any]]:
    tracks = _gpu_tracks(run)
    for span in run.gpu_spans:
        yield {
            "ph": "X",
            "name": f"{span.kind} {span.frame}",
            "cat": "gpu",
            "pid": GPU,
            "tid": tracks[span.kind, span.lane],
            "ts": _us(span.start_s, run),
            "dur": round(1e6 * (span.stop_s - span.start_s), 3),
            "args": {"frame": span.frame, "bytes": span.bytes},
        }


def _counters(run: Recorded) -> Iterator[dict[str, Any]]:
    is_single = len(run.graph.lanes) == 1
    for lane, line in enumerate(run.graph.lanes):
        for channel in line.channels:
            name = channel.name if is_single else f"{channel.name}[{lane}]"
            for time_s, depth in ((run.graph.started_s, 0), *channel.depths):
                yield _counter(name, time_s, run, waiting=depth)
    for time_s, cores in cores_busy(run.samples):
        yield _counter("cores busy", time_s, run, cores=round(cores, 2))
    for sample in run.samples:
        yield _counter("host memory (MiB)", sample.time_s, run, resident=round(sample.rss_bytes / 2**20, 1))
        if sample.gpu is not None:
            for field in type(sample.gpu).__dataclass_fields__:
                value = getattr(sample.gpu, field)
                if value is not None:
                    yield _counter(f"GPU {field}", sample.time_s, run, value=value)


def _counter(name: str, time_s: float, run: Recorded, **values: float) -> dict[str, Any]:
    return {"ph": "C", "name": name, "pid": COUNTERS, "tid": 0, "ts": max(0.0, _us(time_s, run)), "args": values}
