"""What one hop through a channel costs, by capacity, next to ``queue.Queue`` in the same process.

    python tools/bench_channel.py [--items 20000] [--repeats 5] [--json]

A thread sends integers, the main thread receives them; the cost of a hop is the time for all of them divided by their
number. On shared machines the figures vary by a factor of three from one sitting to the next: compare within one call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.graph.channel import Channel

CAPACITIES = (1, 2, 4, 8, 16)


def time_hops(send: Callable[[int], None], receive: Callable[[], object], *, items: int) -> float:
    """Microseconds per item that a thread sends and this one receives."""

    def produce() -> None:
        for item in range(items):
            send(item)

    thread = threading.Thread(target=produce)
    began_s = time.perf_counter()
    thread.start()
    for _ in range(items):
        receive()
    took_s = time.perf_counter() - began_s
    thread.join()
    return took_s / items * 1e6


def measure(*, capacity: int, items: int, repeats: int) -> dict[str, float]:
    """Minimum, median and maximum of both kinds, taken in turn so that a busy moment hits both."""
    ours, theirs = [], []
    for _ in range(repeats):
        channel: Channel[int] = Channel("bench", capacity)
        ours.append(time_hops(channel.send, channel.receive, items=items))
        standard: queue.Queue[int] = queue.Queue(capacity)
        theirs.append(time_hops(standard.put, standard.get, items=items))
    return {
        "capacity": capacity,
        "channel_min_us": min(ours),
        "channel_median_us": statistics.median(ours),
        "channel_max_us": max(ours),
        "queue_min_us": min(theirs),
        "queue_median_us": statistics.median(theirs),
        "queue_max_us": max(theirs),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all capacities; a table, or JSON with the machine."""
    parser = argparse.ArgumentParser(description="Cost of one hop through a channel, by capacity.")
    parser.add_argument("--items", type=int, default=20_000, help="items per measurement (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements per capacity (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="write JSON to standard output")
    arguments = parser.parse_args(argv)
    if arguments.items < 1 or arguments.repeats < 1:
        parser.error("--items and --repeats must be at least 1")
    rows = [measure(capacity=c, items=arguments.items, repeats=arguments.repeats) for c in CAPACITIES]
    machine = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
    if arguments.json:
        print(json.dumps({"machine": machine, "items": arguments.items, "hops": rows}, indent=2))
        return 0
    print(f"{machine}; {arguments.items} items; microseconds per hop: min / median / max of {arguments.repeats}")
    print(f"{'capacity':>8}  {'Channel':>22}  {'queue.Queue':>22}")
    for row in rows:
        cells = [
            " / ".join(f"{row[f'{kind}_{figure}_us']:.1f}" for figure in ("min", "median", "max"))
            for kind in ("channel", "queue")
        ]
        print(f"{row['capacity']:>8.0f}  {cells[0]:>22}  {cells[1]:>22}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
