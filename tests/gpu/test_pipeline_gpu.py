"""Frames that stay on a real GPU: the CPU path's codes within 1, with and without long kernels in the way.

The network is realesr-animevideov3 with random weights: none are needed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.device_runs import Picture, assert_same, copies

from engines import ModelSpec
from engines.canary import random_weights
from engines.gpu.cuda import open_device
from engines.networks.layered import LayeredNetwork
from engines.weights import ModelWeights
from pipeline import wiring
from pipeline.config.load import make_config
from pipeline.graph.runtime import run_graph
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner

if importlib.util.find_spec("torch") is not None:
    import torch

    HAS_GPU = torch.cuda.is_available()
else:
    HAS_GPU = False

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and os.environ.get("REQUIRE_GPU") != "1", reason="there is no CUDA GPU"),
]

FILM = Path(__file__).parents[2] / "configs/demo/big_buck_bunny.mp4"
FRAMES = 12
DELAY_BYTES = 1 << 28
"""Copied within the GPU as a delay: 0.1 ms at the 4.3 TB/s of an H200."""
DELAY_COPIES = 20


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


def planned(folder: Path, *, frames_on: str, **sections: Any) -> JobPlan:
    config = make_config(
        {
            "input": {"paths": [str(FILM)]},
            "decode": {"kind": "libav"},
            "infer": {"model": "realesr-animevideov3", "backend": "torch", "device": "cuda"},
            "encode": {"kind": "null", "dither": sections.pop("dither", False)},
            "run": {"frames_on": frames_on},
            **sections,
        },
        folder=folder,
    )
    return plan_film(config, probe_film(config, FILM))


def pictures(plan: JobPlan, folder: Path) -> list[Picture]:
    """The first frames of the film, as an encoder would get them."""
    with (
        open_planned_runner(plan) as runner,
        wiring.open_wiring(plan, runner, work=folder) as wired,
        ExitStack() as closed,
    ):
        items: Iterator[Any] = closed.enter_context(closing(wired.source.run()))
        items = islice(items, FRAMES)
        for stage in (wired.tiler, wired.upscaler, wired.stitcher):
            items = closed.enter_context(closing(stage.run(items)))
        return copies(items)


class SlowStream:
    """A stream that is busy for milliseconds before and after each event that it records."""

    def __init__(self, stream: Any, *, delay: Any) -> None:
        self._stream = stream
        self._delay = delay
        self._wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def record(self) -> Any:
        self._wait()
        event = self._stream.record()
        self._wait()
        return event

    def _wait(self) -> None:
        half = DELAY_BYTES // 2
        for _ in range(DELAY_COPIES):
            self._stream.copy(self._delay.pointer, self._delay.pointer + half, bytes=half)


class SlowDevice:
    """A GPU whose streams are slow."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.delay = device.allocate(DELAY_BYTES)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def make_stream(self) -> SlowStream:
        return SlowStream(self._device.make_stream(), delay=self.delay)


CASES = [
    {},
    {"tile": {"max_px": 200}},
    {"scale": {"factor": 1.5}},
    {"tile": {"max_px": 200}, "scale": {"factor": 1.5}, "dither": True, "infer_batch": 3},
]


def settings(case: dict[str, Any]) -> dict[str, Any]:
    changed = dict(case)
    batch = changed.pop("infer_batch", 1)
    infer = {"model": "realesr-animevideov3", "backend": "torch", "device": "cuda", "batch_tiles": batch}
    return {**changed, "infer": infer}


@pytest.mark.parametrize("case", CASES, ids=["whole", "tiles", "resampled", "all"])
def test_frames_are_the_cpu_paths_within_a_code(tmp_path: Path, case: dict[str, Any]) -> None:
    found = pictures(planned(tmp_path, frames_on="gpu", **settings(case)), tmp_path)
    wanted = pictures(planned(tmp_path, frames_on="cpu", **settings(case)), tmp_path)
    assert [stamp for stamp, _ in found] == [stamp for stamp, _ in wanted]
    assert len(found) == FRAMES
    for (_, planes), (_, others) in zip(found, wanted, strict=True):
        for plane, other in zip(planes, others, strict=True):
            assert np.abs(plane.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.parametrize("case", [CASES[0], CASES[3]], ids=["whole", "all"])
def test_long_kernels_before_every_event_change_no_byte(
    tmp_path: Path, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, frames_on="gpu", **settings(case))
    wanted = pictures(plan, tmp_path)
    slow = SlowDevice(open_device(0))
    monkeypatch.setattr(wiring, "open_planned_device", lambda plan: slow)
    try:
        assert_same(pictures(plan, tmp_path), wanted)
    finally:
        slow.delay.close()


def test_a_run_in_threads_gives_all_memory_back(tmp_path: Path) -> None:
    plan = planned(tmp_path, frames_on="gpu", **settings(CASES[1]))
    device = open_device(0)
    frees = []
    with open_planned_runner(plan) as runner:
        for _ in range(3):
            with wiring.open_wiring(plan, runner, work=tmp_path) as wired:
                snapshot = run_graph(
                    wired.stages, capacities=wired.capacities, pools=wired.pools, drop=lambda item: item.release()
                )
                assert snapshot.stages[-1].items_in == snapshot.stages[0].items_out > 0
                assert all(pool.free_count for pool in wired.pools)
            frees.append(device.free_bytes())
    assert frees[2] == frees[1]  # the first run loads kernels
