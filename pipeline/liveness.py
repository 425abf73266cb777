"""Whether a process that said who it is still lives, asked from another process or another host.

A process id alone does not say: it is given to others after its process is gone, after a reboot all begin anew, and
each container counts its own. A mark holds what makes a process one of a kind.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Liveness = Literal["alive", "gone", "unknown"]

_PROC = Path("/proc")
_PARENT_FIELD = 1
_START_FIELD = 19
"""``ppid`` and ``starttime`` are fields 4 and 22 of ``/proc/PID/stat``, the 2nd and 20th behind the name.

Source: proc_pid_stat(5).
"""


def mark_process() -> str:
    """What tells this process from all others: ``BOOT NAMESPACE START``, empty where the kernel does not say."""
    machine, started = _machine(), _start_of(os.getpid())
    return f"{machine} {started}" if machine and started else ""


def look_for(pid: int, *, mark: str) -> Liveness:
    """Whether a process lives.

    Args:
        pid: Its id, on its own machine.
        mark: From its own ``mark_process``; empty: nothing is known of it.

    Returns:
        ``unknown`` if it runs on another machine or in another container, or did so before a reboot.
    """
    machine, _, started = mark.rpartition(" ")
    if not mark or machine != _machine():
        return "unknown"
    return "alive" if _start_of(pid) == started else "gone"


def _machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """Id of the process that a process belongs to now; 0 if it is gone."""
    return int(_stat_of(pid)[_PARENT_FIELD] or 0)


def _start_of(pid: int) -> str:
    """When a process began, clock ticks since boot; empty if it is gone."""
    return _stat_of(pid)[_START_FIELD]


def _stat_of(pid: int) -> list[str]:
    """What ``/proc/PID/stat`` says behind the name; empty words if the process is gone.

    A process that ends may look gone and still hold what it had: its first thread is a zombie while others write.
    """
    gone = [""] * (_START_FIELD + 1)
    try:
        # the name is in parentheses and may hold anything, parentheses too
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return gone
    return gone if len(fields) < len(gone) or fields[0] in ("Z", "X") else fields
