"""Frames on a GPU, over a fake one as lazy as a GPU may be: the CPU path's bytes, every wait needed, no leak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import device_runs
from helpers.cuda_on_cpu import COMPILER, HostLauncher
from helpers.device_runs import (
    assert_same,
    copies,
    decoded,
    device_pictures,
    gpu_plan,
    host_pictures,
    host_plan,
    open_stages,
    runner_spec,
)
from helpers.gpu_double import FakeGpu, GpuMisuse
from helpers.gpu_faults import ForgetfulGpu, LockedGpu
from helpers.kernel_double import FakeNetwork

from engines.errors import InferenceFailed
from pipeline.cuda import DevicePlane, FrameKernels
from pipeline.device.pools import DevicePool
from pipeline.errors import GraphFailed
from pipeline.frames import Frame
from pipeline.graph.channel import Aborted
from pipeline.graph.runtime import run_graph
from pipeline.stages import EncodeSink


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("tile_px", "sections"),
    [
        (0, {}),
        (16, {}),
        (0, {"film": {"height": 23, "width": 41}}),
        (16, {"film": {"height": 23, "width": 41}}),
        (0, {"scale": {"factor": 1.5}}),
        (16, {"scale": {"factor": 1.5}, "encode": {"dither": True}}),
        (48, {}),
    ],
    ids=["whole", "tiles", "odd", "odd-tiles", "resampled", "resampled-tiles", "padded"],
)
def test_frames_are_those_of_the_cpu_path_to_the_last_bit(
    tmp_path: Path, tile_px: int, batch: int, sections: dict[str, Any]
) -> None:
    plan = host_plan(tmp_path, tile_px=tile_px, batch=batch, **sections)
    assert_same(device_pictures(gpu_plan(plan), FakeGpu()), host_pictures(plan))


def test_frames_are_the_same_when_the_encoder_takes_each_at_once(tmp_path: Path) -> None:
    plan = host_plan(tmp_path, tile_px=16)
    assert_same(device_pictures(gpu_plan(plan), FakeGpu(), is_late=False), host_pictures(plan))


def test_frames_of_another_range_become_what_the_cpu_path_makes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = host_plan(tmp_path)
    other = replace(plan.info.video.format, full_range=not plan.info.video.format.full_range)
    originals = list(decoded(plan))

    def frames(_: Any = None) -> Iterator[Frame]:
        for frame in originals:  # every second one says that its codes have another range
            yield replace(frame, format=other) if frame.stamp.index % 2 else frame

    monkeypatch.setattr(device_runs, "decoded", frames)
    found, wanted = device_pictures(gpu_plan(plan), FakeGpu(), frames=frames), host_pictures(plan)
    assert [stamp for stamp, _ in found] == [stamp for stamp, _ in wanted]
    for (_, planes), (_, others) in zip(found, wanted, strict=True):
        assert np.abs(planes[0].astype(int) - others[0]).max() <= 1  # rounded once more


def interleaved(gpu: FakeGpu, frames: Iterator[Frame], *, pool: DevicePool) -> Iterator[Frame]:
    """Frames as a GPU's decoder gives them: NV12 in device memory, ready later, given back with an event."""
    stream = gpu.make_stream()
    for frame in frames:
        luma, blue, red = frame.planes
        chroma = np.stack([blue, red], axis=-1).reshape(blue.shape[0], -1)
        lease = pool.acquire()
        lease.order(stream)
        start = lease.array.pointer
        stream.upload(np.ascontiguousarray(luma), start)
        stream.upload(chroma, start + luma.nbytes)
        planes = (
            DevicePlane(pointer=start, pitch_bytes=luma.shape[1], height=luma.shape[0], width=luma.shape[1]),
            DevicePlane(
                pointer=start + luma.nbytes, pitch_bytes=chroma.shape[1], height=chroma.shape[0], width=chroma.shape[1]
            ),
        )
        yield replace(frame, planes=planes, lease=lease, owner=None, ready=stream.record())
    stream.close()


@pytest.mark.parametrize("tile_px", [0, 16])
def test_a_decoders_frames_on_the_gpu_are_read_where_they_are(tmp_path: Path, tile_px: int) -> None:
    plan, gpu = host_plan(tmp_path, tile_px=tile_px), FakeGpu()
    frame_bytes = plan.info.video.format.frame_bytes(height=24, width=40)
    with DevicePool("surfaces", device=gpu, shape=(frame_bytes,), dtype="uint8", count=2) as pool:
        with open_stages(gpu_plan(plan), gpu) as stages:
            frames = stages.tiler.run(interleaved(gpu, decoded(plan), pool=pool))
            found = copies(iter(list(stages.stitcher.run(stages.upscaler.run(frames)))))
        assert pool.free_count == 2
    gpu.check_clean()
    assert_same(found, host_pictures(plan))
    # two copies per frame were the decoder's; the tiler made none
    assert sum(line.startswith("upload@") for line in gpu.log) == 2 * len(found)


