"""NVENC on a real GPU: whether a session opens is found out, and frames reach the encoder from the GPU's memory.

On a GPU without an encoder everything up to the session is run, and the session's refusal is what is promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.pictures import make_frame, make_spec

from engines.gpu.cuda import CudaDevice, open_device
from pipeline.cuda.picture import DevicePlane
from pipeline.encode import ENCODERS, EncodeSpec, check_encoder, choose_encoder, open_encoder
from pipeline.encode.session import try_session
from pipeline.encode.surfaces import DeviceSurfaces
from pipeline.errors import OutputError, SetupError
from pipeline.frames import Frame, SampleFormat

pytestmark = pytest.mark.gpu

NAMES = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
HEIGHT, WIDTH = 256, 320


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device(0)


@pytest.fixture
def stream(device: CudaDevice) -> Iterator[Any]:
    stream = device.make_stream()
    yield stream
    stream.close()


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
