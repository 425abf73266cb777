"""Whether a film that failed is tried again, and how long to wait before that.

Only what can pass by itself is tried again; the same film with the same settings on the same machine fails the same
way otherwise. A new attempt continues at the first missing segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.failures import FailureKind

WAITS_S: Mapping[FailureKind, tuple[float, ...]] = MappingProxyType(
    {
        "memory": (10.0, 60.0),  # other programs give memory back; the film's own process has tried with less already
        "io": (5.0, 30.0, 120.0),  # a network folder that is mounted again, a disk that wakes up
        "gpu": (10.0, 60.0),  # a CUDA error sticks to its process; a new one gets a new context
        "crash": (5.0, 30.0),
        "stall": (5.0,),
        "disk": (30.0,),  # the run waits for room before the next attempt; a quota shows itself only in writing
    }
)
"""Seconds before the second, third ... attempt after a kind of failure; the last one holds for all that follow. Chosen,
not measured: long enough for what the comment names, short beside a night."""

DISK_ATTEMPTS = 20
"""Attempts that may end with a full disk. They do not count against ``run.max_attempts``: nothing is wrong with the
film, and each makes as much of it as there is room for."""


def wait_before_retry(
    kind: FailureKind | None, *, failures_of_kind: int, failures_counted: int, max_attempts: int
) -> float | None:
    """How long to wait before the next attempt.

    Args:
        kind: Why the last one failed.
        failures_of_kind: Number of attempts that failed in this way so far, from 1 on.
        failures_counted: Number of attempts that failed so far, without those for want of room on the disk.
        max_attempts: ``run.max_attempts``.

    Returns:
        Seconds, or None: no other attempt.
    """
    if kind is None or kind not in WAITS_S:
        return None
    is_last = failures_of_kind >= DISK_ATTEMPTS if kind == "disk" else failures_counted >= max_attempts
    waits = WAITS_S[kind]
    return None if is_last else waits[min(failures_of_kind, len(waits)) - 1]
