"""NVENC on a real GPU: whether a session opens is found out, and frames reach the encoder from the GPU's memory.

On a GPU without an encoder everything up to the session is run, and the session's refusal is what is promised.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.pictures import make_frame, make_spec

from engines import ModelSpec
from engines.canary import random_weights
from engines.gpu.cuda import CudaDevice, open_device
from engines.networks.layered import LayeredNetwork
from pipeline import wiring
from pipeline.config.load import make_config
from pipeline.cuda.picture import DevicePlane
from pipeline.device.layout import PlaneLayout
from pipeline.device.pools import DevicePool
from pipeline.encode import ENCODERS, EncodeSpec, check_encoder, choose_encoder, open_encoder
from pipeline.encode.session import try_session
from pipeline.encode.surfaces import DeviceSurfaces
from pipeline.errors import GraphFailed, OutputError, SetupError
from pipeline.frames import Frame, SampleFormat
from pipeline.graph.runtime import run_graph
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner

pytestmark = pytest.mark.gpu

NAMES = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
HEIGHT, WIDTH = 256, 320
FILM = Path(__file__).parents[2] / "configs/demo/big_buck_bunny.mp4"
DELAY_BYTES = 1 << 28
"""Copied within the GPU as a delay: 0.1 ms at the 4.3 TB/s of an H200."""
DELAY_COPIES = 50


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device(0)


@pytest.fixture
def stream(device: CudaDevice) -> Iterator[Any]:
    stream = device.make_stream()
    yield stream
    stream.close()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What destructors raise from now on."""
    found: list[BaseException] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: found.append(report.exc_value))
    return found


def opens(name: str) -> bool:
    try:
        try_session(name)
    except SetupError:
        return False
    return True


def spec_of(name: str, *, bit_depth: int = 8) -> EncodeSpec:
    return make_spec(name, bit_depth=bit_depth, height=HEIGHT, width=WIDTH)


