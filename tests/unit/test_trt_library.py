"""How TensorRT is found, what it says, and what is said when it is missing."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.trt_double import make_trt

from engines.errors import BackendUnavailable
from engines.trt.library import TrtLibrary, library_of, load_trt
from engines.trt.log import LogLines, strip_source


@pytest.fixture
def library() -> TrtLibrary:
    return library_of("tensorrt", make_trt("tensorrt-11.4", SimpleNamespace(compute_capability=(8, 9))))  # type: ignore[arg-type]


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tensorrt", "pip install tensorrt-cu13"),
        ("tensorrt_rtx", "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs"),
    ],
)
@pytest.mark.usefixtures("no_tensorrt")
def test_a_missing_library_is_named_with_the_command_that_installs_it(name: str, command: str) -> None:
    with pytest.raises(BackendUnavailable, match="is not installed") as caught:
        load_trt(name)  # type: ignore[arg-type]
    assert caught.value.hint == command
    assert caught.value.missing == name


@pytest.mark.parametrize("failure", ["OSError", "ImportError"])
def test_a_library_that_does_not_load_is_told_in_the_loaders_words(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text(f"raise {failure}('libnvinfer.so.11: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendUnavailable, match=r"does not load: libnvinfer\.so\.11: cannot open") as caught:
        load_trt("tensorrt")
    assert "pip install" in caught.value.hint


def test_the_bindings_alone_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_trt("tensorrt-10.16", SimpleNamespace(compute_capability=(8, 9)))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", module)  # type: ignore[arg-type]
    assert load_trt("tensorrt").title == "TensorRT 10.16.1.11"
    assert load_trt("tensorrt") is load_trt("tensorrt")


def test_what_differs_between_the_versions_is_found_by_asking_the_module() -> None:
    gpu = SimpleNamespace(compute_capability=(8, 9))
    ten, eleven, rtx = (
        library_of(name, make_trt(flavour, gpu))  # type: ignore[arg-type]
        for name, flavour in (
            ("tensorrt", "tensorrt-10.13"),
            ("tensorrt", "tensorrt-11.4"),
            ("tensorrt_rtx", "tensorrt_rtx-1.7"),
        )
    )
    assert (ten.major, eleven.major, rtx.major) == (10, 11, 1)
    assert (ten.network_flags, eleven.network_flags, rtx.network_flags) == (2, 1, 1)
    assert (ten.has_timing_cache, eleven.has_timing_cache, rtx.has_timing_cache) == (True, True, False)
    assert (ten.has_runtime_cache, eleven.has_runtime_cache, rtx.has_runtime_cache) == (False, False, True)
    assert ten.targets == eleven.targets == ()
    assert rtx.targets == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    assert int(rtx.target("12.0")) == int(rtx.trt.ComputeCapability.SM120)
    with pytest.raises(KeyError):
        rtx.target("9.0")


def test_two_calls_at_once_hear_only_what_they_caused(library: TrtLibrary) -> None:
    error = library.trt.ILogger.Severity.ERROR
    heard: dict[str, list[str]] = {}
    barrier = threading.Barrier(2, timeout=30)

    def call(name: str) -> None:
        with library.log.collect() as lines:
            barrier.wait()
            library.log.logger.log(error, f"from {name}")
            barrier.wait()
            heard[name] = list(lines.errors)

    threads = [threading.Thread(target=call, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert heard == {"a": ["from a"], "b": ["from b"]}


def test_a_line_from_a_thread_of_the_library_reaches_the_call_that_is_open(library: TrtLibrary) -> None:
    with library.log.collect() as lines:
        thread = threading.Thread(
            target=library.log.logger.log, args=(library.trt.ILogger.Severity.WARNING, "from a worker")
        )
        thread.start()
        thread.join(timeout=120)
    assert lines.warnings == ["from a worker"]


def test_an_error_outside_any_call_is_logged_and_verbose_lines_are_not(
    library: TrtLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    severity = library.trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG):
        library.log.logger.log(severity.ERROR, "a sticky error")
        library.log.logger.log(severity.VERBOSE, "a tactic")
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "a sticky error")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Dimension mismatch for tensor input and"
            " profile 0. In validate at /_src/optimizer/api/network.cpp:4054)",
            "API Usage Error (Dimension mismatch for tensor input and profile 0)",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:1500: run_passes] Cannot compile for"
            " target(s) sm75. In compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)",
            "Myelin (Cannot compile for target(s) sm75)",
        ),
        ("a plain line", "a plain line"),
    ],
)
def test_error_codes_and_source_positions_are_left_out(line: str, text: str) -> None:
    assert strip_source(line) == text


def test_the_echo_of_a_missing_driver_does_not_hide_the_error() -> None:
    echo = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35)"
    assert LogLines(errors=[echo, "Error Code 3: the profile is wrong"]).essence() == "the profile is wrong"
    assert LogLines(errors=[echo]).essence() == "Cuda Runtime (cudaError 35)"
    assert LogLines().essence() == ""
