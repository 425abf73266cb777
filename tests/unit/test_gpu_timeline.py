"""The tool that shows what a GPU did: it sees everything, changes nothing, and its arithmetic is right."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import media
from helpers.device_runs import Picture, assert_same, copies, decoded, gpu_plan, host_plan, open_stages, runner_spec
from helpers.gpu_double import FakeGpu, GpuMisuse
from helpers.gpu_faults import LockedGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from helpers.nvdec_double import NvdecLibrary

from engines.errors import InferenceFailed
from pipeline.config.load import make_config
from pipeline.decode import DecoderChoice
from pipeline.decode.nvdec import NvdecDecoder
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.pool_plan import plan_pools
from pipeline.stages import DecodeSource
from tools import gpu_timeline
from tools.gpu_overlap import Span, covered, measure_overlap, merged, one_after_the_other, steady_window
from tools.gpu_timeline import LoopedSource, describe, main, run_traced, summary
from tools.gpu_trace import ClockTie, Place, Trace
from tools.plot_timeline import close_up, plot_timeline, row_order
from tools.traced_gpu import TracedDevice, TracedRunner, TracedStream, trace_kernels
from tools.traced_stages import TracedSource, TracedTransform

CASES = {
    "whole": {},
    "tiles": {"tile_px": 16},
    "tiles of several frames in a batch": {"tile_px": 16, "batch": 4},
    "frames in batches": {"batch": 3},
}


def run_stages(plan: JobPlan, gpu: FakeGpu, trace: Trace | None = None) -> list[Picture]:
    """The transforms of a plan, traced or not, in one thread."""
    runner: Any = FakeNetwork(gpu, runner_spec(plan))
    device: Any = gpu
    make_kernels: Any = HostKernels
    if trace is not None:
        runner = TracedRunner(runner, trace=trace, device=gpu)
        device = TracedDevice(gpu, trace=trace)
        make_kernels = trace_kernels(HostKernels, trace=trace)
    with open_stages(plan, device, network=runner, make_kernels=make_kernels) as stages, ExitStack() as closed:
        items: Any = decoded(plan)
        for stage in (stages.tiler, stages.upscaler, stages.stitcher):
            part: Any = stage if trace is None else TracedTransform(stage, trace=trace, lane=0)
            items = closed.enter_context(closing(part.run(items)))
        return copies(items)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_traced_run_gives_the_same_bytes_and_the_same_order_of_work(tmp_path: Path, case: dict[str, int]) -> None:
    plan = gpu_plan(host_plan(tmp_path, **case))
    plain, gpu = FakeGpu(), FakeGpu()
    plain.make_stream().close()  # in place of the trace's own one
    wanted = run_stages(plan, plain)
    trace = Trace(gpu)
    gpu.log.clear()
    found = run_stages(plan, gpu, trace)
    assert gpu.log == plain.log
    assert_same(found, wanted)
    trace.finish()
    gpu.check_clean()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_piece_of_work_is_seen_once_and_belongs_to_its_frame(tmp_path: Path, case: dict[str, int]) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, **case)), FakeGpu()
    trace = Trace(gpu)
    run_stages(plan, gpu, trace)
    spans, tie = trace.finish()
    done = Counter(entry.partition("@")[0] for entry in gpu.log if "@" in entry)
    done["engine"] = done.pop("infer")
    del done["host waits"]
    tables = done["upload"] - 12  # a film's tables, before it begins
    done["upload"] -= tables
    assert Counter(span.kind for span in spans) == done
    tiles = len(plan.grid.tiles)
    by_frame = Counter((span.kind, span.frame) for span in spans)
    for frame in range(12):
        assert by_frame["upload", frame] == by_frame["finish", frame] == by_frame["download", frame] == 1
        assert 1 <= by_frame["cut", frame] <= tiles  # as many at once as a batch has room for
        assert (1 <= by_frame["blend", frame] <= tiles) if tiles > 1 else not by_frame["blend", frame]
    for span in spans:
        assert 0 <= span.start_s <= span.stop_s <= tie.gpu_stop_s
        assert not span.is_on_host


def test_work_for_a_frame_follows_its_way(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path)), FakeGpu()
    trace = Trace(gpu)
    run_stages(plan, gpu, trace)
    spans, _ = trace.finish()
    stops = {(span.kind, span.frame): span.stop_s for span in spans}
    for frame in range(12):
        way = [stops[kind, frame] for kind in ("upload", "cut", "engine", "finish", "download")]
        assert way == sorted(way)


def test_surfaces_of_a_hardware_decoder_and_its_waits_are_told_from_its_work(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mp4", frames=9, height=54, width=66)
    config = make_config(
        {"input": {"paths": [str(film)]}, "infer": {"model": "nearest-x2"}, "encode": {"kind": "null"}},
        folder=tmp_path,
    )
    plan = gpu_plan(plan_film(config, probe_film(config, film)))
    plan = plan_pools(replace(plan, decoder=DecoderChoice(kind="nvdec", reason="")))
    gpu = FakeGpu()
    trace = Trace(gpu)
    device: Any = TracedDevice(gpu, trace=trace)
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    with open_stages(plan, device, network=network, make_kernels=trace_kernels(HostKernels, trace=trace)) as stages:
        library = NvdecLibrary(gpu)
        source = DecodeSource(lambda: NvdecDecoder(plan.info, device=device, pool=stages.surfaces, library=library))
        for frame in TracedSource(source, trace=trace, lane=0, pools=stages.pools).run():
            frame.release()
    spans, _ = trace.finish()
    assert [span.frame for span in spans if span.kind == "surface copy"] == list(range(9))
    assert [span.frame for span in spans if span.kind == "decode" and span.is_on_host] == list(range(9))
    gpu.check_clean()


def test_what_no_stage_asked_for_and_what_a_graph_records_is_left_alone() -> None:
    gpu = FakeGpu()
    trace = Trace(gpu)
    device = TracedDevice(gpu, trace=trace)
    stream: Any = device.make_stream()
    assert isinstance(stream, TracedStream)
    buffer = device.allocate(512)
    stream.copy(buffer.pointer, buffer.pointer + 256, bytes=256)
    with trace.at(Place("tile", 0, frame=7)):
        graph = stream.capture(lambda: stream.copy(buffer.pointer, buffer.pointer + 256, bytes=256))
        graph.launch(stream)
    graph.launch(stream)
    graph.close()
    stream.close()
    buffer.close()
    assert [(span.kind, span.frame) for span in trace.finish()[0]] == [("graph", 7)]
    gpu.check_clean()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_run_in_threads_is_seen_whole_lane_by_lane_and_longer_than_the_film(tmp_path: Path, lanes: int) -> None:
    plan, gpu = replace(gpu_plan(host_plan(tmp_path, tile_px=16)), lanes=lanes), LockedGpu()
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    run = run_traced(plan, network, frame_count=20, open_gpu=lambda _: (gpu, HostKernels))
    gpu.check_clean()
    seen = {(span.kind, span.lane, span.frame) for span in run.spans}
    kinds = ("decode", "upload", "cut", "engine", "blend", "finish", "download", "encode")
    assert seen == {(kind, lane, frame) for kind in kinds for lane in range(lanes) for frame in range(20)}
    assert {span.kind for span in run.spans if span.is_on_host} == {"decode", "encode"}
    assert run.fps > 0
    first, last = min(span.start_s for span in run.spans), max(span.stop_s for span in run.spans)
    figures = measure_overlap(run.spans, start_s=first, stop_s=last)
    assert 0 < figures.kinds["engine"].busy_share <= 1
    report = json.loads(json.dumps(describe(plan, run, figures, window=(first, last), plain_fps=3.0)))
    assert report["clock"]["drift_s"] == pytest.approx(run.tie.drift_s)
    assert report["plain_fps"] == 3.0
    assert len(report["spans"]) > 20
    assert "as it is" in summary(run, figures, plain_fps=3.0)[0]


def test_a_run_that_fails_says_so_and_gives_everything_back(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path)), LockedGpu()
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    network.fails_at = 3
    with pytest.raises(ExceptionGroup) as caught:
        run_traced(plan, network, frame_count=20, open_gpu=lambda _: (gpu, HostKernels))
    assert isinstance(caught.value.exceptions[0], InferenceFailed)
    gpu.check_clean()


def test_a_short_film_goes_round_with_times_that_go_on(tmp_path: Path) -> None:
    plan = host_plan(tmp_path, frame_count=3)

    class Film:
        name = "decode"

        def run(self) -> Any:
            yield from decoded(plan)

    stamps = [frame.stamp for frame in LoopedSource(Film(), frame_count=8).run()]
    assert [stamp.index for stamp in stamps] == list(range(8))
    assert len({stamp.pts for stamp in stamps}) == 8
    assert [stamp.pts for stamp in stamps] == sorted(stamp.pts for stamp in stamps)


def test_frames_in_the_hosts_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("decode: {kind: synthetic}\ninfer: {model: nearest-x2}\nencode: {kind: 'null'}\n")
    with pytest.raises(SystemExit, match="frames are not on a GPU"):
        main([str(path)])


@pytest.mark.parametrize("encoder", ["null", "libx264"])
def test_the_command_prints_figures_and_writes_picture_and_report(
    tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = LockedGpu()
    plan = gpu_plan(host_plan(tmp_path, encode={"kind": encoder}))
    monkeypatch.setattr(gpu_timeline, "plan_film", lambda *_: plan)
    monkeypatch.setattr(gpu_timeline, "open_planned_runner", lambda plan: FakeNetwork(gpu, runner_spec(plan)))
    monkeypatch.setattr(gpu_timeline, "open_planned_gpu", lambda plan: (gpu, HostKernels))
    config = tmp_path / "config.yaml"
    config.write_text("decode: {kind: synthetic}\n")
    picture, report = tmp_path / "timeline.png", tmp_path / "timeline.json"
    options = ["--frames", "24", "--skip", "2", "--out", str(picture), "--json", str(report)]
    assert main([str(config), *options]) == 0
    gpu.check_clean()
    printed = capsys.readouterr().out
    assert "engine busy" in printed
    assert "clocks tied" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    read = json.loads(report.read_text())
    assert read["film"] == plan.info.path.name
    assert {span[0] for span in read["spans"]} >= {"decode", "upload", "cut", "engine", "finish", "download", "encode"}


def test_the_doubles_timed_event_is_as_strict_as_cuda() -> None:
    gpu = FakeGpu()
    stream, other = gpu.make_stream(), gpu.make_stream()
    early, late = gpu.make_timed_event(), gpu.make_timed_event()
    with pytest.raises(GpuMisuse, match="not recorded"):
        stream.wait_for(late)  # type: ignore[arg-type]
    early.record(stream)
    late.record(stream)
    with pytest.raises(InferenceFailed, match="not reached"):
        late.seconds_since(early)
    other.wait_for(late)  # type: ignore[arg-type]
    other.synchronize()
    assert late.seconds_since(early) >= 0
    early.record(other)
    early.wait()
    assert early.seconds_since(late) >= 0
    stream.close()
    other.close()


def spans_of(*rows: tuple[str, float, float], lane: int = 0) -> list[Span]:
    return [
        Span(kind=kind, lane=lane, frame=frame, start_s=start, stop_s=stop, is_on_host=kind in ("decode", "encode"))
        for frame, (kind, start, stop) in enumerate(rows)
    ]


def test_shares_and_gaps_of_made_up_work_are_right() -> None:
    spans = spans_of(
        ("engine", -1.0, 2.0),  # 0 to 2 lies in the window
        ("engine", 2.0, 3.0),
        ("engine", 4.0, 6.0),
        ("engine", 6.00005, 8.0),
        ("upload", 1.0, 1.5),  # beside the engine
        ("upload", 3.25, 3.75),  # in its gap
        ("decode", 3.5, 5.0),
        ("cut", 20.0, 21.0),  # outside
    )
    figures = measure_overlap(spans, start_s=0.0, stop_s=10.0)
    assert figures.window_s == 10.0
    assert set(figures.kinds) == {"engine", "upload", "decode"}
    engine, upload, decode = (figures.kinds[kind] for kind in ("engine", "upload", "decode"))
    assert engine.busy_share == pytest.approx((3 + 2 + 1.99995) / 10)
    assert engine.count == 4
    assert engine.median_ms == pytest.approx((2000 + 1999.95) / 2)
    assert engine.least_ms == pytest.approx(1000)
    assert upload.busy_share == pytest.approx(0.1)
    assert upload.beside_engine_share == pytest.approx(0.5)
    assert decode.beside_engine_share == pytest.approx(1 / 1.5)
    assert figures.two_kinds_share == pytest.approx((0.5 + 0.25 + 1.0) / 10)
    assert figures.two_gpu_kinds_share == pytest.approx(0.05)
    assert figures.engine_gap_count == 3  # 3 to 4, 6 to 6.00005, 8 to 10
    assert figures.engine_long_gap_count == 2
    assert figures.engine_longest_gap_ms == pytest.approx(2000)
    assert figures.engine_gaps_ms == pytest.approx(3000.05)


def test_frames_are_counted_where_their_last_kernel_ends() -> None:
    spans = spans_of(("finish", 0.0, 1.0), ("finish", 1.5, 2.0), ("finish", 2.5, 3.5), ("finish", 4.5, 5.5))
    assert measure_overlap(spans, start_s=1.0, stop_s=5.0).frame_count == 2


def test_lanes_of_one_kind_are_one_kind() -> None:
    spans = spans_of(("cut", 0.0, 2.0)) + spans_of(("cut", 1.0, 3.0), lane=1)
    figures = measure_overlap(spans, start_s=0.0, stop_s=4.0)
    assert figures.kinds["cut"].busy_share == pytest.approx(0.75)
    assert figures.two_kinds_share == 0
    assert figures.engine_gaps_ms == pytest.approx(4000)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        measure_overlap([], start_s=1.0, stop_s=1.0)


def test_intervals_that_touch_are_one_and_do_not_overlap() -> None:
    assert merged([(2.0, 3.0), (0.0, 1.0), (1.0, 2.0), (5.0, 5.0)]) == [(0.0, 3.0)]
    assert covered([[(0.0, 1.0)], [(1.0, 2.0)]], at_least=2) == []
    assert covered([[(0.0, 2.0)], [(1.0, 3.0)], [(1.5, 4.0)]], at_least=2) == [(1.0, 3.0)]


def test_work_in_one_queue_begins_when_its_turn_comes() -> None:
    spans = spans_of(("engine", 0.0, 2.0), ("engine", 0.5, 3.0), ("engine", 3.5, 4.0), ("engine", 1.0, 1.5))
    ordered = one_after_the_other(spans)
    assert [(span.start_s, span.stop_s) for span in ordered] == [(0.0, 2.0), (2.0, 3.0), (3.5, 4.0), (1.5, 1.5)]
    assert [span.frame for span in ordered] == [0, 1, 2, 3]


def test_the_window_is_where_all_lanes_are_at_work() -> None:
    left = spans_of(("engine", 0.0, 1.0), ("engine", 1.0, 2.0), ("engine", 2.0, 3.0))
    right = spans_of(("engine", 0.5, 1.5), ("engine", 1.5, 2.5), ("engine", 2.5, 3.5), lane=1)
    assert steady_window(left + right, first=1, last=2) == (1.5, 3.0)
    with pytest.raises(ValueError, match="frame 3"):
        steady_window(left + right, first=3, last=4)
    batches = [replace(span, frame=3 * span.frame) for span in left]
    assert steady_window(batches, first=2, last=5) == (1.0, 2.0)
    with pytest.raises(ValueError, match="same time"):
        steady_window(left + spans_of(("engine", 7.0, 8.0), lane=1), first=0, last=2)


def test_a_time_of_the_host_is_put_on_the_gpus_clock() -> None:
    tie = ClockTie(host_start_s=100.0, host_stop_s=110.0, gpu_stop_s=10.001, uncertainty_s=1e-5)
    assert tie.on_gpu(100.0) == 0
    assert tie.on_gpu(110.0) == pytest.approx(10.001)
    assert tie.on_gpu(105.0) == pytest.approx(5.0005)
    assert tie.drift_s == pytest.approx(1e-3)


def test_the_picture_has_a_row_per_kind_and_lane_in_the_order_of_a_frames_way(tmp_path: Path) -> None:
    rows = [("engine", 0.1 * n, 0.1 * n + 0.09) for n in range(20)] + [("decode", 0.2, 0.3), ("unheard of", 0.5, 0.6)]
    spans = spans_of(*rows) + spans_of(("cut", 0.4, 0.45), lane=1)
    assert row_order(spans) == [("decode", 0), ("cut", 1), ("engine", 0), ("unheard of", 0)]
    start, stop = close_up(spans, window=(0.0, 2.0))
    assert (start, stop) == pytest.approx((0.6, 1.4))
    path = tmp_path / "timeline.png"
    plot_timeline(spans, path, window=(0.0, 2.0), title="what ran", words=["busy"])
    assert path.read_bytes().startswith(b"\x89PNG")
