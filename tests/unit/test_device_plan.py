"""What is decided about frames on the GPU before anything starts: where they are, what they need, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.device_runs import copies, decoded, gpu_plan, host_plan, open_stages, runner_spec
from helpers.gpu_double import FakeGpu
from helpers.kernel_double import FakeNetwork, HostKernels

from engines.backend import BackendChoice
from engines.errors import BackendUnavailable
from pipeline import wiring
from pipeline.config.load import make_config
from pipeline.device.choice import choose_frames_place, device_index
from pipeline.engine import choose_engine as choose_here
from pipeline.errors import ConfigError, SetupError
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.show.plan_words import choice_lines, plan_as_json, plan_lines


def backend(device_id: str) -> BackendChoice:
    return BackendChoice(backend="torch", precision="fp16", device="NVIDIA Thing", device_id=device_id, reason="")


def planned(folder: Path, monkeypatch: pytest.MonkeyPatch, *, free_mib: int, frames_on: str = "gpu") -> JobPlan:
    def choose_engine(infer: Any, *, model: Any) -> Any:
        changes = {"device_id": "cuda:0", "activation_share": 0.0, "device_memory_bytes": free_mib * 2**20}
        return replace(choose_here(infer, model=model), **changes)

    monkeypatch.setattr("pipeline.plan.choose_engine", choose_engine)
    config = make_config(
        {
            "decode": {"kind": "synthetic", "synthetic": {"height": 270, "width": 480, "frame_count": 9}},
            "infer": {"model": "realesr-animevideov3"},
            "run": {"frames_on": frames_on},
        },
        folder=folder,
    )
    return plan_film(config, probe_film(config, None))


def test_the_config_says_where_frames_are() -> None:
    assert choose_frames_place("gpu", backend=backend("cuda:1")).place == "gpu"
    assert choose_frames_place("cpu", backend=backend("cuda:1")).place == "cpu"
    assert choose_frames_place("auto", backend=backend("cpu")).place == "cpu"
    assert choose_frames_place("auto", backend=backend("cpu")).reason == ""
    assert device_index(backend("cuda:1")) == 1
    assert device_index(backend("cuda")) == 0


def test_auto_keeps_frames_on_a_gpu_that_can_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.device.choice.check_gpu_frames", lambda backend: None)
    assert choose_frames_place("auto", backend=backend("cuda:1")).place == "gpu"


@pytest.mark.parametrize(
    "lack",
    [
        BackendUnavailable("no bindings", missing="cuda-bindings", hint="pip install it"),
        SetupError("no compiler", missing="nvidia-cuda-nvrtc", hint="pip install it"),
    ],
    ids=["bindings", "compiler"],
)
def test_auto_goes_by_the_host_where_the_gpu_path_lacks_something_and_says_what(
    monkeypatch: pytest.MonkeyPatch, lack: Exception
) -> None:
    def check(backend: BackendChoice) -> None:
        raise lack

    monkeypatch.setattr("pipeline.device.choice.check_gpu_frames", check)
    choice = choose_frames_place("auto", backend=backend("cuda:1"))
    assert choice.place == "cpu"
    assert str(lack) in choice.reason
    assert "pip install it" in choice.reason


def test_frames_on_a_gpu_that_computes_nothing_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"run\.frames_on: must not be gpu where torch") as caught:
        choose_frames_place("gpu", backend=backend("cpu"))
    assert "infer.device" in caught.value.hint


def test_the_plan_counts_host_and_gpu_apart_and_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = planned(tmp_path, monkeypatch, free_mib=1 << 20)
    on_host = planned(tmp_path, monkeypatch, free_mib=1 << 20, frames_on="cpu")
    assert on_gpu.memory_bytes_estimated < on_host.memory_bytes_estimated
    assert on_gpu.device_bytes_estimated == on_host.device_bytes_estimated + on_gpu.device_pool_bytes
    assert on_gpu.host_pool_bytes + on_gpu.device_pool_bytes == sum(pool.bytes for pool in on_gpu.pools)
    lines = plan_lines(on_gpu)
    assert any("GPU memory" in line and "x tiles in" in line and "planes out" in line for line in lines)
    assert any(line.strip().startswith("memory:") and "frames out" in line and "tiles" not in line for line in lines)
    assert any(line.startswith("frames: stay on the GPU") for line in choice_lines(on_gpu))
    assert any(line.startswith("frames: are in the host's memory") for line in choice_lines(on_host))
    assert plan_as_json(on_gpu)["frames_on"] == "gpu"


@pytest.mark.parametrize("free_mib", [120, 200, 400])
def test_tiles_are_as_large_as_the_gpus_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int
) -> None:
    plan = planned(tmp_path, monkeypatch, free_mib=free_mib)
    assert len(plan.grid.tiles) > 1
    assert {pool.name for pool in plan.pools} > {"canvas"}
    assert 0.5 * free_mib * 2**20 * 0.7 < plan.device_bytes_estimated <= free_mib * 2**20 * 0.7


def test_pools_that_no_longer_fit_are_refused_with_the_sum_and_the_largest_tile(tmp_path: Path) -> None:
    plan = gpu_plan(host_plan(tmp_path, film={"height": 96, "width": 128}))
    gpu = FakeGpu(total_bytes=int(plan.device_pool_bytes * 0.7))
    with pytest.raises(SetupError, match=r"\d+ x tiles out \d") as caught, open_stages(plan, gpu):
        pytest.fail("opened")
    assert "set tile.max_px: " in caught.value.hint
    gpu.check_clean()
    tile_px = int(caught.value.hint.split("tile.max_px: ")[1].split(";")[0])
    smaller = gpu_plan(host_plan(tmp_path, film={"height": 96, "width": 128}, tile={"max_px": tile_px}))
    assert len(smaller.grid.tiles) > 1
    with open_stages(smaller, gpu) as stages:
        finished = stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(smaller))))
        assert len(copies(finished)) == 12
    gpu.check_clean()


def test_a_runner_that_takes_host_arrays_only_is_refused(tmp_path: Path) -> None:
    plan = gpu_plan(host_plan(tmp_path))
    network = FakeNetwork(FakeGpu(), replace(runner_spec(plan), takes_device_arrays=False))
    opened = wiring.open_wiring(plan, network, work=tmp_path)
    with pytest.raises(SetupError, match="takes tiles from the host only") as caught, opened:
        pytest.fail("opened")
    assert "run.frames_on: cpu" in caught.value.hint


def test_the_wiring_has_the_same_stages_and_pools_that_the_runtime_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, tile_px=16)), FakeGpu()
    monkeypatch.setattr(wiring, "open_planned_device", lambda plan: gpu)
    monkeypatch.setattr(wiring, "make_frame_kernels", lambda: HostKernels)
    with wiring.open_wiring(plan, FakeNetwork(gpu, runner_spec(plan)), work=tmp_path) as wired:
        assert [stage.name for stage in wired.stages] == ["decode", "tile", "upscale", "stitch", "encode"]
        assert {pool.name for pool in wired.pools} == {pool.name for pool in plan.pools}
        wired.sink.run(wired.stitcher.run(wired.upscaler.run(wired.tiler.run(wired.source.run()))))
        assert sum(segment.frame_count for segment in wired.sink.segments) == 12
        assert all(
            pool.free_count == planned.count
            for pool, planned in zip(
                sorted(wired.pools, key=lambda pool: pool.name),
                sorted(plan.pools, key=lambda pool: pool.name),
                strict=True,
            )
        )
    gpu.check_clean()
