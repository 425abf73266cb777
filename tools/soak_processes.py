"""What runs on this machine, by ``/proc``. For ``soak.py``; Linux."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def all_processes() -> Iterator[int]:
    """Ids of all that run now."""
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _stat(pid: int) -> list[bytes]:
    """Fields of ``/proc/PID/stat`` behind the name: state, parent ... Empty if it is gone. Source: proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _stat(pid)[:1] not in ([], [b"Z"], [b"X"])


def children_of(pid: int) -> list[int]:
    """What a process has started."""
    return [child for child in all_processes() if _stat(child)[1:2] == [b"%d" % pid] and is_alive(child)]


def descendants_of(pid: int) -> list[int]:
    """What it has started, and what that has; those whose parent is gone are not found."""
    found = [pid]
    for one in found:
        found += children_of(one)
    return found[1:]


def command_of(pid: int) -> str:
    """Its command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"{pid}: gone"
    return f"{pid}: {os.fsdecode(b' '.join(words))[:200]!r}"


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def resident_bytes(pid: int) -> int:
    """Resident memory. Source: proc_pid_statm(5): the second number is resident pages."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
