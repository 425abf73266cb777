"""Decides everything about an engine before anything is built: options, sizes, the ONNX graph and the key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.build_options import BuildOptions
from engines.cache.key import EngineKey, GpuIdentity, InputRange, make_key
from engines.errors import BuildFailed, ExportFailed
from engines.networks import GraphOptions, Network
from engines.spec import FloatType, ModelSpec, Precision
from engines.trt.library import TrtLibrary
from engines.trt.profile import Profile, check_model_sizes, plan_profile
from engines.trt.settings import BuildSettings, plan_settings

if TYPE_CHECKING:
    from onnx import ModelProto

NEWEST_OPSET = 25
"""Newest ONNX operator set that TensorRT documents; its parser does not look. Source: TensorRT 11 documentation, ONNX
operator support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """All that goes into one engine, decided before anything is built."""

    library: TrtLibrary
    """The compiler."""
    model: ModelSpec
    """The network."""
    onnx: bytes
    """The network as ONNX, with all weights."""
    operators: dict[str, int]
    """How many nodes of each operator the ONNX graph has."""
    profile: Profile
    """Tile sizes."""
    settings: BuildSettings
    """Options that the compiler takes."""
    gpu: GpuIdentity | None
    """The GPU of this machine."""
    key: EngineKey
    """Under which it is kept."""

    @property
    def text(self) -> str:
        """What is built, in words."""
        return f"{self.model.name} {self.key.precision}, {self.profile.text}, for {self.key.target}"


def plan_engine(
    library: TrtLibrary,
    *,
    network: Network,
    precision: Precision,
    batch: int,
    height: int,
    width: int,
    output_scale: int,
    options: BuildOptions,
    gpu: GpuIdentity | None,
    io_dtype: FloatType = "float32",
) -> EnginePlan:
    """Decide everything about an engine: check the options, write the ONNX graph, derive the key.

    Args:
        library: The compiler.
        network: What is compiled.
        precision: Arithmetic of the network.
        batch: Tiles per call; the most, for a dynamic engine.
        height, width: Tile size in input pixels; it must lie within a dynamic engine's range.
        output_scale: Enlargement.
        options: The user's choices.
        gpu: The GPU of this machine; None if there is none.
        io_dtype: Type of the input and output arrays.

    Raises:
        EngineError: An option is out of range; see also ``plan_settings``, ``plan_profile`` and ``Network.graph``.
    """
    settings = plan_settings(library, options, gpu=gpu)
    profile = plan_profile(options, batch=batch, height=height, width=width)
    check_model_sizes(profile, network.spec)
    is_static = profile.is_static
    graph = network.graph(
        GraphOptions(
            precision=precision,
            io_dtype=io_dtype,
            batch=batch if is_static else None,
            height=height if is_static else None,
            width=width if is_static else None,
            output_scale=output_scale,
        )
    )
    onnx = _serialise(graph, network.spec)
    least, best, most = profile.shapes
    key = make_key(
        model=network.spec.name,
        onnx=onnx,
        inputs=[InputRange(name=graph.graph.input[0].name, minimum=least, optimum=best, maximum=most)],
        precision=precision,
        io_dtype=io_dtype,
        output_scale=output_scale,
        compiler=library.name,
        compiler_version=library.version,
        options=settings.options,
        gpu=gpu,
        flags=settings.flags,
    )
    return EnginePlan(
        library=library,
        model=network.spec,
        onnx=onnx,
        operators=dict(Counter(node.op_type for node in graph.graph.node).most_common()),
        profile=profile,
        settings=settings,
        gpu=gpu,
        key=key,
    )


def _serialise(graph: ModelProto, model: ModelSpec) -> bytes:
    opset = max((one.version for one in graph.opset_import if one.domain in {"", "ai.onnx"}), default=0)
    if opset > NEWEST_OPSET:
        raise BuildFailed(
            f"{model.name} uses ONNX operator set {opset}, which is newer than TensorRT's newest, {NEWEST_OPSET}",
            hint=f"export the network with operator set {NEWEST_OPSET} or older, 20 is a good choice",
        )
    try:
        return bytes(graph.SerializeToString(deterministic=True))
    except ValueError as exc:  # protocol buffers end at 2 GB
        raise ExportFailed(
            f"{model.name} is too large for one ONNX file: {exc}", hint="choose precision fp16, or backend torch"
        ) from exc
