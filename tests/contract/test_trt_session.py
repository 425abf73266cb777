"""The TensorRT runtime keeps the runner contract with every version of both libraries, and misuses neither them nor the
GPU: over doubles that are built from the real modules' signatures and notice what the real ones let pass.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers.runner_contract import RunnerContract
from helpers.trt_double import break_call, mend_calls
from helpers.trt_gate import FLAVOURS
from helpers.trt_world import World, open_on, plan_of, tiles_of, wanted_of
from numpy.typing import NDArray

from engines.errors import (
    EngineError,
    EngineMismatch,
    InferenceFailed,
    OutOfDeviceMemory,
    UnsupportedShape,
)
from engines.trt.slot import MAX_GRAPHS
from engines.verify import run_once


class OverDouble(RunnerContract):
    """The runner contract, from the name of the backend down to the fake GPU."""

    __test__ = False
    flavour: ClassVar[str]
    precisions = ("fp32", "fp16")
    refused_precision = "bf16"
    refused_model = "nearest-x4"
    world: World

    @pytest.fixture(autouse=True)
    def _world(self, monkeypatch: pytest.MonkeyPatch, engine_cache: Path) -> Iterator[None]:
        self.world = World(self.flavour, compute_capability=(7, 5))
        self.world.install(monkeypatch)
        monkeypatch.setenv("XDG_CACHE_HOME", str(engine_cache / self.flavour))
        yield
        self.world.check_clean()

    def to_device(self, array: NDArray[Any]) -> Any:
        return self.world.array(array)

    def to_host(self, array: Any) -> NDArray[Any]:
        return array.peek()

    def stream(self) -> Any:
        return self.world.stream()


class TestTensorRt1013(OverDouble):
    __test__ = True
    backend = "tensorrt"
    flavour = "tensorrt-10.13"


class TestTensorRt114(OverDouble):
    __test__ = True
    backend = "tensorrt"
    flavour = "tensorrt-11.4"


class TestTensorRtRtx(OverDouble):
    __test__ = True
    backend = "tensorrt_rtx"
    flavour = "tensorrt_rtx-1.7"


@pytest.fixture(scope="module")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module, so that each shape is built and compared once for each flavour."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(params=FLAVOURS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A GPU with one library; whatever a test leaves behind is an error."""
    world = World(request.param)
    yield world
    world.check_clean()


def test_computes_what_the_plan_holds(world: World) -> None:
    plan = plan_of(world)
    with open_on(world, plan) as session:
        tiles = tiles_of(session)
        np.testing.assert_allclose(run_once(session, tiles), wanted_of(plan, tiles), atol=1e-6)


def test_infer_returns_before_anything_is_computed(world: World) -> None:
    with open_on(world, plan_of(world)) as session:
        out = np.zeros(session.spec.output_shape, dtype=np.float32)
        completion = session.infer(tiles_of(session), out=out)
        assert not out.any()
        assert not any("host waits" in line for line in world.gpu.log)
        completion.wait()
        assert out.any()


def test_tiles_may_be_overwritten_after_the_completion_only_if_they_are_pinned(world: World) -> None:
    """Pageable tiles are copied when ``infer`` is called; pinned ones are read by the GPU later, without a copy."""
    plan = plan_of(world)
    with open_on(world, plan) as session:
        tiles = tiles_of(session)
        wanted = run_once(session, tiles)
        out = np.empty_like(wanted)
        completion = session.infer(tiles, out=out)
        tiles[:] = 0
        completion.wait()
        assert np.array_equal(out, wanted)


def test_pinned_arrays_of_the_caller_are_used_without_a_copy(world: World) -> None:
    with open_on(world, plan_of(world)) as session:
        tiles = tiles_of(session)
        wanted = run_once(session, tiles)
        pinned = world.gpu.allocate_pinned(wanted.nbytes)
        out = pinned.array.view(np.float32).reshape(wanted.shape)
        completion = session.infer(tiles, out=out)
        completion.done.wait()  # what the GPU wrote is there before the completion copies anything
        assert np.array_equal(out, wanted)
        completion.wait()
        session.close()
        pinned.close()


