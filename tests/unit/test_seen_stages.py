"""What the network of an HDR film is given by the stages, and what becomes of what it makes, on the host and a GPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cuda_on_cpu import COMPILER, HostLauncher
from helpers.device_runs import (
    assert_same,
    copies,
    decoded,
    device_pictures,
    gpu_plan,
    host_pictures,
    host_plan,
    open_stages,
)
from helpers.gpu_double import FakeGpu
from numpy.typing import NDArray

from engines import open_runner
from engines.runner import Completion, FinishedCompletion
from engines.spec import RunnerSpec
from pipeline.colour import planes_to_rgb
from pipeline.cuda import FrameKernels
from pipeline.plan import JobPlan
from pipeline.seen import SeenChoice, SeenCurve
from pipeline.wiring import open_transforms

PQ = SeenCurve(family="pq", gamma=3.2, peak_cd_m2=1000.0)
HLG = SeenCurve(family="hlg", gamma=2.4)
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "tiles": {"tile_px": 16, "batch": 3},
    "padded": {"tile_px": 48, "film": {"height": 23, "width": 41}},
    "resampled": {"scale": {"factor": 1.5}},
    "resampled tiles": {"tile_px": 16, "scale": {"factor": 1.5}},
    "resampled in light": {"scale": {"factor": 1.5, "light": "linear"}},
}


class Recorder:
    """A runner that keeps what it is given and makes of it what the inner one makes."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.given: list[NDArray[np.float32]] = []

    @property
    def spec(self) -> RunnerSpec:
        spec: RunnerSpec = self._runner.spec
        return spec

    def infer(self, tiles: Any, *, out: Any) -> Completion:
        self.given.append(tiles.copy())
        self._runner.infer(tiles, out=out).wait()
        return FinishedCompletion()


def seen_plan(folder: Path, curve: SeenCurve | None, **case: Any) -> JobPlan:
    return replace(host_plan(folder, frame_count=4, **case), seen=SeenChoice(curve=curve))


def given_tiles(plan: JobPlan) -> NDArray[np.float32]:
    """All that the network is given: (tiles of all frames, 3, h, w)."""
    tile = {"height": plan.grid.tile_height, "width": plan.grid.tile_width}
    batch = plan.config.infer.batch
    with open_runner(model=plan.model, backend="resize", **tile, batch=batch) as runner:
        recorder: Any = Recorder(runner)
        with open_transforms(plan, recorder) as stages:
            upscaled: Any = stages.upscaler.run(stages.tiler.run(decoded(plan)))  # type: ignore[arg-type]
            copies(stages.stitcher.run(upscaled))
    tiles = np.concatenate(recorder.given)
    return tiles[: len(plan.grid.tiles) * 4]


@pytest.mark.parametrize("curve", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize("case", ["whole", "tiles", "padded"])
def test_the_network_is_given_the_curve_of_every_pixel(tmp_path: Path, curve: SeenCurve, case: str) -> None:
    codes = given_tiles(seen_plan(tmp_path, None, **CASES[case]))
    seen = given_tiles(seen_plan(tmp_path, curve, **CASES[case]))
    assert codes.shape == seen.shape
    for tile in codes:
        curve.show(tile)
    assert np.array_equal(seen, codes)


def test_a_recorded_network_is_given_light_to_the_power_that_the_plan_says(tmp_path: Path) -> None:
    plan = seen_plan(tmp_path, HLG)
    (first, *_) = decoded(plan)
    rgb = np.empty((3, plan.grid.height, plan.grid.width), np.float32)
    planes_to_rgb(first.planes, first.format, out=rgb)
    codes = np.abs(rgb.astype(np.float64))
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100-2 table 5
    light = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    wanted = np.sign(rgb) * light ** (1 / 2.4)
    is_inside = codes <= 1
    assert given_tiles(plan)[0][is_inside] == pytest.approx(wanted[is_inside], abs=1e-5)


@pytest.mark.parametrize("curve", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize("case", ["whole", "tiles", "padded"])
def test_a_network_that_repeats_pixels_gives_what_it_gives_of_codes(
    tmp_path: Path, curve: SeenCurve, case: str
) -> None:
    found = host_pictures(seen_plan(tmp_path, curve, **CASES[case]))
    wanted = host_pictures(seen_plan(tmp_path, None, **CASES[case]))
    for (_, planes), (_, others) in zip(found, wanted, strict=True):
        for plane, other in zip(planes, others, strict=True):
            assert np.abs(plane.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.parametrize("curve", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize("case", CASES)
def test_frames_on_a_gpu_are_those_of_the_cpu_path_to_the_last_bit(tmp_path: Path, curve: SeenCurve, case: str) -> None:
    plan = seen_plan(tmp_path, curve, **CASES[case])
    assert_same(device_pictures(gpu_plan(plan), FakeGpu()), host_pictures(plan))


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("curve", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize("case", CASES)
def test_our_cuda_kernels_give_them_within_a_code(tmp_path: Path, curve: SeenCurve, case: str) -> None:
    plan, gpu = seen_plan(tmp_path, curve, **CASES[case]), FakeGpu()
    make_kernels = partial(FrameKernels, launcher=HostLauncher(gpu))
    with open_stages(gpu_plan(plan), gpu, make_kernels=make_kernels) as stages:
        found = copies(stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan)))))
    gpu.check_clean()
    for (_, planes), (_, others) in zip(found, host_pictures(plan), strict=True):
        for plane, other in zip(planes, others, strict=True):
            assert np.abs(plane.astype(int) - other.astype(int)).max() <= 1
