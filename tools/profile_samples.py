"""What the process takes of the machine, looked at several times a second while a run goes on: processor time of every
thread, memory, and what the GPU says of itself. Linux; the files are those of proc(5).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.profile_nvml import GpuReading

EVERY_S = 0.5
"""A look takes 22 us for each thread (measured on an AMD EPYC): 0.5 % of a core with 120 of them."""

LEAST_APART_S = 0.2
"""Of two samples between which a load is quoted: fifty ticks of a kernel with 250 Hz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadReading:
    """One thread's totals since it began."""

    name: str
    cpu_s: float
    """Time on a processor."""
    queued_s: float
    """Time in which it could have run, but no processor was free for it; 0 where the kernel does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The process at one moment."""

    time_s: float
    """``perf_counter`` seconds."""
    rss_bytes: int
    """Resident memory."""
    threads: dict[int, ThreadReading]
    """By the system's number."""
    gpu: GpuReading | None
    cpu_s: float = 0.0
    """Time on processors of all threads that there ever were; 0 if nobody looked."""


class Sampler(threading.Thread):
    """Looks at this process from when it is entered until it is left.

    Args:
        read_gpu: Asks the GPU; None if there is nothing to ask.
        every_s: Seconds between two looks.
    """

    def __init__(self, *, read_gpu: Callable[[], GpuReading | None] | None = None, every_s: float = EVERY_S) -> None:
        super().__init__(name="profile-samples", daemon=False)
        self.samples: list[Sample] = []
        self.cpu_s = 0.0
        """After the run: what this thread took of the processor."""
        self.ask_cpu_s = 0.0
        """How much of that it took to ask the GPU."""
        self._read_gpu = read_gpu
        self._every_s = every_s
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        self.look()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self.join()
        self.look()

    def run(self) -> None:
        """Body of the thread."""
        while not self._is_over.wait(self._every_s):
            self.look(asks_gpu=True)
        self.cpu_s = time.thread_time()

    def look(self, *, asks_gpu: bool = False) -> None:
        """Take one sample. From any thread; only the sampler's own has the time to ask the GPU."""
        self.samples.append(
            Sample(
                time_s=time.perf_counter(),
                rss_bytes=read_rss_bytes(),
                threads=read_threads(),
                gpu=self._ask(self._read_gpu) if self._read_gpu is not None and asks_gpu else None,
                cpu_s=time.process_time(),
            )
        )

    def _ask(self, read_gpu: Callable[[], GpuReading | None]) -> GpuReading | None:
        before_s = time.thread_time()
        reading = read_gpu()
        self.ask_cpu_s += time.thread_time() - before_s
        return reading


def cores_busy(samples: Sequence[Sample]) -> Iterator[tuple[float, float]]:
    """Time of a sample in ``perf_counter`` seconds, and how many cores the process kept busy since the one before.

    Samples that follow too soon are passed over: the kernel brings a thread's time up to date when it is interrupted.
    """
    before = None
    for sample in samples:
        if before is not None and sample.time_s - before.time_s < LEAST_APART_S:
            continue
        if before is not None:
            cpu_s = sum(
                reading.cpu_s - (before.threads[number].cpu_s if number in before.threads else 0.0)
                for number, reading in sample.threads.items()
            )
            yield sample.time_s, cpu_s / (sample.time_s - before.time_s)
        before = sample


def read_rss_bytes() -> int:
    """Resident memory of this process."""
    return int(_read("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_threads() -> dict[int, ThreadReading]:
    """All threads of this process; one that ends meanwhile is left out."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        try:
            found[int(folder.name)] = _read_thread(str(folder))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _read_thread(folder: str) -> ThreadReading:
    name = _read(f"{folder}/comm").rstrip("\n")
    try:
        ran, queued, _ = _read(f"{folder}/schedstat").split()
    except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO
        ran, queued = "0", "0"
    if int(ran):  # nanoseconds; the other file has ticks of 10 ms
        return ThreadReading(name=name, cpu_s=int(ran) / 1e9, queued_s=int(queued) / 1e9)
    fields = _read(f"{folder}/stat").rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return ThreadReading(name=name, cpu_s=cpu_s, queued_s=int(queued) / 1e9)


def _read(path: str) -> str:
    """A small file of the kernel's, at a third of what Python's own files cost: there are several for each thread."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def name_this_thread(name: str) -> None:
    """Give the calling thread a name of up to 15 letters, which the threads that it starts inherit."""
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:15])