def test_arrays_on_the_gpu_are_bound_without_copy_or_wait(world: World) -> None:
    plan = plan_of(world)
    with open_on(world, plan) as session:
        tiles = tiles_of(session)
        stream = world.stream()
        source, target = world.array(tiles), world.array(np.zeros(session.spec.output_shape, np.float32))
        world.gpu.log.clear()
        completions = [session.infer(source, out=target, stream=stream) for _ in range(6)]
        assert not any(word in line for line in world.gpu.log for word in ("upload", "download", "host waits"))
        assert not target.peek().any()
        completions[-1].wait()
        np.testing.assert_allclose(target.peek(), wanted_of(plan, tiles), atol=1e-6)


def test_the_callers_stream_orders_what_comes_before_and_after(world: World) -> None:
    """Upload, inference and download in one stream, without a wait between them, give the right bytes."""
    plan = plan_of(world)
    with open_on(world, plan) as session:
        tiles = tiles_of(session)
        stream = world.stream()
        source = world.array(np.zeros_like(tiles))
        target = world.array(np.zeros(session.spec.output_shape, np.float32))
        result = np.zeros(session.spec.output_shape, np.float32)
        for _ in range(3):
            stream.upload(tiles, source.buffer.pointer)
            session.infer(source, out=target, stream=stream.handle)
            stream.download(target.buffer.pointer, result)
        stream.synchronize()
        np.testing.assert_allclose(result, wanted_of(plan, tiles), atol=1e-6)


def test_one_slot_is_handed_from_stream_to_stream_and_from_host_to_gpu_arrays(world: World) -> None:
    """The context's memory is shared by all that a slot does, so every hand-over needs an order. The double sees none
    missing."""
    plan = plan_of(world)
    with open_on(world, plan, slots=1) as session:
        tiles = tiles_of(session)
        wanted = wanted_of(plan, tiles)
        out = np.zeros_like(wanted)
        targets = [world.array(np.zeros_like(wanted)) for _ in range(3)]
        sources = [world.array(tiles) for _ in range(3)]
        last = []
        for _ in range(3):
            last = [
                session.infer(source, out=target, stream=world.stream())
                for source, target in zip(sources, targets, strict=True)
            ]
            last.append(session.infer(tiles, out=out))
            for completion in last:
                completion.wait()
        for result in (out, *(target.peek() for target in targets)):
            np.testing.assert_allclose(result, wanted, atol=1e-6)


def test_every_slot_has_memory_for_the_actual_shape_alone(world: World) -> None:
    """A dynamic engine's contexts take what this shape needs, not what the profile's maximum would."""
    plan = plan_of(world, least=(1, 3, 8, 8), most=(4, 3, 64, 64))
    with open_on(world, plan, height=16, width=24, slots=3):
        sizes = [part.content.nbytes for part in world.gpu.live.values()]
        assert sizes == [16 * 24 * 8] * 3


def test_staging_memory_is_taken_for_host_arrays_only(world: World) -> None:
    with open_on(world, plan_of(world)) as session:
        source = world.array(tiles_of(session))
        target = world.array(np.zeros(session.spec.output_shape, np.float32))
        session.infer(source, out=target, stream=world.stream()).wait()
        assert world.gpu.pinned == []
        run_once(session, tiles_of(session))
        assert len(world.gpu.pinned) == 2


def test_graph_is_replayed_for_addresses_that_come_again(world: World) -> None:
    """The first call is plain, the second records. TensorRT for RTX has graphs of its own."""
    plan = plan_of(world)
    with open_on(world, plan, slots=1) as session:
        tiles = tiles_of(session)
        results = [run_once(session, tiles) for _ in range(4)]
        assert all(np.array_equal(results[0], result) for result in results)
        replays = sum(line.startswith("graph@") for line in world.gpu.log)
        assert replays == (0 if world.library.has_runtime_cache else 3)


def test_graphs_can_be_switched_off(world: World) -> None:
    with open_on(world, plan_of(world), slots=1, cuda_graph=False) as session:
        for _ in range(3):
            run_once(session, tiles_of(session))
        assert not any(line.startswith("graph@") for line in world.gpu.log)


