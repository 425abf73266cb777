"""Memory of a real GPU that runs out: a job goes on with less, gives the same frames and gives everything back.

One big allocation takes the rest of the GPU, so that the plan no longer fits and the smaller one does. The network is
realesr-animevideov3 with random weights: none are needed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.film_runs import Listener

from engines import ModelSpec
from engines.canary import random_weights
from engines.errors import OutOfDeviceMemory
from engines.gpu import DeviceBuffer
from engines.gpu.cuda import open_device
from engines.networks.layered import LayeredNetwork
from engines.weights import ModelWeights
from pipeline.attempts import run_attempts
from pipeline.config.load import make_config
from pipeline.decode.synthetic import CONTAINER
from pipeline.frames import Frame
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.pool_plan import plan_pools
from pipeline.preflight import open_planned_runner
from pipeline.stages import EncodeSink

if importlib.util.find_spec("torch") is not None:
    import torch

    HAS_GPU = torch.cuda.is_available()
else:
    HAS_GPU = False

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and os.environ.get("REQUIRE_GPU") != "1", reason="there is no CUDA GPU"),
]

logger = logging.getLogger(__name__)

FRAMES = 20
GIB = 2**30


def quiet_network(model: ModelSpec) -> LayeredNetwork:
    """Random weights whose last layer is turned down, so that the picture stays near [0, 1]."""
    weights = random_weights(model, seed=3)
    last = weights.layers[-1]
    last = replace(last, kernel=last.kernel * np.float32(0.05), bias=last.bias * np.float32(0.05))
    return LayeredNetwork(weights=ModelWeights(model=model, layers=(*weights.layers[:-1], last)))


@pytest.fixture(autouse=True)
def random_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.opening.load_network", quiet_network)
    monkeypatch.setattr("pipeline.plan.list_model_files", lambda model: ())


@pytest.fixture(autouse=True)
def everything_comes_back() -> Iterator[None]:
    """What a job leaves on the GPU is no more than its libraries keep: their contexts, loaded kernels."""
    device = open_device(0)
    with torch.cuda.device(0):
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
    before_bytes = device.free_bytes()
    yield
    torch.cuda.empty_cache()
    assert before_bytes - device.free_bytes() < GIB


def planned(folder: Path, *, batch: int = 1, lanes: int = 1, frames_on: str = "gpu") -> JobPlan:
    """A computed film of 960x540, enlarged four times; ten frames a segment."""
    film = {"height": 540, "width": 960, "frame_count": FRAMES}
    config = make_config(
        {
            "decode": {"kind": "synthetic", "synthetic": film},
            "infer": {"model": "realesr-animevideov3", "backend": "torch", "device": "cuda", "batch_tiles": batch},
            "encode": {"kind": "null", "dither": False},
            "output": {"segment_s": 0.4},
            "queues": {"tile_batches": 12, "upscaled_batches": 12},
            "run": {"frames_on": frames_on},
        },
        folder=folder,
    )
    plan = plan_film(config, probe_film(config, None))
    assert plan.info.container == CONTAINER
    return plan_pools(replace(plan, lanes=lanes))


class Watch:
    """Sees to it that every frame reaches the encoder alike each time.

    Args:
        tolerance: In code values.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, tolerance: int) -> None:
        self.seen: dict[int, list[Any]] = {}
        self._tolerance = tolerance
        real = EncodeSink.run

        def run(sink: EncodeSink, items: Iterator[Frame]) -> None:
            real(sink, self._watched(items))

        patch.setattr(EncodeSink, "run", run)

    def _watched(self, items: Iterator[Frame]) -> Iterator[Frame]:
        for frame in items:
            if frame.ready is not None:
                frame.ready.wait()
            index, planes = frame.stamp.index, [np.array(plane) for plane in frame.planes]
            for plane, first in zip(planes, self.seen.setdefault(index, planes), strict=True):
                difference = int(np.abs(plane.astype(np.int32) - first).max())
                assert difference <= self._tolerance, f"frame {index} differs by {difference} the second time"
            yield frame


def free_bytes() -> int:
    return open_device(0).free_bytes()


