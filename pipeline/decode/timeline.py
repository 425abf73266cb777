"""Presentation times that only go up: the source's own wherever it has them, repaired where it has not."""

from __future__ import annotations

import heapq
from fractions import Fraction

from pipeline.show.wording import format_count

DISCONTINUITY_S = 1
"""A step back of more than this is taken as a clock that was set anew (joined recordings), a smaller one as a wrong
stamp. Well above the reach of reordered frames (16 at 24 a second are 0.7 s), well below what a joined part lasts."""


class Timeline:
    """Gives every frame of one pass over a film its pts.

    Args:
        time_base: Seconds per tick.
        nominal_ticks: Ticks that one frame lasts where the file does not say, >= 1.
        first_pts: Time of a first frame that has none.
        is_in_decode_order: The container stores no presentation times (AVI), so that those of packets are in decoding
            order; then the n-th frame shown gets the n-th smallest of them.
    """

    def __init__(
        self, *, time_base: Fraction, nominal_ticks: int, first_pts: int = 0, is_in_decode_order: bool = False
    ) -> None:
        self._nominal_ticks = nominal_ticks
        self._first_pts = first_pts
        self._discontinuity_ticks = int(DISCONTINUITY_S / time_base)
        self._is_in_decode_order = is_in_decode_order
        self._waiting: list[int] = []
        self._last_pts: int | None = None
        self._last_duration = nominal_ticks
        self._shift = 0
        self.missing_count = 0
        """Frames without a time, placed after the frame before them."""
        self.repeated_count = 0
        """Frames whose time was not after the one before, moved one tick on."""
        self.restart_count = 0
        """Times that the clock was set back; what follows was shifted to go on without a gap."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was repaired, one sentence each."""
        notes = []
        if self.missing_count:
            notes.append(
                f"{format_count(self.missing_count, 'frame')} without a timestamp: placed after the one before"
            )
        if self.repeated_count:
            notes.append(f"{format_count(self.repeated_count, 'timestamp')} not increasing: moved on by one tick")
        if self.restart_count:
            notes.append(
                f"clock set back {format_count(self.restart_count, 'time')}: later timestamps shifted to go on"
            )
        return tuple(notes)

    def feed(self, pts: int | None) -> None:
        """Note the time of a packet that is about to be decoded."""
        if self._is_in_decode_order and pts is not None:
            heapq.heappush(self._waiting, pts)

    def drop(self, pts: int | None) -> None:
        """Forget a packet that turned out to hold no frame."""
        if self._is_in_decode_order and pts in self._waiting:
            self._waiting.remove(pts)
            heapq.heapify(self._waiting)

    def place(self, pts: int | None, *, duration: int) -> int:
        """The time of the next frame in display order, greater than all before.

        Args:
            pts: As the decoder gave it, or None.
            duration: The frame's own, in ticks; 0 if unknown. It places a following frame that has no time.
        """
        if self._is_in_decode_order and self._waiting:
            pts = heapq.heappop(self._waiting)
        last = self._last_pts
        if pts is None:
            self.missing_count += 1
            placed = self._first_pts if last is None else last + self._last_duration
        else:
            placed = pts + self._shift
            if last is not None and placed <= last:
                if last - placed > self._discontinuity_ticks:
                    self.restart_count += 1
                    placed = last + self._last_duration
                    self._shift = placed - pts
                else:
                    self.repeated_count += 1
                    placed = last + 1
        self._last_pts = placed
        self._last_duration = duration or self._nominal_ticks
        return placed