def test_graphs_of_a_caller_who_never_reuses_buffers_do_not_pile_up(world: World) -> None:
    plan = plan_of(world)
    with open_on(world, plan, slots=1) as session:
        tiles = tiles_of(session)
        stream = world.stream()
        for _ in range(MAX_GRAPHS + 3):
            source, target = world.array(tiles), world.array(np.zeros(session.spec.output_shape, np.float32))
            for _ in range(2):
                completion = session.infer(source, out=target, stream=stream)
            completion.wait()
            np.testing.assert_allclose(target.peek(), wanted_of(plan, tiles), atol=1e-6)
        assert len(world.gpu.graphs) <= MAX_GRAPHS


@pytest.mark.parametrize("world", [name for name in FLAVOURS if "rtx" not in name], indirect=True)
def test_engine_that_cannot_be_captured_runs_without_a_graph(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Any, enqueue: Callable[[], None]) -> Any:
        raise InferenceFailed("CUDA failed: cuStreamEndCapture gave CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")

    with open_on(world, plan_of(world), slots=1) as session:
        first = run_once(session, tiles_of(session))
        monkeypatch.setattr("helpers.gpu_double.FakeStream.capture", refuse)
        assert np.array_equal(run_once(session, tiles_of(session)), first)
        assert np.array_equal(run_once(session, tiles_of(session)), first)
    assert caplog.text.count("CAPTURE_INVALIDATED") == 1


@pytest.mark.parametrize(
    ("shape", "named"), [((1, 65, 8), "maximum of 64"), ((5, 8, 8), "maximum of 4"), ((1, 8, 7), "minimum of 8")]
)
def test_shape_beyond_the_profile_is_refused_with_its_limit(
    world: World, shape: tuple[int, int, int], named: str
) -> None:
    plan = plan_of(world, least=(1, 3, 8, 8), most=(4, 3, 64, 64))
    batch, height, width = shape
    with pytest.raises(UnsupportedShape, match=named) as caught:
        open_on(world, plan, batch=batch, height=height, width=width)
    assert caught.value.hint


