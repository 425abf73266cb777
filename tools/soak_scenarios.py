"""All that ``soak.py`` tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import soak_deaths
import soak_faults
from soak_scene import Soak


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing that may happen."""

    act: Callable[[Soak], None]
    film_count: int = 1
    needs_mount: bool = False
    """Whether it mounts file systems, for which this process needs a namespace of its own."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return self.act.__name__.replace("_", "-")


SCENARIOS: Sequence[Scenario] = (
    Scenario(act=soak_deaths.worker_killed),
    Scenario(act=soak_deaths.worker_crashed),
    Scenario(act=soak_deaths.worker_told_to_end),
    Scenario(act=soak_deaths.parent_killed),
    Scenario(act=soak_deaths.all_killed),
    Scenario(act=soak_deaths.killed_while_assembling),
    Scenario(act=soak_deaths.interrupted, film_count=2),
    Scenario(act=soak_deaths.stopped_and_gone_on_with),
    Scenario(act=soak_deaths.paused, film_count=2),
    Scenario(act=soak_deaths.hours_close, film_count=2),
    Scenario(act=soak_deaths.clock_jumps),
    Scenario(act=soak_faults.damaged),
    Scenario(act=soak_faults.record_damaged),
    Scenario(act=soak_faults.disk_full, needs_mount=True),
    Scenario(act=soak_faults.disk_low, film_count=3, needs_mount=True),
    Scenario(act=soak_faults.disk_read_only, needs_mount=True),
    Scenario(act=soak_faults.file_too_large),
    Scenario(act=soak_faults.film_vanishes),
    Scenario(act=soak_faults.film_changes),
    Scenario(act=soak_deaths.two_runs, film_count=3),
    Scenario(act=soak_deaths.two_runs_killed, film_count=3),
)
