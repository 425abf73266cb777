"""Promises of pipeline.probe: what a film is, from its content; and one clear error for everything that is no film."""

from __future__ import annotations

import logging
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from helpers import media

from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import ColourTags, SampleFormat
from pipeline.probe import probe_media


def test_plain_film_is_described(tmp_path):
    path = media.write_counter_video(
        tmp_path / "film.mp4", frames=12, height=64, width=96, matrix=1, primaries=1, transfer=1, full_range=False
    )
    info = probe_media(path)
    video = info.video
    assert (info.path, info.size_bytes, info.start_s) == (path, path.stat().st_size, 0.0)
    assert info.duration_s == pytest.approx(0.48)
    assert (video.index, video.codec, video.height, video.width) == (0, "h264", 64, 96)
    assert (video.pixel_format, video.frame_count_from_header) == ("yuv420p", 12)
    assert (video.average_rate, video.time_base, video.start_pts) == (Fraction(25), Fraction(1, 12800), 0)
    assert video.duration_s == pytest.approx(0.48)
    assert video.format == SampleFormat(matrix="bt709")
    assert video.tags == ColourTags(matrix=1, primaries=1, transfer=1, full_range=False, chroma_location="left")
    assert (video.sample_aspect, video.rotation_deg, video.is_interlaced) == (1, 0, False)
    assert (video.mastering_display, video.content_light) == ("", "")
    assert info.guesses == ()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_hdr10_metadata_is_carried(tmp_path, suffix):
    video = probe_media(media.write_hdr10(tmp_path / f"hdr{suffix}")).video
    assert video.format == SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="topleft")
    assert video.tags == ColourTags(matrix=9, primaries=9, transfer=16, full_range=False, chroma_location="topleft")
    assert video.mastering_display == media.MASTERING_DISPLAY
    assert video.content_light == media.CONTENT_LIGHT


def test_untagged_film_names_its_guesses(tmp_path):
    info = probe_media(media.write_counter_video(tmp_path / "film.mp4"))
    assert info.video.tags.matrix == 2
    assert info.video.tags.full_range is None
    assert info.video.format.matrix == "bt601"
    assert len(info.guesses) == 2


def test_full_range_is_read(tmp_path):
    video = probe_media(media.write_counter_video(tmp_path / "film.mp4", full_range=True)).video
    assert video.format.full_range is True


@pytest.mark.parametrize("location", ["left", "center", "topleft", "top", "bottomleft", "bottom"])
def test_chroma_location_is_read(tmp_path, location):
    path = media.write_counter_video(tmp_path / "film.mp4", chroma_location=location)
    assert probe_media(path).video.tags.chroma_location == location


def test_rotation_and_sample_aspect_are_read(tmp_path):
    path = media.write_counter_video(tmp_path / "film.mp4", rotation_deg=90, sample_aspect=Fraction(4, 3))
    video = probe_media(path).video
    assert (video.rotation_deg, video.sample_aspect) == (90, Fraction(4, 3))
    assert (video.height, video.width) == (64, 96), "the size is that before rotation"


def test_coded_size_is_cropped_to_the_display_size(tmp_path):
    video = probe_media(media.write_counter_video(tmp_path / "film.mp4", height=50, width=70)).video
    assert (video.height, video.width) == (50, 70)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 15), (17, 33)])
def test_odd_sizes_are_kept(tmp_path, height, width):
    path = media.write_counter_video(tmp_path / "film.mkv", frames=1, height=height, width=width, codec="ffv1")
    video = probe_media(path).video
    assert (video.height, video.width) == (height, width)


def test_start_time_is_exact(tmp_path):
    info = probe_media(media.write_late_start(tmp_path / "film.mkv", first_pts=1500))
    assert info.start_s == 1.5
    assert info.video.start_pts == 1500


def test_interlaced_film_is_recognised(tmp_path):
    assert probe_media(media.write_interlaced(tmp_path / "film.mkv")).video.is_interlaced


def test_all_streams_and_chapters_are_listed(tmp_path):
    info = probe_media(media.write_rich_mkv(tmp_path / "film.mkv"))
    kinds = [(s.index, s.kind, s.codec, s.language) for s in info.streams]
    assert kinds == [
        (0, "video", "h264", ""),
        (1, "audio", "aac", "eng"),
        (2, "audio", "aac", "fra"),
        (3, "subtitle", "subrip", "eng"),
        (4, "attachment", "", ""),
    ]
    assert info.chapter_count == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_art_is_never_the_film(tmp_path, suffix):
    info = probe_media(media.write_counter_video(tmp_path / f"film{suffix}", cover=True))
    assert (info.video.index, info.video.codec) == (0, "h264")
    assert [s.is_attached_pic for s in info.streams] == [False, True]


def test_largest_of_several_films_is_the_film(tmp_path):
    small = media.write_counter_video(tmp_path / "small.mkv", height=32, width=48)
    large = media.write_counter_video(tmp_path / "large.mkv", height=64, width=96)
    both = tmp_path / "both.mkv"
    media.run_ffmpeg(
        *("-i", str(small), "-i", str(large), "-map", "0", "-map", "1", "-c", "copy", "-disposition", "0", str(both))
    )
    assert probe_media(both).video.index == 1


def test_default_film_is_preferred_over_a_larger_one(tmp_path):
    small = media.write_counter_video(tmp_path / "small.mkv", height=32, width=48)
    large = media.write_counter_video(tmp_path / "large.mkv", height=64, width=96)
    both = tmp_path / "both.mkv"
    media.run_ffmpeg(
        *("-i", str(small), "-i", str(large), "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:0", "default", "-disposition:1", "0", str(both)),
    )
    assert probe_media(both).video.index == 0


