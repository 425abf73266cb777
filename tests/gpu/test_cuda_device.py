"""The CUDA layer on a real GPU: memory, order, events, graphs, and errors that name what CUDA said."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, EngineError, InferenceFailed, OutOfDeviceMemory
from engines.gpu.cuda import CudaDevice, list_devices, open_device

pytestmark = pytest.mark.gpu

COUNT = 1 << 24
"""Bytes that are copied: some milliseconds, so that a missing wait shows."""


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device(0)


@pytest.fixture
def stream(device: CudaDevice) -> Iterator[Any]:
    stream = device.make_stream()
    yield stream
    stream.close()


@pytest.fixture
def content() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, COUNT, dtype=np.uint8)


def test_device_says_what_it_is(device: CudaDevice) -> None:
    listed = list_devices()[0]
    assert (listed.name, listed.compute_capability) == (device.name, device.compute_capability)
    assert device.compute_capability >= (5, 0)
    assert device.driver_version
    assert 0 < device.free_bytes() <= listed.total_bytes


def test_unknown_number_is_refused_with_the_known_ones(device: CudaDevice) -> None:
    with pytest.raises(BackendUnavailable, match="99") as caught:
        open_device(99)
    assert "cuda:0" in caught.value.hint


def test_bytes_come_back_as_they_went(device: CudaDevice, stream: Any, content: NDArray[np.uint8]) -> None:
    first, second = device.allocate(COUNT), device.allocate(COUNT)
    assert first.pointer % 256 == second.pointer % 256 == 0
    result = np.zeros_like(content)
    stream.upload(content, first.pointer)
    stream.copy(first.pointer, second.pointer, bytes=COUNT)
    stream.download(second.pointer, result)
    stream.record().wait()
    assert np.array_equal(result, content)
    for buffer in (first, second):
        buffer.close()
        buffer.close()


def test_copies_of_pinned_memory_are_asynchronous_and_an_event_waits_for_them(
    device: CudaDevice, stream: Any, content: NDArray[np.uint8]
) -> None:
    up, down, buffer = device.allocate_pinned(COUNT), device.allocate_pinned(COUNT), device.allocate(COUNT)
    up.array[:] = content
    down.array[:] = 0
    for _ in range(20):
        stream.upload(up.array, buffer.pointer)
        stream.download(buffer.pointer, down.array)
    stream.record().wait()
    assert np.array_equal(down.array, content)
    for part in (up, down, buffer):
        part.close()
        part.close()


def test_a_stream_waits_for_an_event_of_another(device: CudaDevice, content: NDArray[np.uint8]) -> None:
    source, buffer, result = device.allocate_pinned(COUNT), device.allocate(COUNT), device.allocate_pinned(COUNT)
    left, right = device.make_stream(), device.make_stream()
    for turn in range(8):
        source.array[:] = content + turn
        for _ in range(4):
            left.upload(source.array, buffer.pointer)
        right.wait_for(left.record())
        right.download(buffer.pointer, result.array)
        right.record().wait()
        assert np.array_equal(result.array, content + turn)
    for part in (left, right, source, buffer, result):
        part.close()


def test_timed_events_tell_how_long_the_work_between_them_took(device: CudaDevice, stream: Any) -> None:
    size = 8 * COUNT
    left, right = device.allocate(size), device.allocate(size)
    before, after, later, elsewhere = (device.make_timed_event() for _ in range(4))
    other = device.make_stream()
    stream.copy(left.pointer, right.pointer, bytes=size)
    stream.synchronize()
    started_s = time.perf_counter()
    before.record(stream)
    for _ in range(400):
        stream.copy(left.pointer, right.pointer, bytes=size)
    after.record(stream)
    with pytest.raises(InferenceFailed, match="NOT_READY"):
        after.seconds_since(before)
    other.wait_for(after)
    elsewhere.record(other)
    later.record(stream)
    for event in (later, elsewhere):
        event.wait()
    host_s = time.perf_counter() - started_s
    assert 0.5 * host_s < after.seconds_since(before) <= host_s + 1e-4
    assert 0 <= later.seconds_since(after) < 1e-3
    assert 0 <= elsewhere.seconds_since(after) < 1e-3
    before.record(stream)
    before.wait()
    assert before.seconds_since(later) > 0
    for part in (left, right, other):
        part.close()


def test_a_timed_event_that_was_not_recorded_has_no_time(device: CudaDevice, stream: Any) -> None:
    recorded = device.make_timed_event()
    recorded.record(stream)
    recorded.wait()
    with pytest.raises(InferenceFailed, match="cuEventElapsedTime"):
        recorded.seconds_since(device.make_timed_event())


def test_pinned_memory_is_told_from_other_memory(device: CudaDevice, content: NDArray[np.uint8]) -> None:
    pinned = device.allocate_pinned(COUNT)
    assert device.is_pinned(pinned.array)
    assert device.is_pinned(pinned.array[4096:].view(np.float32).reshape(3, -1)[:2])
    assert not device.is_pinned(content)
    pinned.close()


def test_too_much_memory_is_an_error_with_figures_and_the_device_works_on(device: CudaDevice, stream: Any) -> None:
    wanted = 2 * device.identity.total_bytes
    with pytest.raises(OutOfDeviceMemory) as caught:
        device.allocate(wanted)
    assert caught.value.needed_bytes == wanted
    assert 0 < caught.value.free_bytes < wanted
    assert caught.value.hint
    buffer = device.allocate(256)
    stream.upload(np.zeros(256, np.uint8), buffer.pointer)
    stream.synchronize()
    buffer.close()


def test_memory_is_given_back(device: CudaDevice) -> None:
    before = device.free_bytes()
    for _ in range(4):
        buffer = device.allocate(1 << 30)
        assert device.free_bytes() <= before - (1 << 30) + (64 << 20)
        buffer.close()
    assert device.free_bytes() >= before - (64 << 20)


def test_graph_replays_what_was_captured_with_the_memorys_present_content(
    device: CudaDevice, stream: Any, content: NDArray[np.uint8]
) -> None:
    source, middle, target = (device.allocate(COUNT) for _ in range(3))
    result = np.zeros_like(content)

    def enqueue() -> None:
        stream.copy(source.pointer, middle.pointer, bytes=COUNT)
        stream.copy(middle.pointer, target.pointer, bytes=COUNT)

    graph = stream.capture(enqueue)
    other = device.make_stream()
    for turn in range(3):
        other.upload(content + turn, source.pointer)
        graph.launch(other)
        other.download(target.pointer, result)
        other.synchronize()
        assert np.array_equal(result, content + turn)
    graph.close()
    graph.close()
    for part in (source, middle, target, other):
        part.close()


def test_failing_capture_raises_what_happened_and_leaves_the_stream_usable(device: CudaDevice, stream: Any) -> None:
    buffer = device.allocate(256)

    def fail() -> None:
        stream.copy(buffer.pointer, buffer.pointer + 128, bytes=64)
        raise InferenceFailed("no")

    with pytest.raises(InferenceFailed, match="no"):
        stream.capture(fail)
    with pytest.raises(InferenceFailed, match="CUDA_ERROR_STREAM_CAPTURE"):
        stream.capture(stream.synchronize)
    stream.upload(np.zeros(256, np.uint8), buffer.pointer)
    stream.synchronize()
    buffer.close()


def test_other_threads_may_allocate_while_one_captures(device: CudaDevice, stream: Any) -> None:
    buffer = device.allocate(256)
    failures: list[BaseException] = []

    def allocate() -> None:
        try:
            device.allocate(1 << 20).close()
        except EngineError as exc:
            failures.append(exc)

    def enqueue() -> None:
        stream.copy(buffer.pointer, buffer.pointer + 128, bytes=64)
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join(30)

    graph = stream.capture(enqueue)
    graph.launch(stream)
    stream.synchronize()
    assert failures == []
    graph.close()
    buffer.close()


def test_objects_work_in_threads_that_never_heard_of_the_device(
    device: CudaDevice, stream: Any, content: NDArray[np.uint8]
) -> None:
    result = np.zeros_like(content)

    def work() -> None:
        buffer = device.allocate(COUNT)
        stream.upload(content, buffer.pointer)
        stream.download(buffer.pointer, result)
        stream.record().wait()
        buffer.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert np.array_equal(result, content)


def test_waiting_lets_other_python_threads_run(device: CudaDevice, stream: Any) -> None:
    """A host thread that blocks on an event holds no GIL."""
    pinned, buffer = device.allocate_pinned(1 << 28), device.allocate(1 << 28)
    ticks = []
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            ticks.append(None)

    for _ in range(20):
        stream.upload(pinned.array, buffer.pointer)
    event = stream.record()
    thread = threading.Thread(target=count)
    thread.start()
    event.wait()
    stop.set()
    thread.join(30)
    assert len(ticks) > 1000
    pinned.close()
    buffer.close()


def test_errors_carry_cudas_own_name(stream: Any) -> None:
    with pytest.raises(InferenceFailed, match="CUDA_ERROR_INVALID_VALUE"):
        stream.download(0, np.zeros(16, np.uint8))


def test_a_stream_of_torch_and_its_memory_are_usable_in_place(device: CudaDevice) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.cuda.Stream()
    tensor = torch.zeros(1024, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    for stream in (theirs, theirs.cuda_stream):
        ours = device.wrap_stream(stream)
        assert ours.handle == theirs.cuda_stream
        ours.upload(np.full(1024, 9, np.uint8), tensor.data_ptr())
        ours.close()
    theirs.synchronize()
    assert bool((tensor == 9).all())


def test_something_that_is_no_stream_is_refused(device: CudaDevice) -> None:
    with pytest.raises(EngineError, match="str"):
        device.wrap_stream("stream")


def test_many_events_are_given_back(device: CudaDevice, stream: Any) -> None:
    stream.record().wait()
    gc.collect()
    before = device.free_bytes()
    for _ in range(20_000):
        stream.record()
    gc.collect()
    assert device.free_bytes() >= before - (64 << 20)
