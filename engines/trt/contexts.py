"""Makes execution contexts whose memory we give, sized to the one shape that they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.errors import InferenceFailed, UnsupportedShape
from engines.gpu import DeviceBuffer
from engines.spec import RunnerSpec
from engines.trt.loading import LoadedEngine, call_error
from engines.trt.profile import Profile
from engines.trt.recorder import make_recorder

_RANK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTensors:
    """The one input and the one output of an engine."""

    input: str
    """Name of the input tensor."""
    output: str
    """Name of the output tensor."""


@dataclass(slots=True, kw_only=True, eq=False)
class RuntimeSettings:
    """How contexts of an engine are to be made. Keeps the engine in device memory until it is closed."""

    config: Any
    """``IRuntimeConfig``."""
    cache: Any = None
    """TensorRT-RTX: ``IRuntimeCache`` with the kernels that were compiled on this GPU."""
    captures_itself: bool = False
    """TensorRT-RTX: the library replays CUDA graphs of its own, so that we do not."""

    def close(self) -> None:
        """Let go of the engine; whoever still refers to these settings, such as a traceback, then holds no memory."""
        self.config = self.cache = None


class TrtContext:
    """One execution context with its shape set and its scratch memory given. Used by one thread at a time.

    Args:
        loaded: The engine; must outlive the context.
        tensors: From ``find_tensors``.
        settings: From ``make_runtime_settings``.
        spec: Shape and dtype that it is for.

    Raises:
        UnsupportedShape: The engine's profile does not hold the shape; its maximum is named.
        OutOfDeviceMemory: Activations do not fit.
        InferenceFailed: The library refused, or the engine gives another shape than ``spec`` says.
    """

    def __init__(
        self, loaded: LoadedEngine, *, tensors: EngineTensors, settings: RuntimeSettings, spec: RunnerSpec
    ) -> None:
        self._library = loaded.library
        self._tensors = tensors
        self._recorder = make_recorder(loaded.library.trt)
        self._context: Any = loaded.engine.create_execution_context(settings.config)
        if self._context is None:
            raise call_error(self._library, loaded.recorder, "make an execution context")
        self._context.error_recorder = self._recorder
        self._scratch: DeviceBuffer | None = None
        try:
            self._set_shape(spec)
            self._give_scratch(loaded)
        except BaseException:
            self.close()
            raise

    def enqueue(self, *, stream: int, input_pointer: int, output_pointer: int) -> None:
        """Put one inference into a stream.

        Args:
            stream: Handle of a stream that is not the default one.
            input_pointer, output_pointer: Device addresses, 256-byte aligned.

        Raises:
            InferenceFailed: The library refused.
            OutOfDeviceMemory: It wanted memory that is not there.
        """
        for name, pointer in ((self._tensors.input, input_pointer), (self._tensors.output, output_pointer)):
            if not self._context.set_tensor_address(name, pointer):
                raise call_error(self._library, self._recorder, f"take the address of {name}")
        if not self._context.execute_async_v3(stream):
            raise call_error(self._library, self._recorder, "start an inference")

    def close(self) -> None:
        """Give the context back, then its memory; nothing of it may be running. Can be called twice."""
        self._context = None
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.close()

    def _set_shape(self, spec: RunnerSpec) -> None:
        if not self._context.set_input_shape(self._tensors.input, spec.input_shape):
            raise call_error(self._library, self._recorder, f"take the shape {spec.input_shape}")
        try:
            unknown = self._context.infer_shapes()
        except RuntimeError as exc:
            raise InferenceFailed(f"{self._library.title} cannot infer shapes for {spec.input_shape}: {exc}") from exc
        if unknown:
            raise InferenceFailed(f"{self._library.title} lacks the shapes of {', '.join(unknown)}")
        shape = tuple(self._context.get_tensor_shape(self._tensors.output))
        if shape != spec.output_shape:
            raise UnsupportedShape(f"the engine gives {shape} for {spec.input_shape}, not {spec.output_shape}")

    def _give_scratch(self, loaded: LoadedEngine) -> None:
        needed = self._context.update_device_memory_size_for_shapes()
        said = self._recorder.take()
        if said:
            raise InferenceFailed(f"{self._library.title} cannot say how much memory it needs: {said}")
        if needed > 0:
            self._scratch = loaded.device.allocate(needed)
            self._context.set_device_memory(self._scratch.pointer, self._scratch.bytes)
            said = self._recorder.take()
            if said:
                raise InferenceFailed(f"{self._library.title} refuses {needed} bytes of memory: {said}")


def find_tensors(loaded: LoadedEngine, spec: RunnerSpec) -> EngineTensors:
    """Find the engine's input and output and check that it takes what ``spec`` says.

    Raises:
        UnsupportedShape: The engine is one of another network, of another dtype, or for other sizes; the limits of its
            profile are named.
    """
    engine, trt = loaded.engine, loaded.library.trt
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedShape(f"the engine has the inputs {inputs} and the outputs {outputs} instead of one of each")
    wanted = {"float32": trt.DataType.FLOAT, "float16": trt.DataType.HALF}[spec.io_dtype]
    for name in (inputs[0], outputs[0]):
        dtype = engine.get_tensor_dtype(name)
        if dtype != wanted:
            raise UnsupportedShape(f"{name} of the engine is {dtype}, not {spec.io_dtype}")
    built = tuple(engine.get_tensor_shape(inputs[0]))
    is_static = -1 not in built
    shapes = [built] * 3 if is_static else [tuple(shape) for shape in engine.get_tensor_profile_shape(inputs[0], 0)]
    if any(len(shape) != _RANK for shape in shapes):
        raise UnsupportedShape(f"{inputs[0]} of the engine has the shape {shapes}, not (N, 3, H, W)")
    least, best, most = ((shape[0], shape[2], shape[3]) for shape in shapes)
    Profile(min=least, opt=best, max=most).check(batch=spec.batch, height=spec.height, width=spec.width)
    return EngineTensors(input=inputs[0], output=outputs[0])


def make_runtime_settings(loaded: LoadedEngine, *, cuda_graph: bool, kernels: bytes | None) -> RuntimeSettings:
    """Decide how contexts are made: with memory of ours and, where kernels are compiled at load time, with a cache.

    Args:
        loaded: The engine.
        cuda_graph: Whether the engine shall be replayed as a CUDA graph.
        kernels: What ``save_kernels`` gave an earlier time; ignored if it is from another GPU, driver or version.
    """
    trt = loaded.library.trt
    config = loaded.engine.create_runtime_config()
    if config is None:
        raise call_error(loaded.library, loaded.recorder, "make a runtime configuration")
    config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if not loaded.library.has_runtime_cache:
        return RuntimeSettings(config=config)
    cache = config.create_runtime_cache()
    if kernels:
        cache.deserialize(kernels)  # False: from another environment; the cache stays empty
    if not config.set_runtime_cache(cache):
        raise call_error(loaded.library, loaded.recorder, "use a cache of kernels")
    # tiles keep one shape, so its kernels are compiled at once instead of after some slow frames
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    if cuda_graph:
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return RuntimeSettings(config=config, cache=cache, captures_itself=True)


def save_kernels(settings: RuntimeSettings) -> bytes | None:
    """The kernels that were compiled on this GPU, for the next time; None where the library keeps none."""
    if settings.cache is None:
        return None
    memory = settings.cache.serialize()
    return None if memory is None else bytes(memory)
