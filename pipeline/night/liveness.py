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
_START_FIELD = 19
"""``starttime`` is field 22 of ``/proc/PID/stat``, the 20th behind the name. Source: proc_pid_stat(5)."""


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


def _start_of(pid: int) -> str:
    """When a process began, clock ticks since boot; empty if it is gone."""
    try:
        # the name is in parentheses and may hold anything, parentheses too
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in (b"Z", b"X") else fields[_START_FIELD].decode()
    except (OSError, IndexError):
        return ""
