"""Promises of pipeline.decode.structure: a file that is shorter than it says, or broken inside, is recognised."""

from __future__ import annotations

import pytest
from helpers import media

from pipeline.decode.structure import broken_avi_offset, broken_matroska_offset, missing_bytes


@pytest.fixture(params=["mkv", "mp4", "mov", "avi", "webm"])
def film(request, tmp_path):
    codec = "libvpx-vp9" if request.param == "webm" else "libx264"
    return media.write_counter_video(tmp_path / f"film.{request.param}", frames=30, codec=codec, audio_tracks=0)


def test_whole_file_misses_nothing(film):
    assert missing_bytes(film) == 0
    assert broken_matroska_offset(film) is None


@pytest.mark.parametrize("cut", [1, 100])
def test_bytes_cut_off_are_counted(film, tmp_path, cut):
    short = tmp_path / f"short{film.suffix}"
    short.write_bytes(film.read_bytes()[:-cut])
    assert missing_bytes(short) == cut


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x81", b"\0\0\0\1ftyp", b"text" * 9]
)
def test_fragments_and_other_files_raise_nothing(tmp_path, content):
    path = tmp_path / "fragment"
    path.write_bytes(content)
    assert missing_bytes(path) >= 0
    assert broken_matroska_offset(path) is None


def test_live_matroska_without_sizes_is_whole(tmp_path):
    source = media.write_counter_video(tmp_path / "film.mkv", frames=10)
    live = tmp_path / "live.mkv"
    media.run_ffmpeg("-i", str(source), "-c", "copy", "-f", "matroska", "-live", "1", str(live))
    assert missing_bytes(live) == 0
    assert broken_matroska_offset(live) is None


def test_overwritten_matroska_blocks_are_found(tmp_path):
    source = media.write_counter_video(tmp_path / "film.mkv", frames=60, keyframe_interval=10)
    broken = media.corrupt_copy(source, tmp_path / "broken.mkv", start=0.5, stop=0.7)
    offset = broken_matroska_offset(broken)
    assert offset is not None
    assert offset >= source.stat().st_size * 0.4


def test_a_whole_avi_has_no_break(tmp_path):
    assert broken_avi_offset(media.write_counter_video(tmp_path / "film.avi", frames=30)) is None
    assert broken_avi_offset(media.write_counter_video(tmp_path / "film.mkv", frames=3)) is None


def test_overwritten_avi_chunks_are_found(tmp_path):
    source = media.write_counter_video(tmp_path / "film.avi", frames=60)
    content = bytearray(source.read_bytes())
    start = content.index(b"00dc", len(content) // 2)
    content[start : start + 8] = bytes(8)
    source.write_bytes(content)
    assert broken_avi_offset(source) == start


def test_an_avi_cut_off_is_short_and_not_broken(tmp_path):
    source = media.write_counter_video(tmp_path / "film.avi", frames=60)
    short = media.truncate_copy(source, tmp_path / "short.avi", fraction=0.5)
    assert broken_avi_offset(short) is None
    assert missing_bytes(short) > 0