def test_engine_of_another_enlargement_or_dtype_is_refused(world: World) -> None:
    plan = plan_of(world)
    with pytest.raises(UnsupportedShape, match="not \\(1, 3, 16, 24\\)"):
        open_on(world, plan, scale=2)
    with pytest.raises(UnsupportedShape, match="not float16"):
        open_on(world, plan, io_dtype="float16")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda plan: plan[:-40], "cut off|damaged", id="truncated"),
        pytest.param(lambda plan: b"not an engine at all" * 20, "damaged", id="garbage"),
        pytest.param(lambda plan: b"", "empty|no engine at all", id="empty"),
    ],
)
def test_damaged_engine_is_named_as_such(world: World, spoil: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(EngineMismatch, match=words) as caught:
        open_on(world, spoil(plan_of(world)))
    assert "built anew" in caught.value.hint


def test_engine_of_another_version_or_gpu_is_named_as_such(world: World) -> None:
    with pytest.raises(EngineMismatch, match="another version"):
        open_on(world, plan_of(world, version="9.9.9.9"))
    with pytest.raises(EngineMismatch, match=r"not compiled for this GPU|compiled for another GPU"):
        open_on(world, plan_of(world, compute_capabilities=("12.0",)))


@pytest.mark.parametrize(
    "call", ["create_execution_context", "set_input_shape", "update_device_memory_size_for_shapes"]
)
def test_refusal_while_opening_gives_the_librarys_words_and_leaks_nothing(world: World, call: str) -> None:
    break_call(world.trt, call, "the dog ate it")
    with pytest.raises(InferenceFailed, match="the dog ate it"):
        open_on(world, plan_of(world))


def test_out_of_memory_words_of_the_library_are_that_error(world: World) -> None:
    break_call(world.trt, "create_execution_context", "Error Code 2: OutOfMemory (Requested size was 123 bytes)")
    with pytest.raises(OutOfDeviceMemory) as caught:
        open_on(world, plan_of(world))
    assert "smaller tiles" in caught.value.hint


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_too_little_device_memory_is_an_error_with_figures_and_leaks_nothing(flavour: str) -> None:
    world = World(flavour, total_bytes=8 * 12 * 8 + 100)
    with pytest.raises(OutOfDeviceMemory) as caught:
        open_on(world, plan_of(world), slots=2)
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (8 * 12 * 8, 100)
    with open_on(world, plan_of(world), slots=1) as session, pytest.raises(OutOfDeviceMemory):
        run_once(session, tiles_of(session))
    world.check_clean()


@pytest.mark.parametrize("call", ["set_tensor_address", "execute_async_v3"])
def test_refused_inference_is_an_error_and_the_next_one_works(world: World, call: str) -> None:
    with open_on(world, plan_of(world), cuda_graph=False) as session:
        tiles = tiles_of(session)
        wanted = run_once(session, tiles)
        for _ in range(session.spec.slots):
            break_call(world.trt, call, "no")
            with pytest.raises(InferenceFailed, match="no"):
                run_once(session, tiles)
            mend_calls(world.trt)
        assert np.array_equal(run_once(session, tiles), wanted)


def test_sticky_gpu_error_reaches_every_completion_and_close_does_not_hide_it(world: World) -> None:
    session = open_on(world, plan_of(world))
    tiles = tiles_of(session)
    outs = [np.empty(session.spec.output_shape, np.float32) for _ in range(2)]
    completions = [session.infer(tiles, out=out) for out in outs]
    world.gpu.failure = "CUDA_ERROR_ILLEGAL_ADDRESS"
    for completion in completions * 2:
        with pytest.raises(InferenceFailed, match="ILLEGAL_ADDRESS"):
            completion.wait()
    with pytest.raises(InferenceFailed, match="ILLEGAL_ADDRESS"):
        session.infer(tiles, out=outs[0])
    world.gpu.failure = None
    for stream in list(world.gpu.streams.values()):
        stream.drain(stream.pushed)
    session.close()


def test_default_stream_and_no_stream_are_refused(world: World) -> None:
    with open_on(world, plan_of(world)) as session:
        source = world.array(tiles_of(session))
        target = world.array(np.zeros(session.spec.output_shape, np.float32))
        with pytest.raises(EngineError, match="stream"):
            session.infer(source, out=target)
        for handle in (0, 1, 2):
            with pytest.raises(EngineError, match="default stream"):
                session.infer(source, out=target, stream=handle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"shape": (1, 3, 8, 11)}, "takes", id="shape"),
        pytest.param({"typestr": "<f2"}, "takes", id="dtype"),
        pytest.param({"strides": (1152, 384, 4, 32)}, "contiguous", id="strides"),
        pytest.param({"data": (0x1004, False)}, "multiple of 256", id="alignment"),
    ],
)
def test_wrong_gpu_array_is_refused_before_anything_runs(world: World, change: dict[str, Any], words: str) -> None:
    class Spoiled:
        def __init__(self, good: Any) -> None:
            self.__cuda_array_interface__ = good.__cuda_array_interface__ | change

    with open_on(world, plan_of(world)) as session:
        target = world.array(np.zeros(session.spec.output_shape, np.float32))
        source = Spoiled(world.array(tiles_of(session)))
        with pytest.raises(UnsupportedShape, match=words):
            session.infer(source, out=target, stream=world.stream())


def test_kernels_compiled_on_this_gpu_are_kept_and_used_again() -> None:
    world = World("tensorrt_rtx-1.7")
    kept: list[bytes] = []
    plan = plan_of(world)
    with open_on(world, plan, keep_kernels=kept.append) as session:
        run_once(session, tiles_of(session))
    assert len(kept) == 1
    assert json.loads(kept[0])[1]
    with open_on(world, plan, kernels=kept[0], keep_kernels=kept.append):
        pass
    assert len(kept) == 1
    with open_on(world, plan, kernels=b"of another GPU", keep_kernels=kept.append):
        pass
    assert kept[1] == kept[0]
    world.check_clean()


def test_session_is_opened_in_one_thread_and_used_in_another(world: World) -> None:
    plan = plan_of(world)
    results = []
    with open_on(world, plan) as session:
        tiles = tiles_of(session)
        thread = threading.Thread(target=lambda: results.append(run_once(session, tiles)))
        thread.start()
        thread.join(30)
        np.testing.assert_allclose(results[0], wanted_of(plan, tiles), atol=1e-6)
