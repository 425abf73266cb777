"""What a record of a run's threads says: what each did when, its shares of a window, its time per frame.

Plain arithmetic on ``pipeline.graph.tracing``; times are seconds of ``perf_counter``.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.graph.lane_figures import join_lanes
from pipeline.graph.metrics import ChannelSnapshot, GraphSnapshot, StageSnapshot
from pipeline.graph.tracing import ChannelTrace, GraphTrace, LaneTrace, StageTrace

Kind = Literal["work", "starved", "blocked", "unbuffered"]
KINDS: tuple[Kind, ...] = ("work", "starved", "blocked", "unbuffered")
STEADY_SHARE = (0.1, 0.9)
"""Of the frames at the last stage, between which a run is neither filling nor emptying."""
_PAUSE = 0.5
"""Frames that come within this share of the mean time between two are of one burst."""
_LEAST_SHARE = 0.25
"""Of all frames, that a window must have which ends when the first lane is through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of one thread's time in which it did one thing."""

    kind: Kind
    start_s: float
    stop_s: float
    first: int
    """Frames that it was for: ``first`` to ``stop``; none before the first item came, where both are 0."""
    stop: int

    @property
    def length_s(self) -> float:
        """Seconds."""
        return self.stop_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTimes:
    """Work of one stage for single frames, seconds, waits left out."""

    frame_count: int
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float


def pieces_of(stage: StageTrace) -> list[Piece]:
    """All of a thread's time, without gaps or overlaps, in order: its waits, and its work cut at every new item."""
    waits: list[tuple[float, float, Kind]] = sorted(
        [(start, stop, "starved") for start, stop in stage.starved]
        + [(start, stop, "blocked") for start, stop in stage.blocked]
        + [(start, stop, "unbuffered") for start, stop in stage.unbuffered]
    )
    marks = [*stage.marks, (math.inf, 0, 0)]
    pieces: list[Piece] = []
    place, first, stop = 0, 0, 0

    def fill(kind: Kind, start_s: float, stop_s: float) -> None:
        nonlocal place, first, stop
        while start_s < stop_s or marks[place][0] <= start_s:
            if marks[place][0] <= start_s:
                _, first, stop = marks[place]
                place += 1
                continue
            end_s = min(stop_s, marks[place][0])
            pieces.append(Piece(kind=kind, start_s=start_s, stop_s=end_s, first=first, stop=stop))
            start_s = end_s

    at_s = stage.started_s
    for start_s, stop_s, kind in waits:
        fill("work", at_s, max(at_s, start_s))
        at_s = max(at_s, start_s)
        fill(kind, at_s, max(at_s, stop_s))
        at_s = max(at_s, stop_s)
    fill("work", at_s, stage.ended_s)
    return pieces


def spent_s(pieces: Iterable[Piece], *, start_s: float, stop_s: float) -> dict[Kind, float]:
    """Seconds of a window by what a thread did in it."""
    spent: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    for piece in pieces:
        spent[piece.kind] += max(0.0, min(piece.stop_s, stop_s) - max(piece.start_s, start_s))
    return spent


