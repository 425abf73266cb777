"""What a stage is: a generator over an iterator.

A stage never sees a channel, a thread, a sentinel or a stop flag. The same object runs in a thread of its own under
``pipeline.graph.runtime.run_graph`` and in a test as ``list(stage.run(iter([a, b])))``. The rules that make this safe:

- Whatever a stage opens, it opens inside ``run``, in a ``with``: that is its own thread, and the ``with`` is left after
  success, failure, abort and an early end alike. A generator that was never started runs no cleanup, so constructors
  own nothing.
- Code after the loop over ``items`` is the flush: it runs only when everything arrived.
- A stage that holds items back while it waits for more says how many, in ``lookahead``: pools are sized from it.
- Anything that can block for more than 100 ms outside ``items`` and ``yield`` is a pool, or is registered with
  ``StopToken.on_abort``.
- Ownership travels with the item: a stage owns what it received until it yields it, or releases it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class Source(Protocol[Out_co]):
    """Where items come from."""

    @property
    def name(self) -> str:
        """Unique within a graph; used in reports and error notes."""
        ...

    def run(self) -> Iterator[Out_co]:
        """Yield all items, in order. Called once, in the stage's own thread."""
        ...


class Transform(Protocol[In_contra, Out_co]):
    """Items in, items out, in the same order; not necessarily one for one."""

    @property
    def name(self) -> str:
        """Unique within a graph; used in reports and error notes."""
        ...

    @property
    def lookahead(self) -> int:
        """Items that the stage may hold back while it waits for more; 0 if each result needs one item only."""
        ...

    def run(self, items: Iterator[In_contra]) -> Iterator[Out_co]:
        """Yield the results for ``items``. Called once, in the stage's own thread."""
        ...


class Sink(Protocol[In_contra]):
    """Where items go."""

    @property
    def name(self) -> str:
        """Unique within a graph; used in reports and error notes."""
        ...

    def run(self, items: Iterator[In_contra]) -> None:
        """Take all items. Called once, in the stage's own thread."""
        ...


Stage: TypeAlias = Source[Any] | Transform[Any, Any] | Sink[Any]


def check_graph(stages: Sequence[Stage], *, capacities: Sequence[int] | int) -> tuple[int, ...]:
    """Check that stages form a line from a source to a sink.

    Args:
        stages: A source, any number of transforms, a sink.
        capacities: Items that may wait between two stages, one number for all channels or one per channel.

    Returns:
        The capacity of each channel, ``len(stages) - 1`` of them.

    Raises:
        ValueError: Fewer than two stages, a name that is empty or used twice, a wrong number of capacities or one below
            1.
        TypeError: A stage in a place where its ``run`` does not fit.
    """
    if len(stages) < 2:
        raise ValueError(f"a graph needs a source and a sink, got {len(stages)} stage(s)")
    names = [stage.name for stage in stages]
    if not all(names):
        raise ValueError(f"every stage needs a name, got {names}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"stage names must be unique, used twice: {', '.join(twice)}")
    _check_places(stages)
    per_channel = (capacities,) * (len(stages) - 1) if isinstance(capacities, int) else tuple(capacities)
    if len(per_channel) != len(stages) - 1:
        raise ValueError(f"{len(stages)} stages need {len(stages) - 1} capacities, got {len(per_channel)}")
    if min(per_channel) < 1:
        raise ValueError(f"capacities must be at least 1, got {per_channel}")
    return per_channel


def check_lanes(lanes: Sequence[Sequence[Stage]], *, capacities: Sequence[int] | int) -> tuple[int, ...]:
    """Check that several lines of stages can be one run.

    Args:
        lanes: At least one line.
        capacities: As `check_graph` takes them; of every lane.

    Returns:
        The capacity of each channel of a lane.

    Raises:
        ValueError: As `check_graph`; or lanes differ in their stages' names, or share a stage.
        TypeError: As `check_graph`.
    """
    per_channel, *_ = [check_graph(stages, capacities=capacities) for stages in lanes]
    names = [[stage.name for stage in stages] for stages in lanes]
    for lane, own in enumerate(names):
        if own != names[0]:
            raise ValueError(f"all lanes must have the same stages: lane 0 has {names[0]}, lane {lane} has {own}")
    objects = [stage for stages in lanes for stage in stages]
    if len({id(stage) for stage in objects}) < len(objects):
        raise ValueError("each lane needs stages of its own: a stage is run once, in one thread")
    return per_channel


def _check_places(stages: Sequence[Stage]) -> None:
    """Raise TypeError unless the first stage is a source, the last a sink and all between transforms."""
    for place, stage in enumerate(stages):
        is_first, is_last = place == 0, place == len(stages) - 1
        arguments = () if is_first else (iter(()),)
        try:
            inspect.signature(stage.run).bind(*arguments)
        except TypeError as exc:
            wanted = "a source: run()" if is_first else "a transform or a sink: run(items)"
            raise TypeError(f"stage {place} ({stage.name!r}) must be {wanted}; {exc}") from exc
        is_transform = hasattr(stage, "lookahead") or inspect.isgeneratorfunction(stage.run)
        if is_last and is_transform:
            raise TypeError(f"the last stage ({stage.name!r}) must be a sink; its run(items) yields or has a lookahead")
        if not is_first and not is_last and not is_transform:
            raise TypeError(f"stage {place} ({stage.name!r}) must be a transform: it needs a lookahead (0 if none)")
