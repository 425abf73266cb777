"""Starting anywhere in a film gives exactly what a pass from its beginning gives there, at the cost of one GOP."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import media

from pipeline.decode.frame_index import PTS, SIZE, FrameIndex, build_frame_index
from pipeline.decode.libav import LibavDecoder
from pipeline.decode.packets import read_packets
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp
from pipeline.media import MediaInfo
from pipeline.probe import probe_media

FRAMES = 48
INTERVAL = 10
OPEN_H264 = {"x264-params": "open-gop=1:b-pyramid=normal"}
OPEN_HEVC = {"x265-params": f"keyint={INTERVAL}:min-keyint={INTERVAL}:open-gop=1"}


def write(path: Path, *, b_frames: int = 3, frames: int = FRAMES, **options) -> Path:
    return media.write_counter_video(path, frames=frames, b_frames=b_frames, keyframe_interval=INTERVAL, **options)


def write_jittered(path: Path) -> Path:
    pts = [40 * i + (i * i * 7) % 31 for i in range(FRAMES)]
    return write(path, pts=pts, time_base=Fraction(1, 1000))


def write_late(path: Path) -> Path:
    return write(path, pts=[1500 + 40 * i for i in range(FRAMES)], time_base=Fraction(1, 1000))


def remux(path: Path, *arguments: str, before: tuple[str, ...] = (), **options) -> Path:
    whole = write(path.with_name(f"whole{path.suffix}"), **options)
    media.run_ffmpeg(*before, "-i", str(whole), "-c", "copy", *arguments, str(path))
    return path


def write_cut_transport(path: Path, **options) -> Path:
    """A recording that begins in the middle of a GOP."""
    whole = write(path.with_name("whole.ts"), **options)
    path.write_bytes(whole.read_bytes()[188 * 40 :])
    return path


def write_joined(path: Path) -> Path:
    """The same recording twice in one file: the clock is set back, and every packet is there twice."""
    whole = write(path.with_name("whole.ts"))
    path.write_bytes(whole.read_bytes() * 2)
    return path


FILMS: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": write,
    "h264.mkv": write,
    "open.mp4": lambda path: write(path, options=OPEN_H264),
    "open.mkv": lambda path: write(path, options=OPEN_H264),
    "open.ts": lambda path: write(path, options=OPEN_H264),
    "hevc.mkv": lambda path: write(path, codec="libx265", options=OPEN_HEVC),
    "hevc.mp4": lambda path: write(path, codec="libx265", options=OPEN_HEVC),
    "hevc.ts": lambda path: write(path, codec="libx265", options=OPEN_HEVC),
    "mpeg2.ts": lambda path: write(path, codec="mpeg2video", b_frames=2),
    "mpeg2.mpg": lambda path: write(path, codec="mpeg2video", b_frames=2),
    "mpeg1.mpg": lambda path: write(path, codec="mpeg1video"),
    "vp9.webm": lambda path: write(
        path, codec="libvpx-vp9", options={"deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "vp8.webm": lambda path: write(
        path, codec="libvpx", options={"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "av1.mkv": lambda path: write(path, codec="libsvtav1"),
    "mjpeg.avi": lambda path: write(path, codec="mjpeg", pixel_format="yuvj420p"),
    "mjpeg.mkv": lambda path: write(path, codec="mjpeg", pixel_format="yuvj420p"),
    "prores.mov": lambda path: write(path, codec="prores_ks", pixel_format="yuv422p10le"),
    "ffv1.mkv": lambda path: write(path, codec="ffv1"),
    "jittered.mkv": write_jittered,
    "jittered.mp4": write_jittered,
    "late.mp4": write_late,
    "edit.mp4": lambda path: remux(path, before=("-ss", "0.3")),
    "negative.mp4": lambda path: remux(path, "-output_ts_offset", "-0.3", "-avoid_negative_ts", "disabled"),
    "cut-h264.ts": lambda path: write_cut_transport(path, options=OPEN_H264),
    "cut-hevc.ts": lambda path: write_cut_transport(path, codec="libx265", options=OPEN_HEVC),
}
"""Films whose every frame can be reached from the key frame before it."""

UNINDEXED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mpeg4.mp4": (lambda path: write(path, codec="mpeg4"), "mpeg4"),
    "b.avi": (write, "avi stores no presentation times"),
    "raw.h264": (lambda path: media.write_without_timestamps(path, frames=FRAMES), "no presentation time"),
    "negative.mkv": (
        lambda path: remux(path, "-output_ts_offset", "-0.3", "-avoid_negative_ts", "disabled"),
        "no presentation time",
    ),
}
"""Films whose packets do not say enough, and what the index says of them."""

Print = tuple[FrameStamp, str]


def fingerprint(frame: Frame) -> Print:
    return frame.stamp, hashlib.sha1(b"".join(plane.tobytes() for plane in frame.planes)).hexdigest()


@dataclass
class Film:
    info: MediaInfo
    index: FrameIndex
    whole: list[Print]
    """Of a pass from the beginning without an index."""
    damage: str | None
    notes: tuple[str, ...]

    @property
    def stamps(self) -> list[FrameStamp]:
        return [stamp for stamp, _ in self.whole]


def open_film(path: Path) -> Film:
    info = probe_media(path)
    with LibavDecoder(info, threads=1) as decoder:
        whole = [fingerprint(frame) for frame in decoder.frames()]
        index = build_frame_index(info, threads=1)
        return Film(info=info, index=index, whole=whole, damage=decoder.damage, notes=decoder.notes)


def seek_without_warnings(film: Film, start: int, stop: int | None, caplog) -> tuple[list[Print], LibavDecoder]:
    caplog.clear()
    with LibavDecoder(film.info, threads=1, index=film.index) as decoder:
        frames = [fingerprint(frame) for frame in decoder.frames(start, stop)]
    assert not [record for record in caplog.records if record.name == "pipeline.decode.libav"], "no fall-back"
    return frames, decoder


@pytest.mark.parametrize("name", FILMS)
def test_any_start_gives_the_frames_of_a_whole_pass(tmp_path, caplog, name):
    """Bit for bit, stamps and samples, by decoding at most two GOPs; no start falls back to the beginning."""
    film = open_film(FILMS[name](tmp_path / name))
    assert (film.index.doubt, film.index.frame_count) == ("", len(film.whole))
    for start in range(len(film.whole) + 2):
        frames, decoder = seek_without_warnings(film, start, start + 2, caplog)
        assert frames == film.whole[start : start + 2]
        assert decoder.decoded_count <= 2 * INTERVAL
        assert decoder.first_deviation is None
    for start in range(0, len(film.whole), 7):
        frames, decoder = seek_without_warnings(film, start, None, caplog)
        assert frames == film.whole[start:]
        assert decoder.damage is None
        assert decoder.notes in {(), film.notes}, "how a recording begins is no loss of what follows"


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone_pristine"])
def test_any_start_in_a_real_film_gives_the_frames_of_a_whole_pass(caplog, name):
    film = open_film(media.real_film(name))
    starts = np.random.default_rng(0).integers(0, len(film.whole), 8)
    for start in map(int, starts):
        assert seek_without_warnings(film, start, start + 3, caplog)[0] == film.whole[start : start + 3]


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("name", ["open.mkv", "hevc.mp4", "vp9.webm"])
def test_threads_change_nothing(tmp_path, name, threads):
    film = open_film(FILMS[name](tmp_path / name))
    with LibavDecoder(film.info, threads=threads, index=film.index) as decoder:
        for start in range(0, FRAMES, 5):
            assert [fingerprint(frame) for frame in decoder.frames(start, start + 12)] == film.whole[start : start + 12]


@pytest.mark.parametrize("name", ["open.mkv", "open.mp4", "open.ts", "hevc.mkv", "hevc.ts", "mpeg2.ts"])
def test_open_gops_are_open(tmp_path, name):
    """The films above are what they are meant to be: pictures that lead a key frame come behind it."""
    path = FILMS[name](tmp_path / name)
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    entries = build_frame_index(probe_media(path)).entries[1:, PTS]
    assert len(entries) >= 3
    assert all(min(times[times.index(pts) :]) < pts for pts in entries)


@pytest.mark.parametrize("name", UNINDEXED)
def test_a_film_whose_packets_say_too_little_is_decoded_from_its_beginning(tmp_path, caplog, name):
    writer, reason = UNINDEXED[name]
    film = open_film(writer(tmp_path / name))
    assert reason in film.index.doubt
    assert film.index.frame_count is None
    for start in (0, 17, FRAMES - 1, FRAMES):
        assert seek_without_warnings(film, start, start + 3, caplog)[0] == film.whole[start : start + 3]


def test_a_film_refreshed_bit_by_bit_has_no_entry_but_its_first(tmp_path):
    film = open_film(write(tmp_path / "film.mp4", b_frames=0, options={"x264-params": "intra-refresh=1"}))
    assert film.index.entry_before(FRAMES) is None


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.mkv", "film.ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_truncated_film_is_exact_up_to_its_end(tmp_path, codec, name):
    whole = write(tmp_path / name, codec=codec)
    film = open_film(media.truncate_copy(whole, tmp_path / f"cut-{name}", fraction=0.6))
    with LibavDecoder(film.info, threads=1, index=film.index) as decoder:
        for start in range(0, len(film.whole) + 2, 3):
            assert [frame.stamp for frame in decoder.frames(start)] == film.stamps[start:]
            assert (decoder.damage is None) == (film.damage is None)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_noise_changes_no_number_unless_a_whole_pass_deviates(tmp_path, codec, suffix):
    """Either every start gives the stamps of a whole pass, or a whole pass says where the index goes wrong."""
    whole = write(tmp_path / f"film.{suffix}", codec=codec, frames=80)
    exact_count = 0
    for seed in range(16):
        noise_start = float(np.random.default_rng(seed).uniform(0.2, 0.9))
        bad = media.corrupt_copy(
            whole, tmp_path / f"bad.{suffix}", start=noise_start, stop=noise_start + 0.02, seed=seed
        )
        try:
            film = open_film(bad)
        except MediaError:
            continue
        with LibavDecoder(film.info, threads=1, index=film.index) as decoder:
            assert [frame.stamp for frame in decoder.frames()] == film.stamps
            limit = decoder.first_deviation
            exact_count += limit is None
            for start in range(0, limit if limit is not None else len(film.whole), 6):
                frames = list(decoder.frames(start, start + 4 if start % 4 else None))
                stop = start + 4 if start % 4 else None
                assert [frame.stamp for frame in frames] == film.stamps[start:stop]
    assert exact_count >= 8


def test_a_joined_recording_falls_back_and_says_so(tmp_path, caplog):
    """Seeking lands in the second copy, whose packets look the same; they are not taken for the first's."""
    film = open_film(write_joined(tmp_path / "joined.ts"))
    assert film.index.frame_count is None
    with LibavDecoder(film.info, threads=1, index=film.index) as decoder:
        for start in (25, FRAMES + 5, 2 * FRAMES - 3):
            assert [frame.stamp for frame in decoder.frames(start)] == film.stamps[start:]
    assert any("decoding from the beginning to frame" in message for message in caplog.messages)


