"""Which of OpenVINO's devices and precisions is meant, on machines with a GPU that is not at hand."""

from __future__ import annotations

import openvino
import pytest

from engines import BackendUnavailable, UnsupportedPrecision, find_model
from engines.backends.openvino import OpenVinoBackend

MODEL = find_model("realesr-animevideov3")

PROPERTIES = {
    "CPU": ("A processor", openvino.Type.f32, ["FP32", "INT8"], "Type.INTEGRATED"),
    "GPU": ("An integrated GPU", openvino.Type.f16, ["FP32", "FP16"], "Type.INTEGRATED"),
    "GPU.0": ("An integrated GPU", openvino.Type.f16, ["FP32", "FP16"], "Type.INTEGRATED"),
    "GPU.1": ("A card", openvino.Type.f16, ["FP32", "FP16"], "Type.DISCRETE"),
}


class StubCore:
    """Lists devices and answers their properties, as ``openvino.Core`` does."""

    def __init__(self, *devices):
        self.available_devices = list(devices)

    def get_property(self, device, name):
        names = ("FULL_DEVICE_NAME", "INFERENCE_PRECISION_HINT", "OPTIMIZATION_CAPABILITIES", "DEVICE_TYPE")
        return PROPERTIES[device][names.index(name)]


@pytest.fixture
def choose(monkeypatch):
    def run(*devices, precision="auto", device="auto"):
        monkeypatch.setattr(openvino, "Core", lambda: StubCore(*devices))
        return OpenVinoBackend().choose(model=MODEL, precision=precision, device=device)

    return run


def test_gpu_comes_before_the_cpu_and_computes_as_it_prefers(choose):
    choice = choose("CPU", "GPU")
    assert (choice.device_id, choice.device, choice.precision) == ("gpu", "An integrated GPU", "fp16")
    assert choose("CPU").device_id == "cpu"


@pytest.mark.parametrize(
    ("words", "device_id"),
    [("cpu", "cpu"), ("GPU", "gpu.0"), ("gpu.0", "gpu.0"), ("gpu:1", "gpu.1"), ("GPU.1", "gpu.1")],
)
def test_devices_are_named_in_any_case(choose, words, device_id):
    assert choose("CPU", "GPU.0", "GPU.1", device=words).device_id == device_id


def test_only_gpu_is_also_the_first_gpu(choose):
    assert choose("CPU", "GPU", device="gpu.0").device_id == "gpu"


@pytest.mark.parametrize("words", ["gpu", "npu", "gpu.1", "cuda"])
def test_device_that_is_not_there_is_answered_with_those_that_are(choose, words):
    with pytest.raises(BackendUnavailable, match=f"no device {words} here, only cpu") as caught:
        choose("CPU", device=words)
    assert caught.value.missing == words
    assert caught.value.hint


@pytest.mark.parametrize(("device", "share"), [("gpu.0", 1.0), ("gpu.1", 0.0)])
def test_activations_of_a_card_lie_in_its_own_memory(choose, device, share):
    assert choose("CPU", "GPU.0", "GPU.1", device=device).activation_share == share


def test_precision_that_a_device_lacks_is_answered_with_those_it_has(choose):
    with pytest.raises(UnsupportedPrecision, match="cannot compute bf16 on this GPU") as caught:
        choose("CPU", "GPU", precision="bf16")
    assert caught.value.hint == "choose precision auto, fp32 or fp16"
