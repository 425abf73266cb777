"""The profile of a run: every figure is there, its files open elsewhere, what limits is named, the page can be read."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.browser import FLAWS, open_browser, require_browser
from helpers.device_runs import gpu_plan, host_plan, runner_spec
from helpers.gpu_faults import LockedGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from helpers.sleeping_stages import slowed

from engines import MODELS
from pipeline.config.load import load_config
from pipeline.graph.stage import Stage
from pipeline.plan import JobPlan
from pipeline.preflight import open_planned_runner
from tools import profile_run
from tools.profile_advice import SMALLEST_MODEL, Facts, advise
from tools.profile_chrome import chrome_trace
from tools.profile_figures import measure
from tools.profile_nvml import GpuReading, open_gpu_meter
from tools.profile_page import build_page
from tools.profile_record import Recorded, record_run, run_plain
from tools.profile_samples import Sample, ThreadReading, cores_busy, read_threads
from tools.profile_stages import watch_stages

ROOT = Path(__file__).parents[2]
QUICK = ("infer.model=nearest-x2", "scale.factor=2", "encode.kind=libx264", "encode.preset=ultrafast")
NAMES = ("decode", "tile", "upscale", "stitch", "encode")
STEP_S = 0.01
"""Far more than the stages need for frames of 40x24 themselves."""


def sets(*keys: str) -> list[str]:
    return [word for key in keys for word in ("--set", key)]


def recorded(plan: JobPlan, **options: Any) -> Recorded:
    with open_planned_runner(plan) as runner:
        return record_run(plan, runner, **{"frame_count": 12, **options})


def check_trace(trace: dict[str, Any]) -> Counter[str]:
    """Every event has what the format asks of its phase. Source: Trace Event Format, its sections on each phase."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str) and event["name"]
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "process_sort_index", "thread_sort_index")
            assert set(event["args"]) == {"name" if event["name"].endswith("name") else "sort_index"}
            continue
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0 and isinstance(event["cat"], str)
        else:
            assert event["ph"] == "C"
            assert event["args"] and all(isinstance(value, int | float) for value in event["args"].values())
    return Counter(event["ph"] for event in trace["traceEvents"])


def test_the_tool_writes_a_page_a_trace_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "profile"
    arguments = [str(ROOT / "configs/demo.yaml"), *sets(*QUICK), "--frames", "20", "--pairs", "1", "--out", str(out)]
    assert profile_run.main(arguments) == 0
    report = json.loads((out / "profile.json").read_text())
    assert report["figures"]["frames"] == 20
    assert [stage["name"] for stage in report["figures"]["stages"]] == list(NAMES)
    for stage in report["figures"]["stages"]:
        assert sum(stage["shares"].values()) == pytest.approx(1, abs=1e-9)
        assert 0 < stage["service_p50_s"] <= stage["service_p90_s"] <= stage["service_p99_s"]
    assert report["figures"]["rss_peak_bytes"] > 1 << 20
    assert {"decode", "encode", "upscale"} <= {thread["owner"] for thread in report["figures"]["threads"]}
    assert len(report["overhead"]["traced_s"]) == len(report["overhead"]["plain_s"]) == 1
    assert report["overhead"]["watch_cores"] > 0 == report["overhead"]["ask_cores"]  # there is no GPU
    shown = capsys.readouterr().out
    assert report["paragraph"] in shown and "Most likely to help: " in report["paragraph"]
    assert check_trace(json.loads((out / "trace.json").read_text()))["X"] > 5 * 20
    page = (out / "profile.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|src=|<script|<link|@import|url\(", page)


