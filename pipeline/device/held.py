"""What a stage owns at a moment, so that an early end gives it back."""

from __future__ import annotations

from typing import Self, TypeVar

from pipeline.frames import Releasable

T = TypeVar("T", bound=Releasable)


class Held:
    """Leases, frames and batches that a stage has and must pass on or release. A context manager.

    Enter it before the stage's streams, so that it is left after them: nothing is in flight then, and what is still
    held goes back without an event.
    """

    def __init__(self) -> None:
        self._items: dict[int, Releasable] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        while self._items:
            self._items.popitem()[1].release()

    def keep(self, item: T) -> T:
        """Own an item from now on."""
        self._items[id(item)] = item
        return item

    def part(self, item: T) -> T:
        """Own it no longer: the caller releases it or passes it on."""
        del self._items[id(item)]
        return item
