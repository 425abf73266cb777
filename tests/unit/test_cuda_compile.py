"""The kernels compile for every GPU they are meant for, on a machine without one, and are compiled only once."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cuda import compile as compiling
from pipeline.cuda.blend import blend_build
from pipeline.cuda.cache import KernelCache, default_kernel_folder
from pipeline.cuda.compile import SOURCES, KernelBuild, KernelCompiler
from pipeline.cuda.cut import cut_build
from pipeline.cuda.finish import finish_build, rows_build
from pipeline.cuda.launcher import load_binary
from pipeline.errors import SetupError
from pipeline.frames import SampleFormat
from pipeline.seen import SeenCurve
from pipeline.transfer import transfer_curve

pytestmark = pytest.mark.skipif(sys.platform not in {"linux", "win32"}, reason="NVRTC is made for Linux and Windows")

ARCHITECTURES = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]

PLAIN = blend_build("float16")


def variants() -> list[KernelBuild]:
    """Each kernel with what makes most of a difference to a compiler."""
    video = SampleFormat(matrix="bt709")
    deep = SampleFormat(matrix="bt2020nc", subsampling="422", bit_depth=10)
    full = SampleFormat(matrix="rgb", subsampling="444", full_range=True)
    pq, hlg = SeenCurve(family="pq", gamma=3.2, peak_cd_m2=1000.0), SeenCurve(family="hlg", gamma=2.4)
    return [
        cut_build(video, is_interleaved=True, io_dtype="float16"),
        cut_build(deep, is_interleaved=False, io_dtype="float32"),
        cut_build(full, is_interleaved=False, io_dtype="float16"),
        cut_build(deep, is_interleaved=True, io_dtype="float16", seen=pq),
        cut_build(deep, is_interleaved=True, io_dtype="float16", seen=hlg),
        blend_build("float16"),
        rows_build("float16", transfer_curve(1)),
        rows_build("float32", transfer_curve(18)),
        finish_build(video, is_interleaved=True, image_dtype="float16", is_resampled=False, curve=None),
        finish_build(
            deep,
            is_interleaved=False,
            image_dtype="float32",
            is_resampled=True,
            curve=transfer_curve(16),
            seen=hlg,
        ),
        finish_build(
            deep,
            is_interleaved=True,
            image_dtype="float16",
            is_resampled=False,
            curve=None,
            seen=pq,
        ),
        finish_build(full, is_interleaved=False, image_dtype="float32", is_resampled=False, curve=None),
    ]


@pytest.mark.parametrize("capability", ARCHITECTURES, ids=lambda pair: f"sm_{pair[0]}{pair[1]}")
def test_all_kernels_compile_to_machine_code_without_a_gpu(capability: tuple[int, int]) -> None:
    compiler = KernelCompiler(capability)
    assert compiler.architecture == f"sm_{capability[0]}{capability[1]}"
    for build in variants():
        binary = compiler.compile(build)
        assert binary.startswith(b"\x7fELF"), build
        assert build.name.encode() in binary


def test_a_gpu_that_nvrtc_does_not_know_yet_gets_what_runs_there() -> None:
    assert KernelCompiler((8, 8)).architecture == "sm_88"
    assert KernelCompiler((12, 9)).architecture == "sm_121"
    later = KernelCompiler((99, 0))
    assert later.architecture.startswith("compute_")
    assert b".entry blend" in later.compile(PLAIN)


def test_a_gpu_too_old_is_refused_with_its_number() -> None:
    with pytest.raises(SetupError, match=r"3\.5") as caught:
        KernelCompiler((3, 5))
    assert caught.value.hint


def test_what_the_compiler_refuses_is_shown_in_its_own_words() -> None:
    with pytest.raises(SetupError, match="Quarter") as caught:
        KernelCompiler((9, 0)).compile(KernelBuild(name="blend", defines=(("TILE", "Quarter"),)))
    assert "sm_90" in str(caught.value)
    assert caught.value.missing == "kernel blend"


def test_a_missing_nvrtc_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import nvrtc

    def fail() -> None:
        raise RuntimeError("libnvrtc.so not found")

    monkeypatch.setattr(nvrtc, "nvrtcVersion", fail)
    with pytest.raises(SetupError, match="nvrtc") as caught:
        KernelCompiler((9, 0))
    assert caught.value.missing == "nvidia-cuda-nvrtc"
    assert "pip install" in caught.value.hint


def test_key_depends_on_all_that_the_machine_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = KernelCompiler((9, 0))
    keys = [compiler.key(PLAIN), KernelCompiler((8, 0)).key(PLAIN), compiler.key(blend_build("float32"))]
    assert compiler.key(PLAIN) == keys[0]
    compiler.version = (1, 0)
    keys.append(compiler.key(PLAIN))
    for path in SOURCES.glob("*.cu*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "memory.cuh").write_bytes(b"// changed\n" + (tmp_path / "memory.cuh").read_bytes())
    monkeypatch.setattr(compiling, "SOURCES", tmp_path)
    keys.append(compiler.key(PLAIN))
    assert len(set(keys)) == len(keys)


class CountingCompiler(KernelCompiler):
    count = 0

    def compile(self, build: KernelBuild) -> bytes:
        self.count += 1
        return super().compile(build)


def test_the_second_run_compiles_nothing(tmp_path: Path) -> None:
    compiler, cache = CountingCompiler((9, 0)), KernelCache(tmp_path / "kernels")
    first = load_binary(PLAIN, compiler=compiler, cache=cache)
    assert load_binary(PLAIN, compiler=compiler, cache=KernelCache(tmp_path / "kernels")) == first
    assert compiler.count == 1
    assert [path.suffix for path in (tmp_path / "kernels").iterdir()] == [".bin"]


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: content + b"x"])
def test_a_damaged_kernel_is_compiled_anew_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    compiler, cache = CountingCompiler((9, 0)), KernelCache(tmp_path)
    first = load_binary(PLAIN, compiler=compiler, cache=cache)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert load_binary(PLAIN, compiler=compiler, cache=cache) == first
    assert path.name in caplog.text and "damaged" in caplog.text
    assert load_binary(PLAIN, compiler=compiler, cache=cache) == first
    assert compiler.count == 2


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    compiler = CountingCompiler((9, 0))
    for cache in (KernelCache(blocker / "kernels"), KernelCache(None)):
        with caplog.at_level(logging.WARNING):
            assert load_binary(PLAIN, compiler=compiler, cache=cache)
    assert "not kept" in caplog.text
    assert compiler.count == 2


def test_kernels_are_kept_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_kernel_folder() == tmp_path / "nightscale" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_kernel_folder() == tmp_path / "home" / ".cache" / "nightscale" / "kernels"


def test_sources_are_installed_with_the_package() -> None:
    import tomllib

    project = tomllib.loads((SOURCES.parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["pipeline.cuda"]
    found = {path for pattern in patterns for path in SOURCES.parent.glob(pattern)}
    assert found == set(SOURCES.iterdir())
