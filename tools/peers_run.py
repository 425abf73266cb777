"""Runs a program's steps and says how long they took and how much memory all their processes had at most."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.peers_task import Command, Step

LOOK_EVERY_S = 0.1
LAST_WORDS_BYTES = 2000


class PeerFailed(Exception):
    """A program failed, took too long, or could not be started; the message has its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a run cost."""

    seconds: float
    peak_bytes: int
    """Most memory of all processes together (proportional set size), looked at ten times a second."""


def run_steps(steps: Sequence[Step], *, folder: Path, limit_s: float) -> Taken:
    """Run steps one after the other, and the commands of each side by side in a pipe.

    Args:
        steps: What to run.
        folder: Working folder of all; their messages go into ``messages-N.txt`` there.
        limit_s: When all is ended by force.

    Raises:
        PeerFailed: One command failed or could not be started, or the time was over.
    """
    start, peak = time.perf_counter(), 0
    for number, step in enumerate(steps):
        with (folder / f"messages-{number}.txt").open("w+b") as messages:
            running = _start(step, folder=folder, messages=messages)
            try:
                while any(process.poll() is None for process in running):
                    peak = max(peak, sum(tree_bytes(process.pid) for process in running if process.poll() is None))
                    if time.perf_counter() - start > limit_s:
                        raise PeerFailed(f"{step[0][0]} was ended after {limit_s:.0f} s")
                    time.sleep(LOOK_EVERY_S)
            finally:
                _end(running)
            for process, command in zip(running, step, strict=True):
                if process.returncode:
                    raise PeerFailed(f"{command[0]} ended with status {process.returncode}: {_last_words(messages)}")
    return Taken(seconds=time.perf_counter() - start, peak_bytes=peak)


def tree_bytes(pid: int) -> int:
    """Memory of a process and all that it started, in proportion where they share it. Source: proc(5), smaps_rollup."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        with suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def _start(step: Step, *, folder: Path, messages: IO[bytes]) -> list[subprocess.Popen[bytes]]:
    running: list[subprocess.Popen[bytes]] = []
    try:
        for place, command in enumerate(step):
            running.append(
                _open(
                    command,
                    folder=folder,
                    source=running[-1].stdout if running else subprocess.DEVNULL,
                    target=messages if place == len(step) - 1 else subprocess.PIPE,
                    messages=messages,
                )
            )
    except OSError as exc:
        _end(running)
        raise PeerFailed(f"{step[len(running)][0]} cannot be started: {exc.strerror}") from exc
    for process in running:
        if process.stdout is not None:
            process.stdout.close()  # the next command has it: it alone, so that an end is seen
    return running


def _open(
    command: Command, *, folder: Path, source: IO[bytes] | int | None, target: IO[bytes] | int, messages: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=folder, stdin=source, stdout=target, stderr=messages, start_new_session=True)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_words(messages: IO[bytes]) -> str:
    size = messages.seek(0, os.SEEK_END)
    messages.seek(max(0, size - LAST_WORDS_BYTES))
    lines = [line.strip() for line in messages.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "without a word"
