"""What times of work on a GPU say about each other: how busy, how much at once, how long the engine waited.

Plain arithmetic on intervals; ``gpu_timeline.py`` measures them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[float, float]
"""Half-open, seconds."""

ENGINE = "engine"
LAST_KERNEL = "finish"
"""Once for each frame."""
LONG_GAP_S = 1e-4
"""From here on a gap of the engine is counted as a long one: a hundredth of a frame's time at 100 frames a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One piece of work."""

    kind: str
    """``decode``, ``upload``, ``cut``, ``engine`` ..."""
    lane: int
    frame: int
    """Number within the lane, from 0; of a batch its first."""
    start_s: float
    """Seconds on the GPU's clock since the trace began."""
    stop_s: float
    is_on_host: bool = False
    """Work of the processor, on the host's clock."""
    bytes: int = 0
    """That a copy moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """All work of one kind within a window."""

    count: int
    busy_share: float
    """Share of the window in which at least one piece of it was under way."""
    median_ms: float
    """Of one piece, whole, from its first moment to its last."""
    least_ms: float
    """Of the shortest piece, whole: the one in which the host held up the least, if it held up any."""
    beside_engine_share: float
    """Share of this kind's busy time in which the engine was busy too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapFigures:
    """How the kinds of work lay beside each other within a window."""

    window_s: float
    frame_count: int
    """Frames, of all lanes, whose last kernel ended within the window."""
    kinds: dict[str, KindFigures]
    two_kinds_share: float
    """Share of the window in which work of two kinds or more was under way."""
    two_gpu_kinds_share: float
    """The same without the processor's work."""
    engine_gap_count: int
    """Times within the window in which no inference ran. Those between the inferences of different lanes, some
    microseconds each, are not seen: see `one_after_the_other`."""
    engine_long_gap_count: int
    """Those of ``LONG_GAP_S`` or more."""
    engine_longest_gap_ms: float
    engine_gaps_ms: float
    """Sum of all."""


def measure_overlap(spans: Sequence[Span], *, start_s: float, stop_s: float) -> OverlapFigures:
    """Measure a window of a trace. What began before it or ended after it counts as far as it lies within.

    Args:
        spans: In any order.
        start_s, stop_s: The window.

    Raises:
        ValueError: The window is empty.
    """
    if stop_s <= start_s:
        raise ValueError(f"the window from {start_s} to {stop_s} s is empty")
    window_s = stop_s - start_s
    within = [span for span in spans if span.start_s < stop_s and span.stop_s > start_s]
    busy = {
        kind: clipped(
            merged((span.start_s, span.stop_s) for span in within if span.kind == kind), start_s=start_s, stop_s=stop_s
        )
        for kind in sorted({span.kind for span in within})
    }
    engine = busy.get(ENGINE, [])
    on_host = {span.kind for span in within if span.is_on_host}
    gaps = [stop - start for start, stop in gaps_between(engine, start_s=start_s, stop_s=stop_s)]
    return OverlapFigures(
        window_s=window_s,
        frame_count=sum(span.kind == LAST_KERNEL and start_s < span.stop_s <= stop_s for span in spans),
        kinds={
            kind: KindFigures(
                count=sum(span.kind == kind for span in within),
                busy_share=length(intervals) / window_s,
                median_ms=1e3 * statistics.median(span.stop_s - span.start_s for span in within if span.kind == kind),
                least_ms=1e3 * min(span.stop_s - span.start_s for span in within if span.kind == kind),
                beside_engine_share=length(covered([intervals, engine], at_least=2)) / max(length(intervals), 1e-12),
            )
            for kind, intervals in busy.items()
        },
        two_kinds_share=length(covered(busy.values(), at_least=2)) / window_s,
        two_gpu_kinds_share=length(
            covered((intervals for kind, intervals in busy.items() if kind not in on_host), at_least=2)
        )
        / window_s,
        engine_gap_count=len(gaps),
        engine_long_gap_count=sum(gap_s >= LONG_GAP_S for gap_s in gaps),
        engine_longest_gap_ms=1e3 * max(gaps, default=0.0),
        engine_gaps_ms=1e3 * sum(gaps),
    )