@pytest.fixture
def hidden_loss(tmp_path) -> Film:
    """An mp4 whose picture 45 has lost its slice header and nothing else: no packet shows it."""
    path = write(tmp_path / "film.mp4", b_frames=0, frames=70)
    with av.open(str(path)) as container:
        position = [packet for packet in container.demux(video=0) if packet.size][45].pos
    content = bytearray(path.read_bytes())
    content[position + 5 : position + 13] = bytes(8)  # behind the length and the NAL header
    path.write_bytes(content)
    return open_film(path)


def test_a_loss_that_no_packet_shows_is_seen_by_whoever_decodes_it(hidden_loss):
    assert (len(hidden_loss.whole), hidden_loss.index.frame_count) == (69, 70)
    with LibavDecoder(hidden_loss.info, threads=1, index=hidden_loss.index) as decoder:
        assert [fingerprint(frame) for frame in decoder.frames()] == hidden_loss.whole
        assert decoder.first_deviation == 45
        list(decoder.frames(0, 40))
        assert decoder.first_deviation is None
        list(decoder.frames(40, 48))
        assert decoder.first_deviation == 45


def test_a_loss_between_entry_and_start_falls_back_to_exact_numbers(hidden_loss, caplog):
    with LibavDecoder(hidden_loss.info, threads=1, index=hidden_loss.index) as decoder:
        assert [fingerprint(frame) for frame in decoder.frames(47, 49)] == hidden_loss.whole[47:49]
        assert decoder.decoded_count > 49, "from the entry at 40 in vain, and then from the beginning"
    assert "frame 45 is not where the packets announce it" in caplog.text


