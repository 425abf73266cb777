"""TensorRT and TensorRT for RTX of Python: the same names, the same silences, and real arithmetic by onnxruntime.

``make_trt("tensorrt-11.4", gpu)`` gives an object that stands for the imported module. Its engines hold the ONNX graph;
its contexts run it on ``gpu`` (``helpers.gpu_double.FakeGpu``, or real device memory behind the same ``Launcher``). As
with the real library nothing raises on a refusal: it returns None or False and tells the logger or the error recorder.
What would be undefined behaviour on the real one (use after death, wrong thread, default stream) raises ``TrtMisuse``.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime
from helpers import trt_double_build as building
from helpers.trt_gate import Flavour, gate, load_flavour, make_enums
from helpers.trt_plan import HEADER_BYTES, MAGIC, Launcher, Plan, TrtMisuse

from engines.errors import EngineError

ALIGNMENT_BYTES = 256
SCRATCH_BYTES_PER_PX = 8
"""What contexts of the double ask for, so that another shape needs another size."""


class TrtDouble:
    """Stands for the imported module.

    Args:
        flavour: What it offers.
        gpu: Where it runs; None: a machine without a GPU.
    """

    def __init__(self, flavour: Flavour, gpu: Launcher | None) -> None:
        self._flavour = flavour
        self._gpu = gpu
        self._logger: Any = None
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self._faults: dict[str, str] = {}
        self._built = 0
        self.__version__ = flavour.version
        for name, kind in make_enums(flavour).items():
            setattr(self, name, kind)
        for name, implementation in {**_IMPLEMENTATIONS, **building.IMPLEMENTATIONS}.items():
            if name in flavour.classes:
                bound = type(f"_{name}", (implementation,), {"_trt": self})
                setattr(self, name, gate(flavour, self, name, bound))
        for alias, member in (("float32", "FLOAT"), ("float16", "HALF"), ("bfloat16", "BF16"), ("int32", "INT32")):
            setattr(self, alias, self.DataType[member])

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and self._flavour.has(name):
            raise NotImplementedError(f"the double does not do {name}")
        raise AttributeError(f"module '{self._flavour.name}' has no attribute '{name}'")

    def nptype(self, kind: Any) -> Any:
        return {"FLOAT": np.float32, "HALF": np.float16}[kind.name]


def make_trt(flavour: str, gpu: Launcher | None) -> TrtDouble:
    """A fresh module of one flavour: nothing is shared between two of them."""
    return TrtDouble(load_flavour(flavour), gpu)


def break_call(trt: TrtDouble, name: str, message: str) -> None:
    """Make one function of the module fail from now on, saying ``message``: ``execute_async_v3`` ..."""
    trt._faults[name] = message


def mend_calls(trt: TrtDouble) -> None:
    """Undo ``break_call``."""
    trt._faults.clear()


def build_count(trt: TrtDouble) -> int:
    """Engines that were built with this module."""
    return trt._built


def live_objects(trt: TrtDouble) -> list[str]:
    """Runtimes, engines and contexts that nobody has let go of."""
    return sorted(type(thing).__name__ for thing in trt._alive)


class _Object:
    """Base of what the module makes: keeps its makers alive, as pybind11's keep_alive does."""

    _trt: Any
    _recorder: Any = None

    def _born(self, maker: Any) -> None:
        self._maker = maker
        self._trt._alive.add(self)

    @property
    def error_recorder(self) -> Any:
        return self._recorder

    @error_recorder.setter
    def error_recorder(self, recorder: Any) -> None:
        if recorder is not None and not getattr(recorder, "_initialised", False):
            raise TrtMisuse("an error recorder whose __init__ was not called")
        self._recorder = recorder

    def _fail(self, message: str, code: str = "INTERNAL_ERROR") -> None:
        if self._recorder is not None:
            self._recorder.report_error(self._trt.ErrorCodeTRT[code], message)
        else:
            self._trt._logger.log(self._trt.ILogger.Severity.ERROR, f"Error Code 3: {message}")

    def _is_broken(self, name: str) -> bool:
        message = self._trt._faults.get(name)
        if message is not None:
            self._fail(message)
        return message is not None


