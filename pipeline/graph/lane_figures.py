"""Several lanes as one graph: what their stages of one name did together. Arithmetic on snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.graph.metrics import ChannelSnapshot, GraphSnapshot, StageSnapshot, StageState

_STATES: tuple[StageState, ...] = ("failed", "aborted", "running", "waiting", "cut", "done")
"""What a stage of several lanes is: the first of these that one of them is."""
_CHANNEL_STATES = ("aborted", "open", "finished", "closed")
"""The same for a channel."""


def join_lanes(lanes: Sequence[GraphSnapshot], *, stage_names: Sequence[str]) -> GraphSnapshot:
    """Add up the lanes of one run.

    Counts, depths, capacities and times are sums; shares are means over the lanes, weighted by the time that they refer
    to; quantiles of waits are the worst lane's. So a stage's load is its lanes' mean load, 1 if all of them always
    work.

    Args:
        lanes: Snapshots of one moment, at least one, with the same stages in the same order.
        stage_names: The stages' own names, without a lane's number.

    Returns:
        The run's snapshot; ``lanes`` holds the parts if there are several.
    """
    if len(lanes) == 1:
        return lanes[0]
    return GraphSnapshot(
        elapsed_s=max(lane.elapsed_s for lane in lanes),
        stages=tuple(
            _join_stages(parts, name=name)
            for name, parts in zip(stage_names, zip(*(lane.stages for lane in lanes), strict=True), strict=True)
        ),
        channels=tuple(
            _join_channels(parts, name=f"{before}->{after}")
            for before, after, parts in zip(
                stage_names, stage_names[1:], zip(*(lane.channels for lane in lanes), strict=True), strict=False
            )
        ),
        pool_bytes=lanes[0].pool_bytes,
        was_stopped=any(lane.was_stopped for lane in lanes),
        lanes=tuple(lanes),
    )


def _join_stages(parts: Sequence[StageSnapshot], *, name: str) -> StageSnapshot:
    states = {part.state for part in parts}
    return StageSnapshot(
        name=name,
        state=next(state for state in _STATES if state in states),
        items_in=sum(part.items_in for part in parts),
        items_out=sum(part.items_out for part in parts),
        elapsed_s=sum(part.elapsed_s for part in parts),
        wait_in_s=sum(part.wait_in_s for part in parts),
        wait_out_s=sum(part.wait_out_s for part in parts),
        wait_buffer_s=sum(part.wait_buffer_s for part in parts),
    )


def _join_channels(parts: Sequence[ChannelSnapshot], *, name: str) -> ChannelSnapshot:
    open_s = sum(part.open_s for part in parts)
    states = {part.state for part in parts}
    return replace(
        parts[0],
        name=name,
        capacity=sum(part.capacity for part in parts),
        depth=sum(part.depth for part in parts),
        peak=sum(part.peak for part in parts),
        sent=sum(part.sent for part in parts),
        received=sum(part.received for part in parts),
        occupancy=sum(part.occupancy * part.open_s for part in parts) / open_s if open_s > 0 else 0.0,
        full=sum(part.full * part.open_s for part in parts) / open_s if open_s > 0 else 0.0,
        state=next(state for state in _CHANNEL_STATES if state in states),
        open_s=open_s,
        send_wait_s=sum(part.send_wait_s for part in parts),
        receive_wait_s=sum(part.receive_wait_s for part in parts),
        send_wait_p50_s=max(part.send_wait_p50_s for part in parts),
        send_wait_p99_s=max(part.send_wait_p99_s for part in parts),
        receive_wait_p50_s=max(part.receive_wait_p50_s for part in parts),
        receive_wait_p99_s=max(part.receive_wait_p99_s for part in parts),
        is_sender_waiting=all(part.is_sender_waiting for part in parts),
        is_receiver_waiting=all(part.is_receiver_waiting for part in parts),
    )
