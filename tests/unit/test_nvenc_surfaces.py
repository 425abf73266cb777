"""Frames that reach NVENC where they are: lent and not copied, not used again too early, given back however it ends."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import CudaContext
from helpers.device_runs import gpu_plan, host_plan, runner_spec
from helpers.gpu_double import FakeGpu, FakeStream, GpuMisuse
from helpers.gpu_faults import LockedGpu
from helpers.kernel_double import FakeNetwork, HostKernels
from helpers.nvenc_double import NvencDouble
from helpers.pictures import make_frame, make_spec

from engines import open_runner
from engines.errors import InferenceFailed
from pipeline import wiring
from pipeline.device.layout import PlaneLayout
from pipeline.device.pools import DevicePool
from pipeline.encode import EncodeSpec, check_encoder, open_encoder
from pipeline.encode.held_pictures import count_held_pictures
from pipeline.encode.surfaces import DeviceSurfaces
from pipeline.errors import ConfigError, GraphFailed, OutputError
from pipeline.frames import Frame, SampleFormat
from pipeline.graph.runtime import run_graph
from pipeline.graph.shared_runner import SharedRunner
from pipeline.lanes import LaneSource, SegmentSchedule
from pipeline.plan import JobPlan
from pipeline.segments import SegmentWriter
from pipeline.stages import EncodeSink


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> NvencDouble:
    double = NvencDouble()
    double.install(monkeypatch)
    return double


class PooledFilm:
    """Frames of a spec in buffers of a pool on a fake GPU, as the stitcher hands them on."""

    def __init__(self, gpu: FakeGpu, spec: EncodeSpec, *, count: int) -> None:
        self.layout = PlaneLayout(format=spec.format, height=spec.height, width=spec.width, is_surface=True)
        self.pool = DevicePool("planes out", device=gpu, shape=(self.layout.bytes,), dtype="uint8", count=count)
        self.stream = gpu.make_stream()
        self._spec = spec

    def frame(self, index: int) -> Frame:
        """Ready when the stream says so."""
        spec = self._spec
        host = make_frame(index, pts=640 * index, format=spec.format, height=spec.height, width=spec.width)
        block = np.zeros(self.layout.bytes, np.uint8)
        luma, chroma = self.layout.on_host(block)
        luma[...], chroma[...] = host.planes[0], np.stack(host.planes[1:], axis=-1).reshape(chroma.shape)
        if spec.format.bit_depth > 8:
            luma <<= 6
            chroma <<= 6
        lease = self.pool.acquire()
        lease.order(self.stream)
        self.stream.upload(block, lease.array.pointer)
        picture = self.layout.on_device(lease.array.pointer)
        return replace(
            host, planes=picture.planes, lease=lease, ready=self.stream.record(), msb_aligned=picture.msb_aligned
        )

    def close(self) -> None:
        """As a run ends: the stages first, then the pools."""
        self.stream.close()
        assert self.pool.free_count == self.pool.count
        self.pool.close()


def write_all(path: Path, spec: EncodeSpec, frames: Iterator[Frame], *, device: Any = None) -> bytes:
    """A whole segment, its frames released as the encoding stage does."""
    with closing(open_encoder(path, spec, device=device)) as writer:
        for frame in frames:
            try:
                writer.write(frame)
            finally:
                frame.release()
        writer.finish()
    return path.read_bytes()


def host_frames(spec: EncodeSpec, count: int) -> Iterator[Frame]:
    for index in range(count):
        yield make_frame(index, pts=640 * index, format=spec.format, height=spec.height, width=spec.width)


def copies_in(gpu: FakeGpu) -> list[str]:
    """What moved samples beside the film's own uploads."""
    return [line for line in gpu.log if line.startswith(("copy@", "download@"))]


