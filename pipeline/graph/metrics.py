"""What a run measures about itself: snapshots of stages and channels, and the bottleneck they point to.

Counters live with their owners (a channel counts under its own lock, a stage in its own thread); this module holds the
two small meters they count with, the values read from them, and the arithmetic on those values. Times are seconds of
``time.perf_counter``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Literal

StageState = Literal["waiting", "running", "done", "cut", "aborted", "failed"]

OCCUPIED_FROM = 0.9
"""An inbox that is occupied for this share of the time never starves its stage. Source: STYLE 3.7."""
EMPTY_UP_TO = 0.1
"""An outbox that is occupied for at most this share of the time never holds its stage up. Source: STYLE 3.7."""


class WaitMeter:
    """How long one side of a channel, or one thread at a pool, was blocked, and how long each time.

    Waits are sorted into buckets whose width is at most 1/8 of their value, so a quantile is right to 12.5 %, in
    constant memory. Not locked: the owner calls it under its own lock.

    Args:
        keeps: Whether to keep also when each wait was.
    """

    __slots__ = ("_buckets", "_since_s", "_spans", "_total_s")

    def __init__(self, *, keeps: bool = False) -> None:
        self._since_s: float | None = None
        self._total_s = 0.0
        self._buckets: dict[int, int] = {}
        self._spans: list[tuple[float, float]] | None = [] if keeps else None

    @property
    def is_waiting(self) -> bool:
        """Whether a wait is under way."""
        return self._since_s is not None

    def start(self) -> None:
        """A wait begins."""
        self._since_s = time.perf_counter()

    def stop(self) -> None:
        """The wait that was started is over."""
        if self._since_s is None:
            raise RuntimeError("stop() without start()")
        since_s, now_s = self._since_s, time.perf_counter()
        wait_s = now_s - since_s
        self._since_s = None
        if self._spans is not None:
            self._spans.append((since_s, now_s))
        self._total_s += wait_s
        bucket = _bucket_of(int(wait_s * 1e6))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def spans(self) -> tuple[tuple[float, float], ...]:
        """When each wait that is over was, in order; nothing if that was not to be kept."""
        return tuple(self._spans or ())

    def total_s(self) -> float:
        """Seconds of all waits, the one under way included."""
        running_s = 0.0 if self._since_s is None else time.perf_counter() - self._since_s
        return self._total_s + running_s

    def quantile_s(self, share: float, *, calls: int) -> float:
        """The wait that ``share`` (0 to 1) of all ``calls`` did not exceed, seconds, rounded up to its bucket's end.

        Calls that did not block at all count as 0 s. 0 if there were no calls.
        """
        longer = calls - math.ceil(share * calls)  # calls that may have been blocked for longer than the quantile
        for bucket in sorted(self._buckets, reverse=True):
            longer -= self._buckets[bucket]
            if longer < 0:
                return _bucket_end_us(bucket) / 1e6
        return 0.0


def _bucket_of(wait_us: int) -> int:
    """Number of the bucket of a wait: exact below 16 us, then eight buckets per doubling."""
    exponent = max(0, wait_us.bit_length() - 4)
    return 8 * exponent + (wait_us >> exponent)


def _bucket_end_us(bucket: int) -> int:
    """Where a bucket ends, microseconds."""
    exponent = max(0, bucket // 8 - 1)
    return (bucket - 8 * exponent + 1) << exponent


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSnapshot:
    """One stage at one moment."""

    name: str
    state: StageState
    """``waiting`` and ``running`` while it lives; ``done`` after it returned, ``cut`` if it was ended because nobody
    wanted more, ``aborted`` if the run was, ``failed`` if it raised."""
    items_in: int
    """Items received; 0 for a source."""
    items_out: int
    """Items handed on; 0 for a sink."""
    elapsed_s: float
    """Since the stage's thread started, until it ended."""
    wait_in_s: float
    """Blocked because nothing had arrived: the stage was starved."""
    wait_out_s: float
    """Blocked because the next stage had no room: the stage was held up."""
    wait_buffer_s: float = 0.0
    """Blocked because the memory pool had no free buffer."""

    @property
    def busy_s(self) -> float:
        """Time in which the stage did its own work."""
        return max(0.0, self.elapsed_s - self.wait_in_s - self.wait_out_s - self.wait_buffer_s)

    @property
    def load(self) -> float:
        """Share of the elapsed time that was work, 0 to 1."""
        return self.busy_s / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSnapshot:
    """One channel at one moment."""

    name: str
    """``<producer>-><consumer>``."""
    capacity: int
    depth: int
    """Items waiting now."""
    peak: int
    """Most items that ever waited."""
    sent: int
    received: int
    occupancy: float
    """Share of the time in which at least one item waited, 0 to 1. Exact: every change of depth is timed."""
    full: float
    """Share of the time in which no room was left, 0 to 1."""
    state: str = "open"
    """``open``, ``finished``, ``closed`` or ``aborted``."""
    open_s: float = 0.0
    """The time that the shares refer to: from the channel's creation until nothing could pass any more."""
    send_wait_s: float = 0.0
    """Time in which the sender was blocked."""
    receive_wait_s: float = 0.0
    """Time in which the receiver was blocked."""
    send_wait_p50_s: float = 0.0
    """Half of all sends were blocked for at most this long; right to 12.5 %."""
    send_wait_p99_s: float = 0.0
    receive_wait_p50_s: float = 0.0
    receive_wait_p99_s: float = 0.0
    is_sender_waiting: bool = False
    """The sender is blocked now."""
    is_receiver_waiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSnapshot:
    """The whole graph at one moment, in stage order; ``channels[i]`` joins ``stages[i]`` and ``stages[i + 1]``.

    Of a run of several lanes, each stage and channel stands for those of all lanes (`pipeline.graph.lane_figures`).
    """

    elapsed_s: float
    stages: tuple[StageSnapshot, ...]
    channels: tuple[ChannelSnapshot, ...]
    pool_bytes: int = 0
    """Bytes that the pools allocated."""
    was_stopped: bool = False
    """The source was ended by ``StopToken.stop()`` before its own end: the output is a whole prefix, not the whole."""
    lanes: tuple[GraphSnapshot, ...] = ()
    """The parts of a run of several lanes, with their stages' full names: ``encode[1]``; empty for a single line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which stage limits the run."""

    stage: str
    """Name of the limiting stage; empty while too little was measured to say."""
    load: float
    """Its load, 0 to 1."""
    text: str
    """One sentence for people: which stage, how busy, and what the others do meanwhile."""


