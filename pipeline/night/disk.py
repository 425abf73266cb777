"""Whether there is room for what a run writes, asked of the file system now and then.

A film needs room for its segments and, at its end, for the result that is made of them, before they are removed. How
large segments become is known from those that are there; before the first, it is guessed from the film's own size.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

RESUME_FACTOR = 1.5
"""A run that waits for room goes on when there is this much more than the reserve, not at the first byte: else it
would stop again after one segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The room on one file system."""

    folder: Path
    """The folder that was asked for, or the nearest above it that exists."""
    free_bytes: int

    def words(self) -> str:
        """``3.2 GB free in /films``."""
        return f"{self.free_bytes / 1e9:.1f} GB free in {self.folder}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskGuard:
    """Decides when a run has to wait for room.

    Attributes:
        reserve_bytes: What stays free; a run waits when there is less.
    """

    reserve_bytes: int

    def must_wait(self, room: Room, *, is_waiting: bool) -> bool:
        """Whether there is too little room.

        Args:
            room: What there is.
            is_waiting: Whether the run waits for room already.
        """
        return room.free_bytes < self.limit_bytes(is_waiting=is_waiting)

    def limit_bytes(self, *, is_waiting: bool) -> int:
        """How much room there must be.

        Args:
            is_waiting: See ``must_wait``.
        """
        return int(self.reserve_bytes * RESUME_FACTOR) if is_waiting else self.reserve_bytes


def measure_room(folder: Path) -> Room:
    """Free space for an ordinary user where a folder is, or will be made.

    Raises:
        OSError: The file system does not answer.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return Room(folder=folder, free_bytes=shutil.disk_usage(folder).free)


def folder_bytes(folder: Path) -> int:
    """Bytes of the files right in a folder; 0 if it is not there."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return total


def estimate_need(*, segment_bytes: int, frames_done: int, frame_count: int | None) -> int | None:
    """Bytes that a film still needs at its peak: the segments that are missing, and the result that is joined of all.

    Args:
        segment_bytes: Of the segments that are there.
        frames_done: Frames in them.
        frame_count: Of the film; None if unknown.

    Returns:
        None if nothing can be said yet.
    """
    if not frame_count or not frames_done or not segment_bytes:
        return None
    whole = segment_bytes / frames_done * max(frame_count, frames_done)
    return int(2 * whole - segment_bytes)
