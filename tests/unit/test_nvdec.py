"""NVDEC against software decoding, over a double of its library and of the GPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from helpers import media
from helpers.gpu_double import FakeGpu, GpuMisuse
from helpers.nvdec_double import NvdecLibrary

from pipeline.decode import choose_decoder, open_decoder
from pipeline.decode.frame_index import build_frame_index
from pipeline.decode.libav import LibavDecoder
from pipeline.decode.nvdec import NvdecDecoder
from pipeline.decode.nvdec_choice import check_nvdec
from pipeline.decode.nvdec_session import load_nvdec
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.decode.synthetic import SyntheticFilm, describe_film
from pipeline.device.pools import DevicePool
from pipeline.errors import MediaError, SetupError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp, SampleFormat
from pipeline.media import MediaInfo
from pipeline.probe import probe_media


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    gpu = FakeGpu()
    yield gpu
    gpu.check_clean()


@pytest.fixture
def library(gpu: FakeGpu) -> Iterator[NvdecLibrary]:
    library = NvdecLibrary(gpu)
    yield library
    assert library.open_sessions == 0


@dataclass
class Decoded:
    stamps: list[FrameStamp]
    planes: list[list[bytes]]
    damage: str | None
    notes: tuple[str, ...]


def decode_all(decoder: Any) -> Decoded:
    with decoder:
        frames = list(decoder.frames())
        planes = [[plane.tobytes() for plane in frame.planes] for frame in frames]
        return Decoded([frame.stamp for frame in frames], planes, decoder.damage, decoder.notes)


def download(frame: Frame, gpu: FakeGpu) -> list[np.ndarray]:
    """Read a frame's device planes as a consumer with a stream of its own does; planar, low bits."""
    stream = gpu.make_stream()
    stream.wait_for(frame.ready)
    found = []
    for plane in frame.planes:
        rows = np.empty((plane.height, plane.pitch_bytes), dtype=np.uint8)
        stream.download(plane.pointer, rows)
        found.append((rows, plane.width))
    after = stream.record()
    frame.release(after=after)
    stream.close()
    luma, chroma = (rows.view(frame.format.dtype)[:, :width] for rows, width in found)
    planes = [luma, chroma[:, 0::2], chroma[:, 1::2]]
    return [plane >> (16 - frame.format.bit_depth) for plane in planes] if frame.msb_aligned else planes


def cut_copy(path: Path) -> Path:
    """A film that begins within a group of pictures, by an edit list."""
    whole = media.write_counter_video(path.with_name("whole.mp4"), frames=50, keyframe_interval=10, b_frames=2)
    media.run_ffmpeg("-ss", "0.5", "-i", str(whole), "-c", "copy", str(path))
    return path


FILMS: dict[str, Callable[[Path], Path]] = {
    "b.mkv": lambda path: media.write_counter_video(path, frames=40, b_frames=3),
    "vfr.mkv": media.write_vfr,
    "vfr-b.mp4": lambda path: media.write_vfr(path, b_frames=2),
    "late.mp4": media.write_late_start,
    "hdr.mkv": media.write_hdr10,
    "mpeg2.ts": lambda path: media.write_counter_video(path, codec="mpeg2video", b_frames=2),
    "h264.ts": lambda path: media.write_counter_video(path, b_frames=2),
    "vp9.webm": lambda path: media.write_counter_video(path, codec="libvpx-vp9", frames=30),
    "av1.mkv": lambda path: media.write_counter_video(path, codec="libsvtav1"),
    "cut.mp4": cut_copy,
    "bare.h264": lambda path: media.write_without_timestamps(path, b_frames=2),
    "b.avi": lambda path: media.write_counter_video(path, b_frames=2),
    "one.mp4": lambda path: media.write_counter_video(path, frames=1),
    "530.mp4": lambda path: media.write_counter_video(path, frames=3, height=530, width=34),
    "532.mp4": lambda path: media.write_counter_video(path, frames=3, height=532, width=34),
    "odd.webm": lambda path: media.write_counter_video(path, frames=5, height=35, width=51, codec="libvpx-vp9"),
}


