"""What a run would make without one of its stages: what is predicted is what is then measured."""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import media
from helpers.device_runs import decoded, gpu_plan, host_plan, runner_spec
from helpers.gpu_double import FakeGpu
from helpers.gpu_faults import LockedGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from helpers.nvdec_double import NvdecLibrary
from helpers.sleeping_stages import STAGES, Sink, line, slowed

from pipeline.config.load import make_config
from pipeline.decode import DecoderChoice
from pipeline.errors import PipelineError
from pipeline.frames import Frame
from pipeline.graph.runtime import run_graph
from pipeline.graph.stage import Stage
from pipeline.graph.tracing import Tracer
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.pool_plan import plan_pools
from pipeline.preflight import open_planned_runner
from pipeline.wiring import open_transforms, planned_decoder
from tools import profile_nvdec, profile_run, profile_whatif
from tools.profile_figures import Figures, measure
from tools.profile_kept_gpu import keep_tiles
from tools.profile_nvdec import common_fps, measure_nvdec
from tools.profile_predict import Cost, bound_fps, costs_of, predict_fps
from tools.profile_record import Recorded, record_run
from tools.profile_repeat import repeat_decoder
from tools.profile_replaced import KeptDecoder, KeptStitcher, KeptTiler, KeptUpscaler, keep_results, replacements
from tools.profile_samples import Sample, Sampler, ThreadReading
from tools.profile_threads import owners_of, unseen_cpu, used_by_owner, work_queued_s
from tools.profile_words import nvdec_notes

ROOT = Path(__file__).parents[2]
SECONDS = {"decode": 0.01, "tile": 0.02, "upscale": 0.08, "stitch": 0.02, "encode": 0.04}
"""Waits beside which the work of small frames, and a busy machine, count for little."""
COSTS = [
    Cost(stage="decode", alone_s=0.001, cpu_s=0.002),
    Cost(stage="upscale", alone_s=0.010, cpu_s=0.001, gpu_s=0.009),
    Cost(stage="encode", alone_s=0.020, cpu_s=0.040),
]


def sleeping(seconds: dict[str, float], *, frame_count: int) -> Figures:
    tracer = Tracer()
    with Sampler(every_s=0.1) as sampler:
        snapshot = run_graph(line(frame_count, slow=seconds, step_s=1.0), capacities=2, tracer=tracer)
    return measure(
        Recorded(
            frames=frame_count,
            seconds=snapshot.elapsed_s,
            graph=tracer.graphs[0],
            samples=tuple(sampler.samples),
        )
    )


@functools.cache
def synthetic(attempt: int) -> Figures:
    """The whole line, measured once for each attempt: no later one is held against figures of a busy moment."""
    return sleeping(SECONDS, frame_count=40)


def agree_once(compare: Callable[[int], tuple[float, float, bool]]) -> None:
    """Found and predicted within a tenth, in one of three attempts: others may use the same processor.

    Args:
        compare: Measures; frames per second found and predicted, and whether the same limits both.
    """
    for attempt in range(3):
        found, predicted, is_same = compare(attempt)
        if is_same and found == pytest.approx(predicted, rel=0.1):
            return
    assert (found, is_same) == (pytest.approx(predicted, rel=0.1), True)


@pytest.mark.parametrize("without", STAGES)
def test_the_prediction_for_a_synthetic_line_is_what_is_measured(without: str) -> None:
    limits = "encode" if without == "upscale" else "upscale"

    def compare(attempt: int) -> tuple[float, float, bool]:
        whole = synthetic(attempt)
        predicted_fps, limit = predict_fps(
            costs_of(whole), measured_fps=whole.steady_fps, lanes=1, cores=2, without=without
        )
        found = sleeping({**SECONDS, without: 0.0}, frame_count=40)
        return found.steady_fps, predicted_fps, limit == found.verdict.stage == limits

    agree_once(compare)


