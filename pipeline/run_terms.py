"""What the graphs of one job have in common, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.stop import StopToken
from pipeline.instruments import Instruments
from pipeline.segments import CommittedSegment


def _ignore(segment: CommittedSegment) -> None:
    """Nobody wants to hear of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerms:
    """What all graphs of one job have in common."""

    work: Path
    """Folder for the segments; exists, unless nothing is written."""
    stop: StopToken
    """``stop()`` ends the run between two segments, ``abort()`` at once."""
    on_snapshot: Callable[[GraphSnapshot, int], None]
    """Called in the calling thread with the figures of the graph that runs, and the frames that were done before it."""
    interval_s: float
    """About how often, seconds."""
    on_committed: Callable[[CommittedSegment], None] = _ignore
    """Called with every segment as soon as it is on disk, in the thread of the lane that made it, several at once."""
    on_discarded: Callable[[CommittedSegment], None] = _ignore
    """Called in the calling thread with a segment that is not the film's after all, once its file is gone."""
    instruments: Instruments = field(default_factory=Instruments)
    """What a tool measures the run with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaledFilm:
    """A film's segments, and how they came to be."""

    segments: tuple[CommittedSegment, ...]
    """In film order, those that were done before included; without gaps if the film is complete."""
    is_complete: bool = True
    """Whether these are all; not if the run was stopped: then each is whole, but some are missing."""
    graph: GraphSnapshot
    """Of the graph that ran last."""
    graph_s: float
    """Time in which frames flowed, in all graphs."""
    damage: str | None
    """What of the film could not be read; None if nothing was lost."""
    notes: tuple[str, ...] = field(default=())
    """What was repaired without losing a frame, and why fewer lanes ran than were planned; one sentence each."""

    @property
    def frame_count(self) -> int:
        """Frames in all segments."""
        return sum(segment.frame_count for segment in self.segments)
