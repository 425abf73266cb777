"""Frames that stay on a real GPU: the CPU path's codes within 1, with and without long kernels in the way, and the same
bits in any number of lanes and in every run.

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

import av
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
from pipeline.graph.stop import StopToken
from pipeline.lane_run import upscale_film
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.run_terms import RunTerms
from pipeline.show.plan_words import choice_lines

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
            "run": {"frames_on": frames_on},
            "encode": {"kind": "null", "dither": sections.pop("dither", False)},
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


def encoded(plan: JobPlan, runner: Any, *, lanes: int, folder: Path) -> list[tuple[int, bytes]]:
    """Time and samples of every frame of a whole run, read back from its lossless segments."""
    folder.mkdir()
    terms = RunTerms(work=folder, stop=StopToken(), on_snapshot=lambda graph, done: None, interval_s=1)
    film = upscale_film(replace(plan, lanes=lanes), runner, terms)
    assert film.notes == ()
    found = []
    for segment in film.segments:
        assert segment.path is not None
        with av.open(str(segment.path)) as container:
            shown = [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
        found += zip(segment.pts, shown, strict=True)
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("decoder", ["libav", "auto"])
def test_frames_are_the_same_bits_in_any_number_of_lanes_and_in_every_run(
    tmp_path: Path, decoder: str, precision: str
) -> None:
    infer = {"model": "realesr-animevideov3", "backend": "torch", "device": "cuda", "precision": precision}
    plan = planned(
        tmp_path,
        frames_on="gpu",
        infer=infer,
        decode={"kind": decoder},
        encode={"kind": "ffv1"},
        output={"segment_s": 0.2},  # five frames each, ten segments
        scale={"factor": 2},
    )
    with open_planned_runner(plan) as runner:
        runs = [
            encoded(plan, runner, lanes=lanes, folder=tmp_path / f"{number}")
            for number, lanes in enumerate((1, 2, 5, 1, 5))
        ]
    assert len(runs[0]) == 48
    assert len({shown for _, shown in runs[0]}) > 40  # the film moves
    for run in runs[1:]:
        assert run == runs[0]


def test_auto_keeps_frames_on_the_gpu_and_says_so(tmp_path: Path) -> None:
    plan = planned(tmp_path, frames_on="auto")
    assert plan.frames.place == "gpu"
    assert plan.frames.reason == "stay on the GPU between decoder and encoder (run.frames_on: auto)"
    assert f"frames: {plan.frames.reason}" in choice_lines(plan)


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
