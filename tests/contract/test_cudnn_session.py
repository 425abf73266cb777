"""The cudnn backend keeps the runner contract and misuses neither cuDNN nor the GPU, over doubles of both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cudnn_world import CudnnWorld
from helpers.ends_on_cpu import COMPILER
from helpers.quiet_networks import small_network
from helpers.runner_contract import RunnerContract
from numpy.typing import NDArray

from engines import choose_backend, find_model, open_runner
from engines.backends import cudnn as backend_module
from engines.build_options import BuildOptions
from engines.cudnn import canary, library
from engines.errors import (
    AccuracyFailed,
    BackendUnavailable,
    EngineError,
    InferenceFailed,
    OutOfDeviceMemory,
    UnsupportedPrecision,
)
from engines.reference import run_reference
from engines.tiles import film_tiles
from engines.verify import psnr_db, run_once

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
MODEL = "realesr-animevideov3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the module, so that each kernel is compiled once and each shape chosen once."""
    return tmp_path_factory.mktemp("cudnn")


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is promised here does not depend on how large a network is."""
    monkeypatch.setattr("engines.opening.load_network", small_network)


class TestCudnn(RunnerContract):
    backend = "cudnn"
    precisions = ("fp16",)
    gated_precisions = ("fp8",)
    refused_precision = "bf16"
    refused_model = "nearest-x4"
    world: CudnnWorld

    @pytest.fixture(autouse=True)
    def _world(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
        self.world = CudnnWorld(folder)
        self.world.install(monkeypatch)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        yield
        self.world.check_clean()

    def to_device(self, array: NDArray[Any]) -> Any:
        return self.world.array(array)

    def to_host(self, array: Any) -> NDArray[Any]:
        content: NDArray[Any] = array.peek()
        return content

    def stream(self) -> Any:
        return self.world.stream()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[CudnnWorld]:
    """A GPU with cuDNN; whatever a test leaves behind is an error."""
    world = CudnnWorld(folder)
    world.install(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    yield world
    world.check_clean()


def open_cudnn(**changes: Any) -> Any:
    return open_runner(**({"model": MODEL, "backend": "cudnn", "height": 20, "width": 28} | changes))


def test_numbers_are_those_of_float32(world: CudnnWorld) -> None:
    with open_cudnn(height=24, width=32) as runner:
        tiles = film_tiles(height=24, width=32)
        assert (
            psnr_db(run_once(runner, tiles), run_reference(small_network(find_model(MODEL)).weights, tiles=tiles)) > 60
        )


@pytest.mark.parametrize("scale", [1, 2])
def test_a_folded_enlargement_is_the_box_average(world: CudnnWorld, scale: int) -> None:
    tiles = film_tiles(height=12, width=16)
    with open_cudnn(height=12, width=16, output_scale=scale) as runner:
        result = run_once(runner, tiles)
    wanted = run_reference(small_network(find_model(MODEL)).weights, tiles=tiles)
    factor = 4 // scale
    box = wanted.reshape(1, 3, 12 * scale, factor, 16 * scale, factor).mean(axis=(3, 5))
    np.testing.assert_allclose(result, box, atol=4e-3)


def test_streams_hand_the_activations_on_in_order(world: CudnnWorld) -> None:
    """All inferences share them, from host arrays and from whichever stream; the double sees every missing order."""
    with open_cudnn(slots=2) as runner:
        tiles = film_tiles(height=20, width=28)
        wanted = run_once(runner, tiles)
        out = np.zeros_like(wanted)
        targets = [world.array(np.zeros_like(wanted)) for _ in range(3)]
        sources = [world.array(tiles) for _ in range(3)]
        for _ in range(2):
            last = [
                runner.infer(source, out=target, stream=world.stream())
                for source, target in zip(sources, targets, strict=True)
            ]
            last.append(runner.infer(tiles, out=out))
            for completion in last:
                completion.wait()
        for result in (out, *(target.peek() for target in targets)):
            assert np.array_equal(result, wanted)


def test_infer_on_the_gpu_neither_waits_nor_copies(world: CudnnWorld) -> None:
    with open_cudnn() as runner:
        tiles = film_tiles(height=20, width=28)
        source, target = world.array(tiles), world.array(np.zeros(runner.spec.output_shape, np.float32))
        stream = world.stream()
        world.gpu.log.clear()
        completion = runner.infer(source, out=target, stream=stream.handle)
        kinds = [line.partition("@")[0] for line in world.gpu.log]
        assert [kind for kind in kinds if kind in {"upload", "download", "copy", "host waits"}] == []
        assert kinds.count("graph") == 1
        assert world.gpu.pinned == []
        completion.wait()


def test_the_default_stream_is_refused(world: CudnnWorld) -> None:
    with open_cudnn() as runner:
        source = world.array(film_tiles(height=20, width=28))
        target = world.array(np.zeros(runner.spec.output_shape, np.float32))
        for stream in (None, 0, 1):
            with pytest.raises(EngineError, match="stream"):
                runner.infer(source, out=target, stream=stream)


def test_memory_that_is_not_there_is_said_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The pipeline then goes on with smaller tiles."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    with_room = CudnnWorld(folder)
    with_room.install(monkeypatch)
    open_cudnn(height=64, width=64).close()
    tight = CudnnWorld(folder, total_bytes=1 << 17)
    tight.install(monkeypatch)
    with pytest.raises(OutOfDeviceMemory):
        open_cudnn(height=64, width=64)
    tight.check_clean()


def test_free_memory_is_part_of_the_choice(world: CudnnWorld) -> None:
    assert choose_backend(model=MODEL, backend="cudnn").device_memory_bytes == world.gpu.free_bytes()


def test_a_network_that_computes_something_else_is_not_opened(
    world: CudnnWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(canary, "run_once", lambda *arguments: run_once(*arguments) * np.float32(0.9))
    with pytest.raises(AccuracyFailed, match="dB"):
        open_cudnn(build=BuildOptions(cache_dir=tmp_path))


def test_the_canary_runs_once(world: CudnnWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = BuildOptions(cache_dir=tmp_path)
    open_cudnn(build=build).close()
    monkeypatch.setattr(canary, "run_once", None)
    open_cudnn(build=build).close()


def test_what_the_canary_could_not_compare_is_noted(
    world: CudnnWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(canary, "LIMIT_FLOP", 1.0)
    with open_cudnn(build=BuildOptions(cache_dir=tmp_path)) as runner:
        assert any("not compared" in note for note in runner.spec.notes)


def test_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    CudnnWorld(folder, compute_capability=(7, 5)).install(monkeypatch)
    with pytest.raises(BackendUnavailable, match=r"7\.5") as caught:
        open_cudnn()
    assert caught.value.hint


def test_float32_is_refused(world: CudnnWorld) -> None:
    with pytest.raises(UnsupportedPrecision, match="fp32"):
        open_cudnn(precision="fp32")


def test_fp8_runs_past_its_gate_and_says_how_good_it_is(
    world: CudnnWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second start believes the first; a GPU without it refuses, and so does the gate."""
    build = BuildOptions(cache_dir=tmp_path)
    tiles = film_tiles(height=20, width=28)
    with open_cudnn(precision="fp8", build=build) as runner, open_cudnn(build=build) as wide:
        assert runner.spec.precision == "fp8"
        assert any("dB against float32" in note for note in runner.spec.notes)
        assert 40 < psnr_db(run_once(runner, tiles), run_once(wide, tiles)) < 90
    monkeypatch.setattr(backend_module, "calibrate", None)
    open_cudnn(precision="fp8", build=build).close()