@pytest.mark.parametrize("without", ["upscale", "encode"])
def test_the_prediction_for_a_real_run_is_what_is_measured(tmp_path: Path, without: str) -> None:
    plan = host_plan(tmp_path, frame_count=40, encode={"kind": "libx264"}, queues={"stitched_frames": 2})

    def compare(_: int) -> tuple[float, float, bool]:
        with open_planned_runner(plan) as runner:
            whole = measure(
                record_run(plan, runner, frame_count=40, wrap_stages=lambda stages, _: slowed(stages, SECONDS))
            )
            replaced = {entry.stage: entry for entry in replacements(plan, runner, keep_results(plan, runner))}[without]

            def wrap(stages: Sequence[Stage], lane: int) -> Sequence[Stage]:
                stages = stages if replaced.wrap_stages is None else replaced.wrap_stages(stages, lane)
                return slowed(stages, {**SECONDS, without: 0.0})

            found = measure(record_run(replaced.plan, replaced.runner, frame_count=40, wrap_stages=wrap))
        predicted_fps, _ = predict_fps(
            costs_of(whole), measured_fps=whole.steady_fps, lanes=1, cores=2, without=without
        )
        return found.steady_fps, predicted_fps, True

    agree_once(compare)


@pytest.mark.parametrize(
    ("options", "fps", "limit"),
    [
        ({"lanes": 1, "cores": 16}, 50.0, "encode"),
        ({"lanes": 4, "cores": 16}, 1 / 0.009, "gpu"),
        ({"lanes": 4, "cores": 2}, 2 / 0.043, "processor"),
        ({"lanes": 1, "cores": 16, "without": "encode"}, 100.0, "upscale"),
        ({"lanes": 4, "cores": 2, "without": "encode"}, 1 / 0.009, "gpu"),
        ({"lanes": 4, "cores": 2, "without": "upscale"}, 2 / 0.042, "processor"),
    ],
)
def test_a_run_is_as_fast_as_the_scarcest_of_threads_processor_and_gpu(
    options: dict[str, Any], fps: float, limit: str
) -> None:
    assert bound_fps(COSTS, **options) == (pytest.approx(fps), limit)


def test_what_bounds_do_not_explain_is_kept() -> None:
    assert predict_fps(COSTS, measured_fps=40, lanes=1, cores=16, without="encode")[0] == pytest.approx(80)


def test_a_run_is_no_faster_than_nvdec_however_little_its_stage_waits_for_it() -> None:
    costs = [replace(COSTS[0], nvdec_s=0.015), *COSTS[1:]]
    assert bound_fps(costs, lanes=4, cores=16) == (pytest.approx(1 / 0.015), "decode (NVDEC)")
    assert bound_fps(costs, lanes=4, cores=16, without="decode") == (pytest.approx(1 / 0.009), "gpu")
    assert profile_whatif.mean_costs([costs, costs]) == costs


def nvdec_plan(folder: Path, *, frame_count: int) -> JobPlan:
    film = media.write_counter_video(folder / "film.mp4", frames=frame_count, height=54, width=66)
    config = make_config(
        {"input": {"paths": [str(film)]}, "infer": {"model": "nearest-x2"}, "encode": {"kind": "null"}}, folder=folder
    )
    plan = gpu_plan(plan_film(config, probe_film(config, film)))
    return plan_pools(replace(plan, decoder=DecoderChoice(kind="nvdec", reason="")))


@pytest.mark.parametrize("lanes", [1, 3])
def test_nvdec_is_measured_alone_with_as_many_decoders_as_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    plan, gpu = replace(nvdec_plan(tmp_path, frame_count=60), lanes=lanes), LockedGpu()
    library = NvdecLibrary(gpu)
    monkeypatch.setattr("pipeline.decode.nvdec.load_nvdec", lambda: library)
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    give_back = profile_nvdec._give_back

    def wait_and_give_back(frame: Frame) -> None:
        time.sleep(0.005)  # as for hardware: else one lane may be through before another gets its turn
        give_back(frame)

    monkeypatch.setattr(profile_nvdec, "_give_back", wait_and_give_back)
    fps = measure_nvdec(plan, network, frame_count=50, open_gpu=lambda _: (gpu, HostKernels))
    assert fps is not None and 0 < fps <= lanes * 200
    assert library.opened_count == lanes and library.open_sessions == 0
    gpu.check_clean()
    assert measure_nvdec(gpu_plan(host_plan(tmp_path)), network, frame_count=50) is None  # another decoder