@pytest.mark.parametrize("name", FILMS)
def test_frames_times_and_words_are_those_of_software_decoding(tmp_path, gpu, library, name):
    info = probe_media(FILMS[name](tmp_path / name))
    expected = decode_all(LibavDecoder(info, threads=1))
    assert expected.stamps
    assert decode_all(NvdecDecoder(info, device=gpu, library=library)) == expected


@pytest.mark.parametrize("name", ["hdr.mkv", "odd.webm", "530.mp4"])
def test_frames_on_the_gpu_are_nv12_and_p016_of_the_same_samples(tmp_path, gpu, library, name):
    info = probe_media(FILMS[name](tmp_path / name))
    layout = SurfaceLayout.of(info.video)
    with LibavDecoder(info, threads=1) as software:
        expected = list(software.frames())
    with DevicePool("decoded", device=gpu, shape=(layout.bytes,), dtype="uint8", count=2) as pool:
        with NvdecDecoder(info, device=gpu, pool=pool, library=library) as decoder:
            for frame, reference in zip(decoder.frames(), expected, strict=True):
                assert frame.is_on_device
                assert (frame.stamp, frame.format) == (reference.stamp, reference.format)
                assert frame.msb_aligned == (frame.format.bit_depth > 8)
                assert [(p.height, p.width) for p in frame.planes] == [
                    reference.planes[0].shape,
                    (reference.planes[1].shape[0], 2 * reference.planes[1].shape[1]),
                ]
                for plane, theirs in zip(download(frame, gpu), reference.planes, strict=True):
                    np.testing.assert_array_equal(plane, theirs)
        assert pool.free_count == 2


def test_frames_on_the_gpu_outlive_the_decoder(tmp_path, gpu, library):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=4))
    layout = SurfaceLayout.of(info.video)
    with DevicePool("decoded", device=gpu, shape=(layout.bytes,), dtype="uint8", count=4) as pool:
        with NvdecDecoder(info, device=gpu, pool=pool, library=library) as decoder:
            frames = list(decoder.frames())
        assert library.open_sessions == 0
        assert [media.read_counter(download(frame, gpu)[0]) for frame in frames] == [0, 1, 2, 3]


def test_a_buffer_still_read_by_its_last_user_is_written_afterwards(tmp_path, gpu, library):
    """The copy into a buffer waits for the event that it was given back with; the double finds it if not."""
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=6))
    layout = SurfaceLayout.of(info.video)
    reader = gpu.make_stream()
    targets = []
    with DevicePool("decoded", device=gpu, shape=(layout.bytes,), dtype="uint8", count=1) as pool:
        with NvdecDecoder(info, device=gpu, pool=pool, library=library) as decoder:
            for frame in decoder.frames():
                reader.wait_for(frame.ready)
                pinned = gpu.allocate_pinned(layout.bytes)
                reader.download(frame.planes[0].pointer, pinned.array)
                frame.release(after=reader.record())
                targets.append(pinned)
        reader.close()
    counters = [media.read_counter(layout.to_planes(pinned.array)[0]) for pinned in targets]
    for pinned in targets:
        pinned.close()
    assert counters == list(range(6))


def test_a_pool_with_too_small_buffers_is_refused_with_both_sizes(tmp_path, gpu, library):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=2))
    with DevicePool("decoded", device=gpu, shape=(100,), dtype="uint8", count=1) as pool:
        with (
            NvdecDecoder(info, device=gpu, pool=pool, library=library) as decoder,
            pytest.raises(ValueError, match="100 bytes a frame, not 9216"),
        ):
            next(decoder.frames())
        assert pool.free_count == 1


