"""What keeps a run from working now: a request, the time of day, a full disk."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import OutputError
from pipeline.night.clock import Clock
from pipeline.night.disk import DiskGuard, measure_room
from pipeline.night.hours import Hours
from pipeline.night.requests import list_requests, withdraw_request

ObstacleKind = Literal["asked", "hours", "disk"]

DISK_EVERY_S = 5.0
"""How often the file system is asked: a fast encoder writes a gigabyte in that time, the reserve holds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a run does not work now."""

    kind: ObstacleKind
    reason: str
    """One sentence, with what ends it."""


class Allowance:
    """Tells whether a run may work. Asked again and again.

    Args:
        folder: The run's.
        output_dir: Where results go.
        hours: When it may work; None: always.
        guard: How much room it leaves on the disk.
        clock: What it measures with. ``hours`` are by the wall clock of the place.
    """

    def __init__(
        self,
        *,
        folder: Path,
        output_dir: Path,
        hours: Hours | None,
        guard: DiskGuard,
        clock: Clock | None = None,
    ) -> None:
        self._folder = folder
        self._output_dir = output_dir
        self._hours = hours
        self._guard = guard
        self._clock = clock if clock is not None else Clock()
        self._disk: Obstacle | None = None
        self._asked_disk_s = float("-inf")

    def take_stop(self) -> bool:
        """Whether the run was asked to stop since this was last called."""
        if "stop" not in list_requests(self._folder):
            return False
        with suppress(OutputError):  # then it is asked again, which changes nothing
            withdraw_request(self._folder, "stop")
        return True

    def find_obstacle(self) -> Obstacle | None:
        """What is in the way now; None if nothing is."""
        return self._request() or self._time_of_day() or self._room()

    def _request(self) -> Obstacle | None:
        if "pause" not in list_requests(self._folder):
            return None
        go_on = f"python -m pipeline resume {shlex.quote(str(self._folder))}"
        return Obstacle(kind="asked", reason=f"asked to pause; go on with: {go_on}")

    def _time_of_day(self) -> Obstacle | None:
        if self._hours is None:
            return None
        now = self._clock.now().astimezone()
        if self._hours.is_open(now):
            return None
        until = self._hours.next_change(now)
        when = "" if until is None else f" until {until:%H:%M}"
        return Obstacle(kind="hours", reason=f"outside of run.hours: waiting{when}")

    def _room(self) -> Obstacle | None:
        now_s = self._clock.steady_s()
        if now_s - self._asked_disk_s < DISK_EVERY_S:
            return self._disk
        self._asked_disk_s = now_s
        try:
            room = measure_room(self._output_dir)
        except OSError:  # a network folder that hangs for a moment; writing will say if it is more
            return self._disk
        if self._guard.must_wait(room, is_waiting=self._disk is not None):
            wanted = self._guard.limit_bytes(is_waiting=True) / 1e9
            self._disk = Obstacle(
                kind="disk",
                reason=f"{room.words()}: going on when it is {wanted:.1f} GB (run.disk_reserve_mb, and half as much)",
            )
        else:
            self._disk = None
        return self._disk