def test_figures_of_a_stage_that_waits_for_nvdec_say_so(tmp_path: Path) -> None:
    plan = nvdec_plan(tmp_path, frame_count=3)
    assert "how much it could do does not show" in " ".join(nvdec_notes(plan, None))
    assert "One decoder alone made 512 frames" in " ".join(nvdec_notes(plan, 512.3))
    assert "8 decoders alone" in " ".join(nvdec_notes(replace(plan, lanes=8), 512.3))
    assert list(nvdec_notes(gpu_plan(host_plan(tmp_path)), None)) == []


def test_decoders_that_cannot_be_opened_are_an_error_and_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, gpu = replace(nvdec_plan(tmp_path, frame_count=30), lanes=2), LockedGpu()
    library = NvdecLibrary(gpu)
    library.session_refusal = "no more sessions"
    monkeypatch.setattr("pipeline.decode.nvdec.load_nvdec", lambda: library)
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    with pytest.raises(PipelineError, match="no more sessions"):
        measure_nvdec(plan, network, frame_count=30, open_gpu=lambda _: (gpu, HostKernels))


def test_decoders_are_counted_while_all_of_them_decode() -> None:
    """Ten and twenty frames a second, one of them begun later and the other one over sooner."""
    slow, fast = [n / 10 for n in range(100)], [2 + n / 20 for n in range(200)]
    assert common_fps([slow, fast]) == pytest.approx(30, rel=0.02)
    assert common_fps([slow[:10], fast[:10]]) is None
    assert common_fps([slow, []]) is None


@pytest.mark.parametrize(
    "case", [{}, {"tile_px": 16}, {"tile_px": 16, "batch": 4}, {"batch": 3}], ids=["whole", "tiles", "mixed", "frames"]
)
def test_kept_results_come_for_the_same_frames_and_tiles_as_real_ones(tmp_path: Path, case: dict[str, int]) -> None:
    plan = host_plan(tmp_path, frame_count=8, **case)
    tiles = len(plan.grid.tiles)
    with open_planned_runner(plan) as runner:
        kept = keep_results(plan, runner, frame_count=4)
        assert len(kept.decoded) == len(kept.finished) == 4
        replaced = [
            KeptTiler(kept, tiles_per_frame=tiles),
            KeptUpscaler(kept),
            KeptStitcher(kept, tiles_per_frame=tiles),
        ]
        with open_transforms(plan, runner) as real:
            for place in range(3):
                stages: list[Any] = [real.tiler, real.upscaler, real.stitcher]
                found = run_line(plan, [*stages[:place], replaced[place], *stages[place + 1 :]])
                wanted = run_line(plan, stages)
                assert [stamp for stamp, _ in found] == [stamp for stamp, _ in wanted]
                for (_, ours), (_, theirs) in list(zip(found, wanted, strict=True))[:4]:
                    np.testing.assert_array_equal(ours, theirs)
            assert [pool.free_count for pool in real.pools] == [pool.count for pool in real.pools]


def run_line(plan: Any, stages: Sequence[Any]) -> list[tuple[Any, Any]]:
    items: Any = decoded(plan)
    for stage in stages:
        items = stage.run(items)
    found = []
    for frame in items:
        found.append((frame.stamp, np.array(frame.planes[0])))
        frame.release()
    return found


def test_kept_frames_begin_anywhere_and_go_on(tmp_path: Path) -> None:
    plan = host_plan(tmp_path, frame_count=8)
    with open_planned_runner(plan) as runner:
        decoder = KeptDecoder(keep_results(plan, runner, frame_count=3), info=plan.info)
    stamps = [frame.stamp for frame in decoder.frames(5, 9)]
    assert [stamp.index for stamp in stamps] == [5, 6, 7, 8]
    assert len({after.pts - before.pts for before, after in itertools.pairwise(stamps)}) == 1


