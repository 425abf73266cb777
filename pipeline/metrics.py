"""What a run measures about itself: snapshots of stages and channels, and the bottleneck they point to.

Counters live with their owners (a channel counts under its own lock, a stage in its own thread); this module holds the
values read from them and the arithmetic on those values. Times are seconds of ``time.perf_counter``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StageState = Literal["waiting", "running", "done", "cut", "aborted", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSnapshot:
    """One stage at one moment."""

    name: str
    state: StageState
    items_in: int
    items_out: int
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
    """Share of the time in which at least one item waited, 0 to 1."""
    full: float
    """Share of the time in which no room was left, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSnapshot:
    """The whole graph at one moment, in stage order; ``channels[i]`` joins ``stages[i]`` and ``stages[i + 1]``."""

    elapsed_s: float
    stages: tuple[StageSnapshot, ...]
    channels: tuple[ChannelSnapshot, ...]
    pool_bytes: int = 0
    """Bytes that the pools allocated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which stage limits the run."""

    stage: str
    """Name of the limiting stage; empty while too little was measured to say."""
    load: float
    """Its load, 0 to 1."""
    text: str
    """One sentence for people: which stage, how busy, and what the others do meanwhile."""
