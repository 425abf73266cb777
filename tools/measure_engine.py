"""Measures one engine, in a process of its own; ``bench_engines.py`` starts it for every line of its table.

A task as JSON on standard input; its result as JSON in the last line of standard output.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import EngineError, Runner, open_runner
from engines.verify import compare_arrays, run_once

WARM_UP_CALLS = 3
LEAST_SAMPLES = 4
MATMUL_SECONDS = 2.0
MATMUL_SIDE = {"cuda": 8192, "cpu": 2048}
"""Side of the square matrices of the ceiling: large enough that the product is not bound by memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One process: what to open and how long to measure."""

    model: str
    height: int
    width: int
    batch: int
    output_scale: int
    backend: str
    device: str
    precision: str
    threads: int
    slots: int
    calls: int
    seconds: float
    reference: str
    """File with ``tiles`` and ``wanted`` for the quality; empty to leave it out."""


def measure_one(task: Task) -> dict[str, Any]:
    """Open, warm up, time, compare. Runs in its own process."""
    free_before = _free_device_bytes(task.device)
    rss_before = _peak_rss_bytes()
    start = time.perf_counter()
    with _open(task, height=task.height, width=task.width) as runner:
        open_s = time.perf_counter() - start
        samples = list(_time_calls(runner, task))
        device_bytes = free_before - _free_device_bytes(task.device)
        spec = runner.spec
    host_bytes = _peak_rss_bytes() - rss_before
    per_frame = [sample / task.batch for sample in samples]
    flop = spec.model.flop_per_px * task.height * task.width
    median_s = statistics.median(per_frame)
    result = {
        "device_name": spec.device,
        "precision": spec.precision,
        "slots": spec.slots,
        "notes": list(spec.notes),
        "open_s": open_s,
        "samples_s": per_frame,
        "tflop_per_s": flop / median_s / 1e12,
        "device_bytes": device_bytes,
        "host_bytes": host_bytes,
    }
    return result | (_quality(task) if task.reference else {})


def _open(task: Task, *, height: int, width: int, batch: int | None = None) -> Runner:
    return open_runner(
        model=task.model,
        backend=task.backend,
        device=task.device,
        precision=task.precision,  # type: ignore[arg-type]
        height=height,
        width=width,
        batch=batch or task.batch,
        output_scale=task.output_scale or None,
        threads=task.threads,
        slots=task.slots,
    )


def _time_calls(runner: Runner, task: Task) -> Iterator[float]:
    """Seconds per finished call while the slots are kept full; the first calls are not counted.

    A sample is taken over twice as many calls as there are slots: calls that compute side by side end together, so that
    the time between two neighbours says nothing.
    """
    spec = runner.spec
    window = 2 * spec.slots if spec.slots > 1 else 1
    with ExitStack() as stack:
        tiles, outs, stream = _arrays(runner, stack)
        flying: deque[Any] = deque()
        for out in itertools.cycle(outs):
            flying.append(runner.infer(tiles, out=out, stream=stream))
            if len(flying) == spec.slots:
                break
        next_out = itertools.cycle(outs)

        def finish_one() -> None:
            flying.popleft().wait()
            flying.append(runner.infer(tiles, out=next(next_out), stream=stream))

        for _ in range(WARM_UP_CALLS + spec.slots):
            finish_one()
        taken, begin = 0, time.perf_counter()
        while taken < max(task.calls, LEAST_SAMPLES * window) or time.perf_counter() - begin < task.seconds:
            start = time.perf_counter()
            for _ in range(window):
                finish_one()
            yield (time.perf_counter() - start) / window
            taken += window
        while flying:
            flying.popleft().wait()


class DeviceArray:
    """Device memory in the form in which every CUDA library takes it. Source: CUDA Array Interface, version 3."""

    def __init__(self, pointer: int, *, shape: tuple[int, ...], dtype: str) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": np.dtype(dtype).str,
            "data": (pointer, False),
            "version": 3,
            "strides": None,
            "stream": None,
        }


def _arrays(runner: Runner, stack: ExitStack) -> tuple[Any, list[Any], Any]:
    """Input, one output per slot and the stream that orders them, where the runner likes them best."""
    spec = runner.spec
    noise = np.random.default_rng(0).random(spec.input_shape, dtype=np.float32).astype(spec.io_dtype)
    if not spec.takes_device_arrays:
        return noise, [np.empty(spec.output_shape, dtype=spec.io_dtype) for _ in range(spec.slots)], None
    from engines.gpu.cuda import open_device

    device = open_device()
    stream = device.make_stream()
    stack.callback(stream.close)

    def place(shape: tuple[int, ...]) -> tuple[DeviceArray, int]:
        buffer = device.allocate(int(np.prod(shape)) * np.dtype(spec.io_dtype).itemsize)
        stack.callback(buffer.close)
        return DeviceArray(buffer.pointer, shape=shape, dtype=spec.io_dtype), buffer.pointer

    tiles, pointer = place(spec.input_shape)
    stream.upload(noise, pointer)
    stream.synchronize()
    return tiles, [place(spec.output_shape)[0] for _ in range(spec.slots)], stream.handle


def _quality(task: Task) -> dict[str, float]:
    """How far the backend is from the float32 source network on film tiles."""
    with np.load(task.reference) as stored:
        tiles, wanted = stored["tiles"], stored["wanted"]
    with _open(task, height=tiles.shape[2], width=tiles.shape[3], batch=len(tiles)) as runner:
        scale = runner.spec.scale
        difference = compare_arrays(run_once(runner, tiles), _box(wanted, height=tiles.shape[2] * scale))
    return {"psnr_db": min(difference.psnr_db, 999.0), "max_abs": difference.max_abs}


def _box(wanted: NDArray[np.float32], *, height: int) -> NDArray[np.float32]:
    """Average the reference down to ``height``: what a folded network should give."""
    factor = wanted.shape[2] // height
    blocks = wanted.reshape(*wanted.shape[:2], height, factor, -1, factor)
    averaged: NDArray[np.float32] = blocks.mean(axis=(3, 5), dtype=np.float64).astype(np.float32)
    return averaged


def _peak_rss_bytes() -> int:
    """Most memory that this process had so far; getrusage would begin with what its parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _free_device_bytes(device: str) -> int:
    if device == "cpu":
        return 0
    from engines.gpu.cuda import open_device

    return open_device().free_bytes()


def measure_matmul(device: str, precision: str) -> float:
    """TFLOP/s of a large matrix product in torch: what the arithmetic of the device gives at best in practice."""
    import torch

    side = MATMUL_SIDE[device]
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    torch.backends.cuda.matmul.allow_tf32 = False
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))

    def product_s() -> float:
        start = time.perf_counter()
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    product_s()
    best, begin = product_s(), time.perf_counter()
    while time.perf_counter() - begin < MATMUL_SECONDS:
        best = min(best, product_s())
    return 2 * side**3 / best / 1e12


def main() -> int:
    """The measuring process: a task on standard input, its result as the last line of standard output."""
    content = json.load(sys.stdin)
    try:
        if "matmul" in content:
            result: dict[str, Any] = {"tflop_per_s": measure_matmul(*content["matmul"])}
        else:
            result = measure_one(Task(**content))
    except EngineError as exc:
        result = {"error": f"{exc} ({exc.hint})" if exc.hint else str(exc)}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
