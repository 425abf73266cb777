"""One line of stages, from a source to a sink, and the channels between them. Several lines (lanes) can be one run.

No thread of its own: `pipeline.graph.runtime` starts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread
from typing import Any

from pipeline.graph.channel import Channel
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.pool import Pool
from pipeline.graph.stage import Stage
from pipeline.graph.tracing import ChannelTrace, LaneTrace
from pipeline.graph.worker import Attempt, Worker, WorkerOptions


class Line:
    """The workers and channels of one lane.

    Args:
        stages: Checked by ``check_graph``.
        lane: Number of the lane, which its stages and channels then carry in their names: ``encode[1]``. None for a
            line that is alone.
        capacities: Of the channels.
        attempt: See `Worker`.
        options: See `Worker`.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        lane: int | None,
        capacities: Sequence[int],
        attempt: Attempt,
        options: WorkerOptions,
    ) -> None:
        self._lane = lane
        names = [stage.name if lane is None else f"{stage.name}[{lane}]" for stage in stages]
        self.channels: list[Channel[Any]] = [
            Channel(f"{before}->{after}", capacity, options.drop, keeps_history=options.is_traced)
            for before, after, capacity in zip(names, names[1:], capacities, strict=False)
        ]
        self._own_names = [stage.name for stage in stages]
        ends = zip(stages, names, [None, *self.channels], [*self.channels, None], strict=True)
        self.workers = [
            Worker(stage, name=name, inbox=inbox, outbox=outbox, attempt=attempt, options=options)
            for stage, name, inbox, outbox in ends
        ]

    def thread_name(self, place: int) -> str:
        """Name of the thread of one stage: with its lane, or with its place in a line that is alone."""
        name = self.workers[place].name
        return f"stage:{name}[{place}]" if self._lane is None else f"stage:{name}"

    def snapshot(self, *, elapsed_s: float, threads: Sequence[Thread], pools: Sequence[Pool]) -> GraphSnapshot:
        """The figures of the line's stages and channels now.

        Args:
            elapsed_s: Of the run.
            threads: Of the workers, in order.
            pools: Those in which the threads may wait.
        """
        channels = tuple(channel.snapshot() for channel in self.channels)
        ends = zip(self.workers, threads, (None, *channels), (*channels, None), strict=True)
        return GraphSnapshot(
            elapsed_s=elapsed_s,
            stages=tuple(
                worker.snapshot(
                    inbox=inbox,
                    outbox=outbox,
                    wait_buffer_s=sum(pool.waited_s(thread) for pool in pools),
                    in_pool=any(pool.is_waiting(thread) for pool in pools),
                )
                for worker, thread, inbox, outbox in ends
            ),
            channels=channels,
            pool_bytes=sum(pool.bytes for pool in pools),
            was_stopped=self.workers[0].was_stopped,
        )

    def trace(self, *, threads: Sequence[Thread], pools: Sequence[Pool]) -> LaneTrace:
        """What the line did, once all its threads have ended. Arguments as of `snapshot`.

        What began in no thread, because the system had none left, is not in it.
        """
        names = [f"{before}->{after}" for before, after in zip(self._own_names, self._own_names[1:], strict=False)]
        return LaneTrace(
            stages=tuple(
                worker.trace(
                    thread_id=thread.native_id,
                    waits_in_pools=tuple(wait for pool in pools for wait in pool.kept_waits(thread)),
                )
                for worker, thread in zip(self.workers, threads, strict=False)
            ),
            channels=tuple(
                ChannelTrace(name=name, capacity=channel.capacity, depths=channel.depths())
                for name, channel in zip(names, self.channels, strict=True)
            ),
        )
