"""What doctor finds, and what it says when something is not there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers.nvenc_double import NvencDouble

from engines import BackendUnavailable, EngineError, WeightsError
from pipeline import doctor, doctor_engines, doctor_probes
from pipeline.doctor import Finding, diagnose
from pipeline.errors import SetupError


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def probes(*states: Any) -> list[Any]:
    return [lambda state=state: Finding(name=f"thing {state}", state=state, found="found") for state in states]


def test_a_run_is_possible_without_what_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "describe_default_run", lambda: ("this and that", ("not the other: gone",)))
    diagnosis = diagnose(probes("ok", "optional"))
    assert diagnosis.can_run
    assert diagnosis.verdict == "a run here would use this and that"
    assert diagnosis.lines()[-2:] == ("a run here would use this and that", "  not the other: gone")
    assert diagnosis.as_json()["passed_over"] == ["not the other: gone"]


def test_a_run_is_not_possible_without_what_is_missing() -> None:
    diagnosis = diagnose(probes("ok", "missing"))
    assert not diagnosis.can_run
    assert diagnosis.verdict == "a run cannot work here: thing missing missing"


def test_a_run_that_cannot_be_put_together_is_not_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose_backend(**_: Any) -> Any:
        raise BackendUnavailable("no backend", missing="openvino", hint="pip install openvino")

    monkeypatch.setattr("pipeline.engine.choose_backend", choose_backend)
    diagnosis = diagnose(probes("ok"))
    assert not diagnosis.can_run
    assert diagnosis.verdict == "a run cannot work here: no backend; pip install openvino"


def test_what_a_run_would_use_names_all_three_parts() -> None:
    used, _ = doctor.describe_default_run()
    assert used.startswith("decoder libav, realesr-animevideov3 with ")
    assert used.endswith(", encoder libx264")


def test_the_table_is_aligned_and_shows_the_command() -> None:
    findings = (
        Finding(name="a", state="ok", found="1.0"),
        Finding(name="long name", state="missing", found="not installed", fix="pip install it"),
    )
    diagnosis = doctor.Diagnosis(findings=findings, can_run=False, verdict="no")
    assert diagnosis.lines() == (
        "ok        a          1.0",
        "missing   long name  not installed",
        "                     -> pip install it",
        "no",
    )
    assert diagnosis.as_json()["findings"][1] == {
        "name": "long name",
        "state": "missing",
        "found": "not installed",
        "fix": "pip install it",
    }


def test_every_probe_gives_a_finding_here() -> None:
    findings = [probe() for probe in doctor_probes.PROBES]
    assert len({finding.name for finding in findings}) == len(findings)
    assert all(finding.found for finding in findings)
    assert all(finding.fix for finding in findings if finding.state == "missing")


@pytest.mark.parametrize(
    ("probe", "module", "state"),
    [(doctor_engines.check_openvino, "openvino", "optional"), (doctor_probes.check_pyav, "av", "missing")],
    ids=["openvino", "av"],
)
def test_a_library_is_missing_only_if_no_run_works_without_it(
    probe: Any, module: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other engines can stand in for OpenVINO; whether one does is the verdict's to say."""
    monkeypatch.setitem(sys.modules, module, None)
    finding = probe()
    assert finding.state == state
    assert finding.fix == f"pip install {module}"


def test_openvino_that_does_not_start_counts_as_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise RuntimeError("no plugins\nmore")

    stand_in(monkeypatch, "openvino", __version__="1", Core=fail)
    finding = doctor_engines.check_openvino()
    assert (finding.state, finding.found) == ("optional", "1 does not start: no plugins")


def test_openvino_says_whether_the_processor_has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    core = SimpleNamespace(available_devices=["CPU", "GPU.0"], get_property=lambda *_: ["FP32"])
    stand_in(monkeypatch, "openvino", __version__="1", Core=lambda: core)
    assert doctor_engines.check_openvino().found == "1, devices CPU GPU.0, without bf16"


def encoder_library(monkeypatch: pytest.MonkeyPatch, *, lacks: set[str]) -> None:
    class UnknownCodecError(ValueError):
        pass

    def open_codec(name: str, _mode: str) -> None:
        if name in lacks:
            raise UnknownCodecError(name)

    stand_in(monkeypatch, "av.codec.codec", Codec=open_codec, UnknownCodecError=UnknownCodecError)


def test_encoders_that_pyav_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder_library(monkeypatch, lacks={"libx265", "h264_nvenc", "hevc_nvenc", "av1_nvenc"})
    finding = doctor_probes.check_encoders()
    assert finding.state == "optional"
    assert finding.found.endswith("; this libav lacks libx265")
    assert "libx264" in finding.found
    assert "nvenc" not in finding.found


def test_all_encoders_and_those_of_nvidia_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder_library(monkeypatch, lacks=set())
    finding = doctor_probes.check_encoders()
    assert finding.state == "ok"
    assert finding.found.endswith("h264_nvenc hevc_nvenc av1_nvenc")


