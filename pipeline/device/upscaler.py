"""The network over batches in a GPU's memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from engines.gpu import Device
from engines.runner import Runner
from pipeline.device.held import Held
from pipeline.device.pools import DevicePool
from pipeline.device.streams import open_stream
from pipeline.frames import TileBatch

FEWEST_IN_FLIGHT = 2
"""Inferences that are under way at least: one computes while the host puts the next one behind it."""


class DeviceUpscaler:
    """Run the network over batches on a GPU, several in flight: (N, 3, h, w) -> (N, 3, s*h, s*w).

    The order of the GPU's work is the streams' alone: an inference begins when its tiles are ready, and what follows it
    waits for its event. The host looks at one event per batch, of the oldest of ``runner.spec.slots`` inferences (two
    at least), while the GPU has the others still to do. That costs the GPU nothing, keeps the host from running ahead
    by more than that, and lets this stage be the one that is busy while the network computes, as the reports say, and
    the one in which it fails.

    Args:
        runner: An opened runner that takes device arrays; the caller closes it after the run.
        device: The GPU that it runs on.
        pool: Buffers of ``runner.spec.output_shape``.
    """

    name = "upscale"

    def __init__(self, runner: Runner, *, device: Device, pool: DevicePool) -> None:
        self._runner = runner
        self._device = device
        self._pool = pool
        self.lookahead = max(runner.spec.slots, FEWEST_IN_FLIGHT)

    def run(self, items: Iterator[TileBatch]) -> Iterator[TileBatch]:
        """Yield the batches' results in order, each when the next ones are already under way."""
        flying: deque[TileBatch] = deque()
        with Held() as held, open_stream(self._device) as stream:
            for batch in items:
                held.keep(batch)
                lease = held.keep(self._pool.acquire())
                if batch.ready is not None:
                    stream.wait_for(batch.ready)
                lease.order(stream)
                # the completion says no more than our own event, which does not belong to the runner's next inference
                self._runner.infer(batch.tiles, out=lease.array, stream=stream.handle)
                done = stream.record()
                held.part(batch).release(after=done)
                result = TileBatch(tiles=lease.array, slots=batch.slots, lease=held.part(lease), ready=done)
                flying.append(held.keep(result))
                if len(flying) == self.lookahead:
                    yield _land(flying, held=held)
            while flying:
                yield _land(flying, held=held)


def _land(flying: deque[TileBatch], *, held: Held) -> TileBatch:
    if flying[0].ready is not None:
        flying[0].ready.wait()
    return held.part(flying.popleft())
