"""Verification compares every stream beside the film: which there are, their order, words, flags, start and end."""

from pathlib import Path

import pytest
from helpers.films import make_film
from helpers.media import run_ffmpeg, write_counter_video

from pipeline.assembly.expected import Expected
from pipeline.assembly.source_streams import read_source_streams
from pipeline.assembly.verify import verify_output
from pipeline.errors import VerificationFailed
from pipeline.probe import probe_media

LINES = "1\n00:00:00,200 --> 00:00:00,600\nfirst\n\n2\n00:00:00,700 --> 00:00:00,900\nsecond\n"


def write_source(path: Path, *, container_words: tuple[str, ...] = ()) -> Path:
    """A film of one second with two sounds and a text, all with titles and flags."""
    film = write_counter_video(path.with_name("film.mkv"), frames=25, height=48, width=64)
    text = path.with_name("lines.srt")
    text.write_text(LINES)
    run_ffmpeg(
        *("-i", str(film), "-f", "lavfi", "-i", "sine=300:d=1", "-f", "lavfi", "-i", "sine=500:d=1", "-i", str(text)),
        *("-map", "0:v", "-map", "1", "-map", "2", "-map", "3", "-c", "copy", "-c:a", "aac"),
        *("-c:s", "srt" if path.suffix == ".mkv" else "mov_text"),
        *("-metadata:s:v:0", "language=jpn", "-metadata:s:v:0", "title=The picture", "-disposition:v:0", "default"),
        *("-metadata:s:a:0", "language=jpn", "-metadata:s:a:0", "title=Original", "-disposition:a:0", "default"),
        *("-metadata:s:a:1", "language=eng", "-metadata:s:a:1", "title=Director", "-disposition:a:1", "comment"),
        *("-metadata:s:s:0", "language=eng", "-metadata:s:s:0", "title=Signs", "-disposition:s:0", "default"),
        *container_words,
        str(path),
    )
    return path


@pytest.fixture(scope="module", params=["mkv", "mp4", "mov"])
def made(request, tmp_path_factory) -> tuple[Path, Expected]:
    """A finished film and what it must be."""
    folder = tmp_path_factory.mktemp(request.param)
    source = write_source(folder / f"in.{request.param}")
    out = folder / f"out.{request.param}"
    return out, make_film(source, out, segment_frames=10)


def spoiled(path: Path, folder: Path, *options: str, maps: str = "0 1 2 3") -> Path:
    """A copy of a result that is otherwise whole."""
    bad = folder / f"bad{path.suffix}"
    mapping = [word for index in maps.split() for word in ("-map", f"0:{index}")]
    keep = ("-map_metadata", "0", "-c", "copy", "-copyts")
    if path.suffix == ".mkv":
        keep += ("-default_mode", "passthrough")
    else:
        keep += ("-video_track_timescale", "12800", "-movie_timescale", "96000")
    run_ffmpeg("-i", str(path), *mapping, *keep, *options, str(bad))
    return bad


def test_what_is_whole_passes(made, tmp_path):
    path, expected = made
    assert verify_output(path, expected)["streams"] == 4


@pytest.mark.parametrize(
    ("options", "maps", "message"),
    [
        ((), "0 1 3", "streams of audio with codec aac and language eng: 0, not 1"),
        ((), "0 1 2", "streams of subtitle .*: 0, not 1"),
        ((), "0 1 2 2 3", "streams of audio .* language eng: 2, not 1"),
        ((), "0 2 1 3", "sound track 0: audio with codec aac and language eng, not .* jpn"),
        (("-metadata:s:1", "language=fra"), "0 1 2 3", "language fra: 1, not 0"),
        (
            ("-metadata:s:1", "title=", "-metadata:s:1", "name="),
            "0 1 2 3",
            "title of sound track 0: '', not 'Original'",
        ),
        (("-metadata:s:0", "language=eng"), "0 1 2 3", "language of the film: eng, not jpn"),
        (("-metadata:s:0", "title=x", "-metadata:s:0", "name="), "0 1 2 3", "title of the film"),
        (("-disposition:2", "default"), "0 1 2 3", "disposition of sound track 1: default, not"),
        (("-disposition:1", "0", "-disposition:2", "default+comment"), "0 1 2 3", "disposition of sound track 0"),
    ],
)
def test_what_is_lost_of_a_stream_is_named(made, tmp_path, options, maps, message):
    path, expected = made
    with pytest.raises(VerificationFailed, match=message):
        verify_output(spoiled(path, tmp_path, *options, maps=maps), expected)


def test_a_sound_track_that_ends_early_is_found(made, tmp_path):
    path, expected = made
    short = tmp_path / f"short{path.suffix}"
    run_ffmpeg("-i", str(path), "-map", "0:1", "-c", "copy", "-t", "0.4", str(short))
    bad = tmp_path / f"bad{path.suffix}"
    run_ffmpeg(
        *("-copyts", "-i", str(path), "-i", str(short), "-map", "0:0", "-map", "1:0", "-map", "0:2", "-map", "0:3"),
        *(word for index in range(4) for word in (f"-map_metadata:s:{index}", f"0:s:{index}")),
        *("-c", "copy", str(bad)),
    )
    with pytest.raises(VerificationFailed, match="sound track 0: last packet after the first frame"):
        verify_output(bad, expected)


def test_a_moved_text_is_found(made, tmp_path):
    """By 20 milliseconds. Sound tracks have a test of their own."""
    path, expected = made
    bad = tmp_path / f"bad{path.suffix}"
    run_ffmpeg(
        *("-copyts", "-i", str(path), "-itsoffset", "0.02", "-i", str(path), "-map", "0:0", "-map", "0:1"),
        *("-map", "0:2", "-map", "1:3", "-c", "copy", str(bad)),
    )
    with pytest.raises(VerificationFailed, match="subtitle stream 0: start"):
        verify_output(bad, expected)


def test_everything_that_is_wrong_is_named_at_once(made, tmp_path):
    path, expected = made
    bad = spoiled(path, tmp_path, "-metadata:s:0", "language=eng", "-metadata:s:2", "title=x", "-metadata:s:2", "name=")
    with pytest.raises(
        VerificationFailed, match=r"language of the film: .*; title of sound track 1: 'x', not 'Director'"
    ):
        verify_output(bad, expected)


def test_a_sound_track_that_begins_late_is_not_refused(tmp_path):
    """However late: a commentary may begin in the middle of the film."""
    film = write_counter_video(tmp_path / "film.mkv", frames=100, height=48, width=64)
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    run_ffmpeg(
        *("-i", str(film), "-itsoffset", "2.5", "-f", "lavfi", "-i", "sine=300:d=1", "-map", "0:v", "-map", "1"),
        *("-c:v", "copy", "-c:a", "aac", str(source)),
    )
    expected = make_film(source, out, segment_frames=40)
    assert verify_output(out, expected)["sound_offsets_s"] == [pytest.approx(2.5, abs=0.03)]


def test_first_packets_alone_do_not_tell_where_streams_end(tmp_path):
    info = probe_media(write_source(tmp_path / "in.mkv"))
    sound = info.streams[1].index
    assert read_source_streams(info, indices=(sound,), with_ends=False)[sound].last_s is None
    assert read_source_streams(info, indices=(sound,), with_ends=True)[sound].last_s > 0.9