class _ILogger:
    _initialised = False

    def __init__(self) -> None:
        self._initialised = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class _IErrorRecorder:
    _initialised = False

    def __init__(self) -> None:
        self._initialised = True


class _Runtime(_Object):
    def __init__(self, logger: Any) -> None:
        if not isinstance(logger, self._trt.ILogger) or not logger._initialised:
            raise TypeError("__init__(): incompatible constructor arguments")
        if self._trt._logger not in (None, logger):
            logger.log(self._trt.ILogger.Severity.WARNING, "The logger passed into createInferRuntime differs")
        else:
            self._trt._logger = logger
        self._born(None)

    @property
    def engine_header_size(self) -> int:
        return HEADER_BYTES

    def get_engine_validity(self, buffer: bytes) -> tuple[Any, int]:
        why = self._trt.EngineInvalidityDiagnostics
        content = bytes(buffer)
        if len(content) < HEADER_BYTES or not content.startswith(MAGIC):
            return self._trt.EngineValidity.INVALID, why.MALFORMED_ENGINE.value
        _, _, _, version, capabilities = content[:HEADER_BYTES].rstrip(b"\0").decode().split(" ")
        found = 0
        if version != self._trt._flavour.version:
            found |= why.VERSION_MISMATCH.value
        if self._trt._gpu is not None and not self._suits(tuple(capabilities.split(","))):
            found |= why.UNSUPPORTED_CC.value
        valid = self._trt.EngineValidity.INVALID if found else self._trt.EngineValidity.VALID
        return valid, found

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        content = bytes(serialized_engine)
        if self._is_broken("deserialize_cuda_engine"):
            return None
        message = self._objection(content)
        if message is not None:
            self._fail(message)
            return None
        return self._trt.ICudaEngine(self, *Plan.unpack(content))

    def _objection(self, content: bytes) -> str | None:
        """Source of the texts: NVIDIA's libraries, as observed or read in them."""
        if not content:
            return "Cannot deserialize with an empty memory buffer"
        if not content.startswith(MAGIC):
            return (
                "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed. Trying to load an engine"
                " created with incompatible serialization version"
            )
        _, size, library, version, capabilities = content[:HEADER_BYTES].rstrip(b"\0").decode().split(" ")
        if int(size) != len(content):
            return "Serialization assertion plan.header.size == blobSize failed."
        if self._trt._gpu is None:
            return "Error Code 1: Cuda Runtime (In initializeCommonContext: cudaError 35)"
        if (library, version) != (self._trt._flavour.library, self._trt._flavour.version):
            return (
                "The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{self._trt._flavour.version} got {version}, please rebuild."
            )
        if not self._suits(tuple(capabilities.split(","))):
            here = "{}.{}".format(*self._trt._gpu.compute_capability)
            if library == "tensorrt_rtx":
                return f"The engine cannot run on this GPU, which has compute capability {here}."
            return (
                f"The engine plan file is generated on an incompatible device, expecting compute {here} got compute "
                f"{capabilities}, please rebuild."
            )
        return None

    def _suits(self, capabilities: tuple[str, ...]) -> bool:
        here = "{}.{}".format(*self._trt._gpu.compute_capability)
        if here == "9.0" and self._trt._flavour.library == "tensorrt_rtx":
            return False
        return capabilities == ("",) or here in capabilities


