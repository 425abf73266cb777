"""What every decoder promises, and what only the one that reads files does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import media, picture_files
from helpers.gpu_double import FakeGpu
from helpers.nvdec_double import NvdecLibrary

from pipeline.decode import DECODERS, Decoder, choose_decoder, open_decoder, probe_synthetic
from pipeline.decode.images import probe_images
from pipeline.decode.synthetic import SyntheticFilm, describe_film
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import SampleFormat
from pipeline.media import MediaInfo
from pipeline.probe import probe_media

FRAME_COUNT = 12
HEIGHT, WIDTH = 50, 70


class DecoderContract:
    """Subclass with ``kind`` and ``film``: a film of 12 frames of 50x70, each showing its index."""

    kind: str

    @pytest.fixture
    def film(self, tmp_path) -> MediaInfo:
        raise NotImplementedError

    @pytest.fixture
    def decoder(self, film):
        with open_decoder(self.kind, film) as decoder:
            yield decoder

    def test_every_frame_comes_once_in_order(self, decoder):
        frames = list(decoder.frames())
        assert [media.read_counter(frame) for frame in frames] == list(range(FRAME_COUNT))
        assert [frame.stamp.index for frame in frames] == list(range(FRAME_COUNT))

    def test_times_increase_evenly_by_the_rate(self, decoder):
        stamps = [frame.stamp for frame in decoder.frames()]
        video = decoder.info.video
        step = 1 / video.average_rate / video.time_base
        assert [stamp.pts for stamp in stamps] == [stamps[0].pts + round(i * step) for i in range(FRAME_COUNT)]
        assert {stamp.duration for stamp in stamps} == {step}

    def test_planes_have_the_shapes_and_type_of_the_format(self, decoder):
        for frame in decoder.frames():
            assert (frame.height, frame.width, frame.format) == (HEIGHT, WIDTH, decoder.info.video.format)
            shapes = frame.format.plane_shapes(height=HEIGHT, width=WIDTH)
            assert tuple(plane.shape for plane in frame.planes) == shapes
            for plane in frame.planes:
                assert plane.dtype == frame.format.dtype
                assert plane.strides[1] == plane.itemsize, "rows are contiguous"

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 3), (3, 7), (9, None), (0, 99), (5, 5), (7, 3), (12, None), (99, 100)]
    )
    def test_ranges_are_half_open(self, decoder, start, stop):
        frames = list(decoder.frames(start, stop))
        expected = list(range(FRAME_COUNT))[start : stop if stop is None or stop > start else start]
        assert [media.read_counter(frame) for frame in frames] == expected
        assert [frame.stamp.index for frame in frames] == expected

    def test_range_has_the_times_of_the_whole(self, decoder):
        whole = [frame.stamp for frame in decoder.frames()]
        assert [frame.stamp for frame in decoder.frames(4, 8)] == whole[4:8]

    @pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, -1)])
    def test_negative_range_is_refused(self, decoder, start, stop):
        with pytest.raises(ValueError, match="-1"):
            decoder.frames(start, stop)

    def test_iterating_twice_gives_the_same_bytes(self, decoder):
        first, second = ([[plane.tobytes() for plane in frame.planes] for frame in decoder.frames()] for _ in range(2))
        assert first == second

    def test_frames_outlive_the_decoder(self, film):
        with open_decoder(self.kind, film) as decoder:
            frames = list(decoder.frames())
        del decoder
        assert [media.read_counter(frame) for frame in frames] == list(range(FRAME_COUNT))

    def test_frames_do_not_share_memory(self, decoder):
        first, second = list(decoder.frames(0, 2))
        assert not np.shares_memory(first.planes[0], second.planes[0])

    def test_stopping_early_and_closing_is_clean(self, film):
        decoder = open_decoder(self.kind, film)
        iterator = decoder.frames()
        assert next(iterator).stamp.index == 0
        decoder.close()
        decoder.close()
        with pytest.raises(ValueError, match="closed"):
            decoder.frames()

    def test_a_sound_film_has_no_damage(self, decoder):
        list(decoder.frames())
        assert decoder.damage is None
        assert decoder.notes == ()

    def test_it_says_what_it_reads(self, decoder, film):
        assert decoder.info == film


class TestSyntheticDecoder(DecoderContract):
    kind = "synthetic"

    @pytest.fixture
    def film(self):
        return describe_film(SyntheticFilm(height=HEIGHT, width=WIDTH, frame_count=FRAME_COUNT))


class TestImageDecoder(DecoderContract):
    kind = "images"

    @pytest.fixture
    def film(self, tmp_path):
        picture_files.write_counters(tmp_path / "frames", count=FRAME_COUNT, height=HEIGHT, width=WIDTH)
        return probe_images(tmp_path / "frames", rate=Fraction(24000, 1001))


class TestImageDecoderOfTurnedPictures(DecoderContract):
    kind = "images"

    @pytest.fixture
    def film(self, tmp_path):
        picture_files.write_counters(
            tmp_path / "frames", count=FRAME_COUNT, height=HEIGHT, width=WIDTH, suffix="jpg", orientation=8
        )
        return probe_images(tmp_path / "frames", rate=Fraction(25))


class TestLibavDecoder(DecoderContract):
    kind = "libav"

    @pytest.fixture
    def film(self, tmp_path):
        path = media.write_counter_video(
            tmp_path / "film.mp4", frames=FRAME_COUNT, height=HEIGHT, width=WIDTH, b_frames=2, audio_tracks=1
        )
        return probe_media(path)


class TestLibavDecoder10BitMkv(DecoderContract):
    kind = "auto"

    @pytest.fixture
    def film(self, tmp_path):
        path = media.write_counter_video(
            tmp_path / "film.mkv",
            frames=FRAME_COUNT,
            height=HEIGHT,
            width=WIDTH,
            codec="ffv1",
            pixel_format="yuv422p10le",
            subtitles=True,
        )
        return probe_media(path)


class NvdecContract(DecoderContract):
    """NVDEC's double, with frames brought to the host; nothing may be left on the GPU."""

    kind = "nvdec"

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch):
        gpu = FakeGpu()
        library = NvdecLibrary(gpu)
        monkeypatch.setattr("pipeline.decode.nvdec.open_gpu", lambda: gpu)
        monkeypatch.setattr("pipeline.decode.nvdec.load_nvdec", lambda: library)
        yield gpu
        assert library.open_sessions == 0
        gpu.check_clean()