def service_times(pieces: Iterable[Piece], *, frames: tuple[int, int] | None = None) -> ServiceTimes:
    """Work per frame; what was done for several frames together is split evenly between them.

    Args:
        pieces: Of a stage's thread; of the threads of all lanes.
        frames: Only these, start and stop; None: all.
    """
    by_frame: dict[int, float] = {}
    for piece in pieces:
        if piece.kind == "work" and piece.stop > piece.first:
            each_s = piece.length_s / (piece.stop - piece.first)
            for frame in range(piece.first, piece.stop):
                by_frame[frame] = by_frame.get(frame, 0.0) + each_s
    found = sorted(s for frame, s in by_frame.items() if frames is None or frames[0] <= frame < frames[1])
    if not found:
        return ServiceTimes(frame_count=0, mean_s=0.0, p50_s=0.0, p90_s=0.0, p99_s=0.0)
    return ServiceTimes(
        frame_count=len(found),
        mean_s=math.fsum(found) / len(found),
        p50_s=quantile(found, 0.5),
        p90_s=quantile(found, 0.9),
        p99_s=quantile(found, 0.99),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least value that ``share`` of all do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def steady_window(graph: GraphTrace) -> tuple[float, float, int]:
    """From when a tenth of the frames had come to the last stage to when nine tenths had, of all lanes together.

    It ends sooner where one of several lanes is through sooner, for its pictures are easier: from then on the others do
    not fill the machine, which in a long film they do, as each takes the next segment. If too few frames were left
    then, it does not.

    Frames may come in bursts: all of a batch, of as many batches as are computed side by side. The window goes from the
    end of one burst to the end of another: from the middle of a burst on, what was made before it would be counted.

    Returns:
        Start, stop, and the frames that came within. The whole run where fewer than ten frames came, or all at once.
    """
    arrivals_s = sorted(mark[0] for lane in graph.lanes for mark in lane.stages[-1].marks)
    low, high = (round(share * len(arrivals_s)) for share in STEADY_SHARE)
    if len(arrivals_s) >= 10:
        ended_s = min(lane.stages[-1].marks[-1][0] for lane in graph.lanes if lane.stages[-1].marks)
        last = bisect.bisect_right(arrivals_s, ended_s) - 1
        high = min(high, last) if last - low >= _LEAST_SHARE * len(arrivals_s) else high
        pause_s = _PAUSE * (arrivals_s[high] - arrivals_s[low]) / (high - low)
        low, high = (_end_of_burst(arrivals_s, place, pause_s=pause_s) for place in (low, high))
        if low < high:
            return arrivals_s[low], arrivals_s[high], high - low
    return graph.started_s, graph.ended_s, len(arrivals_s)


def _end_of_burst(arrivals_s: Sequence[float], place: int, *, pause_s: float) -> int:
    """The last of those that came without a pause after the one at ``place``."""
    while place + 1 < len(arrivals_s) and arrivals_s[place + 1] - arrivals_s[place] < pause_s:
        place += 1
    return place


def snapshot_of(graph: GraphTrace, *, start_s: float, stop_s: float) -> GraphSnapshot:
    """A window of a record in the form in which a run reports itself, so that the same rules read both."""
    lanes = [_lane_snapshot(lane, start_s=start_s, stop_s=stop_s) for lane in graph.lanes]
    return join_lanes(lanes, stage_names=[stage.name for stage in graph.lanes[0].stages])


def _lane_snapshot(lane: LaneTrace, *, start_s: float, stop_s: float) -> GraphSnapshot:
    stages = []
    for stage in lane.stages:
        spent = spent_s(pieces_of(stage), start_s=start_s, stop_s=stop_s)
        absent_s = max(0.0, stop_s - start_s - sum(spent.values()))  # not begun, or ended: nothing to do
        came = sum(start_s <= mark[0] < stop_s for mark in stage.marks)
        stages.append(
            StageSnapshot(
                name=stage.name,
                state="running",
                items_in=0 if stage is lane.stages[0] else came,
                items_out=0 if stage is lane.stages[-1] else came,
                elapsed_s=stop_s - start_s,
                wait_in_s=spent["starved"] + absent_s,
                wait_out_s=spent["blocked"],
                wait_buffer_s=spent["unbuffered"],
            )
        )
    return GraphSnapshot(
        elapsed_s=stop_s - start_s,
        stages=tuple(stages),
        channels=tuple(_channel_snapshot(channel, start_s=start_s, stop_s=stop_s) for channel in lane.channels),
    )


def _channel_snapshot(channel: ChannelTrace, *, start_s: float, stop_s: float) -> ChannelSnapshot:
    occupied_s = full_s = 0.0
    depth, depth_before, at_s = 0, 0, start_s
    sent = received = peak = 0
    for time_s, depth_then in [*channel.depths, (stop_s, -1)]:
        end_s = min(max(time_s, start_s), stop_s)
        occupied_s += (end_s - at_s) * (depth > 0)
        full_s += (end_s - at_s) * (depth >= channel.capacity)
        at_s = end_s
        if depth_then < 0:
            break
        depth_before, depth = depth, depth_then
        if start_s <= time_s < stop_s:
            sent += depth > depth_before
            received += depth < depth_before
            peak = max(peak, depth)
    open_s = stop_s - start_s
    return ChannelSnapshot(
        name=channel.name,
        capacity=channel.capacity,
        depth=depth,
        peak=peak,
        sent=sent,
        received=received,
        occupancy=occupied_s / open_s if open_s > 0 else 0.0,
        full=full_s / open_s if open_s > 0 else 0.0,
        open_s=open_s,
    )