class Hog:
    """Takes all of the GPU but so much, once."""

    def __init__(self) -> None:
        self.buffer: DeviceBuffer | None = None

    def leave(self, room_bytes: int) -> None:
        if self.buffer is None:
            self.buffer = open_device(0).allocate(free_bytes() - room_bytes)

    def __enter__(self) -> Hog:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.buffer is not None:
            self.buffer.close()


def run(plan: JobPlan, folder: Path, *, on_begin: Callable[[int], None]) -> tuple[tuple[str, ...], int]:
    """What a run said of memory, and its frames."""
    said: list[str] = []
    film = run_attempts(plan, Listener().terms(folder), on_begin=on_begin, warn=said.append)
    assert film.is_complete
    assert [(segment.start, segment.stop) for segment in film.segments] == [(0, 10), (10, 20)]
    return tuple(said), film.frame_count


@pytest.mark.parametrize("is_checked", [True, False], ids=["asked before", "refused by the driver"])
def test_pools_that_no_longer_fit_leave_fewer_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_checked: bool
) -> None:
    plan = planned(tmp_path, lanes=2)
    watch = Watch(monkeypatch, tolerance=0)
    assert run(plan, tmp_path, on_begin=lambda done: None) == ((), FRAMES)
    if not is_checked:
        monkeypatch.setattr("pipeline.device.wiring.check_device_memory", lambda plan, *, free_bytes: None)
    lane_bytes = plan.device_pool_bytes + plan.resampling_bytes
    assert lane_bytes > GIB, "large enough that nothing else decides"
    with Hog() as hog:
        # with the network open, one and a half lanes fit
        said, count = run(plan, tmp_path, on_begin=lambda done: hog.leave(lane_bytes * 3 // 2))
    assert count == FRAMES
    (text,) = said
    assert "1 lane instead of 2" in text
    assert "MiB" in text
    assert sorted(watch.seen) == list(range(FRAMES))


def test_a_network_that_finds_no_memory_gets_a_smaller_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = planned(tmp_path, batch=8, frames_on="cpu"), planned(tmp_path, batch=4, frames_on="cpu")
    needed = []
    for plan in (small, large):
        before = free_bytes()
        with open_planned_runner(plan):
            needed.append(before - free_bytes())
    logger.info("the network takes %d MiB in batches of 4, %d MiB of 8", needed[0] // 2**20, needed[1] // 2**20)
    assert needed[1] > needed[0] + GIB // 4
    watch = Watch(monkeypatch, tolerance=1)  # libraries may choose other kernels for another batch
    assert run(large, tmp_path, on_begin=lambda done: None) == ((), FRAMES)
    with Hog() as hog:
        hog.leave(needed[0] + (needed[1] - needed[0]) // 3)
        said, count = run(large, tmp_path, on_begin=lambda done: None)
    assert count == FRAMES
    (text,) = said
    assert "batches of 4 instead of 8" in text
    assert "MiB were free" in text
    assert sorted(watch.seen) == list(range(FRAMES))


def test_memory_that_runs_out_while_frames_flow_leaves_smaller_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that wants more of the GPU than there is, in the middle of the second segment."""
    plan = planned(tmp_path)
    frames: dict[int, int] = {}
    real = EncodeSink.run
    asked: list[int] = []

    def sink_run(sink: EncodeSink, items: Iterator[Frame]) -> None:
        def watched() -> Iterator[Any]:
            for frame in items:
                if frame.stamp.index == 15 and not asked:
                    asked.append(15)
                    frame.release()
                    open_device(0).allocate(free_bytes() + GIB)
                frames[frame.stamp.index] = frames.get(frame.stamp.index, 0) + 1
                yield frame

        real(sink, watched())

    monkeypatch.setattr(EncodeSink, "run", sink_run)
    said, count = run(plan, tmp_path, on_begin=lambda done: None)
    assert count == FRAMES
    (text,) = said
    assert "tiles of" in text
    assert "bytes asked for" in text
    assert all(frames[index] == 1 for index in range(10)), "the first segment was kept"
    assert all(frames[index] == 2 for index in range(10, 15)), "the second was begun again"


def test_the_driver_says_with_numbers_what_is_missing() -> None:
    device = open_device(0)
    with pytest.raises(OutOfDeviceMemory) as caught:
        device.allocate(device.free_bytes() + GIB)
    assert caught.value.needed_bytes > caught.value.free_bytes > 0
