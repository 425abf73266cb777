"""Whose each thread of a run was, and what it took of the processor."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

from tools.profile_record import Recorded
from tools.profile_samples import Sample

Totals = list[tuple[float, float]]
"""Moments, and what a total that grows was then."""
Used = dict[int, tuple[float, float]]
"""Of each thread, by the system's number: seconds on a processor, seconds in which it waited for one."""


def owners_of(run: Recorded) -> dict[int, str]:
    """Whose each thread is, by the system's number.

    A stage's own are known. Libraries' threads have the name of the thread that started them, libav's its own; what was
    there before the run and is none of Python's is the network's.
    """
    stages = {stage.thread_id: stage.name for lane in run.graph.lanes for stage in lane.stages}
    names = {number: reading.name for sample in run.samples for number, reading in sample.threads.items()}
    found = {}
    for number, name in names.items():
        if number in stages:
            found[number] = stages[number]
        elif name in stages.values():
            found[number] = name
        elif name.startswith("av:"):
            found[number] = "decode"
        elif number in run.before and number != os.getpid():  # the first thread has the process's number
            found[number] = "engine"
        else:
            found[number] = "others"
    return found


def used_by_owner(run: Recorded, owners: dict[int, str], *, start_s: float, stop_s: float) -> dict[str, Used]:
    """What every thread took of the processor within a window, taken evenly between two looks."""
    used: dict[str, Used] = {}
    unseen = unseen_cpu(run.samples)
    for number, owner in sorted(owners.items()):
        cpu, queued = _totals(run.samples, number)
        if number in unseen:
            ended_s, cpu_s = unseen[number]
            cpu.append((ended_s, cpu[-1][1] + cpu_s))
        spent = (_within(cpu, start_s, stop_s), _within(queued, start_s, stop_s))
        used.setdefault(owner, {})[number] = spent
    return used


def unseen_cpu(samples: Sequence[Sample]) -> dict[int, tuple[float, float]]:
    """What threads took after the last look at them: an encoder's code a dozen frames while it is closed.

    The process keeps count of all its threads together. What those that are still there have not taken of that was of
    those that have gone since the look before, in equal parts.

    Returns:
        By the thread's number: when it was missed first, and what it took until then, seconds.
    """
    found: dict[int, tuple[float, float]] = {}
    for before, after in itertools.pairwise(samples):
        gone = before.threads.keys() - after.threads.keys()
        seen_s = sum(
            reading.cpu_s - (before.threads[number].cpu_s if number in before.threads else 0.0)
            for number, reading in after.threads.items()
        )
        unseen_s = after.cpu_s - before.cpu_s - seen_s
        if gone and unseen_s > 0:
            found.update((number, (after.time_s, unseen_s / len(gone))) for number in gone)
    return found


def work_queued_s(
    *, work_s: float, work_share: float, own: Sequence[tuple[float, float]], helpers: Sequence[tuple[float, float]]
) -> float:
    """How much of a stage's work was a wait for a core: of its own threads, or of those it waited for.

    Args:
        work_s: Seconds of work, of all lanes.
        work_share: The same as a share of the time of its threads: a wait for the next item ends with a wait for a
            core, too.
        own: Of each lane's thread: seconds on a processor, seconds in which it waited for one.
        helpers: The same of the library's threads. While a stage's thread neither runs nor waits for a core it waits
            for those, as long as they have something to do: they would have been through with it sooner, by the share
            in which they waited for a core.
    """
    own_cpu_s, own_queued_s = sum(cpu for cpu, _ in own), work_share * sum(queued for _, queued in own)
    active_s, queued_s = sum(cpu + queued for cpu, queued in helpers), sum(queued for _, queued in helpers)
    if active_s <= 0:
        return own_queued_s
    waited_s = min(max(0.0, work_s - own_cpu_s - own_queued_s), active_s)
    return own_queued_s + waited_s * queued_s / active_s


def _totals(samples: Sequence[Sample], number: int) -> tuple[Totals, Totals]:
    """A thread's time on a processor and its waits for one, whenever it was looked at; 0 at the look before that."""
    cpu: Totals = []
    queued: Totals = []
    before: Sample | None = None
    for sample in samples:
        reading = sample.threads.get(number)
        if reading is not None:
            if not cpu and before is not None:
                cpu.append((before.time_s, 0.0))
                queued.append((before.time_s, 0.0))
            cpu.append((sample.time_s, reading.cpu_s))
            queued.append((sample.time_s, reading.queued_s))
        before = sample
    return cpu, queued


def _within(totals: Totals, start_s: float, stop_s: float) -> float:
    """How much a total that grows, seen now and then, grew within a window."""
    grown = 0.0
    for (earlier_s, before), (later_s, after) in itertools.pairwise(totals):
        overlap_s = min(later_s, stop_s) - max(earlier_s, start_s)
        if overlap_s > 0:
            grown += (after - before) * overlap_s / (later_s - earlier_s)
    return grown