@pytest.mark.parametrize("holds", [0, 5])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_frames_of_a_pool_are_lent_and_give_the_file_of_frames_on_the_host(
    double: NvencDouble, tmp_path: Path, bit_depth: int, holds: int
) -> None:
    """Byte for byte, without a copy and without a wait of the host for a frame, in buffers that are used again."""
    gpu = double.gpu = FakeGpu()
    double.holds = holds
    spec = make_spec("hevc_nvenc", bit_depth=bit_depth)
    film = PooledFilm(gpu, spec, count=holds + 2)
    wanted = write_all(tmp_path / "host", spec, host_frames(spec, 24))
    assert write_all(tmp_path / "gpu", spec, (film.frame(index) for index in range(24)), device=gpu) == wanted
    assert copies_in(gpu) == []
    assert double.most_held == 2 * (holds + 1)
    assert len(double.addresses) == 24
    assert len(set(double.addresses)) <= holds + 2
    film.close()
    gpu.check_clean()


def test_a_buffer_comes_back_when_the_encoder_has_read_it(double: NvencDouble, tmp_path: Path) -> None:
    """Not when the caller releases the frame, which is long before that."""
    gpu = double.gpu = FakeGpu()
    double.holds = 3
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=6)
    writer = open_encoder(tmp_path / "a.part", spec, device=gpu)
    free = []
    for index in range(6):
        frame = film.frame(index)
        writer.write(frame)
        frame.release()
        free.append(film.pool.free_count)
    assert free == [5, 4, 3, 3, 3, 3]
    writer.finish()
    assert film.pool.free_count == 6
    writer.close()
    film.close()
    gpu.check_clean()


def test_what_the_encoder_holds_beyond_the_plan_is_copied(
    double: NvencDouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The stitcher always gets another buffer, so a driver's deep preset cannot bring the run to a stand."""
    gpu = double.gpu = FakeGpu()
    spec = make_spec("hevc_nvenc", options={"bf": "0"})
    held = count_held_pictures(spec)
    double.holds = held + 3
    film = PooledFilm(gpu, spec, count=held + 1)
    wanted = write_all(tmp_path / "host", spec, host_frames(spec, 30))
    with caplog.at_level("INFO", logger="pipeline"):
        found = write_all(tmp_path / "gpu", spec, (film.frame(index) for index in range(30)), device=gpu)
    assert found == wanted
    assert copies_in(gpu)
    assert [record.message for record in caplog.records if "copied" in record.message] == [
        f"hevc_nvenc holds more than {held} pictures at once: further ones are copied"
    ]
    film.close()
    gpu.check_clean()


def test_the_host_waits_for_no_frame(double: NvencDouble, tmp_path: Path) -> None:
    """Neither the encoding stage nor the encoder: the GPU's own order is enough."""
    gpu = double.gpu = FakeGpu()
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=2)
    sink = EncodeSink(lambda: SegmentWriter(tmp_path, spec, segment_frames=6, device=gpu))
    sink.run(film.frame(index) for index in range(12))
    assert [segment.frame_count for segment in sink.segments] == [6, 6]
    assert f"host waits@{film.stream.handle:#x}" not in gpu.log
    film.close()
    gpu.check_clean()


def test_a_frame_that_is_not_waited_for_would_be_a_race(double: NvencDouble, tmp_path: Path) -> None:
    """The proof that the tests above see a missing wait: nothing else orders the encoder behind the stitcher."""
    gpu = double.gpu = FakeGpu()
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=1)
    with closing(open_encoder(tmp_path / "a.part", spec, device=gpu)) as writer:
        frame = film.frame(0)
        with pytest.raises(GpuMisuse, match="race: nvenc"):
            writer.write(replace(frame, ready=None))
        frame.release()
    film.close()


def test_a_buffer_that_came_back_early_would_be_a_race(double: NvencDouble, tmp_path: Path) -> None:
    """The proof that the tests above see a buffer that is used again too early."""
    gpu = double.gpu = FakeGpu()
    double.holds = 3
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=2)
    with closing(open_encoder(tmp_path / "a.part", spec, device=gpu)) as writer:
        frame = film.frame(0)
        writer.write(frame)
        with pytest.raises(GpuMisuse, match="race: upload"):
            film.stream.upload(np.zeros(film.layout.bytes, np.uint8), frame.planes[0].pointer)
        frame.release()
    film.close()


