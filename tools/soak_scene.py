"""One scenario that is under way: its films, its truth, and what must hold at its end. For ``soak.py``."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak_runs import Ending, Place, Program, expect, sleep_random, wait_for
from soak_truth import Fingerprint, differing_parts, fingerprint

DONE, SOME_FAILED, STOPPED = 0, 1, 130


@dataclass(slots=True, kw_only=True)
class Soak:
    """One scenario that is under way."""

    place: Place
    random: random.Random
    library: Path
    """Folder of the films that the place's are copies of."""
    truth_of: Callable[[str], Fingerprint]
    """What one of them becomes in an undisturbed run, by its name."""
    run_s: float
    """About how long an undisturbed film takes."""
    has_struck: bool = False
    """Whether what was to happen met a run that was under way: random moments may come too late."""

    @property
    def film(self) -> Path:
        """The first film."""
        first: Path = self.place.films[0]
        return first

    def some_time(self, program: Program, *, longest: float = 1.0) -> None:
        """Wait a random part of a film's time: from its beginning on, or sometimes from that of the run."""
        if self.random.random() < 0.8:
            wait_for(lambda: program.is_over() or program.workers(), what="a film begun")
        sleep_random(self.random, 0.0, longest * self.run_s, or_over=program)
        self.has_struck |= not program.is_over()

    def check_results(self, *, other: Mapping[str, str] | None = None) -> None:
        """Compare all results with the undisturbed ones.

        Args:
            other: For a film's name, the one that it was exchanged for.
        """
        for film in self.place.films:
            name = (other or {}).get(film.name, film.name)
            result = self.place.result_of(film)
            expect(result.is_file(), f"there is no {result.name}")
            wrong = differing_parts(fingerprint(result), self.truth_of(name))
            expect(not wrong, f"{result.name} is not what an undisturbed run makes: {'; '.join(wrong)}")

    def run_to_end(self, *arguments: str, other: Mapping[str, str] | None = None, **sections: Any) -> Ending:
        """A run that nobody disturbs: all is done, whatever was before, and nothing is left."""
        self.place.expect_alone()
        program = self.place.start(*arguments, **sections)
        return self.expect_done(program, other=other)

    def expect_done(self, program: Program, *, other: Mapping[str, str] | None = None) -> Ending:
        """Wait for a run that must end well."""
        ending = program.wait()
        expect(ending.code == DONE, f"exit code {ending.code}: {ending.err[-1500:]}")
        self.place.expect_alone()
        self.check_results(other=other)
        expect(not self.place.leftovers(), f"left over: {self.place.leftovers()}")
        summary = self.place.summary(program)
        expect(summary["exit_code"] == DONE, "the summary has another exit code")
        expect({job["status"] for job in summary["jobs"]} <= {"done", "skipped"}, "the summary has a film that failed")
        expect(self.place.state(program) == "over", f"the status says {self.place.state(program)!r}")
        return ending

    def expect_skipped(self) -> None:
        """Another run does nothing."""
        before = [self.place.result_of(film).stat() for film in self.place.films]
        ending = self.run_to_end()
        expect(ending.err.count(": skipped") == len(before), f"not skipped: {ending.err[-1000:]}")
        after = [self.place.result_of(film).stat() for film in self.place.films]
        expect([(one.st_ino, one.st_mtime_ns) for one in before] == [(one.st_ino, one.st_mtime_ns) for one in after],
               "a result was made again though it was finished")  # fmt: skip

    def expect_honest(self, program: Program, *, words: Sequence[str] = ("error",)) -> Ending:
        """Wait for a run that may fail, if it says why."""
        ending = program.wait()
        self.place.expect_alone()
        if ending.code != DONE:
            expect(ending.code in (SOME_FAILED, 2, 3, STOPPED), f"exit code {ending.code}: {ending.err[-1500:]}")
            expect(any(word in ending.err for word in words), f"no word of {words}: {ending.err[-1500:]}")
        return ending

    def expect_stopped(self, program: Program) -> None:
        """Wait for a run that was told to end, or was done before."""
        ending = program.wait(within_s=60)
        expect(ending.code in (DONE, STOPPED), f"exit code {ending.code}: {ending.err[-1500:]}")
        self.place.expect_alone()
        if ending.code == STOPPED and self.place.state(program):
            expect("stopp" in ending.err, f"no word of stopping: {ending.err[-1500:]}")
            expect(self.place.state(program) == "over", f"the status says {self.place.state(program)!r}")

    def has_segments(self, count: int, program: Program) -> Callable[[], bool]:
        """Whether so many segments are there, or the run is over."""
        return lambda: len(self.place.segments(self.film)) >= count or program.is_over()
