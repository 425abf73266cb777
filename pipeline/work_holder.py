"""Who works in a work folder: written into it for those who are kept out, who wait if the holder is about to go."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from engines.atomic import write_atomic
from pipeline.liveness import look_for, mark_process, parent_of

HOLDER_NAME = "holder.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What a process says of itself."""

    pid: int
    parent: int
    mark: str
    """See ``pipeline.liveness``."""
    host: str
    since: str
    """UTC, ISO 8601."""
    run_folder: str | None

    @classmethod
    def this_process(cls, run_folder: Path | None) -> Self:
        """The process that asks."""
        return cls(
            pid=os.getpid(),
            parent=os.getppid(),
            mark=mark_process(),
            host=os.uname().nodename,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            run_folder=None if run_folder is None else str(run_folder),
        )

    def write(self, work: Path) -> None:
        """Write it into a work folder."""
        write_atomic(work / HOLDER_NAME, (json.dumps(asdict(self)) + "\n").encode("ascii"))

    def is_ending(self) -> bool:
        """Whether it is dead, or lost the process that it belongs to, and has only not given the folder back yet.

        A killed process holds its locks until the last of its threads has left the kernel: on a busy disk that takes
        seconds. A film's process ends by itself when its run was killed.
        """
        match look_for(self.pid, mark=self.mark):
            case "gone":
                return True
            case "alive":
                return parent_of(self.pid) != self.parent
            case "unknown":
                return False

    def words(self) -> str:
        """Who it is; to be read behind a sentence. Empty if it is dead: that would help nobody."""
        if look_for(self.pid, mark=self.mark) == "gone":
            return ""
        run = f", run folder {self.run_folder}" if self.run_folder else ""
        return f": process {self.pid} on {self.host} since {self.since}{run}"


def read_holder(work: Path) -> Holder | None:
    """Who holds a work folder; None if it does not say, or nothing that makes sense."""
    try:
        facts = json.loads((work / HOLDER_NAME).read_bytes())
        return Holder(
            pid=int(facts["pid"]),
            parent=int(facts["parent"]),
            mark=str(facts["mark"]),
            host=str(facts["host"]),
            since=str(facts["since"]),
            run_folder=facts["run_folder"] and str(facts["run_folder"]),
        )
    except (OSError, KeyError, TypeError, ValueError):
        return None
