"""Things that go wrong at one moment of a stage: an item's index, or ``flush``, or ``cleanup``.

A stage under test calls ``fault.at(moment)`` at each of its moments and returns early if that is true.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

Moment = int | Literal["flush", "cleanup"]


class Fault:
    """Nothing goes wrong."""

    def at(self, moment: Moment) -> bool:
        """Whether the stage is to return early now."""
        return False


class FailAt(Fault):
    """Raises at one moment."""

    def __init__(self, moment: Moment, error: BaseException) -> None:
        self._moment = moment
        self._error = error

    def at(self, moment: Moment) -> bool:
        if moment == self._moment:
            raise self._error
        return False


class ActAt(Fault):
    """Calls something at one moment."""

    def __init__(self, moment: Moment, action: Callable[[], object]) -> None:
        self._moment = moment
        self._action = action

    def at(self, moment: Moment) -> bool:
        if moment == self._moment:
            self._action()
        return False


class HangAt(ActAt):
    """Blocks at one moment in ``wait``, which only an abort of the run can end."""

    def __init__(self, moment: Moment, *, wait: Callable[[], object]) -> None:
        super().__init__(moment, wait)


class SlowEvery(Fault):
    """Sleeps at every ``every``-th item, and in flush and cleanup."""

    def __init__(self, every: int, *, sleep_s: float) -> None:
        self._every = every
        self._sleep_s = sleep_s

    def at(self, moment: Moment) -> bool:
        if not isinstance(moment, int) or moment % self._every == 0:
            time.sleep(self._sleep_s)
        return False


class ReturnAt(Fault):
    """Makes the stage return early at one moment."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def at(self, moment: Moment) -> bool:
        return moment == self._moment
