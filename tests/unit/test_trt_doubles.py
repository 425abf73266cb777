"""What the doubles of TensorRT and the GPU notice: tests over them are worth as much as this."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.gpu_double import FakeGpu, GpuMisuse
from helpers.trt_double import make_trt
from helpers.trt_gate import FLAVOURS, load_flavour
from helpers.trt_plan import TrtMisuse
from helpers.trt_world import World, plan_of

import engines.backends.tensorrt as backend_module
from engines.trt.library import library_of

ENGINES = Path(backend_module.__file__).resolve().parents[1]


@pytest.fixture(params=FLAVOURS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A GPU with one library; whatever a test leaves behind is an error."""
    world = World(request.param)
    yield world
    world.check_clean()


GUARDED = {
    "ComputeCapability": "TrtLibrary.targets and builds_for_targets",
    "CudaGraphStrategy": "TrtLibrary.has_runtime_cache",
    "DynamicShapesKernelSpecializationStrategy": "TrtLibrary.has_runtime_cache",
    "EngineInvalidityDiagnostics": "TrtLibrary.has_runtime_cache, or the method get_engine_validity is there",
    "EngineValidity": "the method get_engine_validity is there",
}
"""Names that not every version has, and what decides that they are not looked up there."""


def _names_of(tree: ast.Module) -> set[str]:
    """Names that are looked up in the module: ``trt.A``, ``self._trt.A.B``, ``library.trt.A``, ``module.A``."""
    found = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute):
            prefix, _, dotted = ast.unparse(part).partition("trt.")
            if not dotted:
                prefix, _, dotted = ast.unparse(part).partition("module.")
            if dotted and not dotted.startswith("_") and (not prefix or prefix.endswith((".", "._"))):
                found.add(".".join(dotted.split(".")[:2]))
    return {name for name in found if name[0].isupper()}


def test_every_name_of_the_library_that_is_used_exists_in_every_version_or_is_guarded() -> None:
    files = [*sorted((ENGINES / "trt").glob("*.py")), ENGINES / "backends" / "tensorrt.py"]
    used = set().union(*(_names_of(ast.parse(file.read_text())) for file in files))
    assert {"Runtime", "OnnxParser", "ILogger.Severity", "DataType.HALF"} <= used
    lacking = {name: [one for one in FLAVOURS if not load_flavour(one).has(name)] for name in used}
    nowhere = {name for name, flavours in lacking.items() if len(flavours) == len(FLAVOURS)}
    assert nowhere == set()
    assert {name.partition(".")[0] for name, flavours in lacking.items() if flavours} == set(GUARDED)


class TestDoubles:
    @pytest.fixture
    def gpu(self) -> FakeGpu:
        return FakeGpu()

    def test_missing_order_between_streams_is_a_race(self, gpu: FakeGpu) -> None:
        buffer = gpu.allocate(16)
        left, right = gpu.make_stream(), gpu.make_stream()
        left.upload(np.ones(16, np.uint8), buffer.pointer)
        with pytest.raises(GpuMisuse, match="race"):
            right.download(buffer.pointer, np.zeros(16, np.uint8))
        right.wait_for(left.record())
        right.download(buffer.pointer, np.zeros(16, np.uint8))

    def test_nothing_happens_before_somebody_waits(self, gpu: FakeGpu) -> None:
        buffer, stream = gpu.allocate(4), gpu.make_stream()
        target = np.zeros(4, np.uint8)
        stream.upload(np.ones(4, np.uint8), buffer.pointer)
        stream.download(buffer.pointer, target)
        event = stream.record()
        assert not target.any()
        event.wait()
        assert target.all()

    def test_use_after_free_free_in_use_and_leaks_are_errors(self, gpu: FakeGpu) -> None:
        buffer, stream = gpu.allocate(4), gpu.make_stream()
        with pytest.raises(GpuMisuse, match="not given back"):
            gpu.check_clean()
        stream.upload(np.ones(4, np.uint8), buffer.pointer)
        with pytest.raises(GpuMisuse, match="in flight"):
            buffer.close()
        with pytest.raises(GpuMisuse, match="not in any live"):
            stream.upload(np.ones(4, np.uint8), buffer.pointer)

    def test_default_and_closed_streams_are_errors(self, gpu: FakeGpu) -> None:
        buffer, stream = gpu.allocate(4), gpu.make_stream()
        stream.close()
        for handle in (0, 1, 2, stream.handle):
            with pytest.raises(GpuMisuse):
                gpu.enqueue(handle, lambda: None, name="kernel", writes=((buffer.pointer, 4),))

    @pytest.mark.parametrize("flavour", FLAVOURS)
    def test_module_offers_what_the_real_one_does_and_nothing_else(self, flavour: str) -> None:
        trt = make_trt(flavour, None)
        truth = load_flavour(flavour)
        assert hasattr(trt, "ComputeCapability") == ("rtx" in flavour)
        assert hasattr(trt.BuilderFlag, "FP16") == ("10." in flavour)
        assert int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == (1 if "10." in flavour else 0)
        with pytest.raises(AttributeError):
            trt.build_engine_quickly  # noqa: B018
        for name in ("Runtime", "IExecutionContext", "ICudaEngine", "Builder"):
            offered = {member for member in dir(getattr(trt, name)) if not member.startswith("_")}
            members = truth.classes[name]
            assert {member for member in members["methods"] if not member.startswith("_")} <= offered
            assert set(members["properties"]) <= offered

    def test_calls_that_fit_no_signature_are_refused(self, gpu: FakeGpu) -> None:
        trt = make_trt("tensorrt-11.4", gpu)
        with pytest.raises(TypeError):
            trt.Runtime("no logger")
        runtime = trt.Runtime(library_of("tensorrt", trt).log.logger)
        with pytest.raises(TypeError):
            runtime.deserialize_cuda_engine("text")
        with pytest.raises(AttributeError):
            runtime.my_own = 1
        with pytest.raises(AttributeError):
            runtime.get_engine_validity(b"")

    def test_enqueue_before_addresses_or_memory_is_refused_as_by_the_real_one(self, world: World) -> None:
        trt = world.trt
        engine = trt.Runtime(world.library.log.logger).deserialize_cuda_engine(plan_of(world))
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        context = engine.create_execution_context(config)
        stream = world.stream()
        assert context.execute_async_v3(stream.handle) is False
        assert context.set_input_shape("input", (1, 3, 9, 12)) is False
        with pytest.raises(TrtMisuse, match="aligned"):
            context.set_tensor_address("input", 0x1010)

    def test_one_context_in_two_threads_is_misuse(self, world: World) -> None:
        engine = world.trt.Runtime(world.library.log.logger).deserialize_cuda_engine(plan_of(world))
        context = engine.create_execution_context()
        with context._used(), pytest.raises(TrtMisuse, match="two threads"):
            context.set_tensor_address("input", 0x1000)

    def test_builders_children_die_with_it(self) -> None:
        trt = make_trt("tensorrt-10.13", FakeGpu())
        logger = library_of("tensorrt", trt).log.logger
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        del builder
        gc.collect()
        with pytest.raises(TrtMisuse, match="after its builder died"):
            network.num_inputs  # noqa: B018