def test_the_double_finds_a_surface_that_is_read_too_late(gpu, library, tmp_path):
    """Without the order that the decoder's stream gives, reading is a race: that the double says so is relied on."""
    path = media.write_counter_video(tmp_path / "film.h264", frames=3, container_format="h264")
    stream, other = gpu.make_stream(), gpu.make_stream()
    session = library.CreateDecoder(
        gpuid=0,
        codec=library.cudaVideoCodec.H264,
        cudacontext=0,
        cudastream=stream.handle,
        usedevicememory=True,
        bWaitForSessionWarmUp=False,
    )
    fed = library.PacketData()
    content = av.Packet(path.read_bytes())
    fed.bsl_data, fed.bsl = content.buffer_ptr, content.buffer_size
    surfaces = session.Decode(fed) + session.Decode(library.PacketData())
    with pytest.raises(GpuMisuse, match="race"):
        other.download(surfaces[0].GetPtrToPlane(0), np.empty(96, dtype=np.uint8))
    stream.synchronize()
    del session
    stream.close()
    other.close()


@pytest.mark.parametrize("name", ["b.mkv", "open.mkv", "open.ts", "mpeg2.mkv", "vp9.webm", "hdr.mkv"])
def test_entering_at_a_frame_gives_the_rest_of_the_film(tmp_path, gpu, library, name):
    path = tmp_path / name
    if name == "hdr.mkv":
        options = {"x265-params": "keyint=8:min-keyint=8:scenecut=0:open-gop=1"}
        media.write_counter_video(
            path, frames=40, codec="libx265", pixel_format="yuv420p10le", b_frames=2, options=options
        )
    elif name.startswith("open"):  # key frames are recovery points, not IDR pictures
        options = {"x264-params": "keyint=8:min-keyint=8:scenecut=0:open-gop=1"}
        media.write_counter_video(path, frames=40, b_frames=2, options=options)
    else:
        codec = {"vp9.webm": "libvpx-vp9", "mpeg2.mkv": "mpeg2video"}.get(name, "libx264")
        b_frames = 0 if codec == "libvpx-vp9" else 2
        media.write_counter_video(path, frames=40, b_frames=b_frames, keyframe_interval=8, codec=codec)
    info = probe_media(path)
    index = build_frame_index(info)
    whole = decode_all(NvdecDecoder(info, device=gpu, library=library))
    with NvdecDecoder(info, device=gpu, library=library, index=index) as decoder:
        for start in (1, 7, 8, 17, 33, 39):
            frames = list(decoder.frames(start))
            assert [frame.stamp for frame in frames] == whole.stamps[start:]
            assert [[p.tobytes() for p in frame.planes] for frame in frames] == whole.planes[start:]
            assert decoder.damage is None
        assert decoder.decoded_count <= 40 - 32 + 2, "what comes before the last key frame is not decoded"


def test_a_pass_begins_well_before_the_index_ends_in_doubt(tmp_path, gpu, library):
    """The parser trusts times after 16 images only: a clock set back sooner would mix them up."""
    info = probe_media(media.write_counter_video(tmp_path / "film.mkv", frames=60, b_frames=2, keyframe_interval=8))
    index = build_frame_index(info)
    doubtful = replace(index, doubt="a packet has no presentation time")
    for known, begin in ((index, 56), (doubtful, 24)):
        with NvdecDecoder(info, device=gpu, library=library, index=known) as decoder:
            assert [media.read_counter(frame) for frame in decoder.frames(58)] == [58, 59]
            assert decoder.decoded_count == 60 - begin


def test_a_clock_set_back_later_on_is_passed_on_as_by_software(tmp_path, gpu, library):
    info = probe_media(media.write_clock_set_back(tmp_path / "film.ts", first_frames=40))
    expected = decode_all(LibavDecoder(info, threads=1))
    assert any("clock set back" in note for note in expected.notes)
    found = decode_all(NvdecDecoder(info, device=gpu, library=library))
    assert (found.stamps, found.planes) == (expected.stamps, expected.planes)