def find_bottleneck(snapshot: GraphSnapshot) -> Verdict:
    """Say which stage limits the run.

    It is the stage that always has work (inbox occupied for at least 90 % of the time; a source that is at it for as
    much of the time that the longest stage takes) and whose result is always taken at once (outbox occupied for at most
    10 %; a sink's always is). Where no stage meets both,
    or several do, the one that has worked for longest is named, and the sentence says how sure that is. Not the one
    with the highest load: the source of a short film works all of its time, and is done when the others have begun.

    Args:
        snapshot: Of a running or a finished graph, or a window of one (`window_between`).

    Returns:
        The verdict; ``stage`` is empty until an item has reached the last stage.
    """
    if not snapshot.channels or snapshot.channels[-1].received == 0 or snapshot.elapsed_s <= 0:
        return Verdict(stage="", load=0.0, text="Too little has passed through to say which stage limits the run.")
    strict = [stage for i, stage in enumerate(snapshot.stages) if _is_limit(snapshot, i)]
    limit = max(strict or snapshot.stages, key=lambda stage: stage.busy_s)
    others = [_describe_wait(stage) for stage in snapshot.stages if stage is not limit]
    meanwhile = "; ".join(text for text in others if text)
    if strict:
        text = f"{limit.name} limits the run: it works {limit.load:.0%} of the time"
    else:
        text = f"No stage limits the run alone; {limit.name} comes nearest, working {limit.load:.0%} of the time"
    return Verdict(stage=limit.name, load=limit.load, text=f"{text}; {meanwhile}." if meanwhile else f"{text}.")


def _is_limit(snapshot: GraphSnapshot, index: int) -> bool:
    """Whether stage ``index`` always has work and always gets rid of it."""
    if index == 0:  # of a photo, it is done before the others have begun
        has_work = snapshot.stages[0].elapsed_s >= OCCUPIED_FROM * max(stage.elapsed_s for stage in snapshot.stages)
    else:
        has_work = snapshot.channels[index - 1].occupancy >= OCCUPIED_FROM
    is_taken = index == len(snapshot.channels) or snapshot.channels[index].occupancy <= EMPTY_UP_TO
    return has_work and is_taken


def _describe_wait(stage: StageSnapshot) -> str:
    """What a stage mostly waits for, in words; empty if it waits for less than a tenth of its time."""
    share, reason = max(
        (stage.wait_in_s, "waits for work"),
        (stage.wait_out_s, "waits for the next stage"),
        (stage.wait_buffer_s, "waits for a free buffer"),
    )
    if stage.elapsed_s <= 0 or share < 0.1 * stage.elapsed_s:
        return ""
    return f"{stage.name} {reason} {share / stage.elapsed_s:.0%}"


def window_between(earlier: GraphSnapshot, *, later: GraphSnapshot) -> GraphSnapshot:
    """What happened between two snapshots of one graph: counts, times and shares of that window alone.

    Depths, peaks, states and quantiles are those of ``later``.

    Raises:
        ValueError: The snapshots are not of the same graph.
    """
    before, after = [stage.name for stage in earlier.stages], [stage.name for stage in later.stages]
    if before != after:
        raise ValueError(f"snapshots of different graphs: {before} and {after}")
    return replace(
        later,
        elapsed_s=later.elapsed_s - earlier.elapsed_s,
        stages=tuple(
            replace(
                b,
                items_in=b.items_in - a.items_in,
                items_out=b.items_out - a.items_out,
                elapsed_s=b.elapsed_s - a.elapsed_s,
                wait_in_s=b.wait_in_s - a.wait_in_s,
                wait_out_s=b.wait_out_s - a.wait_out_s,
                wait_buffer_s=b.wait_buffer_s - a.wait_buffer_s,
            )
            for a, b in zip(earlier.stages, later.stages, strict=True)
        ),
        channels=tuple(
            replace(
                b,
                sent=b.sent - a.sent,
                received=b.received - a.received,
                open_s=b.open_s - a.open_s,
                occupancy=_share_between(a.occupancy, a.open_s, b.occupancy, b.open_s),
                full=_share_between(a.full, a.open_s, b.full, b.open_s),
                send_wait_s=b.send_wait_s - a.send_wait_s,
                receive_wait_s=b.receive_wait_s - a.receive_wait_s,
            )
            for a, b in zip(earlier.channels, later.channels, strict=True)
        ),
        lanes=tuple(window_between(a, later=b) for a, b in zip(earlier.lanes, later.lanes, strict=True)),
    )


def _share_between(earlier: float, earlier_s: float, later: float, later_s: float) -> float:
    """Share within a window, from the shares since the start at its two ends; 0 for an empty window."""
    if later_s <= earlier_s:
        return 0.0
    return min(1.0, max(0.0, (later * later_s - earlier * earlier_s) / (later_s - earlier_s)))