class TestNvdecDecoder(NvdecContract):
    @pytest.fixture
    def film(self, tmp_path):
        path = media.write_counter_video(
            tmp_path / "film.mp4", frames=FRAME_COUNT, height=HEIGHT, width=WIDTH, b_frames=2, audio_tracks=1
        )
        return probe_media(path)


class TestNvdecDecoder10BitMkv(NvdecContract):
    @pytest.fixture
    def film(self, tmp_path):
        path = media.write_counter_video(
            tmp_path / "film.mkv",
            frames=FRAME_COUNT,
            height=HEIGHT,
            width=WIDTH,
            codec="libx265",
            pixel_format="yuv420p10le",
            b_frames=2,
        )
        return probe_media(path)


def test_every_decoder_in_the_table_is_under_contract():
    cases = [case for case in DecoderContract.__subclasses__() if hasattr(case, "kind")]
    tested = {DECODERS[choose_decoder(case.kind).kind] for case in cases}
    assert tested == set(DECODERS.values())


# --- the synthetic film ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sample_format",
    [
        SampleFormat(matrix="bt2020nc", bit_depth=10),
        SampleFormat(matrix="bt601", subsampling="422", full_range=True),
        SampleFormat(matrix="rgb", subsampling="444", bit_depth=16, full_range=True),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(4, 8), (15, 15), (33, 64)])
