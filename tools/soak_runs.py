"""Starts the program as a user does, ends it as a night does, and looks at what is left. For ``soak.py``; Linux."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from soak_processes import all_processes, children_of, command_of, descendants_of, is_alive, send_signal

ROOT = Path(__file__).resolve().parent.parent
MARK = "NIGHTSCALE_SOAK"
"""Environment variable that all processes of a place inherit: strays are found by it."""
TIMEOUT_S = 240.0
"""Longest time that anything here takes: a run that takes longer hangs."""
STRAY_S = 60.0
"""A film's process whose parent was killed may take so long to go: ``run.join_deadline_s`` and its own reserve."""


class SoakFailure(Exception):
    """A promise is broken; the text says which and how."""


def expect(condition: object, text: str) -> None:
    """Fail unless something holds."""
    if not condition:
        raise SoakFailure(text)


def wait_for(condition: Callable[[], object], *, what: str, within_s: float = TIMEOUT_S) -> None:
    """Wait until something holds; fail if it takes too long."""
    until_s = time.monotonic() + within_s
    while not condition():
        expect(time.monotonic() < until_s, f"after {within_s:g} s still not: {what}")
        time.sleep(0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a program ended."""

    code: int
    out: bytes
    err: str


class Program:
    """``python -m pipeline`` in a process of its own.

    Args:
        arguments: Its command line.
        place: Where it works.
        clock: File with the seconds that its clock is off; None: it has the machine's.
        file_bytes: Longest file that it and its children can write (RLIMIT_FSIZE); None: as usual.
    """

    def __init__(self, *arguments: str, place: Place, clock: Path | None = None, file_bytes: int | None = None) -> None:
        place.started += 1
        self._said = place.folder / f"said-{place.started}"
        start = ["-m", "pipeline"] if clock is None else [str(ROOT / "tools/soak_clock.py"), str(clock)]
        with self._said.with_suffix(".out").open("wb") as out, self._said.with_suffix(".err").open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, *start, *arguments],
                cwd=ROOT,
                env={**os.environ, MARK: place.mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # as at a terminal of its own
            )
        self.pid = self._process.pid
        if file_bytes is not None:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        place.programs.append(self)

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def words(self) -> str:
        """What it has said to people so far."""
        return self._said.with_suffix(".err").read_text(encoding="utf-8", errors="replace")

    def wait(self, *, within_s: float = TIMEOUT_S) -> Ending:
        """Wait for its end.

        Raises:
            SoakFailure: It does not end, or says that it has a defect.
        """
        try:
            code = self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise SoakFailure(f"the run did not end within {within_s:g} s; it said: {self.words()[-2000:]}") from None
        words = self.words()
        expect("Traceback" not in words, f"a traceback: {words[-3000:]}")
        return Ending(code=code, out=self._said.with_suffix(".out").read_bytes(), err=words)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if not self.is_over():
            os.kill(self.pid, number)

    def workers(self) -> list[int]:
        """Processes of films that it has started."""
        return [] if self.is_over() else children_of(self.pid)

    def kill_all(self) -> None:
        """Kill it and all that it has started with SIGKILL, at once, as far as that can be."""
        if not self.is_over():
            for pid in (self.pid, *descendants_of(self.pid)):
                send_signal(pid, signal.SIGKILL)
            self._process.wait(timeout=30)


@dataclass(slots=True)
class Place:
    """A folder with films, a config and results, and the programs that work there."""

    folder: Path
    films: tuple[Path, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = 0
    programs: list[Program] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """Folder of the results."""
        return self.folder / "out"

    def write_config(self, **sections: Any) -> Path:
        """Write a config: short segments, nothing that needs a network, and what is given."""
        basic: dict[str, Any] = {
            "version": 1,
            "input": {"paths": [str(film) for film in self.films]},
            "infer": {"model": "nearest-x2", "backend": "resize"},
            "encode": {"kind": "libx264", "preset": "ultrafast", "threads": 1},
            "output": {"dir": str(self.out), "segment_s": 0.4, "container": "mkv"},
            "run": {"progress": "plain", "report_every_s": 1, "disk_reserve_mb": 0, "join_deadline_s": 20},
        }
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(merge(merge(basic, self.settings), sections)), encoding="utf-8")
        return path

    def start(
        self, *arguments: str, clock: Path | None = None, file_bytes: int | None = None, **sections: Any
    ) -> Program:
        """Start a run of the config. See ``Program``."""
        config = str(self.write_config(**sections))
        return Program("run", config, *arguments, place=self, clock=clock, file_bytes=file_bytes)

    def ask(self, verb: str, *arguments: str) -> Ending:
        """Ask the run something and wait for the answer."""
        return Program(verb, str(self.out), *arguments, place=self).wait(within_s=60)

    def result_of(self, film: Path) -> Path:
        """Where a film's result goes."""
        return self.out / f"{film.stem}.mkv"

    def work_of(self, film: Path) -> Path:
        """Where the work on it lies."""
        return self.out / f".{film.stem}.mkv.work"

    def segments(self, film: Path) -> list[Path]:
        """Its committed segments."""
        return sorted(path for path in self.work_of(film).glob("seg-*") if path.suffix != ".part")

    def statuses(self) -> Iterator[dict[str, Any]]:
        """What all runs said of themselves last."""
        for path in sorted(self.out.glob(".nightscale/runs/*/status.json")):
            yield json.loads(path.read_text(encoding="ascii"))

    def state(self, program: Program) -> str:
        """The state that a run says it is in; empty if it has said nothing yet."""
        return next((one["state"] for one in self.statuses() if one["pid"] == program.pid), "")

    def summary(self, program: Program) -> dict[str, Any]:
        """The summary of a run that ended.

        Raises:
            SoakFailure: There is none, or no page.
        """
        folders = [path.parent for path in self.out.glob(f".nightscale/runs/*-{program.pid}*/status.json")]
        expect(len(folders) == 1, f"the run left {len(folders)} folders")
        for name in ("summary.json", "report.html", "run.log", "config.yaml"):
            expect((folders[0] / name).is_file(), f"{name} is missing in the run's folder")
        summary: dict[str, Any] = json.loads((folders[0] / "summary.json").read_text(encoding="ascii"))
        return summary

    def processes(self) -> list[int]:
        """All processes that were started here, however they descend."""
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for pid in all_processes():
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and is_alive(pid):
                    found.append(pid)
            except OSError:
                continue
        return found

    def expect_alone(self) -> None:
        """Fail if a process stays."""
        until_s = time.monotonic() + STRAY_S
        while strays := self.processes():
            expect(time.monotonic() < until_s, f"stray processes: {[command_of(pid) for pid in strays]}")
            time.sleep(0.02)

    def leftovers(self) -> list[str]:
        """Files and folders among the results that are neither a result nor anything that a run keeps.

        The folder of a run that was killed may hold the status that it was just writing.
        """
        results = {self.result_of(film).name for film in self.films}
        kept = {".nightscale", *results, *(f"{name}.report.json" for name in results)}
        found = [path for path in self.out.iterdir() if path.name not in kept]
        hidden = self.out / ".nightscale"
        found += [path for path in hidden.rglob("*") if ".part" in path.suffixes and path.parent.parent.name != "runs"]
        return sorted(str(path.relative_to(self.out)) for path in found)

    def end_all(self) -> None:
        """Whatever happened: nothing goes on."""
        for program in self.programs:
            program.kill_all()
        for pid in self.processes():
            send_signal(pid, signal.SIGKILL)


def merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both mappings, key by key; the other wins."""
    result = dict(one)
    for key, value in other.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def sleep_random(random_source: random.Random, shortest_s: float, longest_s: float, *, or_over: Program) -> None:
    """Wait a random time, but not longer than a program runs."""
    until_s = time.monotonic() + random_source.uniform(shortest_s, longest_s)
    while time.monotonic() < until_s and not or_over.is_over():
        time.sleep(0.005)


def flip_bit(path: Path, *, random_source: random.Random) -> None:
    """Change one bit of a file, and not its times."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[random_source.randrange(len(content))] ^= 1 << random_source.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
