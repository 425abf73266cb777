"""What a process holds, sampled over time, and whether it holds more and more. For ``endurance.py``; Linux."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Phase = Literal["short", "loop"]
Place = Literal["between", "within"]

PHASES: tuple[Phase, ...] = ("short", "loop")
PLACES: tuple[Place, ...] = ("between", "within")

LIMIT_BYTES_PER_MIN = (1 << 30) / (12 * 60)
"""1 GiB in a night of 12 hours: what grows more slowly than that ends no run."""
FLOORS_BYTES = {"rss_bytes": 8 << 20, "device_bytes": 2 << 20}
"""Growth over the judged time that says nothing. The device: CUDA takes memory in pieces of 2 MiB. The host: twice the
largest step between two equal jobs, 4.2 MiB (measured: processor, 180 jobs of one film; malloc gives most of them back
a few jobs later)."""
SIGMAS = 3.0
"""A slope counts from so many of its standard errors on: by chance once in 700 series."""
LEAST_SAMPLES = 6
"""In the judged half of a series."""
SETTLE_S = 1.0
"""Threads and files of a finished job are given this long to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The process at one moment."""

    t_s: float
    """Since the beginning."""
    phase: Phase
    """Short jobs, or a long film over and over."""
    place: Place
    """Between two jobs, when nothing of one should be left, or within one."""
    job: int
    """Jobs begun before."""
    frames: int
    """Frames finished in this job; all of them, between jobs."""
    rss_bytes: int
    """Resident memory of the host."""
    device_bytes: int | None
    """Memory of the GPU that is taken, by anybody, beyond what was at the first sample; None without a GPU."""
    files: int
    """Open file descriptors."""
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """The second half of a series, as a straight line."""

    what: str
    """``rss_bytes`` or ``device_bytes``."""
    phase: Phase
    place: Place
    samples: int
    span_s: float
    bytes_per_min: float
    error_bytes_per_min: float
    """Standard error of the slope."""

    @property
    def grown_bytes(self) -> float:
        """Along the line, over the span."""
        return self.bytes_per_min * self.span_s / 60

    @property
    def grows(self) -> bool:
        """Whether it is more than chance, and more than a night can bear."""
        return (
            self.bytes_per_min > max(LIMIT_BYTES_PER_MIN, SIGMAS * self.error_bytes_per_min)
            and self.grown_bytes > FLOORS_BYTES[self.what]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something countable of which there is more at the end than there ever was in the first half."""

    what: str
    """``files`` or ``threads``."""
    phase: Phase
    before: int
    """Most of the first half."""
    after: int
    """At the end."""


class Sampler:
    """Takes samples of this process.

    Args:
        free_device_bytes: Says how much memory of the GPU is free; None without one.
        every_s: Least time between two samples within jobs.
    """

    def __init__(self, *, free_device_bytes: Callable[[], int] | None, every_s: float) -> None:
        self.samples: list[Sample] = []
        self._free_device_bytes = free_device_bytes
        self._first_free = None if free_device_bytes is None else free_device_bytes()
        self._every_s = every_s
        self._started_s = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """Since the sampler was made."""
        return time.perf_counter() - self._started_s

    def within(self, *, phase: Phase, job: int, frames: int) -> None:
        """Take a sample within a job, unless the last one is recent."""
        if not self.samples or self.elapsed_s - self.samples[-1].t_s >= self._every_s:
            self._take(phase=phase, place="within", job=job, frames=frames)

    def between(self, *, phase: Phase, job: int, frames: int) -> None:
        """Take a sample after a job, when its threads and files are gone or have had their time to go."""
        before = next((sample for sample in reversed(self.samples) if sample.place == "between"), None)
        deadline_s = self.elapsed_s + SETTLE_S
        while before is not None and self.elapsed_s < deadline_s:
            if _count_threads() <= before.threads and _count_files() <= before.files:
                break
            time.sleep(0.02)
        self._take(phase=phase, place="between", job=job, frames=frames)

    def _take(self, *, phase: Phase, place: Place, job: int, frames: int) -> None:
        taken = None
        if self._free_device_bytes is not None and self._first_free is not None:
            taken = self._first_free - self._free_device_bytes()
        self.samples.append(
            Sample(
                t_s=self.elapsed_s,
                phase=phase,
                place=place,
                job=job,
                frames=frames,
                rss_bytes=_resident_bytes(),
                device_bytes=taken,
                files=_count_files(),
                threads=_count_threads(),
            )
        )


def fit_slopes(samples: Sequence[Sample]) -> list[Slope]:
    """Lay a least-squares line through the second half, by time, of each series that has enough samples there."""
    slopes = []
    for phase, place, what in itertools.product(PHASES, PLACES, FLOORS_BYTES):
        series = [
            (sample.t_s, value)
            for sample in samples
            if (sample.phase, sample.place) == (phase, place) and (value := getattr(sample, what)) is not None
        ]
        if not series:
            continue
        middle_s = (series[0][0] + series[-1][0]) / 2
        half = [point for point in series if point[0] >= middle_s]
        if len(half) < LEAST_SAMPLES:
            continue
        times, values = zip(*half, strict=True)
        slope, error = _fit(times, values)
        slopes.append(
            Slope(
                what=what,
                phase=phase,
                place=place,
                samples=len(half),
                span_s=times[-1] - times[0],
                bytes_per_min=slope * 60,
                error_bytes_per_min=error * 60,
            )
        )
    return slopes


def find_leaks(samples: Sequence[Sample]) -> list[Leak]:
    """Compare files and threads after the last job of a phase with those after the jobs of its first half."""
    leaks = []
    for phase, what in itertools.product(PHASES, ("files", "threads")):
        counts = [getattr(one, what) for one in samples if (one.phase, one.place) == (phase, "between")]
        if len(counts) < 2:
            continue
        before = max(counts[: -(-len(counts) // 2)])
        if counts[-1] > before:
            leaks.append(Leak(what=what, phase=phase, before=before, after=counts[-1]))
    return leaks


def _fit(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line, and its standard error."""
    slope, intercept = statistics.linear_regression(times, values)
    residual = sum((value - intercept - slope * t) ** 2 for t, value in zip(times, values, strict=True))
    spread = sum((t - statistics.fmean(times)) ** 2 for t in times)
    return slope, math.sqrt(residual / (len(times) - 2) / spread)


def _resident_bytes() -> int:
    """Source: proc_pid_statm(5): the second number is resident pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _count_files() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - one of them is the listing's own


def _count_threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208
