"""The clocks that a run goes by. Everything of ``pipeline.night`` that waits or measures asks one of these."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The machine's clocks; tests have one of their own."""

    def now(self) -> datetime:
        """The time on the wall, in UTC. It can be set, also backwards."""
        return datetime.now(UTC)

    def steady_s(self) -> float:
        """Seconds from some moment on; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Do nothing for a time."""
        time.sleep(seconds)
