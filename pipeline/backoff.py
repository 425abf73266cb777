"""What can be made smaller when memory runs out in the middle of a run. Decisions only; `pipeline.attempts` acts.

The plan leaves room for what cannot be computed in advance (a library's scratch memory, other programs), and that room
is an estimate. Where it was too little, a run goes on once with half of what is the largest: lanes, then tiles of a
batch, then the area of a tile.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from typing import Final, Literal

from engines.errors import BuildCancelled, BuildFailed, OutOfDeviceMemory, OutOfMemory, speaks_of_memory
from pipeline.budget import limit_tiles
from pipeline.errors import SetupError
from pipeline.plan import JobPlan
from pipeline.pool_plan import plan_pools
from pipeline.tiling import choose_tile, plan_tiles

MemoryPlace = Literal["host", "gpu"]

_MISSING: Final[dict[str, MemoryPlace]] = {"memory": "host", "GPU memory": "gpu"}
"""``SetupError.missing`` of pools that do not fit."""

_NO_WORDS: Final[dict[MemoryPlace, str]] = {
    "host": "the host had too little for a buffer",
    "gpu": "the GPU had too little for a buffer",
}
"""For errors that say nothing: Python's own ``MemoryError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLack:
    """Memory ran out."""

    place: MemoryPlace
    text: str
    """What for, with the numbers, as far as whoever noticed says them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallerPlan:
    """A plan that needs less memory than the one before it, and gives the same frames but for tiles' seams."""

    plan: JobPlan
    change: str
    """What is smaller, as in ``2 lanes instead of 4``."""


def find_lack(error: BaseException) -> MemoryLack | None:
    """Whether an error is, or was caused by, a lack of memory; of a failed graph, its first error counts."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause: BaseException | None = error
    while cause is not None:
        place = _place_of(cause)
        if place is not None:
            return MemoryLack(place=place, text=str(error) or _NO_WORDS[place])
        cause = cause.__cause__
    return None


def shrink(plan: JobPlan, lack: MemoryLack, *, has_engine: bool) -> SmallerPlan | None:
    """Make a plan's demand smaller where memory ran out.

    Args:
        plan: What was running or was to be opened.
        lack: What ran out.
        has_engine: Whether the network had been opened; if not, lanes play no part in it.

    Returns:
        The plan to go on with: its segments and encoder settings are the same. None if nothing can be made smaller
        that is held in that memory.
    """
    if has_engine and plan.lanes > 1 and (lack.place == "host" or plan.is_on_gpu):
        lanes = plan.lanes // 2
        change = f"{lanes} {'lanes' if lanes > 1 else 'lane'} instead of {plan.lanes}"
        return SmallerPlan(plan=replace(plan, lanes=lanes, lanes_reason="as memory ran out with more"), change=change)
    if lack.place == "host" and plan.is_on_gpu:
        return None  # neither batches nor tiles are in the host's memory
    batch = plan.config.infer.batch
    if batch > 1 and plan.model.fixed_batch is None:
        infer = plan.config.infer.model_copy(update={"batch_tiles": batch // 2})
        config = plan.config.model_copy(update={"infer": infer})
        smaller = plan_pools(replace(plan, config=config))
        return SmallerPlan(plan=smaller, change=f"batches of {batch // 2} instead of {batch}")
    return _with_smaller_tiles(plan)


def second_lack(plan: JobPlan, *, first: MemoryLack, change: str, second: MemoryLack) -> SetupError:
    """The error of a job that ran out of memory again after it had become smaller.

    Args:
        plan: The smaller plan.
        first, second: What ran out, before and after.
        change: What was made smaller in between.
    """
    remedies = ["run.lanes: 1"] if plan.lanes > 1 else []
    smaller = _with_smaller_tiles(plan)
    if smaller is not None:
        grid = smaller.plan.grid
        remedies.append(f"tile.max_px: {max(grid.tile_height, grid.tile_width)}")
    if second.place == "host":
        remedies.append(f"a run.memory_mb below {plan.memory_bytes_estimated // 2**20}")
    advice = f"set {' or '.join(remedies)}, or end" if remedies else "end"
    name = {"host": "memory", "gpu": "GPU memory"}[second.place]
    return SetupError(
        f"memory ran out twice: {first.text}; then, with {change}: {second.text}",
        missing=name,
        hint=f"{advice} other programs that use {name}",
    )


def forget_frames(error: BaseException) -> None:
    """Let go of the buffers that the stack frames of an error hold: they are wanted now.

    Args:
        error: Not of use for a traceback afterwards.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        exc = waiting.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        if isinstance(exc, BaseExceptionGroup):
            waiting.extend(exc.exceptions)
        waiting += [exc.__cause__, exc.__context__]
        traceback.clear_frames(exc.__traceback__)


def _place_of(error: BaseException) -> MemoryPlace | None:
    """Where memory ran out, if that is what an error says."""
    if isinstance(error, SetupError):
        return _MISSING.get(error.missing)
    if isinstance(error, OutOfDeviceMemory):
        return "gpu"
    if isinstance(error, MemoryError | OutOfMemory):
        return "host"
    if isinstance(error, BuildFailed) and not isinstance(error, BuildCancelled) and speaks_of_memory(str(error)):
        return "gpu"  # the compiler tries its kernels there
    return None


def _with_smaller_tiles(plan: JobPlan) -> SmallerPlan | None:
    """Tiles of at most half the area; None if the frame cannot be covered by such."""
    grid = plan.grid
    limits = limit_tiles(plan.config, model=plan.model, backend=plan.backend)
    rules = {**limits.rules, "overlap_px": plan.overlap_px}
    size = {"height": grid.height, "width": grid.width}
    try:
        tile_height, tile_width = choose_tile(
            **size,
            tile_height=limits.height,
            tile_width=limits.width,
            max_side_px=limits.max_side_px,
            max_area_px=grid.tile_height * grid.tile_width // 2,
            **rules,
        )
    except ValueError:
        return None
    smaller = plan_tiles(**size, tile_height=tile_height, tile_width=tile_width, **rules)
    change = f"tiles of {tile_width}x{tile_height} instead of {grid.tile_width}x{grid.tile_height}"
    return SmallerPlan(plan=plan_pools(replace(plan, grid=smaller)), change=change)