STAGES = ("tiler", "upscaler", "stitcher")
PACE = "upscaler:_land"
"""The upscaler's wait on the host, on which no byte depends; it would hide that another one is missing."""


def source_line(place: str) -> str:
    """A place in words that stay right when lines move."""
    name, _, number = place.partition(":")
    text = (Path(__file__).parents[2] / f"pipeline/device/{name}.py").read_text().splitlines()[int(number) - 1].strip()
    return f"{name}:_land" if text == "flying[0].ready.wait()" else f"{name}:{text}"


def places(plan: Any) -> dict[str, str]:
    """Every line of the stages that waits in a run, by its text."""
    gpu = ForgetfulGpu()
    device_pictures(plan, gpu)
    return {source_line(place): place for place in gpu.places if place.partition(":")[0] in STAGES}


def test_every_wait_is_needed(tmp_path: Path) -> None:
    host = host_plan(tmp_path, tile_px=16, frame_count=16)
    plan, wanted = gpu_plan(host), host_pictures(host)
    known = places(plan)
    assert set(known) == {
        "tiler:upload.wait()",
        "tiler:source.order(copies)",
        "tiler:stream.wait_for(uploaded)",
        "tiler:lease.order(stream)",
        "upscaler:stream.wait_for(batch.ready)",
        "upscaler:lease.order(stream)",
        PACE,
        "stitcher:stream.wait_for(batch.ready)",
        "stitcher:planes.order(stream)",
        "stitcher:copies.wait_for(stream.record())",
    }
    for text, place in known.items():
        gpu = ForgetfulGpu(forgets={place, known[PACE]})
        if text == PACE:
            assert_same(device_pictures(plan, gpu), wanted)
        else:
            with pytest.raises((GpuMisuse, AssertionError)):
                assert_same(device_pictures(plan, gpu), wanted)


def test_the_host_waits_for_no_result_but_the_oldest_inference(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path)), FakeGpu()
    with open_stages(plan, gpu) as stages:
        finished = stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan))))
        gpu.log.clear()
        first = next(finished)
        started = [line for line in gpu.log if line.startswith("infer@")]
        assert len(started) == stages.upscaler.lookahead >= 2
        assert sum(line.startswith("host waits@") for line in gpu.log) == 1
        assert any(line.startswith("finish@") for line in gpu.log)
        first.release()
        finished.close()


@pytest.mark.parametrize("tile_px", [0, 16])
@pytest.mark.parametrize("taken", range(5))
def test_whatever_is_cut_short_everything_goes_back(tmp_path: Path, taken: int, tile_px: int) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, tile_px=tile_px, frame_count=6)), FakeGpu()
    for depth in (1, 2, 3):
        with open_stages(plan, gpu) as stages:
            lines = [stages.tiler.run(decoded(plan))]
            lines.append(stages.upscaler.run(lines[-1]))
            lines.append(stages.stitcher.run(lines[-1]))
            for _ in range(taken):
                next(lines[depth - 1]).release()
            for line in reversed(lines):  # as the runtime does: each stage is closed, whatever the others do
                line.close()
            assert [pool.free_count for pool in stages.pools] == [pool.count for pool in stages.pools]
        gpu.check_clean()


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_network_that_fails_leaves_no_buffer_behind(tmp_path: Path, number: int) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, tile_px=16)), FakeGpu()
    network = FakeNetwork(gpu, runner_spec(plan))
    network.fails_at = number
    with open_stages(plan, gpu, network=network) as stages:
        tiled = stages.tiler.run(decoded(plan))
        with pytest.raises(InferenceFailed, match="told to fail"):
            copies(stages.stitcher.run(stages.upscaler.run(tiled)))
        tiled.close()
        assert [pool.free_count for pool in stages.pools] == [pool.count for pool in stages.pools]
    gpu.check_clean()


@pytest.mark.parametrize("name", ["uploads", "planes in", "tiles in", "tiles out", "planes out", "frames out"])
def test_an_aborted_pool_ends_its_stage_and_nothing_is_lost(tmp_path: Path, name: str) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path)), FakeGpu()
    with open_stages(plan, gpu) as stages:
        finished = stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan))))
        next(finished).release()
        (pool,) = (pool for pool in stages.pools if pool.name == name)
        pool.abort()
        with pytest.raises(Aborted):
            copies(finished)
    gpu.check_clean()


def test_a_gpu_that_fails_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path)), FakeGpu()
    with open_stages(plan, gpu) as stages:
        finished = stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan))))
        next(finished).release()
        gpu.failure = "CUDA_ERROR_ILLEGAL_ADDRESS"
        with pytest.raises(InferenceFailed, match="ILLEGAL_ADDRESS"):
            copies(finished)
        gpu.failure = None
    gpu.check_clean()


