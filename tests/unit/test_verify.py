"""Verification finds each way in which a finished file can differ from what was promised, and names the first."""

from dataclasses import replace
from fractions import Fraction

import av
import pytest
from helpers.films import make_film
from helpers.media import run_ffmpeg, write_rich_mkv
from helpers.pictures import make_spec, write_segments

from pipeline.assembly.expected import Expected
from pipeline.assembly.mux import write_pictures
from pipeline.assembly.verify import verify_output
from pipeline.errors import VerificationFailed
from pipeline.frames import ColourTags


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished film and what it must be."""
    folder = tmp_path_factory.mktemp("verify")
    out = folder / "out.mkv"
    return out, make_film(write_rich_mkv(folder / "in.mkv"), out, segment_frames=10)


def changed_sound(expected, **changes):
    """The streams of ``expected`` with another first sound track."""
    first = next(number for number, stream in enumerate(expected.streams) if stream.kind == "audio")
    streams = list(expected.streams)
    streams[first] = replace(streams[first], **changes)
    return tuple(streams)


def test_a_good_film_passes_and_is_described(made):
    path, expected = made
    found = verify_output(path, expected)
    assert (found["frames"], found["streams"], found["chapters"]) == (25, 5, 3)
    assert found["last_s"] - found["first_s"] == pytest.approx(0.96, abs=0.001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pts": lambda old: old.pts[:-1]}, "frames: 25, not 24"),
        ({"pts": lambda old: (*old.pts[:7], old.pts[7] + 3, *old.pts[8:])}, "frame 7: time after the first"),
        ({"chapter_count": lambda old: 4}, "chapters: 3, not 4"),
        ({"streams": lambda old: old.streams[1:]}, "streams of audio with codec aac and language eng: 1, not 0"),
        (
            {"streams": lambda old: (replace(old.streams[0], language="jpn"), *old.streams[1:])},
            "streams of audio with codec aac and language jpn: 0, not 1",
        ),
        ({"streams": lambda old: changed_sound(old, start_s=Fraction(2, 1000))}, "sound track 0: start"),
        ({"streams": lambda old: changed_sound(old, end_s=Fraction(2))}, "sound track 0: last packet"),
        ({"streams": lambda old: changed_sound(old, title="Director")}, "title of sound track 0"),
        ({"streams": lambda old: changed_sound(old, dispositions=frozenset({"dub"}))}, "disposition of sound track 0"),
        ({"film": lambda old: replace(old.film, language="jpn")}, "language of the film: .*, not jpn"),
        ({"film": lambda old: replace(old.film, title="Another")}, "title of the film"),
        ({"encode": lambda old: replace(old.encode, height=98)}, "size: 128x96, not 128x98"),
        ({"encode": lambda old: replace(old.encode, sample_aspect=Fraction(4, 3))}, "pixel aspect: 1, not 4/3"),
        (
            {"encode": lambda old: replace(old.encode, tags=ColourTags(matrix=9, full_range=False))},
            "colour matrix: 6, not 9",
        ),
        ({"rotation_deg": lambda old: 90}, "rotation: 0, not 90"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_difference_is_named(made, change, message):
    path, expected = made
    changed = replace(expected, **{name: make(expected) for name, make in change.items()})
    with pytest.raises(VerificationFailed, match=message) as caught:
        verify_output(path, changed)
    assert caught.value.path == path


def test_a_truncated_file_fails(made, tmp_path):
    path, expected = made
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VerificationFailed):
        verify_output(cut, expected)


def test_a_single_bit_that_is_not_the_encoders_is_found(made, tmp_path):
    """Inside a picture, where nothing of the container says so, and decoders may conceal it."""
    path, expected = made
    with av.open(str(path)) as film:
        packet = bytes(next(p for n, p in enumerate(film.demux(video=0)) if n == 12))
    content = path.read_bytes()
    place = content.index(packet) + len(packet) - 1
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(VerificationFailed, match="coded picture 12: another, not its segment's"):
        verify_output(bad, expected)


@pytest.mark.parametrize("content", [b"", b"no film at all" * 100])
def test_what_is_no_film_fails(made, tmp_path, content):
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(content)
    with pytest.raises(VerificationFailed, match="cannot be read"):
        verify_output(bad, made[1])


def test_a_moved_sound_track_is_found(made, tmp_path):
    """By ten milliseconds, which an eye would hardly see."""
    path, expected = made
    moved = tmp_path / "moved.mkv"
    run_ffmpeg(
        *("-i", str(path), "-itsoffset", "0.01", "-i", str(path), "-map", "0:0", "-map", "1:1", "-map", "0:2"),
        *("-map", "0:3", "-map", "0:4", "-c", "copy", str(moved)),
    )
    with pytest.raises(VerificationFailed, match="sound track 0: start"):
        verify_output(moved, expected)


class TestPictures:
    @pytest.fixture
    def made(self, tmp_path):
        spec = make_spec("png")
        folder = tmp_path / "pictures"
        write_pictures(write_segments(tmp_path, [0, 5, 9], spec, segment_frames=2), out=folder)
        return folder, Expected(encode=spec, container="png", pts=(0, 5, 9))

    def test_a_whole_folder_passes(self, made):
        assert verify_output(*made)["frames"] == 3

    def test_a_missing_picture_is_named(self, made):
        folder, expected = made
        (folder / "00000001.png").unlink()
        with pytest.raises(VerificationFailed, match=r"lacks 00000001\.png"):
            verify_output(folder, expected)

    def test_a_surplus_file_is_found(self, made):
        folder, expected = made
        (folder / "00000003.png").touch()
        with pytest.raises(VerificationFailed, match="holds 4 files, not 3"):
            verify_output(folder, expected)

    def test_another_size_is_found(self, made):
        folder, expected = made
        with pytest.raises(VerificationFailed, match="64x48, not 64x50"):
            verify_output(folder, replace(expected, encode=replace(expected.encode, height=50)))