def test_on_another_gpu_than_the_first_the_host_waits(double: NvencDouble, tmp_path: Path) -> None:
    """PyAV hands no stream to NVENC there."""
    gpu = double.gpu = FakeGpu(index=1)
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=2)
    wanted = write_all(tmp_path / "host", spec, host_frames(spec, 6))
    assert write_all(tmp_path / "gpu", spec, (film.frame(index) for index in range(6)), device=gpu) == wanted
    assert copies_in(gpu) == []
    film.close()
    gpu.check_clean()


@pytest.mark.parametrize("written", [0, 1, 5])
def test_giving_up_gives_every_buffer_back(double: NvencDouble, tmp_path: Path, written: int) -> None:
    gpu = double.gpu = FakeGpu()
    double.holds = 4
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=8)
    writer = open_encoder(tmp_path / "a.part", spec, device=gpu)
    for index in range(written):
        frame = film.frame(index)
        writer.write(frame)
        frame.release()
    writer.close()
    film.close()
    gpu.check_clean()
    assert list(tmp_path.iterdir()) == []


def count_contexts() -> int:
    """PyAV's CUDA contexts that are alive."""
    return sum(isinstance(found, CudaContext) for found in gc.get_objects())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of a library's objects that looking at all objects touches
def test_a_refused_session_holds_no_memory_through_its_error(double: NvencDouble, tmp_path: Path) -> None:
    """While the error and the encoder live, the buffers are back and PyAV's context is gone."""
    gpu = double.gpu = FakeGpu()
    double.opens = False
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=1)
    gc.collect()
    before = count_contexts()
    writer = open_encoder(tmp_path / "a.part", spec, device=gpu)
    assert count_contexts() == before + 1
    frame = film.frame(0)
    with pytest.raises(OutputError, match="hevc_nvenc") as caught:
        writer.write(frame)
    frame.release()
    writer.close()
    assert count_contexts() == before
    film.close()
    gpu.check_clean()
    assert "unsupported device" in str(caught.value)


def test_a_collected_context_of_pyavs_is_what_that_avoids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of the reason given in the code; if this fails, PyAV has mended it."""
    unraisable: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: unraisable.append(report.exc_value))
    context = CudaContext(device_id=0, primary_ctx=False, current_ctx=True)
    cycle: dict[str, Any] = {"context": context}
    cycle["cycle"] = cycle
    del context, cycle
    gc.collect()
    assert [type(error) for error in unraisable] == [AttributeError]


def test_a_segment_is_not_whole_if_a_frame_was_never_made(
    double: NvencDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the single frames, so the stream is asked at the end."""
    gpu = double.gpu = FakeGpu()
    spec = make_spec("hevc_nvenc")
    film = PooledFilm(gpu, spec, count=1)
    writer = open_encoder(tmp_path / "a.part", spec, device=gpu)
    frame = film.frame(0)
    writer.write(frame)
    frame.release()
    close = FakeStream.close

    def fail(stream: FakeStream) -> None:
        close(stream)
        raise InferenceFailed("CUDA failed: CUDA_ERROR_ILLEGAL_ADDRESS")

    with monkeypatch.context() as failing:
        failing.setattr(FakeStream, "close", fail)
        with pytest.raises(InferenceFailed, match="ILLEGAL_ADDRESS"):
            writer.finish()
    writer.close()
    film.close()
    gpu.check_clean()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("height", "width"), [(47, 64), (48, 63)])
def test_odd_sizes_are_refused_before_the_work(double: NvencDouble, height: int, width: int) -> None:
    spec = make_spec("hevc_nvenc", height=height, width=width)
    with pytest.raises(ConfigError, match="needs even sides"):
        check_encoder(spec)
    with pytest.raises(ValueError, match="sides are odd"):
        DeviceSurfaces(spec, FakeGpu())


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 20),  # four B-frames, the table's bound
        ({"bf": "0"}, 4),
        ({"bf": "2"}, 12),
        ({"bf": "2", "rc-lookahead": "32"}, 40),
        ({"rc-lookahead": "200"}, 64),
        ({"surfaces": "48"}, 48),
        ({"bf": "many"}, 20),
    ],
    ids=str,
)
def test_what_it_holds_follows_from_its_options(options: dict[str, str], count: int) -> None:
    assert count_held_pictures(make_spec("hevc_nvenc", options=options)) == count


# The whole pipeline


