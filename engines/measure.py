"""Measures how fast a runner is when its slots are kept full, as the pipeline keeps them."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from engines.runner import Completion, Runner

SEED = 0
"""Seed of the noise that is fed in; the speed does not depend on the pixels (measured: black tiles are as fast)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What a runner reached, all slots full."""

    tiles: int
    """Tiles computed while the clock ran."""
    seconds: float
    """Wall-clock time."""
    px_per_s: float
    """Input pixels per second."""
    flop_per_s: float
    """Arithmetic of the network's own convolutions per second; a folded network does slightly less than that."""

    @property
    def tiles_per_s(self) -> float:
        """Tiles per second."""
        return self.tiles / self.seconds


def measure_throughput(runner: Runner, *, seconds: float) -> Throughput:
    """Run noise through an idle runner for a while and count.

    Args:
        runner: Opened, with nothing in flight; it is left like that.
        seconds: How long to go on starting calls, > 0; at least ``spec.slots`` calls are made, after as many to warm
            up.

    Raises:
        InferenceFailed: The library failed.
    """
    spec = runner.spec
    tiles = np.random.default_rng(SEED).random(spec.input_shape, dtype=np.float32).astype(spec.io_dtype)
    outs = [np.empty(spec.output_shape, dtype=spec.io_dtype) for _ in range(spec.slots)]
    for completion in [runner.infer(tiles, out=out) for out in outs]:
        completion.wait()
    flying: deque[Completion] = deque()
    calls = 0
    start_s = time.perf_counter()
    while calls < spec.slots or time.perf_counter() - start_s < seconds:
        if len(flying) == spec.slots:
            flying.popleft().wait()
        flying.append(runner.infer(tiles, out=outs[calls % spec.slots]))
        calls += 1
    while flying:
        flying.popleft().wait()
    elapsed_s = time.perf_counter() - start_s
    px_per_s = calls * spec.batch * spec.height * spec.width / elapsed_s
    return Throughput(
        tiles=calls * spec.batch,
        seconds=elapsed_s,
        px_per_s=px_per_s,
        flop_per_s=px_per_s * spec.model.flop_per_px,
    )