def test_synthetic_film_of_any_format_and_size_shows_its_index(sample_format, height, width):
    film = SyntheticFilm(height=height, width=width, frame_count=300, format=sample_format)
    with open_decoder("synthetic", describe_film(film)) as decoder:
        frames = list(decoder.frames(255, 259))
    assert [media.read_counter(frame) for frame in frames] == [255, 256, 257, 258]
    assert all(
        p.shape == s
        for f in frames
        for p, s in zip(f.planes, sample_format.plane_shapes(height=height, width=width), strict=True)
    )


def test_synthetic_film_of_one_pixel_and_of_no_frames():
    with open_decoder("synthetic", describe_film(SyntheticFilm(height=1, width=1, frame_count=1))) as decoder:
        assert [frame.planes[0].shape for frame in decoder.frames()] == [(1, 1)]
    with open_decoder("synthetic", describe_film(SyntheticFilm(frame_count=0))) as decoder:
        assert list(decoder.frames()) == []


def test_synthetic_film_moves():
    with open_decoder("synthetic", describe_film(SyntheticFilm())) as decoder:
        first, second = decoder.frames(0, 2)
    assert (first.planes[0][-1] != second.planes[0][-1]).any()


@pytest.mark.parametrize(("field", "value"), [("height", 0), ("width", -1), ("frame_count", -1), ("rate", Fraction(0))])
def test_impossible_synthetic_film_is_refused(field, value):
    with pytest.raises(ValueError, match=str(value)):
        SyntheticFilm(**{field: value})


@dataclass
class Settings:
    height: int = 24
    width: int = 32
    frame_count: int = 7
    rate: Fraction = Fraction(24000, 1001)


def test_synthetic_film_is_described_from_settings():
    video = probe_synthetic(Settings()).video
    assert (video.height, video.width, video.frame_count_from_header) == (24, 32, 7)
    assert video.average_rate == Fraction(24000, 1001)


def test_a_decoder_refuses_the_other_kind_of_film(tmp_path):
    path = media.write_counter_video(tmp_path / "film.mp4", frames=1)
    with pytest.raises(ValueError, match="synthetic"):
        open_decoder("libav", describe_film(SyntheticFilm()))
    with pytest.raises(ValueError, match=r"film\.mp4"):
        open_decoder("synthetic", probe_media(path))


# --- files ----------------------------------------------------------------------------------------------------------


@dataclass
class Decoded:
    info: MediaInfo
    counters: list[int]
    times: list[Fraction]
    pts: list[int]
    damage: str | None
    notes: tuple[str, ...]


def decode(path: Path, *, threads: int = 2) -> Decoded:
    info = probe_media(path)
    with open_decoder("libav", info, threads=threads) as decoder:
        frames = list(decoder.frames())
        return Decoded(
            info=info,
            counters=[media.read_counter(frame) for frame in frames],
            times=[frame.stamp.pts * info.video.time_base for frame in frames],
            pts=[frame.stamp.pts for frame in frames],
            damage=decoder.damage,
            notes=decoder.notes,
        )


