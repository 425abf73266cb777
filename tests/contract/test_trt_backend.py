"""Both TensorRT backends, from the cache of engines to one that runs, over doubles of the library and the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.trt_double import build_count
from helpers.trt_gate import load_flavour
from helpers.trt_world import MODEL, World, open_on, plan_of, tiles_of

import engines.backends.tensorrt as backend_module
from engines import open_runner
from engines.build_options import BuildOptions
from engines.errors import (
    AccuracyFailed,
    BackendUnavailable,
    EngineError,
    UnsupportedPrecision,
    UnsupportedShape,
)
from engines.trt.session import TrtSession
from engines.verify import run_once


@pytest.fixture(params=["tensorrt-11.4", "tensorrt_rtx-1.7"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A GPU with one library; whatever a test leaves behind is an error."""
    world = World(request.param)
    yield world
    world.check_clean()


class TestBackend:
    """From the cache to a running engine."""

    def open(self, cache: Path, **changes: Any) -> TrtSession:
        arguments = {"model": MODEL, "height": 8, "width": 12, "build": BuildOptions(cache_dir=cache)} | changes
        runner = open_runner(**arguments)
        assert isinstance(runner, TrtSession)
        return runner

    @pytest.fixture(autouse=True)
    def _installed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.install(monkeypatch)

    @pytest.fixture
    def name(self, world: World) -> str:
        return load_flavour(world.flavour).library

    def test_second_opening_builds_nothing(self, world: World, name: str, tmp_path: Path) -> None:
        for _ in range(2):
            self.open(tmp_path, backend=name).close()
        assert build_count(world.trt) == 1

    def test_fresh_engine_is_compared_with_its_source_once_and_the_result_kept(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = []
        check = backend_module.check_accuracy
        monkeypatch.setattr(backend_module, "check_accuracy", lambda *a, **k: counted.append(1) or check(*a, **k))
        for _ in range(2):
            self.open(tmp_path, backend=name).close()
        assert counted == [1]
        (sidecar,) = tmp_path.glob("*.json")
        assert "psnr_film_db" in sidecar.read_text()

    def test_engine_that_computes_something_else_is_refused(
        self, world: World, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = backend_module.run_once
        monkeypatch.setattr(backend_module, "run_once", lambda *arguments: honest(*arguments) * np.float32(0.9))
        with pytest.raises(AccuracyFailed):
            self.open(tmp_path, backend=name)

    def test_expensive_comparison_is_left_out_and_said(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend_module, "CHECK_LIMIT_FLOP", 1.0)
        with self.open(tmp_path, backend=name) as session:
            assert any("not compared" in note for note in session.spec.notes)

    def test_engine_that_does_not_load_is_built_anew_once_with_the_reason(
        self, world: World, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.open(tmp_path, backend=name).close()
        real = world.trt.Runtime._objection
        refused: list[bytes] = []

        def refuse_first(runtime: Any, content: bytes) -> str | None:
            if not refused or content == refused[0]:
                refused.append(content)
                return "The engine plan file is generated on an incompatible device, please rebuild."
            return real(runtime, content)

        monkeypatch.setattr(world.trt.Runtime, "_objection", refuse_first)
        with self.open(tmp_path, backend=name) as session:
            assert np.isfinite(run_once(session, tiles_of(session))).all()
        assert build_count(world.trt) == 2
        assert "another GPU" in caplog.text

    def test_dynamic_engine_serves_other_sizes_without_another_build(
        self, world: World, name: str, tmp_path: Path
    ) -> None:
        build = BuildOptions(cache_dir=tmp_path, dynamic=True, min_px=8, opt_px=16, max_px=32)
        for height, width in ((8, 8), (32, 20)):
            with self.open(tmp_path, backend=name, build=build, height=height, width=width) as session:
                assert np.isfinite(run_once(session, tiles_of(session))).all()
        assert build_count(world.trt) == 1
        with pytest.raises(UnsupportedShape, match="maximum of 32"):
            self.open(tmp_path, backend=name, build=build, height=33, width=20)

    def test_folded_enlargement_runs(self, name: str, tmp_path: Path) -> None:
        with self.open(tmp_path, backend=name, output_scale=2) as session:
            assert run_once(session, tiles_of(session)).shape == (1, 3, 16, 24)


def test_gpu_that_tensorrt_rtx_does_not_support_is_refused_with_the_alternative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World("tensorrt_rtx-1.7", compute_capability=(9, 0))
    world.install(monkeypatch)
    with pytest.raises(BackendUnavailable, match=r"9\.0") as caught:
        open_runner(model=MODEL, backend="tensorrt_rtx", height=8, width=12)
    assert "tensorrt" in caught.value.hint
    with pytest.raises(EngineError, match=r"9\.0"):
        open_on(world, plan_of(world, compute_capabilities=("",)))


def test_bf16_is_refused_where_the_gpu_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("tensorrt-11.4", compute_capability=(7, 5))
    world.install(monkeypatch)
    with pytest.raises(UnsupportedPrecision, match=r"7\.5"):
        open_runner(model=MODEL, backend="tensorrt", precision="bf16", height=8, width=12)