def test_a_clock_set_back_within_the_first_images_goes_to_software(tmp_path, gpu, library, monkeypatch):
    info = probe_media(media.write_clock_set_back(tmp_path / "film.ts", first_frames=10))
    assert "cannot be told apart: the clock is set back" in refused(info, gpu, library, monkeypatch)


@pytest.mark.parametrize("name", ["film.mkv", "film.h264"])
def test_an_image_that_does_not_come_is_a_loss_and_moves_no_other(tmp_path, gpu, name):
    path = media.write_counter_video(
        tmp_path / name, frames=40, b_frames=2, container_format="h264" if name.endswith("h264") else None
    )
    info = probe_media(path)
    whole = decode_all(LibavDecoder(info, threads=1))
    found = decode_all(NvdecDecoder(info, device=gpu, library=NvdecLibrary(gpu, lost=frozenset({21}))))
    assert "1 packet without an image from NVDEC" in found.damage
    assert found.planes == whole.planes[:21] + whole.planes[22:]
    assert found.notes == whole.notes or name == "film.h264"  # counts the images that have no time
    if name == "film.mkv":
        assert [stamp.pts for stamp in found.stamps] == [s.pts for s in whole.stamps[:21] + whole.stamps[22:]]
        assert "near 0.840 s" in found.damage


def test_an_index_of_another_film_is_refused(tmp_path, gpu, library):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=12))
    index = replace(build_frame_index(info), size_bytes=1)
    with pytest.raises(ValueError, match=r"film\.mp4"):
        NvdecDecoder(info, device=gpu, library=library, index=index)


def test_a_change_of_image_size_is_an_error_and_not_a_scaled_image(tmp_path, gpu, library):
    info = probe_media(media.write_size_change(tmp_path / "film.ts"))
    with NvdecDecoder(info, device=gpu, library=library) as decoder:
        counters = []
        with pytest.raises(UnsupportedMedia, match=r"from 96x64 to 80x48 at \d") as caught:
            for frame in decoder.frames():
                counters.append(media.read_counter(frame))
    assert "cut the file" in caught.value.hint
    assert counters == list(range(len(counters)))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "libsvtav1"])
def test_a_change_of_colours_is_an_error_wherever_decoding_begins(tmp_path, gpu, library, codec):
    """Software follows the matrix; NVDEC gives images without a word of theirs."""
    suffix = "obu" if codec == "libsvtav1" else "ts"
    parts = []
    for number, matrix in enumerate((1, 6)):
        part = tmp_path / f"{number}.{suffix}"
        pts = range(10 * number, 10 * number + 10)
        tags = {"matrix": matrix, "primaries": 1, "transfer": 1, "full_range": False}
        media.write_counter_video(part, frames=10, pts=pts, time_base=Fraction(1, 25), codec=codec, **tags)
        parts.append(part.read_bytes())
    film = tmp_path / f"film.{suffix}"
    film.write_bytes(b"".join(parts))
    info = probe_media(film)
    words = r"colours change from bt709, limited range to bt601, limited range at \d"
    with NvdecDecoder(info, device=gpu, library=library) as decoder:
        given = []
        with pytest.raises(UnsupportedMedia, match=words) as caught:
            for frame in decoder.frames():
                given.append(frame.stamp.index)
        assert given == list(range(len(given))) and len(given) <= 10
    assert "decode.kind: libav" in caught.value.hint
    index = build_frame_index(info)
    if len(index.entries) > 1:
        decoder = NvdecDecoder(info, device=gpu, library=library, index=index)
        with decoder, pytest.raises(UnsupportedMedia, match=words):
            list(decoder.frames(10))


