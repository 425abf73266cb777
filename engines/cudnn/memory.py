"""Where each buffer of a plan lies in one block of device memory: buffers that never live at once share it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from engines.cudnn.joins import Join
from engines.cudnn.steps import Plan, reads, writes

ALIGNMENT_BYTES = 256
"""Of every buffer, as ``cuMemAlloc`` aligns its own. Source: CUDA C++ Programming Guide, "Device Memory Accesses"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Offsets into one block."""

    offsets: tuple[int, ...]
    """First byte of each buffer of the plan, in its order."""
    bytes: int
    """Length of the block."""
    separate_bytes: int
    """What the buffers would take if none shared memory."""


def lifetimes(plan: Plan, *, joins: Collection[Join] = ()) -> tuple[tuple[int, int], ...]:
    """First step that writes each buffer, and one past the last step that touches it; equal where none does.

    Args:
        plan: The steps.
        joins: Steps that may run as one in place of the later: what either reads is there until both have run.
    """
    spans: dict[int, tuple[int, int]] = {}
    for index, step in enumerate(plan.steps):
        for part in (*reads(step), *writes(step)):
            first, _ = spans.get(part.buffer, (index, index))
            spans[part.buffer] = (first, index + 1)
    for join in joins:
        for part in reads(plan.steps[join.first]):
            first, stop = spans[part.buffer]
            spans[part.buffer] = (first, max(stop, join.last + 1))
    return tuple(spans.get(index, (0, 0)) for index in range(len(plan.buffers)))


def plan_memory(plan: Plan, *, joins: Collection[Join] = ()) -> MemoryPlan:
    """Give every buffer a place: the largest first, each at the lowest offset that is free while it lives.

    Args:
        plan: The steps.
        joins: Steps that may run as one.
    """
    spans = lifetimes(plan, joins=joins)
    sizes = [
        _aligned(buffer.bytes(plan.batch)) * (start < stop)
        for buffer, (start, stop) in zip(plan.buffers, spans, strict=True)
    ]
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda one: (-sizes[one], one)):
        start, stop = spans[index]
        rivals = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in placed
            if spans[other][0] < stop and start < spans[other][1]
        )
        offset = 0
        for low, high in rivals:
            if offset + sizes[index] <= low:
                break
            offset = max(offset, high)
        offsets[index] = offset
        placed.append(index)
    total = max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)
    return MemoryPlan(offsets=tuple(offsets), bytes=total, separate_bytes=sum(sizes))


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