class Collect:
    """A sink that keeps what an encoder would see, or fails at a frame."""

    name = "encode"

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.pictures: list[Any] = []
        self._fails_at = fails_at

    def run(self, items: Iterator[Frame]) -> None:
        for frame in items:
            if frame.stamp.index == self._fails_at:
                frame.release()
                raise OSError("the disk is full")
            self.pictures += copies(iter([frame]))


class Film:
    """The film's frames as a source."""

    name = "decode"

    def __init__(self, plan: Any) -> None:
        self._plan = plan

    def run(self) -> Iterator[Frame]:
        yield from decoded(self._plan)


@pytest.mark.parametrize("tile_px", [0, 16])
def test_stages_in_threads_give_the_same_frames(tmp_path: Path, tile_px: int) -> None:
    host = host_plan(tmp_path, tile_px=tile_px, frame_count=40)
    plan, gpu, sink = gpu_plan(host), LockedGpu(), Collect()
    with open_stages(plan, gpu) as stages:
        line = (Film(plan), stages.tiler, stages.upscaler, stages.stitcher, sink)
        run_graph(line, capacities=(1, 1, 1, 2), pools=stages.pools, drop=lambda item: item.release())
        assert [pool.free_count for pool in stages.pools] == [pool.count for pool in stages.pools]
    gpu.check_clean()
    assert_same(sink.pictures, host_pictures(host))


@pytest.mark.parametrize("fails_at", [0, 1, 7])
def test_a_run_that_fails_in_threads_leaves_nothing_on_the_gpu(tmp_path: Path, fails_at: int) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path, tile_px=16, frame_count=40)), LockedGpu()
    with open_stages(plan, gpu) as stages:
        line = (Film(plan), stages.tiler, stages.upscaler, stages.stitcher, Collect(fails_at=fails_at))
        with pytest.raises(GraphFailed) as caught:
            run_graph(line, capacities=(1, 1, 1, 2), pools=stages.pools, drop=lambda item: item.release())
    assert [str(one) for one in caught.value.exceptions] == ["the disk is full"]
    gpu.check_clean()


class Reader:
    """A segment writer that keeps what it sees at once."""

    def __init__(self, *, fails: bool = False) -> None:
        self.seen: list[Any] = []
        self._fails = fails

    def write(self, frame: Frame) -> None:
        if self._fails:
            raise OSError("the disk is full")
        self.seen.append((frame.stamp, [np.array(plane) for plane in frame.planes]))

    def finish(self) -> tuple[()]:
        return ()


def test_the_encoder_reads_no_frame_before_it_is_there(tmp_path: Path) -> None:
    host = host_plan(tmp_path)
    plan, gpu, reader = gpu_plan(host), FakeGpu(), Reader()
    with open_stages(plan, gpu) as stages:
        finished = stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan))))
        EncodeSink(lambda: nullcontext(reader)).run(finished)  # type: ignore[arg-type, return-value]
    gpu.check_clean()
    assert_same(reader.seen, host_pictures(host))


def test_an_encoder_that_fails_gives_its_frame_back(tmp_path: Path) -> None:
    plan, gpu = gpu_plan(host_plan(tmp_path)), FakeGpu()
    with open_stages(plan, gpu) as stages:
        lines = [stages.tiler.run(decoded(plan))]
        lines.append(stages.upscaler.run(lines[-1]))
        lines.append(stages.stitcher.run(lines[-1]))
        with pytest.raises(OSError, match="disk is full"):
            EncodeSink(lambda: nullcontext(Reader(fails=True))).run(lines[-1])  # type: ignore[arg-type, return-value]
        for line in reversed(lines):
            line.close()
        assert [pool.free_count for pool in stages.pools] == [pool.count for pool in stages.pools]
    gpu.check_clean()


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("case", [{}, {"tile_px": 16, "scale": {"factor": 1.5}, "film": {"height": 23, "width": 41}}])
def test_our_cuda_kernels_on_the_processor_give_the_cpu_paths_frames_within_a_code(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    host, gpu = host_plan(tmp_path, frame_count=4, **case), FakeGpu()
    plan = gpu_plan(host)
    with open_stages(plan, gpu, make_kernels=partial(FrameKernels, launcher=HostLauncher(gpu))) as stages:
        canvas = [pool.bytes for pool in stages.pools if pool.name == "canvas"]
        assert canvas == [pool.bytes for pool in plan.pools if pool.name == "canvas"]
        found = copies(stages.stitcher.run(stages.upscaler.run(stages.tiler.run(decoded(plan)))))
    gpu.check_clean()
    for (stamp, planes), (other_stamp, others) in zip(found, host_pictures(host), strict=True):
        assert stamp == other_stamp
        for plane, other in zip(planes, others, strict=True):
            assert np.abs(plane.astype(int) - other.astype(int)).max() <= 1
