"""Device time of short steps, too short for a clock on the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def seconds_each(stream: Any, enqueue: Callable[[], None], *, repeats: int = 50) -> float:
    """Device time of what ``enqueue`` puts into the stream: the least of several graphs that hold it many times."""

    def many() -> None:
        for _ in range(repeats):
            enqueue()

    graph = stream.capture(many)
    least = float("inf")
    for _ in range(5):
        stream.synchronize()
        began = time.perf_counter()
        graph.launch(stream)
        stream.synchronize()
        least = min(least, time.perf_counter() - began)
    graph.close()
    return least / repeats
