"""Films that come while a run is under way."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.inputs.durations import Durations
from pipeline.inputs.entries import list_films
from pipeline.inputs.find import FilmConfigs, Jobs
from pipeline.inputs.job import Job
from pipeline.inputs.order import DurationOf, sort_films
from pipeline.inputs.output_names import OutputNames
from pipeline.inputs.own_results import OwnResults
from pipeline.inputs.walk import FoundFilm

LOOK_EVERY_S = 5.0
"""How often the folders are looked through at most, seconds; more often where ``input.settle_s`` is shorter than twice
that. Measured: ten thousand films in a hundred folders take 0.46 s of one core of a 2024 server."""

_PROC = Path("/proc")

Stamp = tuple[int, int]
"""Size and time of the last change in nanoseconds. Inodes are left out: network file systems change them."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    stamp: Stamp
    since_s: float


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looks for films again and again, and tells each once, when it has stopped growing.

    Where a film is known from, and what it is told from, is its place, its size and its time: a film that stays is told
    once; one that vanished and comes back as it was is not told again, one that comes back as another is.
    """

    config: Config
    """The run's, with ``input.watch``."""
    duration_of: DurationOf = field(default_factory=Durations)
    """As for ``find_jobs``."""
    _waiting: dict[Path, _Waiting] = field(default_factory=dict)
    _told: dict[Path, Stamp] = field(default_factory=dict)
    _told_files: set[tuple[int, int, Stamp]] = field(default_factory=set)
    """Device, inode and stamp: so that a film that is renamed or linked is not told again."""
    _held: set[Path] = field(default_factory=set)
    """Films that were told and have been in their place ever since."""
    _results: OwnResults = field(default_factory=OwnResults)
    _names: OutputNames = field(default_factory=OutputNames)
    _noted: set[str] = field(default_factory=set)
    _looked_s: float | None = None

    def poll(self, now_s: float) -> Jobs:
        """Look around.

        Args:
            now_s: A steady clock (``time.monotonic``), seconds: no one who sets the clock makes a film ready or late.

        Returns:
            Films that are ready and were not told before, in order, and what was not said before.

        Raises:
            SetupError: As ``find_jobs``.
        """
        settle_s = self.config.input.settle_s
        if self._looked_s is not None and now_s - self._looked_s < min(LOOK_EVERY_S, settle_s / 2):
            return Jobs(jobs=())
        self._looked_s = now_s
        waiting, self._waiting = self._waiting, {}
        self._results.refresh()
        finding = list_films(self.config, results=self._results)
        notes = [*finding.problems, *finding.notes]
        self._held &= {film.path for film in finding.films}
        settled = []
        for film in finding.films:
            if film.status is None or self._is_told(film):
                continue
            now = _Waiting(_stamp(film.status), now_s)
            before = waiting.get(film.path)
            state = now if before is None or before.stamp != now.stamp else before
            self._waiting[film.path] = state
            if film.status.st_size > 0 and now_s - state.since_s >= settle_s:
                settled.append(film)
        written = _open_for_writing([film.path for film in settled]) if settled else frozenset()
        ready = [film for film in settled if film.path not in written]
        jobs = []
        configs = FilmConfigs(self.config)
        for film in sort_films(ready, self.config.input.order, duration_of=self.duration_of):
            self._tell(film)
            try:
                job = Job(source=film.path, config=configs.of(film))
            except ConfigError as exc:
                notes += exc.problems
                continue
            clash, doubt = self._names.claim(job.config, film.path)
            notes += [text for text in (clash and f"{clash}: the second is passed over", doubt) if text]
            if not clash:
                jobs.append(job)
        fresh = [note for note in dict.fromkeys(notes) if note not in self._noted]
        self._noted.update(fresh)
        return Jobs(jobs=tuple(jobs), notes=tuple(fresh))

    def _is_told(self, film: FoundFilm) -> bool:
        status = film.status
        assert status is not None
        stamp = _stamp(status)
        if (status.st_dev, status.st_ino, stamp) in self._told_files:
            return True
        if film.path in self._held:  # what is written to a film that was told does not make it another one
            self._remember(film)
            return True
        return self._told.get(film.path) == stamp

    def _tell(self, film: FoundFilm) -> None:
        del self._waiting[film.path]
        self._held.add(film.path)
        self._remember(film)

    def _remember(self, film: FoundFilm) -> None:
        status = film.status
        assert status is not None
        self._told[film.path] = _stamp(status)
        self._told_files.add((status.st_dev, status.st_ino, _stamp(status)))


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns


def _open_for_writing(paths: list[Path]) -> frozenset[Path]:
    """Which of some files a process of this machine has open to write, as far as one may see.

    /proc of Linux shows the user's own processes; a file that comes over the network is open on another machine.
    """
    wanted = {os.path.realpath(path): path for path in paths}
    found = set()
    try:
        processes = [entry for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return frozenset()
    for process in processes:
        try:
            descriptors = list((process / "fd").iterdir())
        except OSError:
            continue  # someone else's, or it has ended
        for descriptor in descriptors:
            try:
                path = wanted.get(str(descriptor.readlink()))
                if path is not None and _writes(process / "fdinfo" / descriptor.name):
                    found.add(path)
            except OSError:
                continue
    return frozenset(found)


def _writes(fdinfo: Path) -> bool:
    """Whether a file is open to write, by the octal flags in fdinfo (proc(5))."""
    flags = next((line.split()[1] for line in fdinfo.read_text().splitlines() if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
