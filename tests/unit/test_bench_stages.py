"""The benchmark of a whole run: exactly the frames that were asked for, all parts, ratios of what was measured."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from helpers.device_runs import assert_same, gpu_plan, host_pictures, host_plan, runner_spec
from helpers.gpu_double import FakeGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from helpers.nvenc_double import NvencDouble
from helpers.tool_modules import load_tool

from pipeline.errors import MediaError
from pipeline.graph.metrics import GraphSnapshot, StageSnapshot

bench_stages = load_tool("bench_stages")
film_clip = load_tool("film_clip")
figures = load_tool("stage_figures")
rings = load_tool("frame_ring")
parts = load_tool("stage_parts")

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs/demo.yaml"
FILM = ROOT / "configs/demo/big_buck_bunny.mp4"
QUICK = ("infer.model=nearest-x2", "scale.factor=2", "encode.kind=libx264", "encode.preset=ultrafast")


def measured(folder: Path, *options: str, sets: tuple[str, ...] = QUICK) -> dict[str, Any]:
    out = folder / "result.json"
    arguments = [str(DEMO), *(word for key in sets for word in ("--set", key)), "--repeat", "1", "--out", str(out)]
    assert bench_stages.main([*arguments, *options]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def flow(fps: float, *, steady: float | None = None) -> Any:
    return figures.Flow(frames=100, seconds=100 / fps, steady_fps=steady)


def rate(fps: float) -> Any:
    return figures.EngineRate(fps=fps, call_s=(1 / fps,))


def graph_at(elapsed_s: float, frames: int) -> GraphSnapshot:
    sink = StageSnapshot(
        name="encode",
        state="running",
        items_in=frames,
        items_out=0,
        elapsed_s=elapsed_s,
        wait_in_s=0.0,
        wait_out_s=0.0,
    )
    return GraphSnapshot(elapsed_s=elapsed_s, stages=(sink,), channels=())


def test_a_run_in_lanes_gives_every_figure_and_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(tmp_path, "--frames", "50", "--height", "60", sets=(*QUICK, "run.lanes=2"))
    assert [run["frames"] for run in found["runs"]] == [50]
    assert found["runs"][0]["notes"] == []
    assert found["encoders"]["frames"] == found["encoder"]["frames"] == 50
    assert len(found["engine"]) == 2
    assert all(len(engine["call_s"]) >= 20 for engine in found["engine"])
    assert found["plan"]["lanes"]["count"] == 2
    whole = found["runs"][0]["fps"]
    engine = sum(one["fps"] for one in found["engine"]) / 2
    assert found["ratios"]["run_of_engine"] == pytest.approx(whole / engine)
    for one in (found["runs"][0], found["encoders"], found["encoder"]):
        assert one["cores_busy"] > 0
        assert all(sum(use.values()) == pytest.approx(1) for use in one["encoders"])
    assert len(found["encoder"]["encoders"]) <= 1  # one lane; fewer looks than it takes on a fast machine
    assert found["ratios"]["run_of_slower"] == pytest.approx(whole / min(engine, found["encoders"]["fps"]))
    assert found["ratios"]["lanes_gain"] == pytest.approx(found["encoders"]["fps"] / found["encoder"]["fps"])
    assert {cost["name"] for cost in found["costs"]} == {"decode", "tile", "stitch", "encode"}
    assert "60 lines" in found["film_as_measured"]
    table = capsys.readouterr().out
    assert all(name in table for name in ("engine alone", "whole run", "encoders alone", "one encoder", "lanes_gain"))
    assert table.count("cores busy") == 3


def test_every_part_can_be_left_out(tmp_path: Path) -> None:
    without = [word for part in bench_stages.PARTS if part != "run" for word in ("--without", part)]
    found = measured(tmp_path, "--frames", "6", *without)
    assert len(found["runs"]) == 1
    assert found["runs"][0]["frames"] == 6
    assert (found["engine"], found["encoders"], found["encoder"], found["costs"]) == ([], None, None, [])
    assert found["ratios"] == {}


def test_a_computed_film_without_encoder_is_measured_too(tmp_path: Path) -> None:
    sets = ("infer.model=nearest-x2", "encode.kind=null", "decode.kind=synthetic", "input.paths=[]", "scale.factor=2")
    found = measured(tmp_path, "--frames", "9", "--without", "stages", sets=sets)
    assert found["runs"][0]["frames"] == 9
    assert (found["film"], found["encoders"], found["encoder"]) == ("synthetic", None, None)
    assert set(found["ratios"]) == {"run_of_engine"}


@pytest.mark.parametrize("tile_px", [0, 16], ids=["whole", "tiles"])
def test_engine_run_and_finished_frames_are_measured_where_frames_are_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile_px: int
) -> None:
    host = host_plan(tmp_path, tile_px=tile_px, frame_count=6)
    plan, gpu = gpu_plan(host), FakeGpu()
    monkeypatch.setattr("pipeline.wiring.open_planned_gpu", lambda plan: (gpu, HostKernels))
    network = FakeNetwork(gpu, runner_spec(plan))
    assert parts.measure_run(plan, network).frames == 6
    assert network.inferred == 6 * len(plan.grid.tiles)
    assert len(parts.measure_engine(plan, network, calls=21, lead_s=0.1).call_s) == 21
    with rings.open_ring(plan, network, count=4) as ring:
        kept = ring.frames
    gpu.check_clean()
    assert_same([(frame.stamp, list(frame.planes)) for frame in kept], host_pictures(host)[:4])


@pytest.mark.parametrize("holds", [0, 9])
def test_an_encoder_that_reads_the_gpus_memory_is_measured_on_frames_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: int
) -> None:
    """NVENC, however many frames it holds: the ring's own memory is read, and given back when all is done."""
    gpu, double = FakeGpu(), NvencDouble(holds=holds)
    double.gpu = gpu
    double.install(monkeypatch)
    plan = gpu_plan(host_plan(tmp_path, frame_count=6, encode={"kind": "hevc_nvenc"}))
    assert plan.encodes_on_gpu
    monkeypatch.setattr("pipeline.wiring.open_planned_gpu", lambda plan: (gpu, HostKernels))
    with rings.open_ring(plan, FakeNetwork(gpu, runner_spec(plan)), count=4) as ring:
        assert ring.device is gpu
        assert parts.measure_encoders(plan, ring, frame_count=20).frames == 20
        assert len(double.addresses) == 20
        lent = {buffer.pointer for buffer in ring.buffers}
        assert len(lent) == 4
        assert lent.issubset(double.addresses) if holds else lent == set(double.addresses)
    gpu.check_clean()


