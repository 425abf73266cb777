"""The building half of the TensorRT double: builder, network, parser, config, profile, timing cache.

See ``helpers.trt_double``. The "compiler" checks the graph with onnxruntime and packs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from helpers.trt_plan import Plan, TrtMisuse

SPECIALISED_OPERATORS = frozenset(("DeformConv", "Col2Im", "AffineGrid", "Unique"))
"""Operators that the double says it lacks. Source: ``supports_operator`` of TensorRT-RTX 1.7."""

_PHASES = 2
"""Phases that a build reports, each of two steps."""


class _Builder:
    """Must outlive everything that it made; each of those asks ``_check_alive``."""

    _trt: Any

    def __init__(self, logger: Any) -> None:
        if not isinstance(logger, self._trt.ILogger) or not logger._initialised:
            raise TypeError("__init__(): incompatible constructor arguments")
        self._trt._logger = self._trt._logger or logger
        self._dead: list[bool] = []

    def __del__(self) -> None:
        self._dead.append(True)

    def create_network(self, flags: int = 0) -> Any:
        known = self._trt.NetworkDefinitionCreationFlag.__members__
        allowed = sum(1 << int(flag) for name, flag in known.items() if name in ("STRONGLY_TYPED", "EXPLICIT_BATCH"))
        if flags & ~allowed:
            self._trt._logger.log(self._trt.ILogger.Severity.ERROR, f"Error Code 3: invalid creation flags {flags}")
            return None
        is_typed = bool(flags & (1 << int(known["STRONGLY_TYPED"]))) or "FP16" not in self._trt.BuilderFlag.__members__
        return self._trt.INetworkDefinition(self._dead, is_typed)

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig(self._dead)

    def create_optimization_profile(self) -> Any:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        error = self._trt.ILogger.Severity.ERROR
        if network._model is None:
            self._trt._logger.log(error, "Error Code 4: Network must have at least one output")
            return None
        if not network._is_typed:
            self._trt._logger.log(error, "Error Code 4: the network is not strongly typed")
            return None
        profile = network._profile(config)
        if isinstance(profile, str):
            self._trt._logger.log(error, f"Error Code 4: {profile}")
            return None
        if "build_serialized_network" in self._trt._faults:
            self._trt._logger.log(error, self._trt._faults["build_serialized_network"])
            return None
        if not _report(config._monitor):
            self._trt._logger.log(error, "Error Code 7: BuildCanceled")
            return None
        self._trt._built += 1
        return memoryview(self._pack(network, config, profile))

    def _pack(self, network: Any, config: Any, profile: Any) -> bytes:
        gpu, flavour = self._trt._gpu, self._trt._flavour
        targets = tuple(f"{name[2:-1]}.{name[-1]}" for name in config._targets)
        if flavour.library == "tensorrt":
            targets = ("{}.{}".format(*gpu.compute_capability),)
        graph = network._model.graph
        plan = Plan(
            library=flavour.library,
            version=flavour.version,
            compute_capabilities=targets,
            input=graph.input[0].name,
            output=graph.output[0].name,
            dtype=network._dtype(),
            scale=network._scale(profile[0]),
            build=self._trt._built,
            profile=profile,
        )
        return plan.pack(network._model.SerializeToString())


def _report(monitor: Any) -> bool:
    if monitor is None:
        return True
    for phase in range(_PHASES):
        monitor.phase_start(f"phase {phase}", None, 2)
        for step in range(2):
            if not monitor.step_complete(f"phase {phase}", step):
                return False
        monitor.phase_finish(f"phase {phase}")
    return True


class _Made:
    """Something that dies with its builder."""

    _trt: Any
    _dead: list[bool]

    def _check_alive(self) -> None:
        if self._dead:
            raise TrtMisuse(f"{type(self).__name__} is used after its builder died")


class _INetworkDefinition(_Made):
    def __init__(self, dead: list[bool], is_typed: bool) -> None:
        self._dead = dead
        self._is_typed = is_typed
        self._model: Any = None

    @property
    def num_inputs(self) -> int:
        self._check_alive()
        return 0 if self._model is None else len(self._model.graph.input)

    @property
    def num_outputs(self) -> int:
        self._check_alive()
        return 0 if self._model is None else len(self._model.graph.output)

    @property
    def num_layers(self) -> int:
        return 0 if self._model is None else len(self._model.graph.node)

    def get_input(self, index: int) -> Any:
        return self._trt.ITensor(self._model.graph.input[index])

    def get_output(self, index: int) -> Any:
        return self._trt.ITensor(self._model.graph.output[index])

    def _dims(self) -> tuple[int, ...]:
        return tuple(_dims_of(self._model.graph.input[0]))

    def _dtype(self) -> str:
        kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
        return kinds[self._model.graph.input[0].type.tensor_type.elem_type]

    def _profile(self, config: Any) -> Any:
        dims = self._dims()
        if -1 not in dims:
            return (dims, dims, dims)
        if not config._profiles:
            return "Network has dynamic or shape inputs, but no optimization profile has been defined."
        shapes = config._profiles[0]._shapes.get(self._model.graph.input[0].name)
        if shapes is None:
            return "Dynamic input tensor input is missing dimensions in profile 0."
        return shapes

    def _scale(self, shape: tuple[int, ...]) -> int:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        content = self._model.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = self._model.graph.input[0].name
        (result,) = session.run(None, {name: np.zeros(shape, dtype=self._dtype())})
        return int(result.shape[2]) // shape[2]


def _dims_of(value: Any) -> list[int]:
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]


class _ITensor:
    _trt: Any

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def name(self) -> str:
        return str(self._value.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(_dims_of(self._value))

    @property
    def dtype(self) -> Any:
        kinds = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF"}
        return self._trt.DataType[kinds[self._value.type.tensor_type.elem_type]]


class _ParserError:
    _trt: Any

    def __init__(self, code: str, desc: str, node: Any, index: int) -> None:
        self._code, self._desc, self._node, self._index = code, desc, node, index

    def code(self) -> Any:
        return self._trt.ErrorCode[self._code]

    def desc(self) -> str:
        return self._desc

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return "" if self._node is None else str(self._node.name)

    def node_operator(self) -> str:
        return "" if self._node is None else str(self._node.op_type)


class _OnnxParser(_Made):
    def __init__(self, network: Any, logger: Any) -> None:
        if not isinstance(network, self._trt.INetworkDefinition) or not isinstance(logger, self._trt.ILogger):
            raise TypeError("__init__(): incompatible constructor arguments")
        self._dead = network._dead
        self._network = network
        self._errors: list[Any] = []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        self._check_alive()
        try:
            parsed = onnx.load_model_from_string(bytes(model))
        except (ValueError, TypeError, onnx.checker.ValidationError) as exc:
            self._errors.append(self._trt.ParserError("MODEL_DESERIALIZE_FAILED", str(exc), None, -1))
            return False
        for index, node in enumerate(parsed.graph.node):
            if node.op_type in SPECIALISED_OPERATORS:
                text = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
                self._errors.append(self._trt.ParserError("INVALID_NODE", text, node, index))
        if self._errors:
            return False
        if parsed.graph.node:
            self._network._model = parsed
        return True  # also for what was no model at all, as observed

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]


class _IOptimizationProfile:
    _trt: Any

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))

    def __bool__(self) -> bool:
        return all(
            low <= best <= high for shapes in self._shapes.values() for low, best, high in zip(*shapes, strict=True)
        )


class _ITimingCache(_Made):
    def __init__(self, dead: list[bool], content: bytes) -> None:
        self._dead = dead
        self._content = content

    def serialize(self) -> Any:
        self._check_alive()
        return memoryview(b"timings" + self._content[:0])


class _IBuilderConfig(_Made):
    _monitor: Any = None

    def __init__(self, dead: list[bool]) -> None:
        self._dead = dead
        self._profiles: list[Any] = []
        self._flags: set[Any] = set()
        self._targets: list[str] = []

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._check_alive()

    def add_optimization_profile(self, profile: Any) -> int:
        if not profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def progress_monitor(self) -> Any:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: Any) -> None:
        if not isinstance(monitor, self._trt.IProgressMonitor):
            raise TypeError("progress_monitor")
        self._monitor = monitor

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._targets)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, count: int) -> None:
        self._targets = ["SM89"] * count

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        if not 0 <= index < len(self._targets):
            return False
        self._targets[index] = compute_capability.name
        return True

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return self._trt.ITimingCache(self._dead, bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return cache._content in (b"", b"timings")


class _IProgressMonitor:
    def __init__(self) -> None:
        self._initialised = True


IMPLEMENTATIONS: dict[str, type] = {
    "Builder": _Builder,
    "INetworkDefinition": _INetworkDefinition,
    "ITensor": _ITensor,
    "OnnxParser": _OnnxParser,
    "ParserError": _ParserError,
    "IOptimizationProfile": _IOptimizationProfile,
    "ITimingCache": _ITimingCache,
    "IBuilderConfig": _IBuilderConfig,
    "IProgressMonitor": _IProgressMonitor,
}
