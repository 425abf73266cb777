"""Which process a film is worked on in: one of its own, unless the last one was quick and all went well in it.

Starting a process, loading its libraries and opening a GPU takes seconds: nothing beside a film, but five times as long
as the work on a photo. What fails, was asked to stop or took long enough to matter ends its process, as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.graph.stop import StopToken
from pipeline.jobs.obituary import explain_death, explain_no_start
from pipeline.jobs.order import FilmOrder
from pipeline.jobs.process import WORKER, FilmEnd, FilmProcess
from pipeline.results import JobResult
from pipeline.show.progress import Display

logger = logging.getLogger(__name__)

QUICK_S = 20.0
"""A process goes with a film that took longer, seconds: a new one costs a few, and keeps nothing of what was before."""

MOST_FILMS = 200
"""That one process works on: what a library never gives back ends with it."""

_MAYBE_OF_OTHERS = frozenset({"setup", "internal"})
"""Failures that are final, but may come from what earlier films have left in a process. The film itself, its place and
its config are at fault for the others, or the run tries again by itself, always in a new process."""


class FilmProcesses:
    """Works on films, each in a process that nothing has gone wrong in. As a context manager it leaves none behind.

    Args:
        worker: The program of a process and its first arguments.
    """

    def __init__(self, *, worker: Sequence[str] = WORKER) -> None:
        self._worker = worker
        self._waiting: FilmProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process that waits."""
        self.rest()

    def rest(self) -> None:
        """No film follows at once: the process that waits for one goes, and with it what it has of a GPU."""
        process, self._waiting = self._waiting, None
        if process is not None:
            process.close()

    def work(
        self,
        order: FilmOrder,
        *,
        display: Display,
        stop: StopToken,
        log: Path,
        deadline_s: float,
        tick: Callable[[], None] = lambda: None,
    ) -> JobResult:
        """Work on a film. Nothing that was started for it runs any more when this returns, but the process may wait.

        Args:
            order: What to do.
            display: Shows what the process says.
            stop: Ends the work: at the next boundary or at once.
            log: File for what the process and its libraries write; made, or appended to.
            deadline_s: Seconds that the process has to end after an abort, before it is killed.
            tick: Called in this thread about every ``process.TICK_S``; it may call ``stop``.

        Returns:
            What became of the film, also if the process died or could not be started.
        """
        order = replace(order, log=log)
        while True:
            started_s = time.perf_counter()
            try:
                log_start = _size_of(log)
                process = self._take(order, log=log)
            except OSError as exc:  # no descriptors, no memory, no room for the log: the next film may have more luck
                return explain_no_start(order, exc)
            try:
                end = process.work(order, display=display, stop=stop, deadline_s=deadline_s, tick=tick)
                if _is_worth_keeping(process, end):
                    self._waiting = process
            finally:
                if self._waiting is not process:
                    process.close()
            if end.result is None:
                assert process.code is not None
                return explain_death(
                    order,
                    process.code,
                    job=end.job,
                    is_aborted=stop.is_aborted,
                    was_killed=end.was_killed,
                    log=log,
                    log_start=log_start,
                    elapsed_s=time.perf_counter() - started_s,
                )
            if process.film_count == 1 or end.result.failure not in _MAYBE_OF_OTHERS or stop.is_stopping:
                return end.result
            logger.warning("%s failed in a process that had worked on others; once more in its own", order.name)

    def _take(self, order: FilmOrder, *, log: Path) -> FilmProcess:
        """The process that waits, or a new one; it is the caller's.

        Raises:
            OSError: None could be started.
        """
        process, self._waiting = self._waiting, None
        if process is not None:
            if not process.has_ended:
                return process
            process.close()
        with log.open("ab") as log_file:
            return FilmProcess(worker=self._worker, name=order.name, log=log_file)


def work_in_process(
    order: FilmOrder,
    *,
    display: Display,
    stop: StopToken,
    log: Path,
    deadline_s: float,
    tick: Callable[[], None] = lambda: None,
    worker: Sequence[str] = WORKER,
) -> JobResult:
    """Work on a single film in a process of its own. When this returns or raises, the process and all of it are gone.

    Args:
        order: See ``FilmProcesses.work``.
        display: See there.
        stop: See there.
        log: See there.
        deadline_s: See there.
        tick: See there.
        worker: See ``FilmProcesses``.
    """
    with FilmProcesses(worker=worker) as processes:
        return processes.work(order, display=display, stop=stop, log=log, deadline_s=deadline_s, tick=tick)


def _is_worth_keeping(process: FilmProcess, end: FilmEnd) -> bool:
    result = end.result
    return (
        end.is_ready_for_more
        and result is not None
        and result.status in ("done", "skipped")
        and result.elapsed_s < QUICK_S
        and process.film_count < MOST_FILMS
    )


def _size_of(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