def test_a_file_that_ends_early_is_damaged_as_with_software_decoding(tmp_path, gpu, library):
    whole = media.write_counter_video(tmp_path / "film.mkv", frames=60, keyframe_interval=10)
    info = probe_media(media.truncate_copy(whole, tmp_path / "cut.mkv", fraction=0.6))
    with NvdecDecoder(info, device=gpu, library=library) as decoder:
        frames = list(decoder.frames())
        assert decoder.damage is not None
    with LibavDecoder(info, threads=1) as software:
        assert abs(len(list(software.frames())) - len(frames)) <= 1


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.ts"])
def test_noise_ends_in_frames_with_increasing_times_or_in_a_media_error(tmp_path, gpu, library, name):
    whole = media.write_counter_video(tmp_path / name, frames=60, keyframe_interval=10, b_frames=2)
    for seed in range(6):
        bad = media.corrupt_copy(whole, tmp_path / f"bad-{name}", start=0.1 + seed / 8, stop=0.15 + seed / 8, seed=seed)
        try:
            info = probe_media(bad)
            decoded = decode_all(NvdecDecoder(info, device=gpu, library=library))
        except MediaError as error:
            assert str(bad) in str(error)
        else:
            assert all(a.pts < b.pts for a, b in itertools.pairwise(decoded.stamps))


@pytest.mark.parametrize("stopped_after", [0, 1, 5])
def test_stopping_early_gives_everything_back(tmp_path, gpu, library, stopped_after):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=10, b_frames=2))
    layout = SurfaceLayout.of(info.video)
    with DevicePool("decoded", device=gpu, shape=(layout.bytes,), dtype="uint8", count=6) as pool:
        decoder = NvdecDecoder(info, device=gpu, pool=pool, library=library)
        for frame in itertools.islice(decoder.frames(), stopped_after):
            frame.release()
        decoder.close()
        assert library.open_sessions == 0
        assert pool.free_count == 6
        gpu.make_stream().close()


def test_two_hundred_sessions_leave_nothing(tmp_path, gpu, library):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=1))
    for _ in range(200):
        with NvdecDecoder(info, device=gpu, library=library) as decoder:
            assert len(list(decoder.frames())) == 1
        gpu.check_clean()
    assert (library.opened_count, library.open_sessions) == (200, 0)


def test_a_decoder_that_fails_ends_the_film_with_advice(tmp_path, gpu):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=9))
    library = NvdecLibrary(gpu, fail_after=4)
    with (
        NvdecDecoder(info, device=gpu, library=library) as decoder,
        pytest.raises(MediaError, match="NVDEC failed: cuvidDecodePicture returned error 999") as caught,
    ):
        list(decoder.frames())
    assert "libav" in caught.value.hint


def test_a_session_that_does_not_open_is_an_error_with_the_film(tmp_path, gpu, library):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=1))
    library.session_refusal = "\n cuvidCreateVideoParser returned error 2\nmore"
    with (
        NvdecDecoder(info, device=gpu, library=library) as decoder,
        pytest.raises(MediaError, match=r"film\.mp4.*returned error 2$"),
    ):
        next(decoder.frames())


def test_a_gpu_that_fails_is_not_hidden(tmp_path, gpu, library):
    from engines.errors import InferenceFailed

    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=9))
    with NvdecDecoder(info, device=gpu, library=library) as decoder:
        frames = decoder.frames()
        next(frames)
        gpu.failure = "an illegal memory access was encountered"
        with pytest.raises(InferenceFailed, match="illegal"):
            next(frames)
    assert library.open_sessions == 0
    gpu.failure = None


# --- which films ----------------------------------------------------------------------------------------------------


def test_where_nvdec_may_not_be_taken_by_itself_the_reason_says_how_to_have_it(film, gpu, library, monkeypatch):
    monkeypatch.setattr("pipeline.decode.NVDEC_BY_ITSELF", False)
    choice = choose_decoder("auto", film, device=gpu)
    assert choice.kind == "libav"
    assert "decode.kind" in choice.reason


@pytest.fixture
def film(tmp_path) -> MediaInfo:
    return probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=8, b_frames=2))


def test_a_film_that_both_decode_alike_is_taken(film, gpu, library):
    check_nvdec(film, device=gpu, library=library)
    assert library.opened_count == 1