def upload(device: CudaDevice, stream: Any, spec: EncodeSpec, index: int) -> tuple[Frame, Any, Any]:
    """One NV12 or P010 frame in the GPU's memory, with what keeps it alive."""
    host = make_frame(index, pts=640 * index, format=spec.format, height=HEIGHT, width=WIDTH)
    is_deep = spec.format.bit_depth > 8
    chroma = np.stack(host.planes[1:], axis=-1).reshape(HEIGHT // 2, WIDTH)
    samples = np.ascontiguousarray(np.concatenate([host.planes[0], chroma]) << (6 if is_deep else 0))
    samples = samples.astype(spec.format.dtype)
    buffer = device.allocate(samples.nbytes)
    stream.upload(samples, buffer.pointer)
    pitch = WIDTH * samples.itemsize
    planes = (
        DevicePlane(pointer=buffer.pointer, pitch_bytes=pitch, height=HEIGHT, width=WIDTH),
        DevicePlane(pointer=buffer.pointer + HEIGHT * pitch, pitch_bytes=pitch, height=HEIGHT // 2, width=WIDTH),
    )
    frame = Frame(
        stamp=host.stamp,
        format=spec.format,
        height=HEIGHT,
        width=WIDTH,
        planes=planes,
        ready=stream.record(),
        msb_aligned=is_deep,
    )
    return frame, buffer, samples


@pytest.mark.parametrize("name", NAMES)
def test_what_is_taken_is_what_opens(device: CudaDevice, name: str) -> None:
    """Named without a session it is an error with the driver's word; auto takes software and repeats it."""
    codec = ENCODERS[name].codec
    choice = choose_encoder("auto", codec=codec, source=SampleFormat(matrix="bt709"))
    if opens(name):
        assert choice.spec.name == name
        return
    assert not choice.spec.is_hardware
    assert f"not {name}" in choice.reason
    with pytest.raises(SetupError, match="opens no session") as caught:
        check_encoder(spec_of(name))
    assert choice.spec.name in caught.value.hint


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_surface_holds_the_frame(device: CudaDevice, stream: Any, bit_depth: int) -> None:
    """libav takes the memory as a CUDA picture of its own format, and lets go of it."""
    spec = spec_of("hevc_nvenc", bit_depth=bit_depth)
    frame, buffer, samples = upload(device, stream, spec, 3)
    surfaces = DeviceSurfaces(spec, device)
    picture = surfaces.make(frame)
    assert picture.format.name == "cuda"
    assert picture.sw_format is not None
    assert picture.sw_format.name == ("nv12" if bit_depth == 8 else "p010le")
    result = np.zeros_like(samples)
    stream.download(surfaces._surfaces[0].buffer.pointer, result)
    stream.record().wait()
    assert np.array_equal(result, samples)
    del picture
    again = surfaces.make(frame)
    assert surfaces.surface_count == 1
    del again
    surfaces.close()
    buffer.close()


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_frames_go_from_the_gpu_to_the_encoder(device: CudaDevice, stream: Any, tmp_path: Path, bit_depth: int) -> None:
    spec = spec_of("hevc_nvenc", bit_depth=bit_depth)
    path = tmp_path / "a.part"
    writer = open_encoder(path, spec, device=device)
    frames = [upload(device, stream, spec, index) for index in range(12)]
    try:
        if not opens("hevc_nvenc"):
            with pytest.raises(OutputError, match="hevc_nvenc"):
                writer.write(frames[0][0])
            return
        for frame, _, _ in frames:
            writer.write(frame)
        assert writer.finish().frame_count == len(frames)
        with av.open(str(path)) as container:
            assert len(list(container.decode(video=0))) == len(frames)
    finally:
        writer.close()
        for _, buffer, _ in frames:
            buffer.close()
    assert path.exists()


def samples_of(picture: av.VideoFrame, *, bit_depth: int) -> np.ndarray[Any, Any]:
    """A CUDA picture by libav's own copy to the host: luma rows, then chroma rows."""
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    host = picture.reformat(format="nv12" if bit_depth == 8 else "p010le")
    rows = []
    for plane, count in zip(host.planes, (HEIGHT, HEIGHT // 2), strict=True):
        rows.append(np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype().itemsize)[:count, :WIDTH])
    return np.concatenate(rows)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_frame_is_lent_and_read_when_it_is_ready(
    device: CudaDevice, stream: Any, bit_depth: int, unraisable: list[BaseException]
) -> None:
    """libav reads our buffer itself, after milliseconds of work that the frame waits for; then it comes back."""
    spec = spec_of("hevc_nvenc", bit_depth=bit_depth)
    layout = PlaneLayout(format=spec.format, height=HEIGHT, width=WIDTH, is_surface=True)
    delay = device.allocate(2 * DELAY_BYTES)
    with DevicePool("planes out", device=device, shape=(layout.bytes,), dtype="uint8", count=1) as pool:
        surfaces = DeviceSurfaces(spec, device)
        for index in range(4):
            source, buffer, samples = upload(device, stream, spec, index)
            lease = pool.acquire()
            target = layout.on_device(lease.array.pointer)
            for _ in range(DELAY_COPIES):
                stream.copy(delay.pointer, delay.pointer + DELAY_BYTES, bytes=DELAY_BYTES)
            for plane, made in zip(source.planes, target.planes, strict=True):
                stream.copy(plane.pointer, made.pointer, bytes=plane.height * plane.pitch_bytes)
            frame = replace(source, planes=target.planes, lease=lease, ready=stream.record())
            picture = surfaces.make(frame)
            frame.release()
            assert (surfaces.surface_count, surfaces.lent_count, pool.free_count) == (0, 1, 0)
            assert np.array_equal(samples_of(picture, bit_depth=bit_depth), samples)
            del picture
            assert (surfaces.lent_count, pool.free_count) == (0, 1)
            stream.synchronize()
            buffer.close()
        surfaces.close()
    delay.close()
    gc.collect()
    assert unraisable == []


def planned(folder: Path, *, bit_depth: int, monkeypatch: pytest.MonkeyPatch) -> JobPlan:
    """The demo film through a network of random weights to NVENC, whether or not a session opens."""

    def load(model: ModelSpec) -> LayeredNetwork:
        return LayeredNetwork(weights=random_weights(model, seed=3))

    monkeypatch.setattr("engines.opening.load_network", load)
    monkeypatch.setattr("pipeline.plan.list_model_files", lambda model: ())
    monkeypatch.setattr("pipeline.encoding.check_encoder", lambda spec: None)
    document = {
        "input": {"paths": [str(FILM)]},
        "decode": {"kind": "libav"},
        "infer": {"model": "realesr-animevideov3", "backend": "torch", "device": "cuda"},
        "encode": {"kind": "hevc_nvenc", "bit_depth": bit_depth},
        "run": {"frames_on": "gpu", "lanes": 1},
    }
    config = make_config(document, folder=folder)
    return plan_film(config, probe_film(config, FILM))


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_a_run_ends_with_the_encoders_words_and_gives_all_memory_back(
    device: CudaDevice, tmp_path: Path, bit_depth: int, monkeypatch: pytest.MonkeyPatch, unraisable: list[BaseException]
) -> None:
    """Frames go all the way on the GPU; where no session opens, the first of them finds out."""
    pytest.importorskip("torch")
    plan = planned(tmp_path, bit_depth=bit_depth, monkeypatch=monkeypatch)
    assert plan.encodes_on_gpu
    works = opens("hevc_nvenc")
    frees = []
    with open_planned_runner(plan) as runner:
        for _ in range(3):
            with wiring.open_wiring(plan, runner, work=tmp_path) as wired:
                if works:
                    run(wired)
                else:
                    with pytest.raises(GraphFailed) as caught:
                        run(wired)
                    assert [type(error) for error in caught.value.exceptions] == [OutputError]
                    assert "hevc_nvenc" in str(caught.value.exceptions[0])
                    del caught
                assert all(pool.free_count for pool in wired.pools)
            gc.collect()
            frees.append(device.free_bytes())
    assert frees[2] == frees[1]  # the first run loads kernels
    assert unraisable == []
    assert works == bool(list(tmp_path.glob("seg-*")))


def run(wired: wiring.Wiring) -> None:
    """In threads, as a job does."""
    run_graph(wired.stages, capacities=wired.capacities, pools=wired.pools, drop=lambda item: item.release())
