"""What tuning tries and measures, and the most that a setting can bring."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tools.profile_predict import Cost, bound_fps

Value = int | str | None
Settings = tuple[tuple[str, Value], ...]
"""Dotted names and values, sorted; what is not in it is as the config has it."""

WORTH = 0.02
"""A setting that cannot make a run faster by more than this share is not tried (asked for in issue 8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One setting and the values that it can have."""

    name: str
    values: tuple[Value, ...]
    """From less to more; among them the one that the run begins with."""
    start: int
    """Which of them that is."""
    stages: frozenset[str]
    """Whose time it can shorten."""
    shares_work: bool = False
    """Whether it lets stages work side by side: then only processor and GPU bound what it brings."""
    is_offered: bool = False
    """Whether it changes the picture or the file: then it is measured, but never taken by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run with given settings."""

    settings: Settings
    fps: float
    """0 if it was refused; of an abandoned run, until then."""
    seconds: float
    """What measuring it took, opening the network included."""
    error: float = 0.0
    """Standard error of ``fps``, as a share of it."""
    costs: tuple[Cost, ...] = ()
    """Of the stages; empty if the run was not finished."""
    lanes: int = 1
    cores: float = 1.0
    """That the run could have."""
    limit: str = ""
    """The stage that limits it."""
    peak_bytes: int = 0
    """Of the host's memory, resident."""
    device_peak_bytes: int | None = None
    frame_bytes: float = 0.0
    """Of the result, for each frame."""
    is_abandoned: bool = False
    refusal: str = ""
    """Why it cannot be run; empty if it can."""

    @property
    def is_whole(self) -> bool:
        """Whether it says how fast the settings are."""
        return not self.is_abandoned and not self.refusal


class Bench(Protocol):
    """Whatever measures settings."""

    def measure(self, settings: Settings, *, rival_fps: float | None) -> Measured:
        """Run with these settings.

        Args:
            settings: What differs from the config.
            rival_fps: The run is given up as soon as it is clearly slower than this; None: it is finished.
        """
        ...


@dataclass(slots=True)
class Trial:
    """Settings and all runs with them."""

    settings: Settings
    runs: list[Measured] = field(default_factory=list)

    @property
    def whole(self) -> list[Measured]:
        """Runs that were finished."""
        return [run for run in self.runs if run.is_whole]

    @property
    def fps(self) -> float:
        """Median of the runs that were finished; 0 without any."""
        return statistics.median(run.fps for run in self.whole) if self.whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the search found."""

    best: Trial
    base: Trial
    trials: tuple[Trial, ...]
    """All, in the order in which they were first tried."""
    dropped: Mapping[str, float]
    """Knobs that were not tried, and the most that they could have brought: frames per second."""
    gain: float
    """How much faster the best is than the run as it is, by runs in turns where there was time for them."""
    spent_s: float
    is_cut_short: bool
    """Whether the budget ended before the search did."""


def upper_fps(run: Measured, knob: Knob) -> float:
    """Frames per second that the run would reach if what a knob concerns took no time; infinite if nobody knows."""
    if not run.costs:
        return float("inf")
    whole, _ = bound_fps(run.costs, lanes=run.lanes, cores=run.cores)
    if knob.shares_work:  # no thread of a stage is in the way, and the processor's and the GPU's work stays
        left: Sequence[Cost] = [replace(cost, alone_s=0.0) for cost in run.costs]
    else:
        left = [cost for cost in run.costs if cost.stage not in knob.stages]
    rest, _ = bound_fps(left, lanes=run.lanes, cores=run.cores)
    return run.fps * max(1.0, rest / whole)
