"""Waits for a run to end: reports, notices that nothing moves, and has the last resort against a run that does not end.

The wait is a ``SimpleQueue``: its ``put`` is reentrant, so a signal handler may wake the thread that it interrupted,
which a ``Condition`` or an ``Event`` does not allow. There is no polling: the waits that have a limit end at the next
report, at the moment when a stall would be one, or at the deadline.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Thread
from typing import NoReturn, Protocol

from pipeline.errors import StallError
from pipeline.graph.metrics import GraphSnapshot

logger = logging.getLogger(__name__)

EXIT_STUCK = 70
"""Exit code of a process whose threads cannot be ended. Source: EX_SOFTWARE of BSD's sysexits.h."""


class Watched(Protocol):
    """A run, as far as its supervisor is concerned."""

    @property
    def threads(self) -> list[Thread]:
        """All threads that were started."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether some stage has started and not ended."""
        ...

    @property
    def is_abort_requested(self) -> bool:
        """Whether someone outside asked for an abort."""
        ...

    @property
    def aborted_at_s(self) -> float | None:
        """When the run was aborted, ``perf_counter`` seconds; None if it was not."""
        ...

    @property
    def moved_at_s(self) -> float:
        """When an item last moved, or until when it did not have to, ``perf_counter`` seconds."""
        ...

    def snapshot(self) -> GraphSnapshot:
        """The figures now."""
        ...

    def cancel(self) -> None:
        """Abort the run from outside."""
        ...

    def fail(self, error: BaseException, *, where: str) -> None:
        """Record a failure and abort the run."""
        ...


class Supervisor:
    """Watches one run from the thread that asked for it.

    Args:
        run: The run.
        on_snapshot: Called every ``report_every_s`` seconds in the supervising thread.
        report_every_s: Greater than 0.
        stall_timeout_s: The run fails if nothing moved for that long.
        join_deadline_s: Time that the threads have to end after an abort.
    """

    def __init__(
        self,
        run: Watched,
        *,
        on_snapshot: Callable[[GraphSnapshot], None] | None,
        report_every_s: float,
        stall_timeout_s: float,
        join_deadline_s: float,
    ) -> None:
        self._run = run
        self._on_snapshot = on_snapshot
        self._report_every_s = report_every_s
        self._stall_timeout_s = stall_timeout_s
        self._join_deadline_s = join_deadline_s
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> None:
        """Something happened: have a look. From any thread and from a signal handler."""
        self._wakes.put(None)

    def watch(self) -> None:
        """Return when all stages have ended. Whatever ``on_snapshot`` raises passes through."""
        report_at_s = time.perf_counter() + self._report_every_s
        while self._run.is_running:
            due_s = self._check()
            now_s = time.perf_counter()
            if self._on_snapshot is not None:
                if now_s >= report_at_s:
                    self._on_snapshot(self._run.snapshot())
                    report_at_s = max(report_at_s + self._report_every_s, now_s)
                due_s = min(due_s, report_at_s)
            self._sleep(until_s=due_s)

    def join(self) -> None:
        """Abort what still runs, wait until all threads have ended, or end the process at the deadline.

        A ``KeyboardInterrupt`` meanwhile changes nothing: the run is ending already, and the deadline stands.
        """
        while True:
            try:
                if self._run.is_running:
                    self._run.cancel()
                while self._run.is_running:
                    self._sleep(until_s=self._check())
                for thread in self._run.threads:
                    thread.join(self._left_s())
                self._check_deadline()
                return
            except KeyboardInterrupt:
                logger.warning("the run is ending already")

    def _check(self) -> float:
        """Abort, fail or end the process if it is time to, and return when to check next, ``perf_counter`` seconds."""
        if self._run.is_abort_requested and self._run.aborted_at_s is None:
            self._run.cancel()
        if self._run.aborted_at_s is None:
            stalled_at_s = self._run.moved_at_s + self._stall_timeout_s
            if time.perf_counter() < stalled_at_s:
                return stalled_at_s
            self._fail_stalled()
        self._check_deadline()
        return time.perf_counter() + self._left_s()

    def _fail_stalled(self) -> None:
        """Nothing moved for too long: log the stacks and fail the run."""
        states = describe_states(self._run.snapshot())
        message = f"no item moved for {self._stall_timeout_s:g} s"
        logger.error("%s\n%s\n%s", message, "\n".join(states), describe_stacks(self._run.threads))
        self._run.fail(StallError(message, states=states), where="watching all stages")

    def _left_s(self) -> float:
        """Time until the deadline; the whole of it if the run was not aborted."""
        aborted_at_s = self._run.aborted_at_s
        if aborted_at_s is None:
            return self._join_deadline_s
        return max(0.0, aborted_at_s + self._join_deadline_s - time.perf_counter())

    def _check_deadline(self) -> None:
        """End the process if the run was aborted and had its time to end."""
        alive = [thread.name for thread in self._run.threads if thread.is_alive()]
        if alive and self._run.aborted_at_s is not None and self._left_s() <= 0:
            exit_stuck(alive, deadline_s=self._join_deadline_s)

    def _sleep(self, *, until_s: float) -> None:
        """Wait until someone calls `wake`, or until ``until_s``."""
        left_s = max(0.0, until_s - time.perf_counter())
        with suppress(Empty):
            self._wakes.get(timeout=min(left_s, TIMEOUT_MAX))


def describe_states(snapshot: GraphSnapshot) -> tuple[str, ...]:
    """One line per stage and per channel, lane by lane in the order of the graph: what each is doing."""
    if snapshot.lanes:
        return tuple(line for lane in snapshot.lanes for line in describe_states(lane))
    lines = [
        f"stage {stage.name}: {stage.state}, {stage.items_in} in, {stage.items_out} out, "
        f"waited {stage.wait_in_s:.1f} s for input, {stage.wait_out_s:.1f} s for room, "
        f"{stage.wait_buffer_s:.1f} s for a buffer"
        for stage in snapshot.stages
    ]
    lines += [
        f"channel {channel.name}: {channel.state}, {channel.depth} of {channel.capacity} waiting, "
        f"{channel.sent} sent, {channel.received} received"
        for channel in snapshot.channels
    ]
    return tuple(lines)


def describe_stacks(threads: Iterable[Thread]) -> str:
    """The Python stacks of those threads that are alive, for the log."""
    frames = sys._current_frames()
    parts = []
    for thread in threads:
        frame = frames.get(thread.ident) if thread.ident is not None else None
        if frame is not None:
            parts.append(f"Thread {thread.name}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)


def exit_stuck(names: Iterable[str], *, deadline_s: float) -> NoReturn:
    """Write all stacks to standard error and end the process at once, without any cleanup, with `EXIT_STUCK`.

    Args:
        names: The threads that did not end.
        deadline_s: How long they had.
    """
    logger.critical("did not end within %g s of the abort: %s; ending the process", deadline_s, ", ".join(names))
    faulthandler.dump_traceback(file=2, all_threads=True)  # the descriptor: sys.stderr may be replaced or closed
    os._exit(EXIT_STUCK)
