"""What runs the network: model, backend, device, and how engines are compiled. Part of `pipeline.config.models`."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from engines.build_options import BuildOptions
from pipeline.config.types import Auto, ConfigPath, RuleBroken, Section, ThreadCount, anchor_model

DEVICE_PATTERN = r"[A-Za-z][A-Za-z0-9_.:,]*"
"""What names of devices are made of: ``cpu``, ``cuda:1``, ``gpu.0``, ``CUDAExecutionProvider``, ``HETERO:GPU,CPU``."""


def check_device(name: str) -> str:
    """Check the spelling of a device; whether there is one of that name is for the backend to say.

    Raises:
        ValueError: It cannot be a device.
    """
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise ValueError("must be a device such as auto, cpu, cuda, cuda:1, gpu.0 or CUDAExecutionProvider")
    return name


EngineSidePx = Annotated[int, Field(ge=1, le=16384)]
"""Side of a tile that an engine takes; the upper bound is that of tile.max_px."""


class EngineSection(Section):
    """How backends that compile engines (tensorrt, tensorrt_rtx) do it; the others ignore it."""

    dynamic: bool = False
    """Whether one engine is compiled for a range of tile sizes, for folders of films of many sizes. false: one engine
    per tile size, which is the fastest."""
    min_px: EngineSidePx = 16
    """With dynamic: shortest side of a tile in pixels; smaller frames are padded to it."""
    opt_px: EngineSidePx = 512
    """With dynamic: side in pixels that the engine is tuned for."""
    max_px: EngineSidePx = 640
    """With dynamic: longest side of a tile in pixels; larger frames are cut. The engine's memory grows with it."""
    workspace_mb: Annotated[int, Field(ge=1, le=16_777_216)] | None = None
    """Most scratch memory for one layer in MiB (1,048,576 bytes). null: as much as the compiler finds useful."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    """How long the compiler searches, no unit: 0 (short) to 5 (everything). null: its default, 3."""
    # 32 is the number of hardware queues that a process can use (CUDA_DEVICE_MAX_CONNECTIONS, CUDA C++ Programming
    # Guide): more streams wait for each other.
    max_aux_streams: Annotated[int, Field(ge=0, le=32)] | None = None
    """Streams, no unit, that an engine may use beside its own. null: the compiler's choice."""
    version_compatible: bool = False
    """Whether newer versions of TensorRT load the engine too; slower."""
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Which other GPUs load the engine too; slower. ampere_plus: any from Ampere on. same_compute_capability: those
    of this GPU's."""
    timing_cache: bool = True
    """Whether measurements of earlier builds on this GPU are used again, which makes builds shorter."""
    cuda_graph: bool = True
    """Whether the engine is replayed as one CUDA graph, which spares the processor."""
    cache_dir: ConfigPath | None = None
    """Folder of compiled engines, made if missing. null: nightscale/engines in the user's cache folder."""

    def rules(self) -> Iterator[RuleBroken]:
        """A profile is three sides in ascending order."""
        if not self.min_px <= self.opt_px <= self.max_px:
            keys = ("infer.engine.opt_px", "infer.engine.min_px", "infer.engine.max_px")
            yield RuleBroken(
                keys=keys,
                text=f"must be infer.engine.min_px to infer.engine.max_px "
                f"(got {self.opt_px}, not in {self.min_px} to {self.max_px})",
            )

    def build_options(self) -> BuildOptions:
        """The same for `engines`."""
        return BuildOptions(
            dynamic=self.dynamic,
            min_px=self.min_px,
            opt_px=self.opt_px,
            max_px=self.max_px,
            workspace_bytes=None if self.workspace_mb is None else self.workspace_mb * 2**20,
            optimization_level=self.optimization_level,
            max_aux_streams=self.max_aux_streams,
            version_compatible=self.version_compatible,
            hardware_compatibility=self.hardware_compatibility,
            timing_cache=self.timing_cache,
            cuda_graph=self.cuda_graph,
            cache_dir=self.cache_dir,
        )


class InferSection(Section):
    """The network and what runs it."""

    model: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(anchor_model)] = "realesr-animevideov3"
    """Name of the network (`python -m engines list` shows them), or a file: .pth, .safetensors, .onnx ... A relative
    path starts at the config file's folder, in --set where the command is typed."""
    denoise: Annotated[float, Field(ge=0, le=1)] | None = None
    """How much a network with a choice (realesr-general-x4v3) smooths, no unit: 0 keeps the noise, 1 removes it.
    null: the network's default."""
    backend: Literal["auto", "cudnn", "tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime", "resize"] = "auto"
    """Library that runs the network. auto: the fastest one that works here. resize: repeats pixels, for tests; takes
    no network."""
    device: Annotated[
        str, Field(min_length=1, max_length=100, examples=["cpu", "cuda:1"]), AfterValidator(check_device)
    ] = "auto"
    """Where it runs, in the backend's words: cpu, cuda, cuda:1, gpu.0, or an execution provider of ONNX Runtime. auto:
    the fastest."""
    precision: Literal["auto", "fp32", "fp16", "bf16", "fp8"] = "auto"
    """Arithmetic of the network. auto: the fastest that keeps the picture, as the start line says; never fp8. fp8:
    backend cudnn only, and only if film tiles stay within 45 dB of float32."""
    batch_tiles: Auto | Annotated[int, Field(ge=1, le=1024)] = "auto"
    """Tiles that go through the network in one call. auto: 1, unless tools/tune.py found more to be faster here."""
    slots: Auto | Annotated[int, Field(ge=1, le=16)] = "auto"
    """Calls of the network that are under way at once, no unit. auto: what suits the backend, unless tools/tune.py
    found another number to be faster here."""
    hdr: Literal["auto", "direct", "curve"] = "auto"
    """What the network sees of PQ and HLG films; others are not concerned. curve: a power of their light, which looks
    like the SDR it was trained on and is undone afterwards. direct: their codes. auto: what measured better, curve."""
    threads: ThreadCount = 0
    """Threads of a network that runs on the processor. 0: as many as there are cores."""
    engine: EngineSection = Field(default_factory=EngineSection)
    """How engines are compiled, for backends that compile them ahead of time."""

    @property
    def batch(self) -> int:
        """``batch_tiles`` as a number."""
        return 1 if self.batch_tiles == "auto" else self.batch_tiles
