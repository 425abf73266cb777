"""The table of backends, and the order in which ``auto`` tries them. Importing it imports no backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engines.spec import Architecture

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "cudnn": "engines.backends.cudnn:CudnnBackend",
        "tensorrt": "engines.backends.tensorrt:TensorRtBackend",
        "tensorrt_rtx": "engines.backends.tensorrt:TensorRtRtxBackend",
        "openvino": "engines.backends.openvino:OpenVinoBackend",
        "onnxruntime": "engines.backends.onnxruntime:OnnxRuntimeBackend",
        "torch": "engines.backends.torch:TorchBackend",
        "resize": "engines.backends.resize:ResizeBackend",
    }
)
"""Dotted name and class by backend name. Read-only."""

INSTALL: Mapping[str, str] = MappingProxyType(
    {
        "cudnn": 'pip install "nightscale[cudnn]"',
        "tensorrt": "pip install tensorrt-cu13",
        "tensorrt_rtx": 'pip install "nightscale[nvidia]"',
        "openvino": "pip install openvino",
        "onnxruntime": 'pip install "nightscale[onnxruntime]"',
        "torch": 'pip install "nightscale[export]"',
    }
)
"""Command that brings a backend's library. Read-only."""

NVIDIA_DEVICE = "cuda"
"""Device of the candidates below that need an NVIDIA driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One thing that ``auto`` tries."""

    backend: str
    """Name in the table."""
    device: str
    """What the backend is asked to run on."""


_FOR_NETWORKS = (
    Candidate(backend="cudnn", device=NVIDIA_DEVICE),
    Candidate(backend="tensorrt", device=NVIDIA_DEVICE),
    Candidate(backend="tensorrt_rtx", device=NVIDIA_DEVICE),
    Candidate(backend="torch", device=NVIDIA_DEVICE),
    Candidate(backend="onnxruntime", device=NVIDIA_DEVICE),
    Candidate(backend="openvino", device="gpu"),
    Candidate(backend="openvino", device="cpu"),
    Candidate(backend="torch", device="cpu"),
    Candidate(backend="onnxruntime", device="cpu"),
)

_FOR_NEAREST = (Candidate(backend="resize", device="cpu"),)


def auto_order(architecture: Architecture) -> tuple[Candidate, ...]:
    """List what ``auto`` tries for a network of this architecture, best first.

    NVIDIA GPUs before all else: an H200 does in 20 ms what a CPU of two cores does in 5 s. On them, what fuses
    a convolution with its bias, activation and addition before libraries that call one kernel per operation: cuDNN's
    graphs take 7.1 ms where torch takes 18.6 (realesr-animevideov3, 1920x1080) and 108 where it takes 260
    (RealESRGAN_x4plus, 1280x720; H200, fp16). cuDNN before TensorRT, because it starts within seconds where TensorRT
    compiles for minutes; which of the two is faster then was not measured. On a CPU, OpenVINO before torch before
    onnxruntime: 0.16 s in bfloat16, 0.35 s in bfloat16 and 0.49 s in float32 for a 320x180 picture with
    realesr-animevideov3 (2 cores of a Zen 4, tools/results; torch in float32: 0.63 s). An Intel GPU before the CPU,
    because it leaves the CPU to the codecs; that one is not measured.
    """
    return _FOR_NEAREST if architecture == "nearest" else _FOR_NETWORKS
