"""Runs lines of stages, each in a thread of its own, joined by channels, and ends them whatever happens.

One line is the rule; several (lanes) are one run all the same: one cause of failure, one stop, one watch for stalls.

This module owns the threads and is the only place where a stage's exception is caught. What a stage does, and what
follows:

======================================== ==================================================== =========
the stage ...                            the runtime ...                                      outcome
======================================== ==================================================== =========
returns, early or not                    finishes its outbox, closes its inbox                done
is refused an item by the next stage     closes the generator, then the same                  cut
gets ``Aborted``                         the same                                             aborted
raises anything else                     notes stage and item, aborts all channels and pools  failed
raises in cleanup while others failed    records it after the first                           failed
======================================== ==================================================== =========

The calling thread supervises (`pipeline.graph.watch`). All threads are joined before `run_graph` returns or raises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from threading import Lock, Thread
from typing import Any

from pipeline.errors import GraphFailed, StageInterrupted
from pipeline.graph.channel import Aborted, Channel
from pipeline.graph.lane_figures import join_lanes
from pipeline.graph.line import Line
from pipeline.graph.metrics import GraphSnapshot, StageState
from pipeline.graph.pool import Pool
from pipeline.graph.stage import Stage, check_lanes
from pipeline.graph.stop import StopToken
from pipeline.graph.tracing import GraphTrace, Tracer
from pipeline.graph.watch import Supervisor
from pipeline.graph.worker import WorkerOptions

__all__ = ["StopToken", "run_graph"]

logger = logging.getLogger(__name__)


def run_graph(
    stages: Sequence[Stage],
    *,
    more_lanes: Sequence[Sequence[Stage]] = (),
    capacities: Sequence[int] | int = 4,
    pools: Sequence[Pool] = (),
    stop: StopToken | None = None,
    is_boundary: Callable[[Any], bool] | None = None,
    drop: Callable[[Any], None] | None = None,
    on_snapshot: Callable[[GraphSnapshot], None] | None = None,
    report_every_s: float = 1.0,
    stall_timeout_s: float = 120.0,
    join_deadline_s: float = 30.0,
    time_base: Fraction | None = None,
    tracer: Tracer | None = None,
) -> GraphSnapshot:
    """Run stages to their end. Blocks; supervises in the calling thread.

    Args:
        stages: A source, any number of transforms, a sink. Each object is run once.
        more_lanes: Further lines, with stages of the same names, that run beside the first one as part of the same run:
            a failure in one aborts all. Names in notes and logs then carry the lane's number, from 0: ``encode[1]``.
        capacities: Items that may wait in each channel, the same for all lanes. More than one: with one, both sides
            wake for each item.
        pools: Pools that the stages block on; aborted with the run, never closed: that is their owner's part.
        stop: Ends the run from outside.
        is_boundary: After ``stop.stop()``, each source ends before the first item for which this is true; before the
            next item if None. Called in the source's thread.
        drop: Releases what an item holds that no stage will get. Called from any thread.
        on_snapshot: Called in the calling thread every ``report_every_s`` and once after all stages ended.
        report_every_s: Seconds between calls of ``on_snapshot``, greater than 0.
        stall_timeout_s: The run fails if no item moved through any channel for that long.
        join_deadline_s: If threads still run that long after an abort, the process writes all stacks to standard error
            and exits with code 70.
        time_base: Seconds per unit of ``item.stamp.pts``, to give seconds in error notes.
        tracer: Gets a record of what every thread did and when, once all have ended; None: nothing is recorded.

    Returns:
        The final figures, of all lanes together. ``was_stopped`` tells whether a source was ended by ``stop``.

    Raises:
        GraphFailed: Stages failed or nothing moved (`StallError`); the first member is the cause, and each has a note
            with its stage and item. What is not an ``Exception`` is wrapped in `StageInterrupted`.
        Aborted: ``stop.abort()`` ended the run; what stages raised on the way is in the notes.
        ValueError, TypeError: The stages do not form a line; nothing was started.
        KeyboardInterrupt: It came in the calling thread; the run was aborted and joined. So with whatever
            ``on_snapshot`` raises.
    """
    lanes = (stages, *more_lanes)
    per_channel = check_lanes(lanes, capacities=capacities)
    if report_every_s <= 0:
        raise ValueError(f"report_every_s must be greater than 0, not {report_every_s}")
    graph = _Graph(
        lanes,
        capacities=per_channel,
        pools=pools,
        options=WorkerOptions(
            stop=stop if stop is not None else StopToken(),
            is_boundary=is_boundary,
            drop=drop,
            time_base=time_base,
            is_traced=tracer is not None,
        ),
    )
    supervisor = Supervisor(
        graph,
        on_snapshot=on_snapshot,
        report_every_s=report_every_s,
        stall_timeout_s=stall_timeout_s,
        join_deadline_s=join_deadline_s,
    )
    if graph.stop.is_aborted:
        raise Aborted("the run was aborted before it began")
    graph.stop.attach(graph, wake=supervisor.wake)
    try:
        graph.start(on_end=supervisor.wake)
        supervisor.watch()
    finally:
        supervisor.join()
        graph.stop.detach(graph)
    snapshot = graph.snapshot()
    if tracer is not None:
        tracer.graphs.append(graph.trace())
    try:
        if on_snapshot is not None:
            on_snapshot(snapshot)
    finally:
        graph.raise_failures()
    return snapshot


class _Graph:
    """The state that the threads of one run share: what they are, whether the run is being aborted, and why."""

    def __init__(
        self,
        lanes: Sequence[Sequence[Stage]],
        *,
        capacities: Sequence[int],
        pools: Sequence[Pool],
        options: WorkerOptions,
    ) -> None:
        self.stop = options.stop
        self._pools = tuple(pools)
        self._stage_names = [stage.name for stage in lanes[0]]
        self._lines = [
            Line(
                stages,
                lane=index if len(lanes) > 1 else None,
                capacities=capacities,
                attempt=self.attempt,
                options=options,
            )
            for index, stages in enumerate(lanes)
        ]
        if options.is_traced:
            for pool in self._pools:
                pool.keep_waits()
        self._workers = [worker for line in self._lines for worker in line.workers]
        self._channels = [channel for line in self._lines for channel in line.channels]
        self._stage_threads: list[Thread] = []
        self._hook_thread = Thread(target=self._run_hooks, name="abort-hooks", daemon=False)
        self._lock = Lock()
        self._failures: list[Exception] = []
        self._cause = ""
        self._aborted_at_s: float | None = None
        self._is_cancelled = False
        self._started_s = time.perf_counter()
        self._ended_s: float | None = None

    @property
    def threads(self) -> list[Thread]:
        """All threads that were started."""
        hooks = [self._hook_thread] if self._hook_thread.ident is not None else []
        return self._stage_threads + hooks

    @property
    def is_running(self) -> bool:
        """Whether some stage has started and not ended."""
        return any(not worker.has_ended for worker in self._workers[len(self._workers) - len(self._stage_threads) :])

    @property
    def is_abort_requested(self) -> bool:
        """Whether the stop token asks for an abort."""
        return self.stop.is_aborted

    @property
    def aborted_at_s(self) -> float | None:
        """When the run was aborted, ``perf_counter`` seconds; None if it was not."""
        return self._aborted_at_s

    @property
    def moved_at_s(self) -> float:
        """When an item last moved, or until when it did not have to, ``perf_counter`` seconds."""
        return max(self.stop.silent_until_s, *(channel.moved_at_s for channel in self._channels))

    def start(self, *, on_end: Callable[[], None]) -> None:
        """Start all stages, each lane's sink first, so that whatever is sent finds its receiver.

        ``on_end`` is called at the very end of each stage's thread. Raises RuntimeError if the system gives no more
        threads; some stages may run then.
        """
        names = [line.thread_name(place) for line in self._lines for place in range(len(line.workers))]
        for worker, name in reversed(list(zip(self._workers, names, strict=True))):
            thread = Thread(target=worker.body, args=(on_end,), name=name, daemon=False)
            self._stage_threads.insert(0, thread)  # before start(): an interrupt inside it may leave the thread running
            try:
                thread.start()
            except RuntimeError:
                del self._stage_threads[0]
                raise

    def abort(self) -> None:
        """Wake every thread of the run wherever it is blocked. Can be repeated. Not from a signal handler: it locks."""
        with self._lock:
            self._mark_aborted()
        self.stop.begin_abort(self)
        for channel in self._channels:
            self._abort_channel(channel)
        for pool in self._pools:
            pool.abort()
        try:
            with self._lock:
                if self._hook_thread.ident is None:
                    self._hook_thread.start()
        except RuntimeError:  # the system gives no more threads
            self._run_hooks()

    def cancel(self) -> None:
        """Abort the run from outside: not because of a failure."""
        with self._lock:
            self._is_cancelled = self._is_cancelled or self._aborted_at_s is None
            self._mark_aborted()
        self.abort()

    def fail(self, error: BaseException, *, where: str) -> None:
        """Record a failure and abort the run.

        Args:
            error: What was raised. The first one recorded is the cause of all that follows.
            where: Which part of the run raised it, and when; becomes a note.
        """
        member = error if isinstance(error, Exception) else StageInterrupted(f"raised {type(error).__name__}: {error}")
        if member is not error:
            member.__cause__ = error
        member.add_note(where)
        with self._lock:
            if self._aborted_at_s is not None:
                member.add_note("raised while the run was being aborted")
            self._failures.append(member)
            self._cause = self._cause or where
            self._mark_aborted()
        self.abort()

    def attempt(self, call: Callable[[], object], *, where: Callable[[], str]) -> StageState:
        """Call something of a stage's; nothing that it raises gets further than into the record of failures.

        Args:
            call: What to call.
            where: Says afterwards which part of the run that was, and when.

        Returns:
            ``done``, or ``aborted`` if it gave in to the abort of the run, or ``failed``.
        """
        try:
            call()
        except BaseException as exc:  # noqa: BLE001 - the one place that catches what a stage raises
            if isinstance(exc, Aborted) and self._aborted_at_s is not None:
                return "aborted"
            self.fail(exc, where=where())
            return "failed"
        return "done"

    def snapshot(self) -> GraphSnapshot:
        """The figures of all stages and channels now."""
        now_s = time.perf_counter() if self._ended_s is None else self._ended_s
        if not self.is_running:
            self._ended_s = now_s
        elapsed_s = now_s - self._started_s
        lanes = [
            line.snapshot(elapsed_s=elapsed_s, threads=threads, pools=self._pools)
            for line, threads in zip(self._lines, self._threads_by_line(), strict=True)
        ]
        return join_lanes(lanes, stage_names=self._stage_names)

    def trace(self) -> GraphTrace:
        """What all threads did; once they have ended."""
        return GraphTrace(
            started_s=self._started_s,
            ended_s=time.perf_counter() if self._ended_s is None else self._ended_s,
            lanes=tuple(
                line.trace(threads=threads, pools=self._pools)
                for line, threads in zip(self._lines, self._threads_by_line(), strict=True)
            ),
        )

    def _threads_by_line(self) -> list[list[Thread]]:
        width = len(self._stage_names)
        return [self._stage_threads[start : start + width] for start in range(0, width * len(self._lines), width)]

    def raise_failures(self) -> None:
        """Raise what the run failed of, if it did. Called when no thread runs any more.

        Raises:
            Aborted, GraphFailed: As `run_graph` says.
        """
        failures, self._failures = self._failures, []  # the traceback will hold this object: leave no cycle
        if self._is_cancelled:
            aborted = Aborted("the run was aborted")
            for failure in failures:
                logger.warning("while the run was being aborted: %r", failure)
                aborted.add_note(f"while stopping: {failure!r}")
            raise aborted
        if failures:
            raise GraphFailed(f"the run failed: {self._cause}", failures)

    def _mark_aborted(self) -> None:
        """From now on the run is being aborted; called under the lock."""
        self._aborted_at_s = self._aborted_at_s or time.perf_counter()

    def _abort_channel(self, channel: Channel[Any]) -> None:
        """Abort one channel; an item that cannot be dropped must not keep the others from being aborted."""
        self.attempt(channel.abort, where=lambda: f"dropping the items of channel {channel.name}")

    def _run_hooks(self) -> None:
        """Body of the thread that calls what `StopToken.on_abort` registered."""
        self.attempt(self.stop.run_hooks, where=lambda: "calling the abort callbacks")