def test_no_ffmpeg_is_missing_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_ffmpeg() -> Any:
        raise SetupError("no ffmpeg program", missing="ffmpeg", hint="pip install imageio-ffmpeg")

    stand_in(monkeypatch, "pipeline.assembly.ffmpeg", find_ffmpeg=find_ffmpeg)
    finding = doctor_probes.check_ffmpeg()
    assert (finding.state, finding.fix) == ("missing", "pip install imageio-ffmpeg")


@pytest.mark.parametrize(("lacking", "state"), [("realesr-animevideov3", "missing"), ("RealESRGAN_x4plus", "optional")])
def test_only_the_default_models_weights_are_needed(lacking: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_weights_files(model: Any) -> tuple[Path, ...]:
        if model.name == lacking:
            raise WeightsError("not there", hint="pip install weights")
        return (Path("x.bin"),)

    monkeypatch.setattr("engines.weights.find_weights_files", find_weights_files)
    finding = doctor_engines.check_weights()
    assert finding.state == state
    assert finding.found.endswith(f"; not here: {lacking}")
    assert finding.fix == "pip install weights"


def test_several_models_that_are_not_here_are_listed_with_where_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_weights_files(model: Any) -> tuple[Path, ...]:
        if model.name != "realesr-animevideov3":
            raise WeightsError("not there", hint="get it")
        return (Path("x.bin"),)

    monkeypatch.setattr("engines.weights.find_weights_files", find_weights_files)
    finding = doctor_engines.check_weights()
    assert finding.state == "optional"
    assert finding.found.startswith("realesr-animevideov3; not here: ")
    assert "python -m engines list" in finding.fix


@pytest.mark.parametrize(
    ("line", "driver", "state", "words"),
    [
        ("cuda: Optional[str] = '13.0'", True, "ok", "built for CUDA 13.0"),
        ("cuda: Optional[str] = None", False, "ok", "built without CUDA"),
        ("cuda: Optional[str] = None", True, "optional", "out of its reach"),
    ],
)
def test_torch_says_for_which_cuda_it_was_built_without_being_imported(
    line: str, driver: bool, state: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise SystemExit\n")
    (tmp_path / "torch/version.py").write_text(f"git_version = 'x'\n{line}\n")
    spec = SimpleNamespace(origin=str(tmp_path / "torch/__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    monkeypatch.setattr(doctor_engines, "has_nvidia_driver", lambda: driver)
    finding = doctor_engines.check_torch()
    assert finding.state == state
    assert words in finding.found


def test_torch_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    finding = doctor_engines.check_torch()
    assert (finding.state, finding.found) == ("optional", "not installed")
    assert finding.fix.startswith("pip install ")


def test_onnx_runtime_names_what_it_can_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    stand_in(monkeypatch, "onnxruntime", __version__="1", get_available_providers=lambda: names)
    monkeypatch.setattr(doctor_engines, "has_module", lambda _: True)
    assert doctor_engines.check_onnxruntime().found.endswith("providers CUDA CPU")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    broken = doctor_engines.check_onnxruntime()
    assert broken.state == "optional"
    assert "cannot be imported" in broken.found
    monkeypatch.setattr(doctor_engines, "has_module", lambda _: False)
    assert doctor_engines.check_onnxruntime().found == "not installed"


def test_compiled_engines_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor_engines.check_engine_cache().found == f"0 compiled, 0.00 GiB in {tmp_path}/nightscale/engines"
    entries = tuple(
        SimpleNamespace(kind=kind, file_bytes=1 << 30) for kind in ("engine", "engine", "timing", "damaged", "foreign")
    )
    monkeypatch.setattr("engines.cache.store.EngineStore.entries", lambda _: entries)
    found = doctor_engines.check_engine_cache().found
    assert found.startswith("2 compiled, 4.00 GiB in ")
    assert found.endswith("1 damaged, compiled anew when needed")


def test_engines_in_a_folder_that_cannot_be_read_are_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(_: Any) -> Any:
        raise EngineError("the cache cannot be read", hint="check its rights")

    monkeypatch.setattr("engines.cache.store.EngineStore.entries", entries)
    finding = doctor_engines.check_engine_cache()
    assert (finding.state, finding.found, finding.fix) == ("optional", "the cache cannot be read", "check its rights")


def nvidia_smi(monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(subprocess, "run", run)


def test_gpus_are_listed_with_driver_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, b"NVIDIA H200, 580.65.06, 143771 MiB, 9.0\n")
    finding = doctor_engines.check_gpu()
    assert finding.state == "ok"
    assert finding.found == "NVIDIA H200, driver 580.65.06, 143771 MiB, compute capability 9.0"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (FileNotFoundError(), "no nvidia-smi"),
        (subprocess.CalledProcessError(9, "nvidia-smi"), "nvidia-smi failed"),
        (subprocess.TimeoutExpired("nvidia-smi", 10), "nvidia-smi failed"),
        (b"\n", "lists none"),
    ],
)
def test_no_gpu_is_no_problem(answer: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(monkeypatch, answer)
    monkeypatch.setattr(doctor_engines, "has_nvidia_driver", lambda: False)
    finding = doctor_engines.check_gpu()
    assert finding.state == "optional"
    assert words in finding.found


def test_without_nvidia_smi_gpus_are_listed_as_cuda_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(
        name="NVIDIA H200", driver_version="580.65", total_bytes=143771 << 20, compute_capability=(9, 0)
    )
    nvidia_smi(monkeypatch, FileNotFoundError())
    monkeypatch.setattr(doctor_engines, "has_nvidia_driver", lambda: True)
    stand_in(monkeypatch, "engines.gpu.cuda", list_devices=lambda: (gpu,))
    finding = doctor_engines.check_gpu()
    assert (finding.state, finding.found) == (
        "ok",
        "NVIDIA H200, driver 580.65, 143771 MiB, compute capability 9.0",
    )

    def no_devices() -> Any:
        raise BackendUnavailable("no GPU", missing="cuda")

    stand_in(monkeypatch, "engines.gpu.cuda", list_devices=no_devices)
    assert doctor_engines.check_gpu().state == "optional"


def test_a_codec_library_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    monkeypatch.setattr(doctor_probes, "installed_version", lambda _: None)
    finding = doctor_probes.check_nvdec()
    assert finding.state == "optional"
    assert "PyNvVideoCodec is not" in finding.found
    monkeypatch.setattr(doctor_probes, "installed_version", lambda _: "2.2")
    assert doctor_probes.check_nvdec().found == "libnvcuvid.so.1, PyNvVideoCodec 2.2"


def test_nvenc_is_there_where_a_session_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's library is on machines whose GPU has no encoder, too."""
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    double = NvencDouble()
    double.install(monkeypatch)
    finding = doctor_probes.check_nvenc()
    assert (finding.state, finding.found) == ("ok", "a session opens for h264_nvenc hevc_nvenc av1_nvenc")
    double.opens = False
    finding = doctor_probes.check_nvenc()
    assert finding.state == "optional"
    assert finding.found.startswith("h264_nvenc opens no session here: OpenEncodeSessionEx failed")


def test_nvenc_for_some_codecs_only_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    stand_in(monkeypatch, "pipeline.encode.session", try_session=refuse_av1)
    finding = doctor_probes.check_nvenc()
    assert (finding.state, finding.found) == ("ok", "a session opens for h264_nvenc hevc_nvenc; no AV1 on this GPU")


def refuse_av1(name: str) -> None:
    if name == "av1_nvenc":
        raise SetupError("no AV1 on this GPU", missing=name)


def test_an_optional_module_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "explosive_module.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = doctor_engines.check_module(
        name="x", modules=("nobody.has.this", "explosive_module"), packages=("nobody-has-this",), fix="pip install x"
    )
    assert (finding.state, finding.found) == ("ok", "installed, version unknown")
    absent = doctor_engines.check_module(name="x", modules=("nobody.has.this",), packages=(), fix="pip install x")
    assert (absent.state, absent.fix) == ("optional", "pip install x")


def test_the_containers_memory_limit_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor_probes, "CONTAINER_LIMIT", limit)
    limit.write_text("1073741824\n")
    monkeypatch.setattr(doctor_probes, "probe_host", lambda: {"memory_bytes": 2 << 30})
    assert doctor_probes.check_memory().found.endswith("limited to 1.0 GiB by the container")
    limit.write_text("max\n")
    assert "limited" not in doctor_probes.check_memory().found
    limit.unlink()
    assert doctor_probes.check_memory().found.startswith("2.0 GiB")


def test_a_folder_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("shutil.disk_usage", gone)
    assert doctor_probes.check_disk().state == "optional"


def test_what_drives_the_gpu_is_what_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cuda.bindings`` and NVRTC, and every package that the extra of pyproject.toml names for them."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extra = tomllib.loads(text)["project"]["optional-dependencies"]["nvidia"]
    for check, package in (
        (doctor_engines.check_cuda_bindings, "cuda-bindings"),
        (doctor_engines.check_nvrtc, "nvidia-cuda-nvrtc"),
    ):
        assert any(line.startswith(package) for line in extra)
        versions = {package: "13.5"}
        monkeypatch.setattr(doctor_engines, "installed_version", versions.get)
        monkeypatch.setattr(doctor_engines, "has_module", lambda name: name == "cuda.bindings")
        assert (check().state, check().found) == ("ok", "13.5")
        monkeypatch.setattr(doctor_engines, "installed_version", lambda name: None)
        monkeypatch.setattr(doctor_engines, "has_module", lambda name: False)
        assert check().state == "optional"
        assert "nightscale[nvidia]" in check().fix