def test_a_film_whose_first_frames_are_not_as_announced_gets_no_index(tmp_path):
    path = write(tmp_path / "film.mp4", b_frames=0)
    with av.open(str(path)) as container:
        position = [packet for packet in container.demux(video=0) if packet.size][15].pos
    content = bytearray(path.read_bytes())
    content[position + 5 : position + 13] = bytes(8)
    path.write_bytes(content)
    film = open_film(path)
    assert "not those that the packets announce" in film.index.doubt
    assert film.index.entry_before(FRAMES) is None


def test_an_entry_that_cannot_be_found_falls_back(tmp_path, caplog):
    film = open_film(write(tmp_path / "film.mkv"))
    entries = film.index.entries.copy()
    entries[1:, SIZE] += 1
    forged = replace(film.index, entries=entries)
    with caplog.at_level(logging.WARNING), LibavDecoder(film.info, threads=1, index=forged) as decoder:
        assert [fingerprint(frame) for frame in decoder.frames(33, 36)] == film.whole[33:36]
    assert "cannot be found by seeking" in caplog.text


# --- the index as a value -------------------------------------------------------------------------------------------


def test_one_index_serves_several_decoders_and_survives_pickling(tmp_path):
    film = open_film(write(tmp_path / "film.mp4"))
    copy = pickle.loads(pickle.dumps(film.index))
    with (
        LibavDecoder(film.info, threads=1, index=film.index) as first,
        LibavDecoder(film.info, threads=1, index=copy) as second,
    ):
        pairs = zip(first.frames(5), second.frames(25), strict=False)
        prints = [(fingerprint(one), fingerprint(other)) for one, other in pairs]
    assert prints == list(zip(film.whole[5:], film.whole[25:], strict=False))


