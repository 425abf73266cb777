"""What a run did, moment by moment: a record that whoever asks for it gets when the run is over.

A run is traced if `run_graph` is given a `Tracer`. Each thread then keeps its own times: a stage when items came, both
ends of a channel and of a pool when they were blocked, a channel how many items waited. They are appended to lists that
one thread writes, or under a lock that is held anyway; nothing is computed or written until all threads have ended.
A run that is not traced tests one attribute for each item.

About 1 kB is kept for each frame, so a tracer is for thousands of frames, not for a night.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Span = tuple[float, float]
"""Half-open interval, ``perf_counter`` seconds."""
Mark = tuple[float, int, int]
"""A moment, ``perf_counter`` seconds, and the frames (start, stop) that a stage works for from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTrace:
    """One stage in its thread. What is in none of the waits is work."""

    name: str
    """Without the number of the lane."""
    thread_id: int | None
    """The system's number of the thread."""
    started_s: float
    ended_s: float
    starved: tuple[Span, ...]
    """Blocked because nothing had arrived."""
    blocked: tuple[Span, ...]
    """Blocked because the next stage had no room."""
    unbuffered: tuple[Span, ...]
    """Blocked because a pool had no free buffer."""
    marks: tuple[Mark, ...]
    """In order. Each holds until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTrace:
    """One channel."""

    name: str
    """``<producer>-><consumer>``, without the number of the lane."""
    capacity: int
    depths: tuple[tuple[float, int], ...]
    """Moments at which the number of waiting items changed, and the number from then on; 0 before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTrace:
    """One line of stages; ``channels[i]`` joins ``stages[i]`` and ``stages[i + 1]``."""

    stages: tuple[StageTrace, ...]
    channels: tuple[ChannelTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTrace:
    """All lanes of one graph."""

    started_s: float
    ended_s: float
    lanes: tuple[LaneTrace, ...]


@dataclass(slots=True)
class Tracer:
    """Takes the records of the graphs of a run, each when its threads have ended, whatever ended them."""

    graphs: list[GraphTrace] = field(default_factory=list)


def frames_of(item: object) -> tuple[int, int]:
    """Which frames an item is of: start and stop; (0, 0) for items that belong to none."""
    slots = getattr(item, "slots", None)  # a batch of tiles has a stamp per tile
    first, last = (slots[0], slots[-1]) if slots else (item, item)
    first, last = getattr(first, "stamp", None), getattr(last, "stamp", None)
    if first is None or last is None:
        return 0, 0
    return first.index, last.index + 1


def begun_at(marks: list[Mark], *, started_s: float) -> tuple[Mark, ...]:
    """The marks of a source, which knows a frame only when it has made it: each from when the one before was made."""
    starts_s = [started_s, *(mark[0] for mark in marks)]
    return tuple((start_s, first, stop) for start_s, (_, first, stop) in zip(starts_s, marks, strict=False))
