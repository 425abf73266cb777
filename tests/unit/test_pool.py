"""Buffers: allocated at once, handed out one by one, given back exactly once."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest
from helpers.fakes import CollectSink, CountingPool, CountSource, Forward, release

from pipeline.errors import GraphFailed, SetupError, StallError
from pipeline.graph.channel import Aborted
from pipeline.graph.pool import ALIGNMENT_BYTES, BufferPool, Pool, plan_buffer_count
from pipeline.graph.runtime import run_graph


def make_pool(count: int = 2) -> BufferPool:
    return BufferPool("tiles", shape=(3, 5), dtype=np.float32, count=count)


def wait_until_blocked(pool: Pool, thread: threading.Thread) -> None:
    deadline_s = time.perf_counter() + 5
    while not pool.is_waiting(thread):
        assert time.perf_counter() < deadline_s
        time.sleep(0.001)


def test_a_lease_is_an_aligned_contiguous_array_of_the_shape_asked_for() -> None:
    pool = make_pool()
    array = pool.acquire().array
    assert (array.shape, array.dtype) == ((3, 5), np.float32)
    assert array.flags.c_contiguous
    assert array.ctypes.data % ALIGNMENT_BYTES == 0


def test_bytes_are_what_the_buffers_hold() -> None:
    assert make_pool(count=2).bytes == 2 * 3 * 5 * 4


def test_buffers_in_use_never_overlap() -> None:
    pool = make_pool(count=3)
    leases = [pool.acquire() for _ in range(3)]
    for value, lease in enumerate(leases):
        lease.array.fill(value)
    assert [float(lease.array.mean()) for lease in leases] == [0.0, 1.0, 2.0]


def test_a_released_buffer_can_be_had_again() -> None:
    pool = make_pool(count=1)
    for _ in range(3):
        assert pool.free_count == 1
        lease = pool.acquire()
        assert pool.free_count == 0
        lease.release()


def test_releasing_twice_is_an_error_and_frees_nothing() -> None:
    pool = make_pool(count=1)
    lease = pool.acquire()
    lease.release()
    with pytest.raises(RuntimeError, match="was released"):
        lease.release()
    assert pool.free_count == 1


def test_the_array_of_a_released_lease_is_out_of_reach() -> None:
    lease = make_pool().acquire()
    lease.release()
    with pytest.raises(RuntimeError, match="another stage may own"):
        _ = lease.array


def test_acquire_waits_for_a_release_and_the_wait_belongs_to_its_thread() -> None:
    pool = make_pool(count=1)
    held = pool.acquire()
    thread = threading.Thread(target=lambda: pool.acquire().release())
    thread.start()
    wait_until_blocked(pool, thread)
    time.sleep(0.02)
    assert pool.waited_s(thread) >= 0.02
    held.release()
    thread.join(5)
    assert not thread.is_alive()
    assert not pool.is_waiting(thread)
    assert pool.waited_s(thread) >= 0.02
    assert pool.waited_s(threading.current_thread()) == 0


@pytest.mark.parametrize(("call", "expected"), [("abort", Aborted), ("close", RuntimeError)])
def test_abort_and_close_wake_whoever_waits(call: str, expected: type[BaseException]) -> None:
    pool = make_pool(count=1)
    pool.acquire()
    caught: list[BaseException] = []

    def acquire() -> None:
        try:
            pool.acquire()
        except (Aborted, RuntimeError) as exc:
            caught.append(exc)

    thread = threading.Thread(target=acquire)
    thread.start()
    wait_until_blocked(pool, thread)
    getattr(pool, call)()
    thread.join(5)
    assert [type(exc) for exc in caught] == [expected]


def test_after_an_abort_even_a_free_buffer_is_refused_and_leases_may_come_back_or_not() -> None:
    pool = make_pool(count=2)
    lease = pool.acquire()
    pool.abort()
    pool.abort()
    with pytest.raises(Aborted, match="pool tiles"):
        pool.acquire()
    lease.release()
    assert pool.free_count == 2


def test_a_closed_pool_lets_its_memory_go() -> None:
    pool = make_pool()
    lease = pool.acquire()
    pool.abort()
    pool.close()
    pool.close()
    lease.release()
    assert pool.free_count == 0


def test_closing_with_buffers_out_says_how_many_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), make_pool(count=3) as pool:
        pool.acquire()
    assert "1 of 3 buffers were never released" in caplog.text


def test_closing_with_all_buffers_back_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), make_pool() as pool:
        pool.acquire().release()
    assert caplog.text == ""


@pytest.mark.parametrize("length", [2**44, 2**62])
def test_too_little_memory_is_a_setup_error_with_the_arithmetic(length: int) -> None:
    with pytest.raises(SetupError) as caught:
        BufferPool("frames", shape=(3, length), dtype=np.float32, count=5)
    assert caught.value.missing == "memory"
    assert caught.value.hint
    assert f"5 buffers x (3, {length}) float32" in str(caught.value)
    assert f"= {5 * 3 * length * 4 / 2**20:.1f} MiB" in str(caught.value)


@pytest.mark.parametrize(("shape", "count"), [((3, 5), 0), ((3, -1), 1)])
def test_nonsense_is_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(ValueError, match="pool 'tiles'"):
        BufferPool("tiles", shape=shape, dtype=np.uint8, count=count)


def test_many_threads_share_few_buffers() -> None:
    pool = CountingPool(2)

    def use() -> None:
        for _ in range(200):
            pool.acquire().release()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert (pool.acquired, pool.free_count) == (800, 2)


def run_windowed(*, lookaheads: list[int], count: int) -> list[int]:
    pool, sink = CountingPool(count), CollectSink()
    transforms = [Forward(name=f"t{i}", lookahead=n) for i, n in enumerate(lookaheads)]
    run_graph([CountSource(20, pool=pool), *transforms, sink], pools=[pool], drop=release, stall_timeout_s=0.2)
    return sink.indices


@pytest.mark.parametrize("lookaheads", [[0], [1], [2, 3], [0, 4, 1]])
def test_the_planned_minimum_of_buffers_is_enough_and_one_less_is_not(lookaheads: list[int]) -> None:
    minimum = plan_buffer_count(lookaheads=[0, *lookaheads, 0], capacities=[4] * (len(lookaheads) + 1)).minimum
    assert run_windowed(lookaheads=lookaheads, count=minimum) == list(range(20))
    if minimum > 1:
        with pytest.raises(GraphFailed) as caught:
            run_windowed(lookaheads=lookaheads, count=minimum - 1)
        assert isinstance(caught.value.exceptions[0], StallError)


def test_full_overlap_counts_windows_channels_and_hands() -> None:
    assert plan_buffer_count(lookaheads=[0, 2, 0], capacities=[4, 3]).full_overlap == 2 + 1 + 7 + 3


def test_a_plan_needs_one_channel_between_two_stages() -> None:
    with pytest.raises(ValueError, match="2 stages are joined by 1 channels, not 2"):
        plan_buffer_count(lookaheads=[0, 0], capacities=[4, 4])
