"""How a run is, in one small file that is replaced about every second: for another terminal, or another host.

Reading it imports no more than the standard library, so that the answer comes at once.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pipeline.liveness import look_for, mark_process

FILE_NAME = "status.json"

RunState = Literal["starting", "working", "paused", "hours", "disk", "retry", "watching", "ending", "over"]
"""working: on a film. paused: asked to. hours: it is not the time. disk: too little room. retry: before another
attempt. watching: all done, new films are looked for. ending: asked to stop, finishing a segment. over: ended."""

STALE_S = 15.0
"""A run that has not written for this long is not well: fifteen times its pace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run at one moment. JSON-native values only."""

    state: RunState
    reason: str = ""
    """Why it does not work, one sentence; empty while it does."""
    host: str
    pid: int
    started_at: float
    """Unix time."""
    written_at: float
    """Unix time."""
    film_count: int
    done_count: int = 0
    """Finished, by this run or an earlier one."""
    failed_count: int = 0
    film: str = ""
    """The film in work; empty if none is."""
    film_index: int = 0
    """0-based."""
    frames_done: int = 0
    frame_count: int | None = None
    fps: float = 0.0
    film_eta_s: float | None = None
    run_eta_s: float | None = None
    """For all films, by the bytes of the sources; None if nothing can be said."""
    phase: str = ""
    bottleneck: str = ""
    """Which stage limits the film, in words."""
    output_dir: str = ""
    mark: str = field(default_factory=mark_process)
    """Of the process that wrote it."""

    @property
    def is_over(self) -> bool:
        """Whether the run has said that it ended."""
        return self.state == "over"

    def silent_s(self, *, now: float | None = None) -> float:
        """For how long nothing was written, seconds by the clock on the wall."""
        return max(0.0, (time.time() if now is None else now) - self.written_at)

    def is_dead(self, *, now: float | None = None) -> bool:
        """Whether the process is gone without having said so.

        Its own machine knows. After a reboot, and in another container of the same host, its silence decides; from
        another host nothing can be said.
        """
        if self.is_over:
            return False
        liveness = look_for(self.pid, mark=self.mark)
        if liveness == "unknown":
            return self.host == socket.gethostname() and self.silent_s(now=now) > STALE_S
        return liveness == "gone"


def write_status(folder: Path, status: RunStatus) -> None:
    """Replace the status of a run's folder: readers see the old one or the new one.

    It is not flushed to the disk: it is worth nothing after a power cut, and a disk that is busy with films would take
    its time, every second.

    Raises:
        OSError: It cannot be written.
    """
    kinds = {entry.name: str(entry.type) for entry in fields(status)}
    content = {key: value if _is_json(value) else _not_finite(kinds[key]) for key, value in asdict(status).items()}
    temporary = folder / f".{FILE_NAME}.{os.getpid()}.part"
    try:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="ascii")
        temporary.replace(folder / FILE_NAME)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def read_status(folder: Path) -> RunStatus:
    """Read the status of a run's folder.

    Raises:
        OSError: There is none.
        ValueError: It is no status of this program.
    """
    text = (folder / FILE_NAME).read_bytes()
    try:
        value: Any = json.loads(text)
        content = {entry.name: value[entry.name] for entry in fields(RunStatus) if entry.name in value}
        for entry in fields(RunStatus):
            if entry.name in content and not isinstance(content[entry.name], _TYPES[str(entry.type)]):
                raise TypeError(f"{entry.name} is {content[entry.name]!r}")
        return RunStatus(**{"mark": "", **content})
    except (TypeError, RecursionError) as exc:
        raise ValueError(f"{folder / FILE_NAME} is not the status of a run: {exc}") from exc


_TYPES: dict[str, tuple[type, ...]] = {
    "RunState": (str,),
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
}
"""What JSON has for the types of the fields. Checked by hand: a library for that takes longer than ``status`` may."""


def _is_json(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _not_finite(kind: str) -> float | None:
    """What a number becomes that JSON does not have."""
    return None if kind.endswith("None") else 0.0