def test_frame_count_of_a_statistics_tag_is_read(tmp_path):
    source = media.write_counter_video(tmp_path / "source.mkv", frames=12)
    tagged = tmp_path / "tagged.mkv"
    media.run_ffmpeg("-i", str(source), "-c", "copy", "-metadata:s:0", "NUMBER_OF_FRAMES-eng=12", str(tagged))
    assert probe_media(source).video.frame_count_from_header is None
    assert probe_media(tagged).video.frame_count_from_header == 12


def test_real_film_is_described():
    info = probe_media(media.real_film("bigbuckbunny"))
    assert (info.video.height, info.video.width, info.video.average_rate) == (720, 1280, Fraction(25))
    assert info.video.frame_count_from_header == 132
    assert [s.kind for s in info.streams] == ["video", "audio"]


def test_colon_and_percent_in_a_name_are_just_letters(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert probe_media(media.write_counter_video(folder / "10%03d é.mp4")).video.height == 64


def test_metadata_in_a_wrong_encoding_does_not_stop_a_film(tmp_path):
    path = media.write_counter_video(tmp_path / "film.mkv", metadata={"title": "Aaaaaaaa"})
    path.write_bytes(path.read_bytes().replace(b"Aaaaaaaa", b"A\xff\xfeaaaaa"))
    assert probe_media(path).video.height == 64


# --- what is no film ------------------------------------------------------------------------------------------------


def _write_empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _write_folder(path: Path) -> Path:
    path.mkdir()
    return path


def _write_unknown_codec(path: Path) -> Path:
    media.write_counter_video(path)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XXX"))
    return path


def _write_encrypted(path: Path) -> Path:
    clear = media.write_counter_video(path.with_name("clear.mp4"))
    key = "00112233445566778899aabbccddeeff"
    media.run_ffmpeg(
        *("-i", str(clear), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr"),
        *("-encryption_key", key, "-encryption_kid", key, str(path)),
    )
    return path


def _write_cut_mp4(path: Path) -> Path:
    whole = media.write_counter_video(path.with_name("whole.mp4"))
    return media.truncate_copy(whole, path, fraction=0.5)


def _write_noise_frames(path: Path) -> Path:
    whole = media.write_counter_video(path.with_name("whole.mp4"), frames=3)
    content = bytearray(whole.read_bytes())
    start = content.index(b"mdat") + 4
    stop = content.index(b"moov") - 4
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "write", "kind", "words"),
    [
        ("missing.mp4", lambda path: path, MediaError, "does not exist"),
        ("folder", _write_folder, MediaError, "is a folder"),
        ("empty.mp4", _write_empty, MediaError, "is empty"),
        ("text.mp4", media.write_text, UnsupportedMedia, "is not a media file"),
        ("text.txt", media.write_text, UnsupportedMedia, "is a text file"),
        ("sound.m4a", media.write_audio_only, UnsupportedMedia, "has no video: it holds only audio"),
        ("cover.mp4", media.write_cover_only, UnsupportedMedia, "only audio and cover art"),
        ("none.mp4", media.write_no_frames, UnsupportedMedia, "has no video"),
        ("none.avi", media.write_no_frames, UnsupportedMedia, "has no frames"),
        ("none.mkv", media.write_no_frames, UnsupportedMedia, "ends before its first frame"),
        ("codec.mkv", _write_unknown_codec, UnsupportedMedia, "no decoder knows the codec"),
        ("drm.mp4", _write_encrypted, UnsupportedMedia, "is encrypted"),
        ("cut.mp4", _write_cut_mp4, UnsupportedMedia, "cut-off mp4"),
        ("noise.mp4", _write_noise_frames, MediaError, "none of the 3 packets"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_what_is_no_film_gives_one_error_with_path_reason_and_advice(tmp_path, capfd, name, write, kind, words):
    path = write(tmp_path / name)
    capfd.readouterr()
    with pytest.raises(MediaError) as caught:
        probe_media(path)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.path == path
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == "", "libav must not write to the terminal"


def test_unreadable_file_is_named(tmp_path, monkeypatch):
    path = media.write_counter_video(tmp_path / "film.mp4")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so permissions alone cannot show it
    with pytest.raises(MediaError, match="cannot be read: Permission denied"):
        probe_media(path)


def test_device_is_not_read():
    with pytest.raises(MediaError, match="not a regular file"):
        probe_media(Path("/dev/zero"))


def test_unsupported_matrix_is_named(tmp_path):
    path = media.write_counter_video(tmp_path / "film.mkv", codec="libx264", matrix=8, pixel_format="yuv444p")
    with pytest.raises(UnsupportedMedia, match="YCgCo"):
        probe_media(path)


def test_probing_leaves_logging_as_it_was(tmp_path, caplog):
    path = media.write_counter_video(tmp_path / "film.mp4")
    before = av.logging.get_level()
    with caplog.at_level(logging.DEBUG):
        probe_media(path)
    assert av.logging.get_level() == before
    assert caplog.records == []


def test_importing_the_probe_loads_no_codec_library():
    code = "import sys, pipeline.probe, pipeline.decode, pipeline.tags; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_film_whose_decoder_does_not_open_is_said_in_its_words(tmp_path: Path) -> None:
    """And not in those that PyAV 19 has for every packet behind the first one."""
    path = tmp_path / "film.mp4"
    media.write_counter_video(path, frames=12, codec="libx265")
    content = bytearray(path.read_bytes())
    parameter_sets = content.index(b"hvcC") + 26
    content[parameter_sets : parameter_sets + 38] = b"\xff" * 38
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"none of the 12 packets .* \(Invalid data found"):
        probe_media(path)
