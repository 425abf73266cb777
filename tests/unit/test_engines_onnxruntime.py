"""Execution providers by name, and that none is replaced by the CPU in silence."""

from __future__ import annotations

import pytest

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")

from engines import BackendUnavailable, InferenceFailed, UnsupportedPrecision, choose_backend, open_runner  # noqa: E402
from engines.backends import onnxruntime as backend  # noqa: E402

MODEL = "realesr-animevideov3"
GPU_PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def gpu_build(monkeypatch):
    """An onnxruntime that was built with providers for NVIDIA GPUs, and a driver."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU_PROVIDERS)
    monkeypatch.setattr(backend, "has_nvidia_driver", lambda: True)


def choose(**arguments):
    return choose_backend(model=MODEL, backend="onnxruntime", **arguments)


@pytest.mark.parametrize(
    ("device", "device_id"),
    [
        ("auto", "CUDAExecutionProvider"),
        ("cuda", "CUDAExecutionProvider"),
        ("CUDA:1", "CUDAExecutionProvider:1"),
        ("cudaexecutionprovider:1", "CUDAExecutionProvider:1"),
        ("tensorrt", "TensorrtExecutionProvider"),
        ("cpu", "cpu"),
        ("CPUExecutionProvider", "cpu"),
    ],
)
def test_providers_have_short_names_and_their_own(gpu_build, device, device_id):
    assert choose(device=device).device_id == device_id


def test_gpu_computes_fp16_and_the_cpu_fp32_unless_asked_otherwise(gpu_build):
    assert choose().precision == "fp16"
    assert choose(device="cpu").precision == "fp32"
    assert choose(precision="fp32").precision == "fp32"
    with pytest.raises(UnsupportedPrecision, match="bf16"):
        choose(precision="bf16")


def test_auto_is_the_cpu_without_a_driver(gpu_build, monkeypatch):
    monkeypatch.setattr(backend, "has_nvidia_driver", lambda: False)
    assert choose().device_id == "cpu"


@pytest.mark.parametrize(
    ("device", "hint"), [("cuda", "onnxruntime-gpu"), ("directml", "onnxruntime-directml"), ("cuda:x", "")]
)
def test_provider_that_is_not_built_in_is_answered_with_those_that_are(device, hint):
    with pytest.raises(BackendUnavailable, match="it has cpu") as caught:
        choose(device=device)
    assert hint in caught.value.hint
    assert "CPUExecutionProvider" in str(caught.value)


def test_provider_that_starts_but_leaves_the_work_to_the_cpu_is_an_error():
    """The Azure provider is part of the plain wheel, and runs no convolution."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider that leaves everything to the CPU")
    with pytest.raises(InferenceFailed, match="AzureExecutionProvider") as caught:
        open_runner(model=MODEL, backend="onnxruntime", device="AzureExecutionProvider", height=8, width=8)
    assert "device cpu" in caught.value.hint


def test_provider_that_cannot_load_its_libraries_is_an_error_and_not_the_cpu(gpu_build, capsys):
    """The plain wheel lacks the CUDA provider's library: the same as a GPU build on a machine without CUDA."""
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(InferenceFailed, match="CUDAExecutionProvider") as caught,
    ):
        open_runner(model=MODEL, backend="onnxruntime", device="cuda", height=8, width=8)
    assert "device cpu" in caught.value.hint
    assert capsys.readouterr().out == ""