def nvenc_plan(folder: Path, *, name: str = "hevc_nvenc", **sections: Any) -> JobPlan:
    """A film of several segments, 40x24 to 80x48."""
    encode = {"kind": name, **sections.pop("encode", {})}
    queues = {"decoded_frames": 1, "tile_batches": 1, "upscaled_batches": 1, "stitched_frames": 2}
    return host_plan(folder, encode=encode, queues=queues, **{"output": {"segment_s": 0.25}, **sections})


def run_on_gpu(plan: JobPlan, gpu: FakeGpu, *, work: Path) -> tuple[Path | None, ...]:
    """The plan's graph, in threads, as a job runs it."""
    opened = wiring.open_wiring(
        plan, FakeNetwork(gpu, runner_spec(plan)), work=work, open_gpu=lambda plan: (gpu, HostKernels)
    )
    with opened as wired:
        run_graph(wired.stages, capacities=wired.capacities, pools=wired.pools, drop=lambda item: item.release())
        assert [pool.free_count for pool in wired.pools] == [
            next(planned.count for planned in plan.pools if planned.name == pool.name) for pool in wired.pools
        ]
        return tuple(segment.path for segment in wired.sink.segments)


def run_on_host(plan: JobPlan, *, work: Path) -> tuple[Path | None, ...]:
    """The same film by way of the host, to the same encoder."""
    size = {"height": plan.grid.tile_height, "width": plan.grid.tile_width}
    with (
        open_runner(model=plan.model, backend="resize", batch=1, **size) as runner,
        wiring.open_wiring(plan, runner, work=work) as wired,
    ):
        run_graph(wired.stages, capacities=wired.capacities, pools=wired.pools, drop=lambda item: item.release())
        return tuple(segment.path for segment in wired.sink.segments)


def contents(paths: tuple[Path | None, ...]) -> list[bytes]:
    return [path.read_bytes() for path in paths if path is not None]


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_run_gives_the_segments_of_a_run_through_the_host(
    double: NvencDouble, tmp_path: Path, bit_depth: int
) -> None:
    """Every byte of them, and nothing is copied to the host on the way."""
    double.holds = 5
    gpu = double.gpu = LockedGpu()
    host = nvenc_plan(tmp_path, frame_count=40, encode={"bit_depth": bit_depth})
    plan = gpu_plan(host)
    (tmp_path / "gpu").mkdir()
    (tmp_path / "host").mkdir()
    found = contents(run_on_gpu(plan, gpu, work=tmp_path / "gpu"))
    assert [session["pix_fmt"] for session in double.opened[-len(found) :]] == ["cuda"] * len(found)
    assert not any(line.startswith("download@") for line in gpu.log)
    gpu.check_clean()
    assert len(found) > 1
    assert found == contents(run_on_host(host, work=tmp_path / "host"))


def test_an_encoder_that_holds_more_than_was_planned_does_not_stop_the_run(double: NvencDouble, tmp_path: Path) -> None:
    gpu = double.gpu = LockedGpu()
    plan = gpu_plan(nvenc_plan(tmp_path, frame_count=40, encode={"options": {"bf": "0"}}, output={"segment_s": 10.0}))
    double.holds = plan.pool("planes out").count + 3
    (path,) = run_on_gpu(plan, gpu, work=tmp_path)
    assert path is not None
    assert any(line.startswith("copy@") for line in gpu.log)
    gpu.check_clean()


def test_the_plan_has_the_buffers_that_the_encoder_holds_and_none_on_the_host(
    double: NvencDouble, tmp_path: Path
) -> None:
    plan = gpu_plan(nvenc_plan(tmp_path))
    pools = {pool.name: pool for pool in plan.pools}
    assert plan.encodes_on_gpu
    assert "frames out" not in pools
    assert pools["planes out"].place == "device"
    assert pools["planes out"].count == plan.config.queues.stitched_frames + 2 + count_held_pictures(plan.encode)
    assert pools["planes out"].shape == (48 * 128 + 24 * 128,)  # rows of 80 samples, padded to 128 bytes


