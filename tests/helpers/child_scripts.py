"""Small programs in place of a film's process, which send what a test wrote down and then behave badly."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.night_runs import RecordingDisplay

from pipeline.config import Config
from pipeline.graph.metrics import ChannelSnapshot, GraphSnapshot, StageSnapshot, Verdict
from pipeline.graph.stop import StopToken
from pipeline.jobs.messages import Ended, Message, Ready, encode_message
from pipeline.jobs.order import FilmOrder
from pipeline.jobs.processes import FilmProcesses, work_in_process
from pipeline.results import JobResult
from pipeline.show.progress import JobProgress

PRELUDE = """
import os, signal, sys, time
descriptor, parent = int(sys.argv[-3]), int(sys.argv[-2])
messages = {messages!r}
def send(*names):
    for name in names:
        data = messages[name]
        while data:
            data = data[os.write(descriptor, data):]
"""


def film_order(folder: Path, name: str = "film.mkv") -> FilmOrder:
    return FilmOrder(
        config=Config.model_validate({"version": 1, "decode": {"kind": "synthetic"}, "output": {"dir": str(folder)}}),
        source=folder / name,
        index=0,
        count=1,
        interval_s=0.1,
        root=folder,
    )


def graph_snapshot(*, lanes: int = 2, number: float = 1.0) -> GraphSnapshot:
    stages = tuple(
        StageSnapshot(
            name=name, state="running", items_in=5, items_out=4, elapsed_s=number, wait_in_s=0.0, wait_out_s=0.5
        )
        for name in ("decode", "upscale", "encode")
    )
    channels = (
        ChannelSnapshot(
            name="decode->upscale", capacity=4, depth=1, peak=2, sent=5, received=4, occupancy=number, full=0.0
        ),
    )
    inner = tuple(graph_snapshot(lanes=0, number=number) for _ in range(lanes))
    return GraphSnapshot(elapsed_s=number, stages=stages, channels=channels, pool_bytes=1 << 40, lanes=inner)


def progress_of(frames_done: int, *, number: float = 1.0) -> JobProgress:
    return JobProgress(
        frames_done=frames_done,
        elapsed_s=number,
        fps=number,
        eta_s=None,
        graph=graph_snapshot(number=number),
        verdict=Verdict(stage="upscale", load=number, text="upscale limits"),
    )


def result_of(name: str = "film.mkv", **values: Any) -> JobResult:
    facts: dict[str, Any] = {
        "name": name,
        "source": Path("/films") / name,
        "status": "done",
        "code": 0,
        "outcome": None,
        "errors": (),
        "warnings": (),
        "report": None,
        "comparison": None,
        "elapsed_s": 1.0,
    }
    return JobResult(**{**facts, **values})


class Child:
    """A film whose process runs a program text after ``PRELUDE``."""

    def __init__(self, folder: Path, code: str, **messages: Message) -> None:
        self.folder = folder
        all_messages = {"ready": Ready(), "ended": Ended(result=result_of()), **messages}
        lines = {name: encode_message(one) for name, one in all_messages.items()}
        self.program = folder / "child.py"  # longer than a command line may be
        self.program.write_text(PRELUDE.format(messages=lines) + code)
        self.display = RecordingDisplay()
        self.stop = StopToken()
        self.log = folder / "film.log"
        self.elapsed_s = 0.0

    def work(self, *, tick: Callable[[], None] = lambda: None, deadline_s: float = 10.0) -> JobResult:
        started_s = time.monotonic()
        try:
            return work_in_process(
                film_order(self.folder),
                display=self.display,
                stop=self.stop,
                log=self.log,
                deadline_s=deadline_s,
                tick=tick,
                worker=(sys.executable, "-S", str(self.program)),
            )
        finally:
            self.elapsed_s = time.monotonic() - started_s


class Children:
    """Films whose processes run a program text for each order, with ``film`` as the order's name.

    Args:
        folder: Where logs and ``pids`` go, a line with the process id for each film.
        code: After ``PRELUDE``.
        messages: See ``Child``; ``ended_NAME`` in place of ``ended`` for that film.
    """

    def __init__(self, folder: Path, code: str = "send('ready', 'ended')", **messages: Message) -> None:
        loop = """
import json
for line in sys.stdin.buffer:
    film = os.path.basename(json.loads(line)["source"])
    with open({pids!r}, "a") as pids: print(os.getpid(), file=pids)
    messages["ended"] = messages.get("ended_" + film, messages["ended_"])
"""
        child = Child(folder, "", ended_=Ended(result=result_of()), **messages)
        self.folder = folder
        self.display = child.display
        self.stop = child.stop
        with child.program.open("a") as program:
            program.write(loop.format(pids=str(folder / "pids")) + textwrap.indent(code, "    "))
        self.processes = FilmProcesses(worker=(sys.executable, "-S", str(child.program)))

    def work(self, name: str, *, tick: Callable[[], None] = lambda: None) -> JobResult:
        return self.processes.work(
            film_order(self.folder, name),
            display=self.display,
            stop=self.stop,
            log=self.log(name),
            deadline_s=10.0,
            tick=tick,
        )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def pids(self) -> list[int]:
        """The process of each film, in order."""
        return [int(line) for line in (self.folder / "pids").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def wait_until(condition: Callable[[], bool], *, within_s: float = 10.0) -> bool:
    """Whether something became true in time."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def open_descriptors() -> set[str]:
    """This process's, by number."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and not buried."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found
