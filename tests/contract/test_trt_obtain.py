"""An engine is built once, kept, found again under exactly its inputs, and built anew when it no longer loads."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.trt_double import build_count, make_trt
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.build_options import BuildOptions
from engines.cache.key import GpuIdentity
from engines.cache.store import EngineStore, StoredEngine
from engines.cli import main
from engines.errors import BuildFailed, CacheFailed, EngineError
from engines.gpu.cuda import DeviceIdentity
from engines.models import find_model
from engines.networks import GraphOptions
from engines.spec import ModelSpec
from engines.trt.inspection import inspect_engine, read_engine_file
from engines.trt.library import TrtLibrary, library_of, load_trt
from engines.trt.obtain import obtain_engine, obtain_planned
from engines.trt.planning import plan_engine

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is an extra: nightscale[nvidia]")

GPU = GpuIdentity(name="NVIDIA GeForce RTX 4090", compute_capability="8.9", driver_version="580.65.06")
ROOT = Path(__file__).resolve().parents[2]


class SmallNetwork:
    """One convolution: enough to be compiled, in a few milliseconds."""

    def __init__(self, *, weight: float = 0.5, opset: int = 20) -> None:
        self.spec: ModelSpec = replace(find_model("nearest-x1"), name="small")
        self.weight = weight
        self.opset = opset

    def graph(self, options: GraphOptions) -> onnx.ModelProto:
        shape = [options.batch or "n", 3, options.height or "h", options.width or "w"]
        values = np.full((3, 3, 3, 3), self.weight, dtype=np.float32)
        graph = helper.make_graph(
            [helper.make_node("Conv", ["input", "weight"], ["output"], pads=[1, 1, 1, 1], name="conv")],
            "small",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
            [onnx.numpy_helper.from_array(values, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 9
        return model

    def torch_module(self) -> Any:
        raise NotImplementedError

    def run_reference(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError


class Listener:
    def __init__(self) -> None:
        self.builds = 0

    def begin(self, text: str) -> None:
        self.builds += 1

    def progress(self, *, phase: str, share: float) -> bool:
        return True

    def end(self) -> None:
        pass


def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "network": SmallNetwork(),
        "precision": "fp32",
        "batch": 1,
        "height": 16,
        "width": 24,
        "output_scale": 1,
        "options": BuildOptions(cache_dir=folder),
        "gpu": GPU,
    }
    return {**defaults, **changes}


def obtain(library: TrtLibrary, folder: Path, **changes: Any) -> tuple[StoredEngine, int]:
    """The engine and how often it was built."""
    listener = Listener()
    engine = obtain_engine(library, listener=listener, **arguments(folder, **changes))
    return engine, listener.builds


@pytest.fixture
def rtx() -> TrtLibrary:
    return load_trt("tensorrt_rtx")


def test_the_second_time_the_engine_comes_from_the_cache_without_a_build(rtx: TrtLibrary, tmp_path: Path) -> None:
    first, built = obtain(rtx, tmp_path)
    assert built == 1
    second, built = obtain(rtx, tmp_path)
    assert built == 0
    assert second.plan == first.plan
    assert second.record.details["operators"] == {"Conv": 1}
    assert second.record.driver_version == GPU.driver_version


@pytest.mark.parametrize(
    "change",
    [
        {"network": SmallNetwork(weight=0.25)},
        {"height": 32},
        {"batch": 2},
        {"gpu": replace(GPU, compute_capability="12.0")},
        {"options": BuildOptions(compute_capabilities=("8.9", "12.0"))},
        {"options": BuildOptions(dynamic=True, max_px=512)},
        {"options": BuildOptions(workspace_bytes=1 << 30)},
    ],
    ids=["weights", "shape", "batch", "gpu", "targets", "profile", "workspace"],
)
def test_other_inputs_never_find_this_engine(rtx: TrtLibrary, tmp_path: Path, change: dict[str, Any]) -> None:
    first, _ = obtain(rtx, tmp_path)
    if "options" in change:
        change = {"options": replace(change["options"], cache_dir=tmp_path)}
    if change.get("options", BuildOptions()).dynamic:
        change |= {"height": 64, "width": 64}
    other, built = obtain(rtx, tmp_path, **change)
    assert built == 1
    assert other.path != first.path


def test_another_driver_finds_the_same_engine(rtx: TrtLibrary, tmp_path: Path) -> None:
    obtain(rtx, tmp_path)
    assert obtain(rtx, tmp_path, gpu=replace(GPU, driver_version="590.10"))[1] == 0


def test_another_version_of_the_library_builds_its_own(tmp_path: Path) -> None:
    gpu = SimpleNamespace(compute_capability=(8, 9))
    for flavour in ("tensorrt-10.13", "tensorrt-11.4"):
        module = make_trt(flavour, gpu)  # type: ignore[arg-type]
        library = library_of("tensorrt", module)
        assert obtain(library, tmp_path)[1] == 1
        assert obtain(library, tmp_path)[1] == 0
        assert build_count(module) == 1
    assert len(list(tmp_path.glob("*.timing"))) == 2
    assert len(list(tmp_path.glob("*.engine"))) == 2


def test_an_engine_that_no_longer_loads_is_built_anew_once(
    rtx: TrtLibrary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stale, _ = obtain(rtx, tmp_path)
    fresh, built = obtain(rtx, tmp_path, replacing=stale, reason="the engine cannot run with this driver")
    assert built == 1
    assert "the engine cannot run with this driver" in caplog.text
    again, built = obtain(rtx, tmp_path, replacing=replace(stale, plan=b"what another process had"))
    assert built == 0
    assert again.plan == fresh.plan


def test_a_damaged_engine_is_built_anew_with_one_line(
    rtx: TrtLibrary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, _ = obtain(rtx, tmp_path)
    content = bytearray(engine.path.read_bytes())
    content[-1] ^= 1
    engine.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert obtain(rtx, tmp_path)[1] == 1
    assert len([record for record in caplog.records if engine.path.name in record.message]) == 1
    assert obtain(rtx, tmp_path)[1] == 0


def test_two_processes_build_an_engine_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engines", "build", "--model", "realesr-animevideov3", "--height", "16"]
    command += ["--width", "16", "--compute-capability", "8.9", "--cache-dir", str(tmp_path), "--json"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    records = [json.loads(out) for out, _ in outputs]
    assert records[0]["record"] == records[1]["record"]
    assert sum(b"building" in errors for _, errors in outputs) == 1


def test_a_full_disk_is_noticed_before_the_build(
    rtx: TrtLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1, 1))
    listener = Listener()
    with pytest.raises(CacheFailed, match=r"no room .* needs about \d+ bytes, and 1 are free") as caught:
        obtain_engine(rtx, listener=listener, **arguments(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert listener.builds == 0


def test_an_operator_set_from_the_future_is_refused(rtx: TrtLibrary, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="operator set 26, which is newer than TensorRT's newest, 25"):
        obtain(rtx, tmp_path, network=SmallNetwork(opset=26))


def test_a_refused_network_leaves_no_file_and_no_lock(rtx: TrtLibrary, tmp_path: Path) -> None:
    plan = plan_engine(rtx, **arguments(tmp_path))
    with pytest.raises(BuildFailed):
        obtain_planned(replace(plan, onnx=b"damaged"), store=EngineStore(tmp_path))
    assert not list(tmp_path.glob("*.engine"))
    assert not list(tmp_path.glob("*.lock"))


class TestInspection:
    def test_without_a_gpu_the_report_says_what_the_compiler_said_and_what_is_missing(
        self, rtx: TrtLibrary, tmp_path: Path
    ) -> None:
        engine, _ = obtain(rtx, tmp_path)
        report = inspect_engine(read_engine_file(engine.path), library=rtx, has_gpu=False)
        assert report.loads is None
        assert report.file.plan == engine.plan
        assert report.file.record == engine.record
        assert report.missing == ("layers and memory of the compiled engine: there is no NVIDIA GPU here",)

    def test_with_a_gpu_the_report_has_the_layers_and_the_memory(self, rtx: TrtLibrary, tmp_path: Path) -> None:
        """The inspector's two forms, as full TensorRT writes them; the engine is a stand-in."""
        text = json.dumps({"Layers": ["conv_1", {"Name": "conv_2", "LayerType": "CaskConvolution", "TacticName": "k"}]})
        inspector = SimpleNamespace(get_engine_information=lambda form: text)
        loaded = SimpleNamespace(device_memory_size_v2=4096, create_engine_inspector=lambda: inspector)
        plain = make_trt("tensorrt-11.4", SimpleNamespace(compute_capability=(8, 9)))  # type: ignore[arg-type]
        library = library_of("tensorrt", plain)
        file = read_engine_file(obtain(library, tmp_path)[0].path)
        runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: loaded)
        trt = SimpleNamespace(Runtime=lambda logger: runtime, LayerInformationFormat=plain.LayerInformationFormat)
        report = inspect_engine(file, library=replace(library, trt=trt), has_gpu=True)
        assert report.loads is True
        assert report.device_memory_bytes == 4096
        assert [(layer.name, layer.kind, layer.tactic) for layer in report.layers] == [
            ("conv_1", "", ""),
            ("conv_2", "CaskConvolution", "k"),
        ]

    def test_an_engine_that_the_runtime_refuses_is_reported_with_its_reason(self, tmp_path: Path) -> None:
        plain = make_trt("tensorrt-11.4", SimpleNamespace(compute_capability=(8, 9)))  # type: ignore[arg-type]
        library = library_of("tensorrt", plain)
        file = read_engine_file(obtain(library, tmp_path)[0].path)
        report = inspect_engine(replace(file, plan=file.plan[:100]), library=library, has_gpu=True)
        assert report.loads is False
        assert report.verdict.startswith("it does not load: ")
        assert inspect_engine(file, library=None, has_gpu=True).loads is None

    def test_a_foreign_plan_is_told_from_an_engine(self, rtx: TrtLibrary, tmp_path: Path) -> None:
        foreign = tmp_path / "foreign.plan"
        foreign.write_bytes(b"not an engine of anybody" * 10)
        report = inspect_engine(read_engine_file(foreign), library=rtx, has_gpu=False)
        assert report.loads is False
        assert "damaged, or not an engine of this library" in report.verdict

    def test_an_engine_of_another_version_does_not_load(self, rtx: TrtLibrary, tmp_path: Path) -> None:
        engine, _ = obtain(rtx, tmp_path)
        file = read_engine_file(engine.path)
        assert file.key is not None
        older = replace(file, key=replace(file.key, compiler_version="1.5.0.1"))
        report = inspect_engine(older, library=rtx, has_gpu=False)
        assert report.loads is False
        assert f"1.5.0.1 wrote it, and {rtx.version} is installed" in report.verdict

    def test_a_damaged_engine_is_an_error_that_says_so(self, rtx: TrtLibrary, tmp_path: Path) -> None:
        engine, _ = obtain(rtx, tmp_path)
        engine.path.write_bytes(engine.path.read_bytes()[:-1])
        with pytest.raises(EngineError, match="is damaged"):
            read_engine_file(engine.path)

    def test_a_missing_file_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"missing\.engine cannot be read"):
            read_engine_file(tmp_path / "missing.engine")