def test_auto_takes_nvdec_only_where_frames_stay_on_the_gpu(film, gpu, library, monkeypatch):
    monkeypatch.setattr("pipeline.decode.nvdec_choice.load_nvdec", lambda: library)
    assert choose_decoder("auto", film).kind == "libav"
    assert library.opened_count == 0
    choice = choose_decoder("auto", film, device=gpu)
    assert choice.kind == "nvdec"
    assert gpu.name in choice.reason


def test_auto_opens_what_it_chose(film, gpu, library, monkeypatch):
    monkeypatch.setattr("pipeline.decode.nvdec_choice.load_nvdec", lambda: library)
    monkeypatch.setattr("pipeline.decode.nvdec.load_nvdec", lambda: library)
    layout = SurfaceLayout.of(film.video)
    with (
        DevicePool("decoded", device=gpu, shape=(layout.bytes,), dtype="uint8", count=1) as pool,
        open_decoder("auto", film, device=gpu, pool=pool) as decoder,
    ):
        assert isinstance(decoder, NvdecDecoder)
    with open_decoder("auto", film, device=gpu) as decoder:
        assert isinstance(decoder, LibavDecoder)


def refused(info: MediaInfo, gpu: FakeGpu, library: NvdecLibrary, monkeypatch: Any) -> str:
    """Why a film is refused: an error if NVDEC is named, software and the same words with auto."""
    monkeypatch.setattr("pipeline.decode.nvdec_choice.load_nvdec", lambda: library)
    with pytest.raises(UnsupportedMedia) as caught:
        choose_decoder("nvdec", info, device=gpu)
    assert "libav" in caught.value.hint
    choice = choose_decoder("auto", info, device=gpu)
    assert (choice.kind, choice.reason) == ("libav", f"software decoding: {caught.value}")
    return str(caught.value)


def test_cropping_at_the_top_is_refused_because_nvdec_ignores_it(tmp_path, gpu, library, monkeypatch):
    source = media.write_without_timestamps(tmp_path / "film.h264")
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        crop = BitStreamFilterContext("h264_metadata=crop_top=6", stream)
        packets = [bytes(p) for packet in container.demux(stream) if packet.size for p in crop.filter(packet)]
    path = tmp_path / "cropped.h264"
    path.write_bytes(b"".join(packets))
    info = probe_media(path)
    assert info.video.height == 64 - 6
    assert "images of 96x64 with 1 bytes a sample, not 96x58" in refused(info, gpu, library, monkeypatch)


@pytest.mark.parametrize(("side", "pixels"), [("bottom", 6), ("right", 14)])
def test_cropping_at_the_bottom_or_right_is_taken(tmp_path, gpu, library, side, pixels):
    height, width = (64 - pixels, 96) if side == "bottom" else (64, 96 - pixels)
    check_nvdec(
        probe_media(media.write_counter_video(tmp_path / "film.mp4", height=height, width=width)),
        device=gpu,
        library=library,
    )


def test_images_of_other_values_are_refused(film, gpu, monkeypatch):
    library = NvdecLibrary(gpu, alter=lambda rows: rows ^ 1)
    assert "by up to 1 codes" in refused(film, gpu, library, monkeypatch)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "words"),
    [
        ("libx264", "yuv420p10le", "does not decode h264 of 10 bits"),
        ("libx264", "yuv444p", "yuv444p"),
        ("libx264", "yuv422p", "yuv422p"),
        ("libsvtav1", "yuv420p", "does not decode av1 of 8 bits"),
        ("ffv1", "yuv420p", "not used for ffv1"),
    ],
)
def test_what_the_gpu_or_the_program_does_not_decode_is_refused(
    tmp_path, gpu, library, monkeypatch, codec, pixel_format, words
):
    path = media.write_counter_video(tmp_path / "film.mkv", frames=4, codec=codec, pixel_format=pixel_format)
    assert words in refused(probe_media(path), gpu, library, monkeypatch)