WRITERS: dict[str, Callable[[Path], Path]] = {
    "vfr.mkv": media.write_vfr,
    "vfr-b.mp4": lambda path: media.write_vfr(path, b_frames=2),
    "late.mp4": media.write_late_start,
    "late.mkv": media.write_late_start,
    "b.mkv": lambda path: media.write_counter_video(path, frames=40, b_frames=3),
    "hdr.mkv": media.write_hdr10,
    "mpeg2.ts": lambda path: media.write_counter_video(path, codec="mpeg2video", b_frames=2),
    "mpeg1.mpg": lambda path: media.write_counter_video(path, codec="mpeg1video"),
    "vp9.webm": lambda path: media.write_counter_video(path, codec="libvpx-vp9"),
    "av1.mkv": lambda path: media.write_counter_video(path, codec="libsvtav1"),
    "prores.mov": lambda path: media.write_counter_video(path, codec="prores_ks", pixel_format="yuv422p10le"),
    "one.mp4": lambda path: media.write_counter_video(path, frames=1),
    "cover.mkv": lambda path: media.write_counter_video(path, cover=True),
    "rich.mp4": media.write_rich_mp4,
    "ntsc.mp4": lambda path: media.write_counter_video(path, rate=Fraction(30000, 1001)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_frames_and_times_are_those_of_the_container(tmp_path, name):
    """All frames, in display order, at exactly the times that demuxing alone shows."""
    path = WRITERS[name](tmp_path / name)
    decoded = decode(path)
    assert decoded.counters == list(range(len(decoded.counters)))
    assert decoded.counters == media.video_counters(path)
    assert decoded.times == media.packet_times(path)
    assert (decoded.damage, decoded.notes) == (None, ())


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_no_frame_stays_in_the_decoder(tmp_path, threads):
    path = media.write_counter_video(tmp_path / "film.mkv", frames=31, b_frames=3)
    assert decode(path, threads=threads).counters == list(range(31))


def test_vfr_times_are_kept_to_the_tick(tmp_path):
    assert decode(media.write_vfr(tmp_path / "film.mkv")).pts == list(media.VFR_PTS)


def test_avi_frames_with_b_frames_get_increasing_times(tmp_path):
    decoded = decode(media.write_counter_video(tmp_path / "film.avi", b_frames=2))
    assert decoded.counters == list(range(12))
    assert {b - a for a, b in pairwise(decoded.pts)} == {1}


def test_stream_without_times_is_spaced_by_its_rate(tmp_path):
    decoded = decode(media.write_without_timestamps(tmp_path / "film.h264", b_frames=2))
    assert decoded.counters == list(range(10))
    assert {b - a for a, b in pairwise(decoded.times)} == {Fraction(1, 25)}
    assert "10 frames without a timestamp" in decoded.notes[0]


@pytest.mark.parametrize(
    ("pixel_format", "codec", "matrix", "subsampling", "bit_depth"),
    [
        ("yuv444p", "libx264", "bt601", "444", 8),
        ("yuv422p10le", "libx264", "bt601", "422", 10),
        ("yuvj420p", "mjpeg", "bt601", "420", 8),
        ("yuv444p16le", "ffv1", "bt601", "444", 16),
        ("yuv420p9le", "ffv1", "bt601", "420", 9),
        ("gbrp12le", "ffv1", "rgb", "444", 12),
        ("bgr0", "ffv1", "rgb", "444", 8),
        ("bgr24", "libx264rgb", "rgb", "444", 8),
        ("gray", "ffv1", "bt601", "420", 8),
        ("gray10le", "ffv1", "bt601", "420", 10),
        ("yuv411p", "ffv1", "bt601", "444", 8),
        ("yuva420p", "ffv1", "bt601", "420", 8),
    ],
)
def test_any_sample_format_is_read(tmp_path, pixel_format, codec, matrix, subsampling, bit_depth):
    path = media.write_counter_video(tmp_path / "film.mkv", pixel_format=pixel_format, codec=codec, frames=4)
    decoded = decode(path)
    sample_format = decoded.info.video.format
    assert decoded.counters == [0, 1, 2, 3]
    assert (sample_format.matrix, sample_format.subsampling) == (matrix, subsampling)
    assert sample_format.bit_depth == bit_depth


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p", "gray", "bgr0"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 15), (9, 130)])
def test_lossless_samples_arrive_unchanged(tmp_path, pixel_format, height, width):
    """FFV1 keeps every sample, and so does the way from there into planes, at odd sizes too."""
    path = media.write_counter_video(
        tmp_path / "film.mkv", frames=2, height=height, width=width, codec="ffv1", pixel_format=pixel_format
    )
    info = probe_media(path)
    with open_decoder("libav", info) as decoder:
        frames = list(decoder.frames())
    for frame in frames:
        made = media.make_counter_frame(
            frame.stamp.index, height=height, width=width, pixel_format=pixel_format, full_range=False
        )
        if pixel_format == "bgr0":
            made = made.reformat(format="gbrp")
        dtype = frame.format.dtype
        order = (2, 0, 1) if frame.format.matrix == "rgb" else (0, 1, 2)
        for plane, number in zip(frame.planes, order, strict=True):
            if number < len(made.planes):
                source = np.frombuffer(made.planes[number], dtype=np.uint8).reshape(made.planes[number].height, -1)
                expected = source.view(dtype)[:, : made.planes[number].width]
            else:
                expected = np.full(plane.shape, 1 << (frame.format.bit_depth - 1))
            np.testing.assert_array_equal(plane, expected)


def test_planes_are_views_that_nobody_can_write_to(tmp_path):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4", frames=2))
    with open_decoder("libav", info) as decoder:
        frame = next(decoder.frames())
    assert all(not plane.flags.owndata and not plane.flags.writeable for plane in frame.planes)
    assert frame.owner is not None
    assert frame.lease is None


def test_interlaced_film_is_refused_with_advice(tmp_path):
    info = probe_media(media.write_interlaced(tmp_path / "film.mkv"))
    with pytest.raises(UnsupportedMedia, match="interlaced") as caught:
        open_decoder("auto", info)
    assert "bwdif" in caught.value.hint


def test_change_of_image_size_is_an_error_with_time_and_sizes(tmp_path):
    info = probe_media(media.write_size_change(tmp_path / "film.ts"))
    with (
        open_decoder("libav", info) as decoder,
        pytest.raises(UnsupportedMedia, match=r"96x64 to 80x48 at 0\.4") as caught,
    ):
        list(decoder.frames())
    assert caught.value.hint


def test_change_of_sample_layout_is_an_error(tmp_path):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4"))
    other = replace(info, video=replace(info.video, pixel_format="yuv444p"))
    with open_decoder("libav", other) as decoder, pytest.raises(UnsupportedMedia, match="yuv444p to yuv420p"):
        next(decoder.frames())


def test_real_film_is_read_to_the_end():
    info = probe_media(media.real_film("carphone_pristine"))
    with open_decoder("libav", info) as decoder:
        stamps = [frame.stamp for frame in decoder.frames()]
        assert decoder.damage is None
    assert len(stamps) == info.video.frame_count_from_header == 120
    assert [s.pts for s in stamps] == [1001 * i for i in range(120)]


# --- damage ---------------------------------------------------------------------------------------------------------


def write_long(path: Path, **options) -> Path:
    return media.write_counter_video(
        path, frames=100, b_frames=2, keyframe_interval=10, height=96, width=128, **options
    )


def write_front_loaded(path: Path) -> Path:
    """An mp4 whose description comes first, so that its head alone can be opened."""
    plain = write_long(path.with_name("plain.mp4"))
    media.run_ffmpeg("-i", str(plain), "-c", "copy", "-movflags", "+faststart", str(path))
    return path


def is_subsequence(short: list[int], long: list[int]) -> bool:
    rest = iter(long)
    return all(item in rest for item in short)


LONG_FILMS: dict[str, Callable[[Path], Path]] = {
    "film.mkv": write_long,
    "hevc.mkv": lambda path: write_long(path, codec="libx265"),
    "film.mp4": write_front_loaded,
    "film.avi": lambda path: media.write_counter_video(path, frames=100, codec="mpeg4", keyframe_interval=10),
}


@pytest.mark.parametrize("name", LONG_FILMS)
@pytest.mark.parametrize("threads", [1, 3])
def test_truncated_film_keeps_what_is_there_and_says_when_it_ends(tmp_path, name, threads):
    whole = LONG_FILMS[name](tmp_path / name)
    decoded = decode(media.truncate_copy(whole, tmp_path / f"cut-{name}", fraction=0.6), threads=threads)
    assert decoded.damage is not None
    assert " near " in decoded.damage
    assert 35 <= len(decoded.counters) <= 75
    assert decoded.counters[:-3] == list(range(len(decoded.counters) - 3)), "all but the last, torn ones are whole"
    assert all(a < b for a, b in pairwise(decoded.pts))


@pytest.mark.parametrize("name", LONG_FILMS)
@pytest.mark.parametrize("threads", [1, 3])
def test_damaged_film_goes_on_after_the_damage(tmp_path, name, threads):
    whole = LONG_FILMS[name](tmp_path / name)
    decoded = decode(media.corrupt_copy(whole, tmp_path / f"bad-{name}", start=0.5, stop=0.53), threads=threads)
    assert decoded.damage is not None
    assert len(decoded.counters) >= 70
    assert decoded.counters[:35] == list(range(35))
    assert decoded.counters[-5:] == list(range(95, 100))
    assert all(a < b for a, b in pairwise(decoded.pts))


def test_damage_at_the_end_costs_no_more_frames_with_several_threads(tmp_path):
    """Frames that a failing last packet would take along from the decoder's threads are still given."""
    whole = write_front_loaded(tmp_path / "film.mp4")
    cut = media.truncate_copy(whole, tmp_path / "cut.mp4", fraction=0.6)
    assert decode(cut, threads=8).pts == decode(cut, threads=1).pts


def test_damaged_transport_stream_is_marked(tmp_path):
    whole = write_long(tmp_path / "film.ts")
    assert decode(media.corrupt_copy(whole, tmp_path / "bad.ts", start=0.5, stop=0.53)).damage is not None


@pytest.mark.parametrize("name", LONG_FILMS)
def test_no_damage_whatsoever_gives_a_foreign_error(tmp_path, name):
    """Noise anywhere in a file ends in frames with increasing times or in a MediaError, never in anything else."""
    whole = LONG_FILMS[name](tmp_path / name)
    for seed in range(25):
        start = float(np.random.default_rng(seed).random())
        bad = media.corrupt_copy(whole, tmp_path / f"bad-{name}", start=start, stop=start + 0.02, seed=seed)
        try:
            decoded = decode(bad)
        except MediaError as error:
            assert str(bad) in str(error)
        else:
            assert all(a < b for a, b in pairwise(decoded.pts))


def test_frames_that_an_avi_lost_without_an_error_are_noted(tmp_path):
    whole = media.write_counter_video(tmp_path / "film.avi", codec="mjpeg", pixel_format="yuvj420p", frames=60)
    content = bytearray(whole.read_bytes())
    chunk = content.index(b"00dc", len(content) // 2)
    content[chunk : chunk + 4] = b"\0\0\0\0"
    bad = tmp_path / "bad.avi"
    bad.write_bytes(content)
    decoded = decode(bad)
    assert len(decoded.counters) < 60
    assert decoded.damage is not None or any("60 frames" in note for note in decoded.notes)


def test_frames_cut_off_by_an_edit_list_are_no_damage(tmp_path):
    whole = media.write_counter_video(tmp_path / "film.mp4", frames=50, keyframe_interval=10)
    cut = tmp_path / "cut.mp4"
    media.run_ffmpeg("-ss", "0.5", "-i", str(whole), "-c", "copy", str(cut))
    decoded = decode(cut)
    assert decoded.counters == media.video_counters(cut)
    assert (decoded.damage, decoded.notes) == (None, ())


def test_damage_is_forgotten_by_the_next_pass(tmp_path):
    whole = write_long(tmp_path / "film.mkv")
    info = probe_media(media.truncate_copy(whole, tmp_path / "cut.mkv", fraction=0.6))
    with open_decoder("libav", info) as decoder:
        list(decoder.frames())
        assert decoder.damage is not None
        list(decoder.frames(0, 5))
        assert decoder.damage is None


def test_a_typed_decoder_satisfies_the_protocol(tmp_path):
    decoder: Decoder = open_decoder("synthetic", describe_film(SyntheticFilm()))
    with decoder as same:
        assert same is decoder
