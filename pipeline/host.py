"""What this machine and this installation are, for a report that is read weeks later. Nothing here can fail a run.

What cannot be found out is None, never a guess.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROBE_TIMEOUT_S = 10.0
"""Bound on a program that is only asked for its version; a file system that hangs must not hold up a report."""

LIBRARIES = ("numpy", "av", "numba", "onnx", "onnxruntime", "openvino", "ffmpeg-python", "imageio-ffmpeg", "rich")
"""Distributions whose version can change a result or its speed."""


def probe_host() -> dict[str, str | int | None]:
    """Describe the machine: ``cpu_model``, ``cpu_count``, ``cpu_count_usable``, ``memory_bytes``, ``os``, ``kernel``.

    ``cpu_count_usable`` is how many processors this process may use (affinity); ``cpu_count`` how many there are.
    """
    return {
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_count_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "os": _os_name(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }


def probe_versions(*, ffmpeg: Path | None) -> dict[str, str | None]:
    """Say which version of everything that matters is installed; None for what is not.

    Args:
        ffmpeg: The ffmpeg program that is used; None if none is.

    Returns:
        ``python``, the distributions of ``LIBRARIES``, PyAV's own libav libraries (``libavcodec`` ...) and
        ``ffmpeg_program``, with the first line that the program prints about itself.
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    versions.update((name.replace("-", "_"), installed_version(name)) for name in LIBRARIES)
    versions.update(_libav_versions())
    versions["ffmpeg_program"] = _first_line([str(ffmpeg), "-version"]) if ffmpeg is not None else None
    return versions


@cache
def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution; None if it is not installed. Imports nothing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def git_revision(root: Path) -> str | None:
    """Commit that the program runs from, with ``-dirty`` if files differ from it.

    Args:
        root: The folder that holds the package ``pipeline``. Only its own checkout counts: an installation inside
            somebody else's repository has no revision.

    Returns:
        40 hex digits, perhaps with ``-dirty``; None without a checkout or without git.
    """
    if not (root / ".git").exists():
        return None
    return _first_line(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])


def available_memory_bytes() -> int:
    """Memory that this process can still take without swapping, bytes.

    The kernel's own estimate (``MemAvailable``, proc(5)), or what the process's control group has left if that is less.
    Without ``/proc`` it is all of the machine's memory.
    """
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    # Version 2 names the group on one line "0::/path"; inside a container, the path is that of its own root.
    for line in _lines("/proc/self/cgroup"):
        if line.startswith("0::"):
            group = f"/sys/fs/cgroup{line[3:].rstrip('/')}"
            limit, used = _lines(f"{group}/memory.max"), _lines(f"{group}/memory.current")
            if limit and used and limit[0].isdecimal():
                available = min(available, max(0, int(limit[0]) - int(used[0])))
    return available


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor by the kernel's names (``avx2``, ``avx512f``, ``asimd``); empty if unknown."""
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86 and Arm
            return frozenset(value.split())
    return frozenset()


def peak_rss_bytes() -> int:
    """Most memory that this process had resident since it began or `forget_peak_rss` was called, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux: getrusage(2)


def forget_peak_rss() -> None:
    """Let `peak_rss_bytes` begin anew; where the kernel does not do that, it goes on. Source: proc(5), clear_refs."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_children_bytes() -> int:
    """Most memory that any one finished child process had resident, bytes: the ffmpeg program's."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _cpu_model() -> str | None:
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        # ARM kernels name no model; "Model" is what single-board computers say of themselves.
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return None


def _lines(path: str) -> list[str]:
    """Lines of a small file of the kernel's; none if it is not there."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _libav_versions() -> dict[str, str]:
    try:
        import av
    except ImportError:
        return {}
    return {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}


def _first_line(command: list[str]) -> str | None:
    """First line that a program prints; None if it is not there, fails or takes too long."""
    # Without optional locks, git writes nothing into the checkout it looks at.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.decode("utf-8", "replace").splitlines()
    return lines[0] if lines else None