@pytest.mark.parametrize("frame_count", [5, 8, 100])
def test_a_film_that_is_repeated_goes_on_in_time(tmp_path: Path, frame_count: int) -> None:
    plan = host_plan(tmp_path, frame_count=8)
    with repeat_decoder(frame_count)(planned_decoder(plan))() as decoder:
        frames = list(decoder.frames(0, 20))
        with pytest.raises(ValueError, match="not from frame 3"):
            next(decoder.frames(3))
    stamps = [frame.stamp for frame in frames]
    assert [stamp.index for stamp in stamps] == list(range(20))
    assert len({after.pts - before.pts for before, after in itertools.pairwise(stamps)}) == 1
    period = min(frame_count, 8)
    pictures = [np.array(frame.planes[0]) for frame in frames]
    for index in range(20):
        np.testing.assert_array_equal(pictures[index], pictures[index % period])
        assert not np.array_equal(pictures[index], pictures[(index + 1) % period])
        frames[index].release()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_run_that_would_be_over_at_once_repeats_its_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    monkeypatch.setattr(profile_whatif, "LONG_S", 0.3)
    plan = replace(host_plan(tmp_path, frame_count=24, encode={"kind": "libx264"}), lanes=lanes)
    frames: list[int] = []

    def record(*arguments: Any, **options: Any) -> Recorded:
        run = record_run(*arguments, **options)
        frames.append(run.frames)
        return run

    monkeypatch.setattr(profile_whatif, "record_run", record)
    with open_planned_runner(plan) as runner:
        found = profile_whatif.measure_what_ifs(plan, runner, frame_count=24)
    assert all(len(what_if.around_fps) == 2 and what_if.spread >= 0 for what_if in found)
    if lanes == 2:
        assert frames == [24] * (1 + 2 * len(found))
    else:
        assert frames[0] == 24 and len(frames) == 2 + 2 * len(found)
        assert min(frames[1:]) > 24


def test_what_makes_a_comparison_doubtful_is_said_of_the_runs_that_it_is_made_of() -> None:
    quiet = profile_whatif.WhatIf(
        stage="upscale",
        replacement="",
        predicted_fps=100.0,
        predicted_limit="encode",
        measured_fps=120.0,
        base_fps=100.0,
        around_fps=(99.0, 101.0),
        encode_cpu=1.05,
        measured_s=5.0,
        drift=0.05,
    )
    assert profile_whatif.doubts([quiet]) == []
    (said,) = profile_whatif.doubts([quiet, replace(quiet, stage="decode", around_fps=(90.0, 104.0))])
    assert "without decode" in said and "90 to 104" in said
    (said,) = profile_whatif.doubts([replace(quiet, encode_cpu=0.8)])
    assert "0.80 times as much of the processor" in said


@pytest.mark.parametrize("lanes", [1, 2])
def test_every_stage_can_be_replaced_in_a_whole_run(tmp_path: Path, lanes: int) -> None:
    plan = replace(host_plan(tmp_path, frame_count=24, tile_px=16, encode={"kind": "libx264"}), lanes=lanes)
    with open_planned_runner(plan) as runner:
        entries = replacements(plan, runner, keep_results(plan, runner))
        assert [entry.stage for entry in entries] == list(STAGES)
        for entry in entries:
            run = record_run(
                entry.plan,
                entry.runner,
                frame_count=18,
                wrap_decoder=entry.wrap_decoder,
                wrap_stages=entry.wrap_stages,
            )
            assert run.frames == 18, entry.stage