def test_fp8_is_refused_by_older_gpus(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    CudnnWorld(folder, compute_capability=(8, 6)).install(monkeypatch)
    with pytest.raises(UnsupportedPrecision, match=r"8\.6") as caught:
        open_cudnn(precision="fp8")
    assert "fp16" in caught.value.hint


def test_absent_and_old_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with pytest.raises(BackendUnavailable, match="cudnn") as caught:
        library.load_cudnn()
    assert "nightscale[cudnn]" in caught.value.hint
    old = type("cudnn", (), {"backend_version": staticmethod(lambda: 80900)})
    monkeypatch.setitem(sys.modules, "cudnn", old)
    with pytest.raises(BackendUnavailable, match=r"9\.10\.0 or newer; here is 8\.9\.0"):
        library.load_cudnn()


def test_a_gpu_that_fails_is_an_error_of_the_inference(world: CudnnWorld) -> None:
    runner = open_cudnn()
    tiles = film_tiles(height=20, width=28)
    out = np.zeros(runner.spec.output_shape, np.float32)
    completion = runner.infer(tiles, out=out)
    world.gpu.failure = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(InferenceFailed):
        completion.wait()
    with pytest.raises(InferenceFailed):
        runner.infer(tiles, out=out)
    world.gpu.failure = None
    for stream in list(world.gpu.streams.values()):
        stream.drain(stream.pushed)
    runner.close()


def test_the_canary_of_auto_can_be_run(world: CudnnWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import opening

    opening._canary.cache_clear()
    monkeypatch.setattr(opening, "has_nvidia_driver", lambda: True)
    choice = choose_backend(model=MODEL)
    opening._canary.cache_clear()
    assert (choice.backend, choice.passed_over) == ("cudnn", ())
