"""A run that watches a folder for hours, as a night does, and what it holds. For ``soak.py``."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from growth import Sample, find_leaks, fit_slopes
from soak_processes import resident_bytes
from soak_runs import TIMEOUT_S, Place, Program, expect, wait_for
from soak_truth import make_film

_WATCH_SETTLE_S = 1


class WatchedFolder:
    """A run with ``input.watch`` that gets a film after each scenario."""

    def __init__(self, folder: Path, *, samples: list[Sample], began_s: float) -> None:
        self._place = Place(folder, ())
        self._samples = samples
        self._began_s = began_s
        self._tiny = make_film(folder / "tiny.mkv", frame_count=6, height=32, width=32, seed=9)
        watching = {"paths": [str(folder / "films")], "watch": True, "settle_s": _WATCH_SETTLE_S}
        self._program: Program = self._place.start(input=watching)
        self._count = 0

    def feed(self) -> None:
        """Wait until the last film is done, look at the run, and give it another one."""
        wait_for(lambda: self._program.is_over() or self._done() >= self._count, what="the watched film done")
        expect(not self._program.is_over(), f"the watching run ended: {self._program.words()[-1000:]}")
        if self._count:
            self._sample()
        self._count += 1
        film = self._place.folder / "films" / f"{self._count:05d}.mkv"
        shutil.copyfile(self._tiny, film)

    def _done(self) -> int:
        return next((status["done_count"] for status in self._place.statuses()), 0)

    def _sample(self) -> None:
        process = Path("/proc") / str(self._program.pid)
        self._samples.append(
            Sample(
                t_s=time.monotonic() - self._began_s,
                phase="short",
                place="between",
                job=self._count,
                frames=0,
                rss_bytes=resident_bytes(self._program.pid),
                device_bytes=None,
                files=sum(1 for _ in (process / "fd").iterdir()),
                threads=sum(1 for _ in (process / "task").iterdir()),
            )
        )

    def finish(self) -> str:
        """Stop it when all is done.

        Returns:
            What was wrong; empty if nothing was.
        """
        wait_for(lambda: self._program.is_over() or self._done() >= self._count, what="the watched film done")
        if self._count:
            self._sample()
        wait_for(lambda: self._program.is_over() or any(self._place.statuses()), what="the watching run begun")
        self._place.ask("stop")
        ending = self._program.wait(within_s=TIMEOUT_S)
        self._place.expect_alone()
        done = sum(job["status"] == "done" for job in self._place.summary(self._program)["jobs"])
        if ending.code != 130 or done != self._count:
            return f"exit code {ending.code}, {done} of {self._count} films done: {ending.err[-1000:]}"
        grown = [slope for slope in fit_slopes(self._samples) if slope.grows]
        return "; ".join(map(str, [*grown, *find_leaks(self._samples)]))

    def end(self) -> None:
        """Whatever happened: it does not go on."""
        self._place.end_all()