def test_what_is_wrong_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_stages.main([str(DEMO), "--set", "infer.model=nothing-x9"]) == 1
    assert "nothing-x9" in capsys.readouterr().err


@pytest.mark.parametrize("frames", [5, 48, 101])
def test_a_clip_has_exactly_the_frames_that_were_asked_for(tmp_path: Path, frames: int) -> None:
    clip = tmp_path / "clip.mp4"
    film_clip.make_clip(FILM, clip, frame_count=frames, height=90)
    with av.open(str(clip)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
        size = container.streams.video[0].height, container.streams.video[0].width
    assert len(stamps) == frames
    assert stamps == sorted(set(stamps))
    assert size == (90, 160)


def test_a_clip_of_something_else_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    assert film_clip.main([str(tmp_path / "film.mp4"), str(tmp_path / "clip.mp4"), "--frames", "3"]) == 1
    assert "error:" in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least one frame"):
        film_clip.make_clip(FILM, tmp_path / "clip.mp4", frame_count=0)


def test_a_clip_with_too_few_frames_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film_clip.make_clip(FILM, tmp_path / "clip.mp4", frame_count=3)
    monkeypatch.setattr(film_clip, "run_ffmpeg", lambda *arguments, **options: None)
    with pytest.raises(MediaError, match="has 3 frames, not 4"):
        film_clip.make_clip(FILM, tmp_path / "clip.mp4", frame_count=4)


def test_the_slower_of_engine_and_encoders_is_what_a_run_is_held_against() -> None:
    one = figures.Figures(
        engine=[rate(100), rate(110)],
        runs=[flow(84, steady=99.75)],
        encoders=flow(90, steady=95),
        encoder=flow(45, steady=50),
    )
    assert one.ratios() == pytest.approx(
        {
            "run_of_engine": 84 / 105,
            "run_of_slower": 84 / 90,
            "lanes_gain": 2.0,
            "run_of_engine_steady": 0.95,
            "run_of_slower_steady": 1.05,
            "lanes_gain_steady": 1.9,
        }
    )


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert figures.Figures(runs=[flow(50)], encoders=flow(60)).ratios() == {}
    assert set(figures.Figures(engine=[rate(1)] * 2, runs=[flow(1)]).ratios()) == {"run_of_engine"}


def test_each_run_is_held_against_the_engine_before_and_after_it() -> None:
    one = figures.Figures(engine=[rate(100), rate(50), rate(150)], runs=[flow(75), flow(90)])
    assert one.ratios() == pytest.approx({"run_of_engine": (75 / 75 + 90 / 100) / 2})


def test_the_steady_rate_leaves_filling_and_emptying_out() -> None:
    meter = parts.FlowMeter()
    for elapsed_s, frames in [(0.0, 0), (3.0, 0), (4.0, 10), (6.0, 50), (8.0, 90), (8.5, 100), (20.0, 100)]:
        meter.look(graph_at(elapsed_s, frames))
    assert meter.steady_fps(100) == pytest.approx(20.0)
    assert meter.steady_fps(1000) is None
    assert parts.FlowMeter().steady_fps(100) is None


def test_whether_encoders_lack_frames_or_are_through_is_told_of_the_steady_time() -> None:
    """Two lanes: the first waits for half of its time, the second is through after a quarter."""

    def lane(graph: GraphSnapshot, **encoder: float) -> GraphSnapshot:
        return replace(graph, stages=(replace(graph.stages[0], **encoder),))

    meter = parts.FlowMeter()
    for elapsed_s, frames, waited_s, ended_s in [(1.0, 10, 0.9, 1.0), (5.0, 50, 2.9, 2.0), (9.0, 90, 4.9, 3.0)]:
        whole = graph_at(elapsed_s, frames)
        meter.look(replace(whole, lanes=(lane(whole, wait_in_s=waited_s), lane(whole, elapsed_s=ended_s))))
    first, second = meter.flow(100, seconds=10.0).encoders
    assert (first.busy, first.starved, first.over) == pytest.approx((0.5, 0.5, 0.0))
    assert (second.busy, second.starved, second.over) == pytest.approx((0.25, 0.0, 0.75))
    assert meter.flow(1000, seconds=10.0).encoders == ()


def test_a_ring_of_frames_goes_back_and_forth_with_times_that_go_on(tmp_path: Path) -> None:
    sets = ("infer.model=nearest-x2", "encode.kind=null", "decode.kind=synthetic", "input.paths=[]", "scale.factor=2")
    task = bench_stages.Task(
        config=DEMO, overrides=sets, frames=3, height=None, repeat=1, ring=3, parts=frozenset[str]()
    )
    plan = bench_stages.plan_films(task, folder=tmp_path).plan
    with bench_stages.open_planned_runner(plan) as runner, ExitStack() as stack:
        ring = stack.enter_context(rings.open_ring(plan, runner, count=3))
    assert len(ring.frames) == 3
    given = list(rings.RingSource(ring, frame_count=8, step=2, first=2).run())
    planes = [id(frame.planes) for frame in ring.frames]
    assert [planes.index(id(frame.planes)) for frame in given] == [
        *(2, 1, 0, 1),
        *(2, 1, 0, 1),
    ]
    assert [(frame.stamp.index, frame.stamp.pts) for frame in given] == [(index, 2 * index) for index in range(8)]