def test_a_format_that_libav_takes_from_the_host_only_goes_by_the_host(double: NvencDouble, tmp_path: Path) -> None:
    plan = gpu_plan(nvenc_plan(tmp_path, encode={"chroma": "444"}))
    assert not plan.encodes_on_gpu
    assert plan.pool("frames out").place == "pinned"
    gpu = double.gpu = LockedGpu()
    assert run_on_gpu(plan, gpu, work=tmp_path)
    gpu.check_clean()


def test_a_run_whose_encoder_refuses_ends_with_its_words_and_gives_all_back(
    double: NvencDouble, tmp_path: Path
) -> None:
    gpu = double.gpu = LockedGpu()
    plan = gpu_plan(nvenc_plan(tmp_path, frame_count=40))
    double.opens = False  # after the plan has tried it: the last session was taken meanwhile
    with pytest.raises(GraphFailed) as caught:
        run_on_gpu(plan, gpu, work=tmp_path)
    (error,) = caught.value.exceptions
    assert isinstance(error, OutputError)
    assert "hevc_nvenc" in str(error)
    gpu.check_clean()
    assert list(tmp_path.glob("seg-*")) == []


def test_lanes_have_an_encoder_each_and_share_the_gpu(double: NvencDouble, tmp_path: Path) -> None:
    """Two lanes write the segments that one writes."""
    double.holds = 3
    gpu = double.gpu = LockedGpu()
    plan = gpu_plan(nvenc_plan(tmp_path, frame_count=40))
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    wanted = contents(run_on_gpu(plan, gpu, work=one))
    schedule = SegmentSchedule(segment_frames=plan.segment_frames, frame_count=40)
    shared = SharedRunner(FakeNetwork(gpu, runner_spec(plan)), lane_count=2)
    opened = [
        wiring.open_transforms(plan, shared.open_lane(), open_gpu=lambda plan: (gpu, HostKernels)) for _ in range(2)
    ]
    with opened[0] as first, opened[1] as second:
        lanes: list[Any] = []
        for transforms in (first, second):
            source = LaneSource(wiring.planned_decoder(plan, transforms=transforms), schedule=schedule)
            device = transforms.encoder_device
            assert device is gpu
            sink = EncodeSink(
                lambda: SegmentWriter(two, plan.encode, segment_frames=plan.segment_frames, skips=True, device=gpu)
            )
            lanes.append((source, transforms.tiler, transforms.upscaler, transforms.stitcher, sink))
        run_graph(
            lanes[0],
            more_lanes=lanes[1:],
            capacities=wiring.planned_capacities(plan),
            pools=(*first.pools, *second.pools),
            drop=lambda item: item.release(),
        )
        assert all(pool.free_count for pool in (*first.pools, *second.pools))
    gpu.check_clean()
    assert [path.read_bytes() for path in sorted(two.glob("seg-*"))] == wanted


# Where finished frames lie


@pytest.mark.parametrize(("height", "width", "bit_depth"), [(48, 80, 8), (270, 480, 10), (1080, 1918, 8)])
def test_a_surface_is_one_block_as_nvenc_reads_it(height: int, width: int, bit_depth: int) -> None:
    layout = PlaneLayout(
        format=SampleFormat(matrix="bt709", bit_depth=bit_depth), height=height, width=width, is_surface=True
    )
    picture = layout.on_device(4096)
    luma, chroma = picture.planes
    assert (luma.height, luma.width, chroma.height, chroma.width) == (height, width, height // 2, width)
    assert luma.pitch_bytes == chroma.pitch_bytes
    assert chroma.pointer == 4096 + height * luma.pitch_bytes
    assert layout.bytes == (height + height // 2) * luma.pitch_bytes
    assert picture.msb_aligned == (bit_depth > 8)
    picture.check(layout.format, height=height, width=width)
    block = np.arange(layout.bytes, dtype=np.uint64).astype(np.uint8)
    for plane, view in zip(picture.planes, layout.on_host(block), strict=True):
        assert view.shape == (plane.height, plane.width)
        assert view.ctypes.data - block.ctypes.data == plane.pointer - 4096
        assert view.strides[0] == plane.pitch_bytes


def test_only_420_lies_as_a_surface() -> None:
    with pytest.raises(ValueError, match="4:2:0"):
        PlaneLayout(format=SampleFormat(matrix="bt709", subsampling="444"), height=8, width=8, is_surface=True)