class _ICudaEngine(_Object):
    def __init__(self, runtime: Any, plan: Plan, onnx: bytes) -> None:
        self._born(runtime)
        self._recorder = runtime._recorder
        self._plan = plan
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return 2

    @property
    def num_optimization_profiles(self) -> int:
        return 1

    @property
    def num_aux_streams(self) -> int:
        return 0

    @property
    def device_memory_size_v2(self) -> int:
        return _scratch_bytes(self._plan.profile[2])

    def get_tensor_name(self, index: int) -> str:
        return (self._plan.input, self._plan.output)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._trt.TensorIOMode
        return {self._plan.input: modes.INPUT, self._plan.output: modes.OUTPUT}.get(name, modes.NONE)

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[{"float32": "FLOAT", "float16": "HALF"}[self._plan.dtype]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shapes = set(self._plan.profile)
        return shapes.pop() if len(shapes) == 1 else (-1, 3, -1, -1)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return list(self._plan.profile) if name == self._plan.input else []

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return _scratch_bytes(self._plan.profile[2])

    def create_runtime_config(self) -> Any:
        return self._trt.IRuntimeConfig(self)

    def create_execution_context(self, strategy: Any = None) -> Any:
        if self._is_broken("create_execution_context"):
            return None
        return self._trt.IExecutionContext(self, strategy)


class _IRuntimeConfig(_Object):
    _strategy: Any = None
    _cache: Any = None
    _graphs: Any = None
    _kernels: Any = None

    def __init__(self, engine: Any) -> None:
        self._maker = engine

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        return self._strategy

    def create_runtime_cache(self) -> Any:
        return self._trt.IRuntimeCache(self)

    def set_runtime_cache(self, cache: Any) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> Any:
        return self._cache

    @property
    def cuda_graph_strategy(self) -> Any:
        return self._graphs or self._trt.CudaGraphStrategy.DISABLED

    @cuda_graph_strategy.setter
    def cuda_graph_strategy(self, value: Any) -> None:
        if not isinstance(value, self._trt.CudaGraphStrategy):
            raise TypeError("cuda_graph_strategy")
        self._graphs = value

    @property
    def dynamic_shapes_kernel_specialization_strategy(self) -> Any:
        return self._kernels or self._trt.DynamicShapesKernelSpecializationStrategy.LAZY

    @dynamic_shapes_kernel_specialization_strategy.setter
    def dynamic_shapes_kernel_specialization_strategy(self, value: Any) -> None:
        if not isinstance(value, self._trt.DynamicShapesKernelSpecializationStrategy):
            raise TypeError("dynamic_shapes_kernel_specialization_strategy")
        self._kernels = value


class _IRuntimeCache(_Object):
    """Holds the names of the kernels that were compiled; contexts add theirs."""

    def __init__(self, maker: Any) -> None:
        self._maker = maker
        self._kernels: set[str] = set()

    def serialize(self) -> Any:
        head = [self._trt._flavour.version, *map(str, self._trt._gpu.compute_capability)]
        return memoryview(json.dumps([head, sorted(self._kernels)]).encode())

    def deserialize(self, blob: bytes) -> bool:
        try:
            head, kernels = json.loads(bytes(blob))
        except ValueError:
            return False
        if head != [self._trt._flavour.version, *map(str, self._trt._gpu.compute_capability)]:
            return False
        self._kernels |= set(kernels)
        return True


class _IExecutionContext(_Object):
    def __init__(self, engine: Any, strategy: Any) -> None:
        self._born(engine)
        self._recorder = engine._recorder
        self._plan: Plan = engine._plan
        if isinstance(strategy, self._trt.IRuntimeConfig):
            self._config = strategy
            strategy = strategy._strategy
            if getattr(self._config, "_cache", None) is not None:
                self._config._cache._kernels.add(f"{self._plan.output}-kernel")
        self._strategy = strategy or self._trt.ExecutionContextAllocationStrategy.STATIC
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None
        self._scratch_shape: tuple[int, ...] | None = None
        self._user = threading.Lock()

    @contextmanager
    def _used(self) -> Iterator[None]:
        if not self._user.acquire(blocking=False):
            raise TrtMisuse("an execution context is used by two threads at once")
        try:
            yield
        finally:
            self._user.release()

    @property
    def engine(self) -> Any:
        return self._maker

    def set_input_shape(self, name: str, shape: Any) -> bool:
        with self._used():
            if self._is_broken("set_input_shape"):
                return False
            shape = tuple(shape)
            least, _, most = self._plan.profile
            if name != self._plan.input or len(shape) != len(least):
                self._fail(f"Given invalid tensor name or rank: {name} {shape}", "INVALID_ARGUMENT")
                return False
            if any(not low <= value <= high for low, value, high in zip(least, shape, most, strict=True)):
                self._fail(f"Set dimension {shape} for tensor {name} does not satisfy the profile", "INVALID_ARGUMENT")
                return False
            if shape != self._shape:
                self._shape, self._scratch, self._scratch_shape = shape, None, None
            return True

    def infer_shapes(self) -> list[str]:
        return [] if self._resolved() is not None else [self._plan.input]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._resolved()
        if shape is None:
            return (-1, 3, -1, -1)
        return shape if name == self._plan.input else self._output_shape(shape)

    def update_device_memory_size_for_shapes(self) -> int:
        with self._used():
            shape = self._resolved()
            if shape is None or self._is_broken("update_device_memory_size_for_shapes"):
                return 0
            self._scratch_shape = shape
            return _scratch_bytes(shape)

    def set_device_memory(self, memory: int, size: int) -> None:
        with self._used():
            if self._strategy is not self._trt.ExecutionContextAllocationStrategy.USER_MANAGED:
                raise TrtMisuse("device memory is set for a context that manages its own")
            if memory % ALIGNMENT_BYTES:
                raise TrtMisuse("device memory is not 256-byte aligned")
            shape = self._scratch_shape or self._plan.profile[2]
            if size < _scratch_bytes(shape):
                self._fail(f"device memory of {size} bytes is too small", "INVALID_ARGUMENT")
                return
            self._scratch = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        with self._used():
            if name not in (self._plan.input, self._plan.output) or self._is_broken("set_tensor_address"):
                self._fail(f"Given invalid tensor name: {name}", "INVALID_ARGUMENT")
                return False
            if memory % ALIGNMENT_BYTES:
                raise TrtMisuse(f"the address of {name}, {memory:#x}, is not 256-byte aligned")
            self._addresses[name] = memory
            return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def is_stream_capturable(self, stream: int) -> bool:
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        with self._used():
            if self._is_broken("execute_async_v3"):
                return False
            shape = self._resolved()
            if shape is None or len(self._addresses) < 2:
                self._fail("Address or shape is not set for an input or output tensor", "INVALID_STATE")
                return False
            managed = self._strategy is self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            if managed and self._scratch is None:
                self._fail("device memory is not set", "INVALID_STATE")
                return False
            return self._launch(stream_handle, shape)

    def _launch(self, stream_handle: int, shape: tuple[int, ...]) -> bool:
        gpu, plan = self._trt._gpu, self._plan
        item = np.dtype(plan.dtype).itemsize
        out_shape = self._output_shape(shape)
        source = (self._addresses[plan.input], int(np.prod(shape)) * item)
        target = (self._addresses[plan.output], int(np.prod(out_shape)) * item)
        session = self._maker._session

        def run() -> None:
            tiles = gpu.bytes_at(*source).view(plan.dtype).reshape(shape)
            result = session.run([plan.output], {plan.input: tiles.copy()})[0]
            if result.shape != out_shape:
                raise TrtMisuse(f"the graph gives {result.shape}, not {out_shape}")
            gpu.bytes_at(*target)[:] = np.ascontiguousarray(result).reshape(-1).view(np.uint8)

        writes = (target,) if self._scratch is None else (target, self._scratch)
        try:
            gpu.enqueue(stream_handle, run, name="engine", reads=(source,), writes=writes)
        except EngineError as exc:
            self._fail(str(exc), "FAILED_EXECUTION")
            return False
        return True

    def _resolved(self) -> tuple[int, ...] | None:
        shapes = set(self._plan.profile)
        return self._shape or (shapes.pop() if len(shapes) == 1 else None)

    def _output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        scale = self._plan.scale
        return (shape[0], 3, shape[2] * scale, shape[3] * scale)


def _scratch_bytes(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[2] * shape[3] * SCRATCH_BYTES_PER_PX


_IMPLEMENTATIONS: dict[str, type] = {
    "ILogger": _ILogger,
    "IErrorRecorder": _IErrorRecorder,
    "Runtime": _Runtime,
    "ICudaEngine": _ICudaEngine,
    "IRuntimeConfig": _IRuntimeConfig,
    "IRuntimeCache": _IRuntimeCache,
    "IExecutionContext": _IExecutionContext,
}