def test_an_image_larger_than_the_decoder_takes_is_refused_with_the_limits(film, gpu, library, monkeypatch):
    library.largest = (64, 64)
    words = refused(film, gpu, library, monkeypatch)
    assert "16x16 to 64x64" in words
    assert "96x64" in words


def test_a_decoder_that_fails_when_tried_is_not_taken(film, gpu, monkeypatch):
    library = NvdecLibrary(gpu, fail_after=0)
    assert "error 999" in refused(film, gpu, library, monkeypatch)


def test_without_the_library_it_says_what_to_install(film, gpu, monkeypatch):
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("pipeline.decode.nvdec_session.import_module", absent)
    with pytest.raises(SetupError, match="PyNvVideoCodec") as caught:
        load_nvdec()
    assert "pip install" in caught.value.hint
    assert "PyNvVideoCodec" in choose_decoder("auto", film, device=gpu).reason
    with pytest.raises(SetupError):
        choose_decoder("nvdec", film, device=gpu)


def test_without_the_driver_it_says_how_a_container_gets_it(monkeypatch):
    def broken(_name: str) -> Any:
        raise RuntimeError("\nlibnvidia-encode.so.1: cannot open shared object file\n\n=== STEPS ===")

    monkeypatch.setattr("pipeline.decode.nvdec_session.import_module", broken)
    with pytest.raises(SetupError, match=r"libnvidia-encode\.so\.1: cannot open shared object file$") as caught:
        load_nvdec()
    assert "NVIDIA_DRIVER_CAPABILITIES" in caught.value.hint


def test_without_a_gpu_it_says_so(film, library, monkeypatch):
    from engines.errors import BackendUnavailable

    def absent(_index: int) -> Any:
        raise BackendUnavailable("there is no CUDA driver", missing="libcuda")

    monkeypatch.setattr("engines.gpu.cuda.open_device", absent)
    with pytest.raises(SetupError, match="NVDEC needs an NVIDIA GPU: there is no CUDA driver"):
        check_nvdec(film, library=library)


def test_a_computed_film_is_refused(gpu, library):
    with pytest.raises(ValueError, match="synthetic"):
        NvdecDecoder(describe_film(SyntheticFilm()), device=gpu, library=library)


def test_an_interlaced_film_is_refused(tmp_path, gpu, library):
    info = probe_media(media.write_interlaced(tmp_path / "film.mkv"))
    with pytest.raises(UnsupportedMedia, match="interlaced"):
        NvdecDecoder(info, device=gpu, library=library)


# --- surfaces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (1, 1), (530, 3)])
@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_a_surface_holds_exactly_its_planes(height, width, bit_depth):
    layout = SurfaceLayout(format=SampleFormat(matrix="bt709", bit_depth=bit_depth), height=height, width=width)
    block = np.random.default_rng(3).integers(0, 256, layout.bytes, dtype=np.uint8)
    planes = layout.to_planes(block)
    assert tuple(p.shape for p in planes) == layout.format.plane_shapes(height=height, width=width)
    assert not any(plane.flags.writeable or np.shares_memory(plane, block) for plane in planes)
    luma, chroma = layout.on_device(4096)
    assert chroma.pointer + chroma.height * chroma.pitch_bytes == 4096 + layout.bytes
    itemsize, shift = block.view(layout.format.dtype).itemsize, 16 - bit_depth if bit_depth > 8 else 0
    for plane, first, step in ((planes[0], luma, 1), (planes[1], chroma, 2), (planes[2], chroma, 2)):
        offset = first.pointer - 4096 + (itemsize if plane is planes[2] else 0)
        last = offset + (plane.shape[0] - 1) * first.pitch_bytes + (plane.shape[1] - 1) * step * itemsize
        raw = block[last : last + itemsize].view(layout.format.dtype)[0]
        assert plane[-1, -1] == raw >> shift