def test_on_a_gpu_decoder_network_and_encoder_can_be_replaced(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, tile_px=16, frame_count=24)), LockedGpu()
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    entries = replacements(plan, network, keep_results(plan, network))
    assert [entry.stage for entry in entries] == ["decode", "upscale"]  # nothing is encoded in this plan
    calls = [
        [
            span.kind
            for span in record_run(
                entry.plan,
                entry.runner,
                frame_count=24,
                wrap_decoder=entry.wrap_decoder,
                open_gpu=lambda _: (gpu, HostKernels),
            ).gpu_spans
        ].count("engine")
        for entry in entries
    ]
    assert calls[0] == calls[1]  # it is asked as often
    assert sum(entry.startswith("infer") for entry in gpu.log) < 2 * calls[0]  # and computes less
    gpu.check_clean()


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("case", [{}, {"tile_px": 16}, {"tile_px": 16, "batch": 4}], ids=["whole", "tiles", "mixed"])
def test_without_its_network_a_run_on_a_gpu_makes_the_pictures_of_the_whole_run(
    tmp_path: Path, lanes: int, case: dict[str, int]
) -> None:
    """Its encoders have as much to do for each."""
    plan, gpu = replace(gpu_plan(host_plan(tmp_path, frame_count=24, **case)), lanes=lanes), LockedGpu()
    network, made = FakeNetwork(gpu, runner_spec(plan)), dict[str, dict[int, Any]]()

    def keep(stages: Sequence[Stage], lane: int, name: str) -> Sequence[Stage]:
        class Keep(Sink):
            def run(self, items: Any) -> None:
                for frame in items:
                    frame.ready.wait()
                    made.setdefault(name, {})[frame.stamp.index] = np.array(frame.planes[0])
                    frame.release()

        keeper: Any = Keep(seconds=0)
        keeper.segments = ()
        return [*stages[:-1], keeper]

    def run(name: str, inner: Any, wrap: Any = None) -> None:
        record_run(
            plan,
            inner,
            frame_count=24,
            wrap_stages=lambda stages, lane: keep(stages if wrap is None else wrap(stages, lane), lane, name),
            open_gpu=lambda _: (gpu, HostKernels),
        )

    run("whole", network)
    with keep_tiles(plan, network, frame_count=24, least_count=6, open_gpu=lambda _: (gpu, HostKernels)) as kept:
        assert kept is not None and len(kept.buffers) == 24
        count = network.inferred
        _, entry, *_ = replacements(plan, network, keep_results(plan, network), tiles_kept=kept)
        run("without", entry.runner, entry.wrap_stages)
    assert network.inferred == count
    assert made["whole"].keys() == made["without"].keys() == set(range(24))
    for index, picture in made["whole"].items():
        np.testing.assert_array_equal(made["without"][index], picture)
    gpu.check_clean()


def test_what_a_gpu_has_no_room_for_is_not_kept(tmp_path: Path) -> None:
    plan = gpu_plan(host_plan(tmp_path, frame_count=24))
    gpu = FakeGpu(total_bytes=plan.device_pool_bytes + 2 * 8 * 3 * 4 * 80 * 48)
    network = FakeNetwork(gpu, runner_spec(plan))
    for least_count, is_kept in [(8, True), (9, False)]:
        options: Any = {"frame_count": 24, "least_count": least_count, "open_gpu": lambda _: (gpu, HostKernels)}
        with keep_tiles(plan, network, **options) as kept:
            assert (kept is not None) == is_kept
    gpu.check_clean()


def test_what_if_on_a_gpu_gives_its_memory_back(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, frame_count=12)), LockedGpu()
    network: Any = FakeNetwork(gpu, runner_spec(plan))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(profile_whatif, "LONG_S", 0.1)
        found = profile_whatif.measure_what_ifs(plan, network, frame_count=12, open_gpu=lambda _: (gpu, HostKernels))
    assert [what_if.stage for what_if in found] == ["decode", "upscale"]
    assert "the results of the first 12 frames, copied" in found[1].replacement
    gpu.check_clean()