@pytest.mark.parametrize("lanes", [1, 3])
def test_exactly_the_frames_that_were_asked_for_are_run(tmp_path: Path, lanes: int) -> None:
    plan = replace(host_plan(tmp_path, frame_count=40), lanes=lanes)
    run = recorded(plan, frame_count=17)
    assert run.frames == 17
    assert len(run.graph.lanes) == lanes
    done = sorted(mark[1] for lane in run.graph.lanes for mark in lane.stages[-1].marks)
    assert done == list(range(17))
    with open_planned_runner(plan) as runner:
        assert min(run_plain(plan, runner, frame_count=17)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_slowed_stage_of_a_real_run_is_named(tmp_path: Path, name: str) -> None:
    plan = host_plan(tmp_path, frame_count=24, queues={"stitched_frames": 2})
    seconds = {stage: 5 * STEP_S if stage == name else STEP_S / 2 for stage in NAMES}
    run = recorded(plan, frame_count=24, wrap_stages=lambda stages, _: slowed(stages, seconds))
    figures = measure(run)
    assert figures.verdict.stage == name
    assert figures.stage(name).service_p50_s >= 5 * STEP_S


def test_the_processor_s_time_is_the_stage_s_that_took_it(tmp_path: Path) -> None:
    plan = host_plan(tmp_path, frame_count=30)

    def busy(stages: Sequence[Stage], _: int) -> Sequence[Stage]:
        class Stitch:
            name, lookahead = "stitch", 0

            def run(self, items: Iterator[Any]) -> Iterator[Any]:
                inner: Any = stages[3]
                for result in inner.run(items):
                    until_s = time.thread_time() + 0.03
                    while time.thread_time() < until_s:
                        pass
                    yield result

        return [*stages[:3], Stitch(), stages[4]]

    figures = measure(recorded(plan, frame_count=30, wrap_stages=busy))
    assert figures.stage("stitch").cpu_s == pytest.approx(0.03, rel=0.35)  # samples are half a second apart
    assert all(figures.stage(name).cpu_s < 0.01 for name in ("decode", "tile", "upscale", "encode"))


def test_a_thread_that_libraries_start_counts_for_its_stage(tmp_path: Path) -> None:
    seen = []

    class Source:
        name = "decode"

        def run(self) -> Iterator[Any]:
            over = threading.Event()
            thread = threading.Thread(target=over.wait)
            thread.start()
            seen.append(read_threads()[thread.native_id or 0].name)
            over.set()
            thread.join()
            yield from ()

    source, *_ = watch_stages([Source(), Source()], ranges=None)
    body = threading.Thread(target=lambda: list(source.run()))  # type: ignore[call-arg]
    body.start()
    body.join()
    assert seen == ["decode"]


@pytest.mark.parametrize("lanes", [1, 2])
def test_what_the_gpu_did_is_in_the_profile(tmp_path: Path, lanes: int) -> None:
    plan, gpu = replace(gpu_plan(host_plan(tmp_path, tile_px=16, frame_count=40)), lanes=lanes), LockedGpu()
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    run = record_run(plan, network, frame_count=24, open_gpu=lambda _: (gpu, HostKernels))
    gpu.check_clean()
    assert run.frames == 24
    assert {span.kind for span in run.gpu_spans} >= {"upload", "cut", "engine", "blend", "finish", "download"}
    graph = run.graph
    assert all(graph.started_s - 1 < span.start_s <= span.stop_s < graph.ended_s + 1 for span in run.gpu_spans)
    uploads = [span.bytes for span in run.gpu_spans if span.kind == "upload"]
    assert len(uploads) == 24 and len(set(uploads)) == 1 and uploads[0] >= 40 * 24 * 3 // 2  # 4:2:0, rows padded
    figures = measure(run)
    kinds = {kind.kind: kind for kind in figures.gpu}
    assert kinds["engine"].bytes == 0 and kinds["upload"].gb_per_s > 0
    assert figures.stage("upscale").gpu_s == pytest.approx(kinds["engine"].per_frame_s)
    assert check_trace(chrome_trace(run))["X"] > len(run.gpu_spans)
    assert "GPU engine" in build_page(run, figures, title="t", paragraph="p", what_ifs=[])
    assert any("nvtx" in note for note in run.notes) or any("NVTX" in note for note in run.notes)


def test_ranges_for_nsight_open_and_close_in_every_thread(tmp_path: Path) -> None:
    open_ranges: dict[int, int] = {}
    messages: list[str] = []

    class FakeRanges:
        def push_range(self, message: str) -> None:
            open_ranges[threading.get_ident()] = open_ranges.get(threading.get_ident(), 0) + 1
            messages.append(message)

        def pop_range(self) -> None:
            open_ranges[threading.get_ident()] -= 1
            assert open_ranges[threading.get_ident()] >= 0

    plan = host_plan(tmp_path, frame_count=6)
    run = recorded(plan, wrap_stages=lambda stages, _: watch_stages(stages, ranges=FakeRanges()))
    assert run.frames == 6
    assert set(open_ranges.values()) == {0} and len(open_ranges) == 5
    assert {f"{name} {frame}" for name in NAMES[1:] for frame in range(6)} <= set(messages)


class FakeLibrary:
    """What ``pynvml`` has, as far as it is used."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_CLOCK_VIDEO = range(3)
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = range(2)

    class NVMLError(Exception):
        pass

    is_open = 0

    def nvmlInit(self) -> None:
        self.is_open += 1

    def nvmlShutdown(self) -> None:
        self.is_open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index:
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetUtilizationRates(self, _: int) -> Any:
        return SimpleNamespace(gpu=97, memory=41)

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:
        return SimpleNamespace(used=5 << 30)

    def nvmlDeviceGetEncoderUtilization(self, _: int) -> list[int]:
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetDecoderUtilization(self, _: int) -> list[int]:
        return [12, 1000]

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:
        return 412500

    def nvmlDeviceGetClockInfo(self, _: int, kind: int) -> int:
        return (1980, 2619, 1530)[kind]

    def nvmlDeviceGetPcieThroughput(self, _: int, way: int) -> int:
        return (300, 7000)[way]


def test_cores_are_counted_between_samples_that_are_far_enough_apart() -> None:
    """Two samples within a moment would show what the kernel had not booked yet: dozens of cores, or less than none."""

    def sample(time_s: float, *cpu_s: float) -> Sample:
        threads = {n: ThreadReading(name="t", cpu_s=taken, queued_s=0.0) for n, taken in enumerate(cpu_s)}
        return Sample(time_s=time_s, rss_bytes=1, threads=threads, gpu=None)

    samples = [sample(1.0, 1.0), sample(1.001, 1.04), sample(1.5, 1.5, 0.25), sample(1.501, 1.0), sample(2.5)]
    assert list(cores_busy(samples)) == [(1.5, 1.5), (2.5, 0.0)]


def test_a_gpu_is_asked_and_what_it_does_not_say_is_left_open() -> None:
    library = FakeLibrary()
    meter, why = open_gpu_meter(0, library=library)
    assert meter is not None and not why
    with meter:
        assert meter.read() == GpuReading(
            sm_percent=97,
            memory_percent=41,
            encoder_percent=None,
            decoder_percent=12,
            sm_mhz=1980,
            memory_mhz=2619,
            video_mhz=1530,
            used_bytes=5 << 30,
            watts=412.5,
            pcie_rx_bytes_per_s=7e6,
            pcie_tx_bytes_per_s=None,
        )
    assert library.is_open == 0
    assert open_gpu_meter(1, library=library)[1] == "The GPU was not asked for its load and clocks: Invalid Argument."
    assert library.is_open == 0


def test_pcie_is_measured_once_a_second_at_most_one_way_and_the_other_by_turns() -> None:
    """The library counts for 20 ms each time, and keeps a core busy with it."""
    now_s = 100.0
    meter, _ = open_gpu_meter(0, library=FakeLibrary(), clock=lambda: now_s)
    assert meter is not None
    seen = []
    with meter:
        for _ in range(20):
            reading = meter.read()
            seen.append((reading.pcie_rx_bytes_per_s, reading.pcie_tx_bytes_per_s))
            now_s += 0.25
    assert seen == [(7e6, None), *[(None, None)] * 3, (None, 3e5), *[(None, None)] * 3] * 2 + seen[:4]


def test_without_its_library_the_profile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    meter, why = open_gpu_meter(0)
    assert meter is None and "pip install nvidia-ml-py" in why


def facts(**changed: Any) -> Facts:
    return Facts(
        **{
            "stage": "upscale",
            "cores": 8,
            "cores_used": 2.0,
            "cores_wanted": 0.0,
            "is_on_gpu": False,
            "has_gpu": False,
            "gpu_busy": 0.0,
            "lanes": 1,
            "encoder": "libx264",
            "is_hardware_encoder": False,
            "faster_preset": "superfast",
            "decoder": "libav",
            "backend": "openvino",
            "precision": "bf16",
            "has_smaller_model": True,
            "computed_share": 1.0,
            "waits_for_buffers": 0.0,
            **changed,
        }
    )


@pytest.mark.parametrize(
    ("changed", "setting"),
    [
        ({"stage": "encode", "cores_used": 8.0}, "encode.preset=superfast"),
        ({"stage": "encode"}, "run.lanes=2"),
        ({"stage": "encode", "lanes": 3}, "run.lanes=6"),
        ({"stage": "encode", "has_gpu": True}, "encode.kind=hevc_nvenc"),
        ({"stage": "encode", "encoder": "ffv1", "cores_used": 8.0, "faster_preset": ""}, "encode.kind=libx264"),
        ({"stage": "decode", "is_on_gpu": True, "has_gpu": True}, "decode.kind=nvdec"),
        ({"stage": "decode"}, "run.lanes=2"),
        ({"stage": "decode", "cores_used": 7.9}, "encode.preset=superfast"),
        ({"precision": "fp32"}, "infer.precision=bf16"),
        ({"precision": "fp32", "has_gpu": True, "backend": "torch"}, "infer.precision=fp16"),
        ({"computed_share": 1.5}, "tile.max_px=1024"),
        ({"has_gpu": True, "is_on_gpu": True, "gpu_busy": 0.6, "backend": "torch"}, "run.lanes=2"),
        ({"has_gpu": True, "is_on_gpu": True, "gpu_busy": 0.99, "backend": "torch"}, "infer.backend=tensorrt"),
        ({}, f"infer.model={SMALLEST_MODEL}"),
        ({"has_smaller_model": False}, ""),
        ({"stage": "tile", "waits_for_buffers": 0.3}, "queues.tile_batches=4"),
        ({"stage": "tile", "has_gpu": True}, "run.frames_on=gpu"),
        ({"stage": "stitch", "has_gpu": True}, "run.frames_on=gpu"),
        ({"stage": "stitch"}, "run.lanes=2"),
        ({"stage": "stitch", "cores_wanted": 7.0}, ""),
    ],
)
def test_the_advice_fits_what_limits_and_the_machine(changed: dict[str, Any], setting: str) -> None:
    advice = advise(facts(**changed))
    assert advice.setting == setting and advice.reason
    if setting:
        load_config(ROOT / "configs/demo.yaml", [setting])  # every setting that is named can be made


def test_the_smallest_model_is_the_one_that_is_advised() -> None:
    costs = {name: model.flop_per_px for name, model in MODELS.items() if model.architecture != "nearest"}
    assert min(costs, key=lambda name: costs[name]) == SMALLEST_MODEL


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    run = recorded(replace(host_plan(folder, frame_count=30), lanes=2), frame_count=30)
    reading = {field.name: 50 for field in fields(GpuReading)}
    samples = tuple(replace(sample, gpu=GpuReading(**reading)) for sample in run.samples)
    run = replace(run, samples=samples)
    rows = [dict.fromkeys(("stage", "predicted", "measured", "error", "gain", "limit", "replacement"), "a word or 12")]
    path = folder / "profile.html"
    path.write_text(build_page(run, measure(run), title="<film & co>.mkv", paragraph="It is <so>.", what_ifs=rows * 4))
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_can_be_read_by_day_and_by_night(page: Path, width: int, tmp_path: Path) -> None:
    path = require_browser()
    with open_browser(path, folder=tmp_path) as browser:
        for is_dark in (False, True):
            browser.open(page, width=width, is_dark=is_dark)
            assert browser.evaluate(FLAWS) == []
            assert browser.evaluate("document.querySelector('h1').textContent") == "<film & co>.mkv"
            assert browser.evaluate("document.querySelectorAll('svg').length") > 10
