"""Engine keys, plans and records for tests of the cache: small, and different wherever it matters."""

from __future__ import annotations

from typing import Any

from engines.build_options import BuildOptions
from engines.cache.key import EngineKey, GpuIdentity, InputRange, make_key
from engines.cache.record import EngineRecord

GPU = GpuIdentity(name="NVIDIA GeForce RTX 4090", compute_capability="8.9", driver_version="580.65.06")
INPUT = InputRange(name="input", minimum=(1, 3, 64, 96), optimum=(1, 3, 64, 96), maximum=(1, 3, 64, 96))
PLAN = bytes(range(256)) * 40
OTHER_PLAN = PLAN[::-1]


def sample_key(**changes: Any) -> EngineKey:
    """A key of a static engine; ``changes`` replace arguments of ``make_key``."""
    arguments: dict[str, Any] = {
        "model": "realesr-animevideov3",
        "onnx": b"a graph and its weights",
        "inputs": [INPUT],
        "precision": "fp16",
        "io_dtype": "float32",
        "output_scale": 4,
        "compiler": "tensorrt",
        "compiler_version": "10.13.3.9",
        "options": BuildOptions(),
        "gpu": GPU,
    }
    return make_key(**{**arguments, **changes})


def sample_record(**changes: Any) -> EngineRecord:
    """A record of a build."""
    return EngineRecord(**{"driver_version": GPU.driver_version, "build_s": 1.5, **changes})