class TestCommands:
    def build(self, folder: Path, *more: str) -> int:
        model = ["--model", "realesr-animevideov3", "--compute-capability", "8.9,12.0"]
        return main(["build", *model, "--cache-dir", str(folder), *more])

    def test_build_prints_where_the_engine_is_and_writes_the_bare_plan(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare = tmp_path / "bare.engine"
        assert self.build(tmp_path / "cache", "--height", "16", "--width", "16", "--output", str(bare)) == 0
        printed = capsys.readouterr()
        path = Path(printed.out.strip())
        assert path.parent == tmp_path / "cache"
        assert "compiled in" in printed.err
        assert read_engine_file(path).plan == bare.read_bytes()
        assert self.build(tmp_path / "cache", "--height", "16", "--width", "16") == 0
        assert "was in the cache" in capsys.readouterr().err

    def test_build_compiles_a_dynamic_engine_of_the_default_profile(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.build(tmp_path, "--dynamic", "--json") == 0
        (inputs,) = json.loads(capsys.readouterr().out)["key"]["inputs"]
        assert [inputs[name][2] for name in ("minimum", "optimum", "maximum")] == [16, 512, 640]

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ((), "the tile size is missing"),
            (("--dynamic", "--min", "600"), "min 600, opt 512, max 640"),
            (("--height", "16", "--width", "16", "--max", "32"), "--min, --opt and --max are for dynamic engines"),
            (("--height", "16", "--width", "16", "--version-compatible"), "version_compatible"),
            (("--height", "16", "--width", "16", "--output-scale", "3"), "3"),
            (("--height", "16", "--width", "16", "--denoise", "0.5"), "denoise"),
            (("--dynamic", "--height", "1080"), "height 1080 px is more than the engine's maximum of 640 px"),
        ],
    )
    def test_build_refuses_what_makes_no_sense_in_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
    ) -> None:
        assert self.build(tmp_path, *more) == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert words in errors[0]
        assert not list(tmp_path.glob("*.engine"))

    def test_build_takes_tensorrt_where_it_and_a_gpu_are(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[int] = []
        gpu = DeviceIdentity(
            index=0, name="NVIDIA H200", compute_capability=(9, 0), total_bytes=1, driver_version="580.159"
        )
        monkeypatch.setattr("engines.gpu.cuda.list_devices", lambda: (gpu,))
        monkeypatch.setattr(
            "engines.gpu.cuda.open_device", lambda index: SimpleNamespace(make_current=lambda: opened.append(index))
        )
        module = make_trt("tensorrt-10.16", SimpleNamespace(compute_capability=(9, 0)))  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "tensorrt", module)  # type: ignore[arg-type]
        command = ["build", "--model", "realesr-animevideov3", "--height", "16", "--width", "16", "--json"]
        assert main([*command, "--cache-dir", str(tmp_path)]) == 0
        key = json.loads(capsys.readouterr().out)["key"]
        assert (key["compiler"], key["compiler_version"], key["gpu_name"]) == ("tensorrt", "10.16.1.11", "NVIDIA H200")
        assert opened == [0]
        assert main([*command, "--device", "1"]) == 3
        assert "no GPU number 1" in capsys.readouterr().err
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        monkeypatch.setitem(sys.modules, "tensorrt_bindings", None)
        assert main([*command, "--cache-dir", str(tmp_path)]) == 3
        printed = capsys.readouterr().err
        assert "pip install tensorrt-cu13" in printed
        assert "does not support compute capability 9.0 (NVIDIA H200)" in printed
        assert "backend tensorrt or torch" in printed

    def test_build_says_where_an_engine_could_not_be_written(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sizes = ("--height", "16", "--width", "16")
        assert self.build(tmp_path, *sizes, "--output", str(tmp_path / "no" / "such.engine")) == 1
        assert "such.engine" in capsys.readouterr().err

    def test_inspect_gives_1_for_an_engine_that_does_not_load(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        foreign = tmp_path / "foreign.engine"
        foreign.write_bytes(bytes(200))
        assert main(["inspect", str(foreign)]) == 1
        text = capsys.readouterr().out
        assert "not from this program's cache" in text
        assert "does not load" in text

    def test_inspect_shows_every_engine_of_a_model(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.build(tmp_path, "--height", "16", "--width", "16") == 0
        assert self.build(tmp_path, "--height", "16", "--width", "32") == 0
        capsys.readouterr()
        assert main(["inspect", "realesr-animevideov3", "--cache-dir", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        for words in ("input 1x3x16x16", "input 1x3x16x32", "SM 8.9, 12.0", "18 Conv", "per context", "sha256"):
            assert words in text
        assert main(["inspect", "realesr-animevideov3", "--cache-dir", str(tmp_path), "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2

    def test_inspect_says_where_it_looked_for_a_model_without_engines(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["inspect", "RealESRGAN_x4plus", "--cache-dir", str(tmp_path)]) == 1
        assert str(tmp_path) in capsys.readouterr().err