def test_an_index_of_another_film_is_refused(tmp_path):
    film = open_film(write(tmp_path / "film.mp4"))
    other = probe_media(write(tmp_path / "other.mp4", frames=20))
    with pytest.raises(ValueError, match=r"other\.mp4"):
        LibavDecoder(other, index=film.index)


def test_entries_are_the_last_at_or_before_a_frame(tmp_path):
    index = open_film(write(tmp_path / "film.mp4")).index
    assert [index.entry_before(frame) for frame in (0, INTERVAL - 1)] == [None, None]
    for frame, entry in ((10, 10), (19, 10), (20, 20), (10_000, 40)):
        point = index.entry_before(frame)
        assert point is not None
        assert point.frame == entry
        assert point.pts == index.pts[entry]


def test_a_change_of_size_at_the_beginning_is_the_decoders_error(tmp_path):
    info = probe_media(media.write_size_change(tmp_path / "film.ts"))
    with pytest.raises(UnsupportedMedia, match="changes from 96x64"):
        build_frame_index(info)


class LateStreamContainer:
    """A container as PyAV presents one that begins to carry another stream: its packet ends demuxing by IndexError."""

    def __init__(self, packets: list[str]) -> None:
        self._packets = packets

    def demux(self, _stream):
        while self._packets:
            packet = self._packets.pop(0)
            if packet == "foreign":
                raise IndexError("list index out of range")
            yield packet


def test_packets_of_a_stream_that_appears_in_the_middle_are_passed_over():
    container = LateStreamContainer(["one", "foreign", "foreign", "foreign", "two", "foreign", "flush"])
    errors: list[str] = []
    assert list(read_packets(container, None, on_error=errors.append)) == ["one", "two", "flush"]
    assert errors == []