def test_the_tool_says_what_it_predicted_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile_whatif, "LONG_S", 0.3)
    sets = ("infer.model=nearest-x2", "scale.factor=2", "encode.kind=libx264", "encode.preset=ultrafast")
    arguments = [str(ROOT / "configs/demo.yaml"), *(word for key in sets for word in ("--set", key))]
    assert profile_run.main([*arguments, "--frames", "16", "--what-if", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "profile.json").read_text())
    assert [row["stage"] for row in report["what_if"]] == list(STAGES)
    for row in report["what_if"]:
        assert row["measured_fps"] > 0 and row["base_fps"] > 0
        assert row["error"] == pytest.approx(row["predicted_fps"] / row["measured_fps"] - 1)
    assert "without encode" in capsys.readouterr().out
    assert "an encoder that writes nothing" in (tmp_path / "profile.html").read_text()


def test_a_stage_would_be_sooner_through_by_what_its_library_waited_for_cores() -> None:
    """One second of work: 0.2 s of its own, the rest waiting for threads that ran for a third of their time."""
    alone: dict[str, Any] = {"work_s": 1.0, "work_share": 1.0, "own": [(0.2, 0.0)]}
    assert work_queued_s(**alone, helpers=[]) == 0.0  # it slept
    assert work_queued_s(**alone, helpers=[(0.0, 0.0)]) == 0.0
    assert work_queued_s(**alone, helpers=[(1.0, 2.0)]) == pytest.approx(0.8 * 2 / 3)
    assert work_queued_s(**alone, helpers=[(0.05, 0.05)]) == pytest.approx(0.05)  # as long as they had something to do
    own = {"work_s": 0.5, "work_share": 0.5, "own": [(0.4, 0.2)]}
    assert work_queued_s(**own, helpers=[]) == pytest.approx(0.1)


def test_work_that_an_encoder_puts_off_until_its_end_counts_for_every_frame() -> None:
    class Lookahead(Sink):
        def run(self, items: Any) -> None:
            super().run(items)
            time.sleep(1.0)

    tracer = Tracer()
    with Sampler(every_s=0.1) as sampler:
        snapshot = run_graph([*line(20)[:-1], Lookahead(seconds=0.001)], capacities=2, tracer=tracer)
    figures = measure(
        Recorded(frames=20, seconds=snapshot.elapsed_s, graph=tracer.graphs[0], samples=tuple(sampler.samples))
    )
    encode = figures.stage("encode")
    assert 0.05 < encode.service_mean_s < 0.06
    assert encode.shares["starved"] > 0.5  # of the middle of the run, as all shares are


def test_what_a_thread_took_after_the_last_look_at_it_is_known_from_the_process() -> None:
    def sample(time_s: float, cpu_s: float, **threads: float) -> Sample:
        readings = {
            int(name[1:]): ThreadReading(name="t", cpu_s=taken, queued_s=0.0) for name, taken in threads.items()
        }
        return Sample(time_s=time_s, rss_bytes=1, threads=readings, gpu=None, cpu_s=cpu_s)

    samples = [
        sample(1.0, 5.0, t1=4.0, t2=0.5, t3=0.5),
        sample(1.5, 6.0, t1=4.2, t4=0.2),  # 0.6 s were of the two that have gone
        sample(2.0, 6.1, t1=4.3),  # and nothing of the third, though it took something until it was seen
    ]
    found = unseen_cpu(samples)
    assert found.keys() == {2, 3}
    for number in (2, 3):
        assert found[number] == (1.5, pytest.approx(0.3))


def test_an_encoder_that_codes_while_it_is_closed_is_seen_with_all_its_time(tmp_path: Path) -> None:
    """Threads of a library, most of whose work is done after the last frame has come."""
    plan = host_plan(tmp_path, frame_count=24, encode={"kind": "libx264", "preset": "slow"})
    with open_planned_runner(plan) as runner:
        before_s = time.process_time()
        run = record_run(plan, runner, frame_count=24)
        used_s = time.process_time() - before_s
    figures = measure(run)
    attributed_s = sum(
        cpu_s
        for threads in used_by_owner(
            run, owners_of(run), start_s=run.graph.started_s - 1, stop_s=run.graph.ended_s + 1
        ).values()
        for cpu_s, _ in threads.values()
    )
    assert attributed_s == pytest.approx(used_s, rel=0.25, abs=0.1)
    assert figures.stage("encode").cpu_s > 0
