"""Pools whose buffers a GPU may still be using when they come back."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from helpers.gpu_double import FakeGpu, GpuMisuse

from pipeline.device.layout import PlaneLayout
from pipeline.device.pools import DevicePool, PinnedPool
from pipeline.device.streams import open_stream
from pipeline.errors import SetupError
from pipeline.frames import SampleFormat
from pipeline.graph.channel import Aborted


def device_pool(gpu: FakeGpu, *, count: int = 3) -> DevicePool:
    return DevicePool("tiles", device=gpu, shape=(2, 3, 4, 5), dtype="float32", count=count)


def test_all_memory_is_taken_at_the_start_and_given_back_at_the_end() -> None:
    gpu = FakeGpu()
    free = gpu.free_bytes()
    with device_pool(gpu) as pool, PinnedPool("frames", device=gpu, shape=(7,), dtype="uint8", count=2) as frames:
        assert (pool.bytes, frames.bytes) == (3 * 480, 14)
        assert gpu.free_bytes() == free - pool.bytes
        assert (pool.free_count, frames.free_count) == (3, 2)
    pool.close()
    assert gpu.free_bytes() == free
    gpu.check_clean()


def test_what_does_not_fit_is_refused_with_the_numbers_and_leaves_nothing_behind() -> None:
    gpu = FakeGpu(total_bytes=1000)
    with pytest.raises(SetupError, match=r"3 buffers x \(2, 3, 4, 5\) float32 .* after 2 of them") as caught:
        device_pool(gpu)
    assert "tile.max_px" in caught.value.hint
    gpu.check_clean()


def test_an_engine_sees_shape_type_and_address() -> None:
    gpu = FakeGpu()
    with device_pool(gpu) as pool:
        lease = pool.acquire()
        seen = lease.array.__cuda_array_interface__
        assert seen["shape"] == (2, 3, 4, 5)
        assert seen["typestr"] == "<f4"
        assert gpu.find(seen["data"][0], lease.array.bytes)
        assert lease.array.row_bytes == 240
        lease.release()


def test_the_buffer_that_was_free_for_longest_comes_next() -> None:
    with device_pool(FakeGpu()) as pool:
        leases = [pool.acquire() for _ in range(3)]
        order = [leases[index].array.pointer for index in (2, 0, 1)]
        for index in (2, 0, 1):
            leases[index].release()
        again = [pool.acquire() for _ in range(3)]
        assert [lease.array.pointer for lease in again] == order
        for lease in again:
            lease.release()


def test_the_next_user_waits_on_the_gpu_for_the_last_one() -> None:
    gpu = FakeGpu()
    with device_pool(gpu, count=1) as pool, open_stream(gpu) as first, open_stream(gpu) as second:
        lease = pool.acquire()
        ones = np.ones(480, np.uint8)
        first.upload(ones, lease.array.pointer)
        lease.release(after=first.record())
        lease = pool.acquire()
        with pytest.raises(GpuMisuse, match="race"):
            second.upload(ones, lease.array.pointer)
        lease.order(second)
        second.upload(ones, lease.array.pointer)
        lease.release(after=second.record())
    gpu.check_clean()


def test_a_lease_that_nobody_used_keeps_what_it_had_to_wait_for() -> None:
    gpu = FakeGpu()
    with device_pool(gpu, count=1) as pool, open_stream(gpu) as stream:
        lease = pool.acquire()
        event = stream.record()
        lease.release(after=event)
        pool.acquire().release()
        last = pool.acquire()
        assert last.free_after is event
        last.release()


def test_a_lease_is_released_once_and_not_used_afterwards() -> None:
    with device_pool(FakeGpu()) as pool:
        lease = pool.acquire()
        lease.release()
        with pytest.raises(RuntimeError, match="released"):
            lease.release()
        with pytest.raises(RuntimeError, match="released"):
            _ = lease.array
        assert pool.free_count == 3


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_shared_buffer_comes_back_when_all_have_let_go(last: int) -> None:
    """Whoever is the last, with the event of the lease."""
    gpu = FakeGpu()
    stream = gpu.make_stream()
    with DevicePool("p", device=gpu, shape=(4,), dtype="uint8", count=1) as pool:
        lease = pool.acquire()
        share, other, read = lease.share(), lease.share(), stream.record()
        releases = [lambda: lease.release(after=read), share.release, other.release]
        final = releases.pop(last)
        for release in releases:
            release()
        assert pool.free_count == 0
        final()
        assert pool.free_count == 1
        assert pool.acquire().free_after is read
        with pytest.raises(RuntimeError, match="released before"):
            share.release()
        with pytest.raises(RuntimeError, match="was released"):
            lease.share()
    stream.close()


def test_an_abort_wakes_whoever_waits_for_a_buffer() -> None:
    with device_pool(FakeGpu(), count=1) as pool:
        pool.acquire()
        ended: list[type[BaseException]] = []

        def wait() -> None:
            try:
                pool.acquire()
            except Aborted as exc:
                ended.append(type(exc))

        thread = threading.Thread(target=wait)
        thread.start()
        deadline = time.monotonic() + 5
        while not pool.is_waiting(thread) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert pool.waited_s(thread) >= 0
        pool.abort()
        thread.join(5)
        assert ended == [Aborted]


def test_many_threads_never_hold_one_buffer_together() -> None:
    holders: dict[int, int] = {}
    clashes: list[int] = []
    with device_pool(FakeGpu(), count=2) as pool:

        def work() -> None:
            for _ in range(300):
                lease = pool.acquire()
                pointer = lease.array.pointer
                if holders.setdefault(pointer, threading.get_ident()) != threading.get_ident():
                    clashes.append(pointer)
                del holders[pointer]
                lease.release()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        assert pool.free_count == 2
    assert clashes == []


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (23, 41), (64, 128)])
def test_planes_lie_alike_on_both_sides(subsampling: str, bit_depth: int, height: int, width: int) -> None:
    sample_format = SampleFormat(matrix="bt709", subsampling=subsampling, bit_depth=bit_depth)  # type: ignore[arg-type]
    layout = PlaneLayout(format=sample_format, height=height, width=width)
    block = np.zeros(layout.bytes, np.uint8)
    on_host, on_device = layout.on_host(block), layout.on_device(0x1000)
    on_device.check(sample_format, height=height, width=width)
    first = block.ctypes.data
    for host, device in zip(on_host, on_device.planes, strict=True):
        assert host.shape == (device.height, device.width)
        assert host.dtype == sample_format.dtype
        assert host.ctypes.data - first == device.pointer - 0x1000
        assert host.strides == (device.pitch_bytes, host.itemsize)
        assert device.pointer % 256 == 0
        host[...] = 1  # inside the block
    assert sum(plane.size for plane in on_host) == np.count_nonzero(block.view(sample_format.dtype))
