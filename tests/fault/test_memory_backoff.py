"""Memory that runs out in a run: it goes on once with a smaller demand, and no frame is lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import media
from helpers.device_runs import gpu_plan, runner_spec
from helpers.film_runs import Listener, contents, film_plan
from helpers.gpu_double import FakeBuffer
from helpers.gpu_faults import ShortGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from helpers.runs import leftovers, run_films

from engines.errors import BuildFailed, InferenceFailed, OutOfDeviceMemory, OutOfMemory, run_error
from engines.runner import FinishedCompletion
from pipeline import attempts, wiring
from pipeline.attempts import run_attempts
from pipeline.backoff import MemoryLack, find_lack, second_lack, shrink
from pipeline.errors import GraphFailed, OutputError, SetupError
from pipeline.graph.channel import Aborted
from pipeline.plan import JobPlan
from pipeline.pool_plan import plan_pools
from pipeline.run_terms import UpscaledFilm
from pipeline.tiling import plan_tiles

GPU_LACK = MemoryLack(place="gpu", text="8 MiB are missing")
HOST_LACK = MemoryLack(place="host", text="8 MiB are missing")
FRAMES = 21
ENGINE_NOTE = "fp8 in 2 of 4 convolutions: 50 dB"


class HungryNetwork(FakeNetwork):
    """A network on the fake GPU that holds memory there, and runs out of it at some inferences.

    Args:
        fails_in: Numbers of the inferences, counted by ``counter`` over all networks of a test.
    """

    def __init__(self, gpu: ShortGpu, plan: JobPlan, *, counter: list[int], fails_in: Collection[int]) -> None:
        super().__init__(gpu, replace(runner_spec(plan), notes=(ENGINE_NOTE,)))
        self._counter = counter
        self._fails_in = fails_in
        self._weights: FakeBuffer = gpu.allocate(64)

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> FinishedCompletion:
        number = self._counter[0]
        self._counter[0] += 1
        if number in self._fails_in:
            raise OutOfDeviceMemory(f"inference {number} finds no memory", needed_bytes=8, free_bytes=4)
        return super().infer(tiles, out=out, stream=stream)

    def close(self) -> None:
        self._weights.close()


@dataclass
class Bench:
    """A film on the fake GPU, run with its memory running out."""

    plan: JobPlan
    folder: Path
    patch: pytest.MonkeyPatch

    def run(
        self, *, refuses: Collection[int] = (), fails_in: Collection[int] = (), name: str = "work"
    ) -> tuple[UpscaledFilm, list[bytes], list[str], ShortGpu]:
        gpu, counter = ShortGpu(refuses=refuses), [0]
        self.opened: list[JobPlan] = []

        def open_network(plan: JobPlan, **_options: Any) -> HungryNetwork:
            gpu.check_clean()  # everything of an attempt before is gone
            self.opened.append(plan)
            return HungryNetwork(gpu, plan, counter=counter, fails_in=fails_in)

        self.patch.setattr(wiring, "open_planned_device", lambda plan: gpu)
        self.patch.setattr(wiring, "make_frame_kernels", lambda: HostKernels)
        self.patch.setattr(attempts, "open_planned_runner", open_network)
        said: list[str] = []
        terms = Listener().terms(self.folder / name)
        try:
            film = run_attempts(self.plan, terms, on_begin=lambda done: None, warn=said.append)
        finally:
            gpu.check_clean()
        return film, contents(film), said, gpu


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return media.write_counter_video(path, frames=FRAMES, height=24, width=40, keyframe_interval=5)


def make_bench(
    folder: Path, film: Path, patch: pytest.MonkeyPatch, *, lanes: int = 1, batch: int = 1, tile_px: int = 0
) -> Bench:
    plan = film_plan(
        folder, film, lanes=lanes, infer={"model": "nearest-x2", "backend": "resize", "batch_tiles": batch}
    )
    if tile_px:
        grid = plan_tiles(height=24, width=40, tile_height=tile_px, tile_width=tile_px, overlap_px=4)
        plan = replace(plan, grid=grid, overlap_px=4)
    return Bench(plan=gpu_plan(plan_pools(plan)), folder=folder, patch=patch)


KINDS: dict[str, dict[str, int]] = {
    "lanes": {"lanes": 2},
    "batch": {"batch": 2, "tile_px": 16},
    "tile": {"tile_px": 20},
}
CHANGES = {
    "lanes": "1 lane instead of 2",
    "batch": "batches of 1 instead of 2",
    "tile": "tiles of",
}


@pytest.mark.parametrize("kind", KINDS)
def test_running_out_at_any_allocation_costs_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path, kind: str
) -> None:
    """Every allocation of an undisturbed run in turn, on the GPU and page-locked."""
    bench = make_bench(tmp_path, film, monkeypatch, **KINDS[kind])
    _, wanted, said, gpu = bench.run()
    assert said == []
    for number, (place, _) in enumerate(gpu.places):
        if place == "pinned" and kind != "lanes":
            with pytest.raises(SetupError, match="page-locked"):  # nothing smaller would need less of it
                bench.run(refuses={number}, name=f"work-{number}")
            continue
        made, found, said, _ = bench.run(refuses={number}, name=f"work-{number}")
        assert found == wanted
        assert made.frame_count == FRAMES
        (text,) = said
        # the network itself is not smaller with fewer lanes
        assert ("tiles of" if kind == "lanes" and number == 0 else CHANGES[kind]) in text
        assert f"allocation {number} is refused" in text or "not enough memory on Fake GPU" in text or place == "pinned"
        assert made.notes == (ENGINE_NOTE, text)
        assert len(bench.opened) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_running_out_at_any_inference_costs_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path, kind: str
) -> None:
    bench = make_bench(tmp_path, film, monkeypatch, **KINDS[kind])
    _, wanted, _, _ = bench.run()
    batches = FRAMES * len(bench.plan.grid.tiles) // bench.plan.config.infer.batch
    for number in sorted({0, 1, *range(2, batches, max(1, batches // 6)), batches - 1}):
        made, found, said, _ = bench.run(fails_in={number}, name=f"work-{number}")
        assert found == wanted
        assert [segment.start for segment in made.segments] == [0, 8, 16]
        (text,) = said
        assert f"inference {number} finds no memory" in text
        assert CHANGES[kind] in text


def test_what_was_committed_before_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path
) -> None:
    """The last of 21 frames finds no memory; the third segment is decoded again, the first two are not."""
    bench = make_bench(tmp_path, film, monkeypatch, tile_px=20)
    tiles = len(bench.plan.grid.tiles)
    listener, begun = Listener(), []
    bench.run(fails_in={FRAMES * tiles - 1}, name="first")
    terms = listener.terms(tmp_path / "work")
    counter = [0]
    gpu = ShortGpu()
    monkeypatch.setattr(wiring, "open_planned_device", lambda plan: gpu)
    monkeypatch.setattr(
        attempts,
        "open_planned_runner",
        lambda plan, **_: HungryNetwork(gpu, plan, counter=counter, fails_in={FRAMES * tiles - 1}),
    )
    made = run_attempts(bench.plan, terms, on_begin=begun.append)
    assert begun[0] == 0
    assert begun[1] in (8, 16)  # how far the encoder was when it happened
    assert [segment.index for segment in listener.committed] == [0, 1, 2]
    assert listener.discarded == []
    assert made.graph_s > made.graph.elapsed_s


def test_the_second_time_is_an_error_with_both_numbers_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path
) -> None:
    bench = make_bench(tmp_path, film, monkeypatch, lanes=2)
    with pytest.raises(SetupError, match=r"twice: .*inference 2 .*1 lane instead of 2.*inference 4") as caught:
        bench.run(fails_in={2, 4})
    assert "tile.max_px" in caught.value.hint
    assert caught.value.missing == "GPU memory"
    assert len(bench.opened) == 2


def test_other_failures_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    bench = make_bench(tmp_path, film, monkeypatch, lanes=2)

    def fail(*_: Any, **__: Any) -> FinishedCompletion:
        raise InferenceFailed("the GPU fell off the bus")

    monkeypatch.setattr(HungryNetwork, "infer", fail)
    with pytest.raises(GraphFailed):
        bench.run()
    assert len(bench.opened) == 1


def test_an_abort_between_two_attempts_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    plan = film_plan(tmp_path, film)
    terms = Listener().terms(tmp_path / "work")

    def run_out(plan: JobPlan, **_options: Any) -> Any:
        terms.stop.abort()
        raise OutOfDeviceMemory("full")

    monkeypatch.setattr(attempts, "open_planned_runner", run_out)
    with pytest.raises(Aborted):
        run_attempts(plan, terms, on_begin=lambda done: None)


class HostFault:
    """Makes the host's memory run out once, at the n-th big array of numpy that the pools ask for."""

    def __init__(self, patch: pytest.MonkeyPatch, *, at: int) -> None:
        from pipeline.graph.pool import BufferPool

        real, self.count, self.at = BufferPool._allocate_one, 0, at

        def allocate(pool: BufferPool) -> Any:
            self.count += 1
            if self.count - 1 == self.at:
                raise MemoryError("Unable to allocate 8.00 GiB")
            return real(pool)

        patch.setattr(BufferPool, "_allocate_one", allocate)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_whole_job_backs_off_on_the_host_and_says_so_everywhere(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=30, keyframe_interval=5)
    terms: dict[str, Any] = {
        "encode": {"threads": 1},
        "output": {"segment_s": 0.3},
        "run": {"lanes": lanes, "isolate": False, "max_attempts": 1},
    }
    calm = HostFault(monkeypatch, at=-1)
    (tmp_path / "calm").mkdir()
    undisturbed = run_films(capfd, tmp_path / "calm", film, **terms)
    for at in range(0, calm.count, max(1, calm.count // 4)):
        folder = tmp_path / str(at)
        folder.mkdir()
        HostFault(monkeypatch, at=at)
        ran = run_films(capfd, folder, film, **terms)
        assert ran.code == 0, ran.err
        assert ran.outputs[0].stat().st_size == undisturbed.outputs[0].stat().st_size
        assert media.video_counters(ran.outputs[0]) == list(range(30))
        report = ran.report()
        (warning,) = (line for line in report["warnings"] if "memory ran out" in line)
        assert ("1 lane instead of 2" if lanes == 2 else "tiles of") in warning
        assert "buffers x" in warning
        assert ran.err.count(warning) == 1
        assert leftovers(folder / "out") == ["film.mkv"]


def test_memory_that_runs_out_while_frames_flow_on_the_host(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain ``MemoryError`` in the middle of a stage."""
    from pipeline import stages

    film = media.write_counter_video(tmp_path / "film.mkv", frames=30, keyframe_interval=5)
    real, calls = stages.rgb_to_planes, [0]

    def run_out(*arguments: Any, **options: Any) -> None:
        calls[0] += 1
        if calls[0] == 20:
            raise MemoryError
        real(*arguments, **options)

    monkeypatch.setattr(stages, "rgb_to_planes", run_out)
    ran = run_films(capfd, tmp_path, film, output={"segment_s": 0.3}, run={"isolate": False})
    assert ran.code == 0, ran.err
    assert media.video_counters(ran.outputs[0]) == list(range(30))
    assert "memory ran out, going on with tiles of" in ran.err
    assert json.dumps(ran.report()["warnings"]).count("memory ran out") == 1


def nested(exc: Exception, cause: BaseException) -> Exception:
    exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OutOfDeviceMemory("x"), "gpu"),
        (OutOfMemory("x"), "host"),
        (MemoryError(), "host"),
        (SetupError("x", missing="GPU memory"), "gpu"),
        (SetupError("x", missing="memory"), "host"),
        (SetupError("x", missing="ffmpeg"), None),
        (nested(OutputError("x", path=Path("x")), MemoryError()), "host"),
        (nested(OutputError("x", path=Path("x")), OutOfDeviceMemory("x")), "gpu"),
        (BuildFailed("TensorRT: OutOfMemory (no further information)"), "gpu"),
        (BuildFailed("no such operator"), None),
        (InferenceFailed("CUDA error: illegal address"), None),
        (GraphFailed("x", [MemoryError(), InferenceFailed("later")]), "host"),
        (GraphFailed("x", [InferenceFailed("first"), MemoryError()]), None),
        (run_error("torch failed: [enforce fail] DefaultCPUAllocator: can't allocate memory", on_gpu=False), "host"),
        (run_error("OpenVINO failed: std::bad_alloc", on_gpu=False), "host"),
        (run_error("onnxruntime failed: Failed to allocate memory for requested buffer", on_gpu=True), "gpu"),
        (run_error("torch failed: CUDNN_STATUS_ALLOC_FAILED", on_gpu=True), "gpu"),
        (run_error("torch failed: CUDA error: out of memory", on_gpu=True), "gpu"),
        (run_error("torch failed: CUDA error: unspecified launch failure", on_gpu=True), None),
    ],
    ids=repr,
)
def test_every_way_of_saying_that_memory_ran_out_is_understood(error: Exception, place: str | None) -> None:
    lack = find_lack(error)
    assert (None if lack is None else lack.place) == place
    assert lack is None or lack.text


def test_what_is_made_smaller_is_what_lies_in_the_memory_that_ran_out(tmp_path: Path, film: Path) -> None:
    infer = {"model": "nearest-x2", "backend": "resize", "batch_tiles": 4}
    host = replace(film_plan(tmp_path, film, infer=infer), lanes=4)
    on_gpu = gpu_plan(host)
    network_on_gpu = replace(host, backend=replace(host.backend, device_memory_bytes=1 << 30))
    cases: list[tuple[JobPlan, MemoryLack, bool, str | None]] = [
        (host, HOST_LACK, True, "2 lanes instead of 4"),
        (host, HOST_LACK, False, "batches of 2 instead of 4"),
        (on_gpu, GPU_LACK, True, "2 lanes instead of 4"),
        (on_gpu, HOST_LACK, True, "2 lanes instead of 4"),
        (replace(on_gpu, lanes=1), HOST_LACK, True, None),
        (network_on_gpu, GPU_LACK, True, "batches of 2 instead of 4"),
        (replace(on_gpu, lanes=1), GPU_LACK, True, "batches of 2 instead of 4"),
    ]
    for plan, lack, has_engine, change in cases:
        smaller = shrink(plan, lack, has_engine=has_engine)
        assert (None if smaller is None else smaller.change) == change


def test_tiles_become_at_most_half_and_the_pools_with_them(tmp_path: Path, film: Path) -> None:
    plan = film_plan(tmp_path, film)
    smaller = shrink(plan, HOST_LACK, has_engine=True)
    assert smaller is not None
    old, new = plan.grid, smaller.plan.grid
    assert new.tile_height * new.tile_width <= old.tile_height * old.tile_width // 2
    assert smaller.plan.pool("tiles in").bytes * 2 <= plan.pool("tiles in").bytes
    assert smaller.plan.encode == plan.encode
    assert smaller.plan.segment_frames == plan.segment_frames
    assert np.prod(smaller.plan.pool("tiles in").shape[2:]) == new.tile_height * new.tile_width


def test_a_network_of_one_tile_size_has_no_smaller_one(tmp_path: Path, film: Path) -> None:
    plan = film_plan(tmp_path, film)
    model = replace(plan.model, fixed_height=24, fixed_width=40, fixed_batch=1)
    assert shrink(replace(plan, model=model), HOST_LACK, has_engine=True) is None


def test_the_remedies_are_those_that_are_left(tmp_path: Path, film: Path) -> None:
    plan = film_plan(tmp_path, film, lanes=2)
    found = second_lack(plan, first=HOST_LACK, change="less", second=HOST_LACK)
    assert "run.lanes: 1" in found.hint
    assert "run.memory_mb" in found.hint
    assert "tile.max_px: " in found.hint
    model = replace(plan.model, fixed_height=24, fixed_width=40, fixed_batch=1)
    on_gpu = second_lack(replace(plan, lanes=1, model=model), first=GPU_LACK, change="less", second=GPU_LACK)
    assert on_gpu.hint == "end other programs that use GPU memory"
