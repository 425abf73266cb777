"""How many segments of a film are worked on at once, and what each lane gets of the machine. Arithmetic on a plan.

One lane is enough where the network limits the run: on the processor it takes all cores itself. A GPU leaves the
cores to the encoder, and one software encoder cannot fill them. Measured on 16 cores (frames per second that libx264
reaches at 3840x2160 with 1, 2, 4 and 8 encoders side by side, the last three with 12, 6 and 4 threads each):

========= === === === ===
preset     1   2   4   8
========= === === === ===
ultrafast  80 139 170 192
superfast  55  94 111 123
veryfast   38  59  78  93
medium     16  28  32  39
========= === === === ===

So the more the better, up to the eight that were measured, with two cores for each. The output's size decides through
the memory only, which each lane needs anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.budget import MEMORY_SHARE, host_budget_bytes

if TYPE_CHECKING:
    from pipeline.plan import JobPlan

CORES_PER_LANE = 2
"""Of the best row of the table above: 16 cores, 8 lanes."""
MOST_LANES = 8
"""More were not measured."""
THREADS_PER_CORE = 1.5
"""Threads of all encoders together, per core: 2 x 12 and 4 x 6 of the table above, and what one libx264 takes by
itself."""
FEWEST_THREADS = 4
"""Threads of an encoder beside others, at least: 8 x 4 of the table above."""


def plan_lanes(plan: JobPlan) -> JobPlan:
    """Choose the number of lanes, with a reason, and the threads of their encoders.

    Args:
        plan: Everything else, with pools for one lane.

    Returns:
        The plan with ``lanes`` and ``lanes_reason``; with several lanes and ``encode.threads: 0`` also with threads
        for each encoder.
    """
    cores = _usable_cores()
    wanted, reason = _choose_count(plan, cores=cores)
    lanes = wanted
    frames = plan.frame_count_estimated
    if frames is not None:
        segments = max(1, -(-frames // plan.segment_frames))
        if segments < lanes:
            lanes, reason = segments, f"as many as the film has segments, not {wanted}"
    while lanes > 1 and not _fits(replace(plan, lanes=lanes)):
        lanes -= 1
        reason = f"as many as fit into memory, not {wanted}"
    encoder = plan.encode.encoder
    if lanes > 1 and not plan.config.encode.threads and encoder.codec and not encoder.is_hardware:
        threads = max(FEWEST_THREADS, round(THREADS_PER_CORE * cores / lanes))
        plan = replace(plan, encode=replace(plan.encode, threads=threads))
        reason += f"; {threads} encoder threads each"
    return replace(plan, lanes=lanes, lanes_reason=reason)


def decoder_threads(plan: JobPlan) -> int:
    """Threads of each software decoder; 0 for as many as there are cores. Several lanes share the cores."""
    if plan.config.decode.threads or plan.lanes == 1:
        return plan.config.decode.threads
    return -(-_usable_cores() // plan.lanes)


def _choose_count(plan: JobPlan, *, cores: int) -> tuple[int, str]:
    """How many lanes there should be, and why, as far as films and memory allow."""
    if plan.config.run.lanes != "auto":
        return plan.config.run.lanes, "as the config says"
    if plan.backend.activation_share > 0:
        return 1, "the network needs the processor's cores itself"
    if not plan.encode.encoder.codec:
        return 1, "nothing is encoded"
    if plan.encode.encoder.is_hardware:
        return 1, "the GPU encodes"
    lanes = min(MOST_LANES, max(1, cores // CORES_PER_LANE))
    return lanes, f"one software encoder does not fill {cores} cores" if lanes > 1 else f"for {cores} cores"


def _fits(plan: JobPlan) -> bool:
    """Whether that many lanes fit into the memory of the host and of the GPU."""
    device_budget = plan.backend.device_memory_bytes
    fits_gpu = device_budget is None or plan.device_bytes_estimated <= device_budget * MEMORY_SHARE
    return fits_gpu and plan.memory_bytes_estimated <= host_budget_bytes(plan.config)


def _usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))