def steady_window(spans: Sequence[Span], *, first: int, last: int) -> Interval:
    """From where the engine has begun a frame in every lane to where it has ended another one in some lane.

    Args:
        spans: Of all lanes.
        first: Number of the frame that begins it, or that comes before the batch that does.
        last: Number of the frame that ends it; a batch that it does not begin is left out.

    Raises:
        ValueError: A lane has no such frames, or the lanes were never at them at the same time.
    """
    starts: dict[int, float] = {}
    stops: dict[int, float] = {}
    lanes = {span.lane for span in spans}
    for span in spans:
        if span.kind == ENGINE and span.frame >= first:
            starts[span.lane] = min(span.start_s, starts.get(span.lane, span.start_s))
        if span.kind == ENGINE and span.frame <= last:
            stops[span.lane] = max(span.stop_s, stops.get(span.lane, span.stop_s))
    if not lanes or set(starts) != lanes:
        raise ValueError(f"the engine did not see frame {first} of every lane: lanes {sorted(lanes - set(starts))}")
    start_s, stop_s = max(starts.values()), min(stops.values())
    if stop_s <= start_s:
        raise ValueError(f"the lanes were not at frames {first} to {last} at the same time")
    return start_s, stop_s


def one_after_the_other(spans: Iterable[Span]) -> list[Span]:
    """Let each piece of work begin where the one before it ended, if it seemed to begin earlier.

    For work that is put into one queue from several streams: each stream sees its own as begun when its turn has not
    come yet. What the queue takes from one to the next counts as work of the next. What was over before that has no
    length left: should two run at the same time after all, they are not counted twice.

    Args:
        spans: In the order in which they were put there.
    """
    ordered: list[Span] = []
    over_s = float("-inf")
    for span in spans:
        start_s = min(max(span.start_s, over_s), span.stop_s)
        over_s = max(over_s, span.stop_s)
        ordered.append(
            Span(
                kind=span.kind,
                lane=span.lane,
                frame=span.frame,
                start_s=start_s,
                stop_s=span.stop_s,
                is_on_host=span.is_on_host,
                bytes=span.bytes,
            )
        )
    return ordered


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time without overlaps, in order; what touches is one."""
    result: list[Interval] = []
    for start, stop in sorted(intervals):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], stop))
        elif stop > start:
            result.append((start, stop))
    return result


def clipped(intervals: Iterable[Interval], *, start_s: float, stop_s: float) -> list[Interval]:
    """What of intervals lies within a window."""
    cut = ((max(start, start_s), min(stop, stop_s)) for start, stop in intervals)
    return [(start, stop) for start, stop in cut if stop > start]


def covered(rows: Iterable[Sequence[Interval]], *, at_least: int) -> list[Interval]:
    """Where at least so many of several rows, each without overlaps in itself, are at the same time."""
    edges = sorted(edge for row in rows for start, stop in row for edge in ((start, 1), (stop, -1)))
    result: list[Interval] = []
    depth = 0
    begun_s = 0.0
    for time_s, step in edges:  # at equal times ends come first: touching is no overlap
        if depth < at_least <= depth + step:
            begun_s = time_s
        elif depth + step < at_least <= depth and time_s > begun_s:
            result.append((begun_s, time_s))
        depth += step
    return result


def gaps_between(intervals: Sequence[Interval], *, start_s: float, stop_s: float) -> list[Interval]:
    """What of a window is in none of the intervals, which are merged and clipped to it."""
    edges = [start_s, *(edge for interval in intervals for edge in interval), stop_s]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if stop > start]


def length(intervals: Iterable[Interval]) -> float:
    """Seconds of intervals that do not overlap."""
    return sum(stop - start for start, stop in intervals)
