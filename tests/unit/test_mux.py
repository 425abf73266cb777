"""Assembly: everything the source has arrives, and every time is the source's own. Read back without our own code."""

import os
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from helpers.films import exact, first_times, frame_times, make_film, source_pts, spec_for
from helpers.media import (
    real_film,
    run_ffmpeg,
    write_counter_video,
    write_hdr10,
    write_late_start,
    write_rich_mkv,
    write_rich_mp4,
    write_vfr,
)
from helpers.pictures import make_spec, write_segments

from pipeline.assembly.containers import StreamPlan, plan_streams
from pipeline.assembly.ffmpeg import FfmpegProgram
from pipeline.assembly.mux import assemble, write_pictures
from pipeline.assembly.verify import verify_output
from pipeline.decode.container import open_container
from pipeline.errors import MediaError, OutputError
from pipeline.graph.channel import Aborted
from pipeline.graph.stop import StopToken
from pipeline.probe import probe_media

TICK = {"mkv": Fraction(1, 1000), "mp4": Fraction(0), "mov": Fraction(0)}


def from_first(times):
    return [time - times[0] for time in times]


def assert_same_times(source, out):
    """Every picture at the source's distance from the first: exact in mp4 and mov, to 1 ms in mkv."""
    found, wanted = from_first(frame_times(out)), from_first(frame_times(source))
    assert len(found) == len(wanted)
    assert all(abs(a - b) <= TICK[out.suffix[1:]] for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("encoder", "container"),
    [
        ("libx264", "mkv"),
        ("libx264", "mp4"),
        ("libx264", "mov"),
        ("libx265", "mkv"),
        ("libx265", "mp4"),
        ("libsvtav1", "mkv"),
        ("libsvtav1", "mp4"),
        ("ffv1", "mkv"),
        ("prores_ks", "mov"),
        ("prores_ks", "mkv"),
    ],
)
@pytest.mark.parametrize("builder", [write_vfr, write_late_start], ids=["vfr", "late start"])
def test_times_survive_joining(tmp_path, encoder, container, builder):
    """Ten pictures in segments of 4, 4 and 2, each with its own encoder, at the source's uneven times."""
    source, out = builder(tmp_path / "in.mkv"), tmp_path / f"out.{container}"
    expected = make_film(source, out, encoder=encoder)
    assert_same_times(source, out)
    verify_output(out, expected)


@pytest.mark.parametrize("segment_frames", [1, 2, 3, 11, 12])
def test_any_segment_length_gives_the_same_times(tmp_path, segment_frames):
    """Also segments shorter than the reordering, and a last one of a single picture."""
    source, out = write_counter_video(tmp_path / "in.mp4", frames=12, b_frames=2), tmp_path / "out.mp4"
    make_film(source, out, segment_frames=segment_frames)
    assert_same_times(source, out)
    with av.open(str(out)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert all(earlier.dts < later.dts for earlier, later in pairwise(packets))
    assert all(packet.dts <= packet.pts for packet in packets)
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov"])
def test_sound_keeps_its_distance_to_the_picture(tmp_path, container):
    """A source whose AAC begins before the first picture (priming), as most mp4 files have it."""
    source, out = write_rich_mp4(tmp_path / "in.mp4"), tmp_path / f"out.{container}"
    make_film(source, out)
    before, after = first_times(source), first_times(out)
    assert before[1] < 0
    assert abs((after[1] - after[0]) - (before[1] - before[0])) <= Fraction(1, 1000)


def test_sound_is_copied_bit_for_bit(tmp_path):
    source, out = write_rich_mkv(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    make_film(source, out)

    def sound(path):
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=1) if packet.size]

    assert sound(out) == sound(source)


def test_everything_in_a_rich_mkv_arrives(tmp_path):
    source, out = write_rich_mkv(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    verify_output(out, make_film(source, out))
    with av.open(str(source)) as before, av.open(str(out)) as after:
        assert [stream.type for stream in after.streams] == [stream.type for stream in before.streams]
        languages = [stream.metadata.get("language") for stream in after.streams]
        assert languages == [stream.metadata.get("language") for stream in before.streams]
        assert after.metadata["title"] == before.metadata["title"] == "A film"
        assert [(c["start"], c["end"]) for c in after.chapters()] == [(c["start"], c["end"]) for c in before.chapters()]
        name = after.streams[4].metadata["filename"]
        assert name == before.streams[4].metadata["filename"]


def test_text_subtitles_become_what_mp4_has(tmp_path):
    source = write_counter_video(tmp_path / "in.mkv", audio_tracks=1, subtitles=True)
    out = tmp_path / "out.mp4"
    verify_output(out, make_film(source, out))
    with av.open(str(out)) as container:
        assert container.streams.subtitles[0].codec_context.codec.canonical_name == "mov_text"


def test_a_first_subtitle_late_in_the_film_is_no_problem(tmp_path):
    """Its encoder cannot begin before it, while the pictures queue up."""
    text = tmp_path / "late.srt"
    text.write_text("1\n00:01:30,000 --> 00:01:35,000\nAt last.\n", encoding="utf-8")
    film = write_counter_video(
        tmp_path / "film.mkv", frames=1200, rate=Fraction(12), audio_tracks=1, height=16, width=16
    )
    source = tmp_path / "in.mkv"
    run_ffmpeg("-i", str(film), "-i", str(text), "-map", "0", "-map", "1", "-c", "copy", str(source))
    out = tmp_path / "out.mp4"
    expected = make_film(source, out, segment_frames=600, spec=spec_for(source, "libx264", preset="ultrafast"))
    verify_output(out, expected)
    with av.open(str(out)) as container:
        texts = [packet for packet in container.demux(subtitles=0) if b"At last" in bytes(packet)]
    assert [packet.pts * exact(packet.time_base) for packet in texts] == [90]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_cover_art_stays_cover_art(tmp_path, container):
    source = write_counter_video(tmp_path / "in.mp4", audio_tracks=1, cover=True)
    out = tmp_path / f"out.{container}"
    verify_output(out, make_film(source, out))
    with av.open(str(out)) as film:
        covers = [stream for stream in film.streams.video if stream.disposition & av.stream.Disposition.attached_pic]
        assert len(covers) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.mp4", out.name, f"{out.name}.work"])


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("rotation_deg", [90, 180, -90])
def test_rotation_is_kept(tmp_path, container, rotation_deg):
    source = write_counter_video(tmp_path / "in.mp4", rotation_deg=rotation_deg)
    out = tmp_path / f"out.{container}"
    make_film(source, out)
    with av.open(str(source)) as before, av.open(str(out)) as after:
        assert next(after.decode(video=0)).rotation == next(before.decode(video=0)).rotation != 0


@pytest.mark.parametrize(("encoder", "container"), [("libx264", "mp4"), ("ffv1", "mkv"), ("libsvtav1", "mkv")])
def test_pixel_shape_is_kept(tmp_path, encoder, container):
    source = write_counter_video(tmp_path / "in.mkv", sample_aspect=Fraction(4, 3))
    out = tmp_path / f"out.{container}"
    make_film(source, out, encoder=encoder)
    assert probe_media(out).video.sample_aspect == Fraction(4, 3)


@pytest.mark.parametrize(("encoder", "container"), [("libx265", "mp4"), ("libx265", "mkv"), ("libsvtav1", "mkv")])
def test_hdr10_is_kept(tmp_path, encoder, container):
    """Ten bits, BT.2020, PQ, mastering display and content light."""
    source, out = write_hdr10(tmp_path / "in.mp4"), tmp_path / f"out.{container}"
    make_film(source, out, spec=spec_for(source, encoder, bit_depth=10))
    before, after = probe_media(source).video, probe_media(out).video
    assert (after.tags.matrix, after.tags.primaries, after.tags.transfer) == (9, 9, 16)
    assert after.format.bit_depth == 10
    assert after.content_light == before.content_light != ""
    assert after.mastering_display == before.mastering_display != ""


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_film_that_begins_hours_into_its_clock_begins_at_once(tmp_path, container):
    """Transport streams do; the distance of the streams stays."""
    rich = write_rich_mp4(tmp_path / "rich.mp4")
    source, out = tmp_path / "in.ts", tmp_path / f"out.{container}"
    run_ffmpeg("-i", str(rich), "-map", "0:v", "-map", "0:a", "-c", "copy", "-output_ts_offset", "7200", str(source))
    verify_output(out, make_film(source, out))
    assert_same_times(source, out)
    before, after = first_times(source), first_times(out)
    assert min(before.values()) > 7000
    assert min(after.values()) < 1
    assert abs((after[1] - after[0]) - (before[1] - before[0])) <= Fraction(1, 1000)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_pictures_before_time_zero_are_kept(tmp_path, container):
    """mp4 cannot show them, so all streams move together."""
    source = write_rich_mp4(tmp_path / "in.mp4")
    info = probe_media(source)
    spec = spec_for(source, "libx264")
    plan = plan_streams(info, container=container, encoder=spec.encoder)
    pts = [time - 1000 for time in source_pts(source, spec.time_base)]
    segments = write_segments(tmp_path, pts, spec, segment_frames=10)
    out = tmp_path / f"out.{container}"
    assemble(segments, source=info, plan=plan, encode=spec, out=out)
    assert_same_times(source, out)
    offset = first_times(out)[1] - first_times(out)[0]
    assert abs(offset - (first_times(source)[1] - pts[0] * spec.time_base)) <= Fraction(1, 1000)


def test_a_real_film_with_sound(tmp_path):
    """Two seconds of Big Buck Bunny's start, as it was downloaded."""
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    run_ffmpeg("-i", str(real_film("bigbuckbunny")), "-t", "2", "-c", "copy", str(source))
    verify_output(out, make_film(source, out, segment_frames=20))
    assert_same_times(source, out)


@pytest.mark.parametrize(
    "name", [b"caf\xe9 \xff.mkv", b"<film>.mkv", b"a\nb:c 'd' \"e\".mkv"], ids=["no UTF-8", "our own", "all kinds"]
)
@pytest.mark.parametrize("with_sound", [True, False])
def test_films_and_results_may_have_any_name(tmp_path, name, with_sound):
    """Without sound, ffmpeg-python does not see the source at all."""
    name = os.fsdecode(name)
    (tmp_path / "in").mkdir()
    source, out = tmp_path / "in" / name, tmp_path / name
    write_counter_video(source, frames=6, audio_tracks=1 if with_sound else 0)
    make_film(source, out)
    assert_same_times(source, out)
    with open_container(out) as film:
        assert len(film.streams.audio) == with_sound


def test_without_a_source_there_is_only_the_video(tmp_path):
    """A made-up film has no file to copy from."""
    spec = make_spec("libx264")
    segments = write_segments(tmp_path, list(range(0, 6400, 640)), spec, segment_frames=4)
    plan = StreamPlan(container="mkv", copies=(), warnings=(), problems=())
    out = tmp_path / "out.mkv"
    assemble(segments, source=None, plan=plan, encode=spec, out=out)
    assert len(frame_times(out)) == 10


class TestFailures:
    def build(self, tmp_path):
        source = write_counter_video(tmp_path / "in.mkv", audio_tracks=1)
        info, spec = probe_media(source), spec_for(source, "libx264")
        plan = plan_streams(info, container="mkv", encoder=spec.encoder)
        segments = write_segments(tmp_path, source_pts(source, spec.time_base), spec, segment_frames=5)
        return segments, {"source": info, "plan": plan, "encode": spec, "out": tmp_path / "out.mkv"}

    def test_a_missing_segment_is_named_and_nothing_is_left(self, tmp_path):
        segments, rest = self.build(tmp_path)
        segments[1].path.unlink()
        with pytest.raises(OutputError, match=r"seg-00001\.mp4"):
            assemble(segments, **rest)
        assert not rest["out"].exists()

    def test_a_truncated_segment_is_named(self, tmp_path):
        segments, rest = self.build(tmp_path)
        segments[2].path.write_bytes(segments[2].path.read_bytes()[:100])
        with pytest.raises(OutputError, match=r"seg-00002\.mp4"):
            assemble(segments, **rest)

    def test_a_gap_between_segments_is_found(self, tmp_path):
        segments, rest = self.build(tmp_path)
        with pytest.raises(OutputError, match="begins with frame 10, not 5"):
            assemble((segments[0], segments[2]), **rest)

    def test_segments_of_different_settings_are_not_joined(self, tmp_path):
        segments, rest = self.build(tmp_path)
        other = tmp_path / "other"
        other.mkdir()
        spec = replace(rest["encode"], options={"profile": "baseline"})
        strangers = write_segments(other, list(segments[0].pts + segments[1].pts), spec, segment_frames=5)
        with pytest.raises(OutputError, match="other settings"):
            assemble((segments[0], strangers[1], segments[2]), **rest)

    def test_ffmpeg_failing_at_once_is_told_in_its_own_words(self, tmp_path):
        """Although the pipe to it breaks as well."""
        segments, rest = self.build(tmp_path)
        rest["out"] = tmp_path / "nowhere" / "out.mkv"
        with pytest.raises(OutputError, match="No such file or directory"):
            assemble(segments, **rest)

    def test_a_source_that_is_gone_is_named(self, tmp_path):
        segments, rest = self.build(tmp_path)
        rest["source"].path.unlink()
        with pytest.raises(MediaError, match=r"in\.mkv"):
            assemble(segments, **rest)

    def test_an_abort_kills_ffmpeg_and_leaves_nothing(self, tmp_path):
        """A program that never reads its input would hold the pipe for ever."""
        segments, rest = self.build(tmp_path)
        sleeper = tmp_path / "ffmpeg"
        sleeper.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
        sleeper.chmod(0o755)
        stop = StopToken()
        stop.abort()
        with pytest.raises(Aborted):
            assemble(segments, **rest, stop=stop, program=FfmpegProgram(path=sleeper, version="0"))
        assert not rest["out"].exists()
        assert subprocess.run(["pgrep", "-f", str(sleeper)], capture_output=True, check=False).stdout == b""


class TestPictures:
    def test_each_frame_is_a_numbered_file(self, tmp_path):
        spec = make_spec("png")
        segments = write_segments(tmp_path, [0, 5, 9, 20, 21], spec, segment_frames=2)
        out = tmp_path / "pictures"
        write_pictures(segments, out=out)
        assert sorted(path.name for path in out.iterdir()) == [f"{index:08d}.png" for index in range(5)]
        with av.open(str(out / "00000004.png")) as container:
            picture = next(container.decode(video=0))
        assert (picture.width, picture.height, picture.format.name) == (64, 48, "rgb24")

    def test_a_folder_that_is_there_already_is_an_error(self, tmp_path):
        spec = make_spec("png")
        segments = write_segments(tmp_path, [0], spec, segment_frames=2)
        with pytest.raises(OutputError, match="cannot write pictures"):
            write_pictures(segments, out=tmp_path)


def test_average_rate_is_only_a_hint(tmp_path):
    """A wrong rate in the header moves no picture."""
    source, out = write_vfr(tmp_path / "in.mkv"), tmp_path / "out.mp4"
    make_film(source, out, spec=spec_for(source, "libx264", average_rate=Fraction(1000)))
    assert_same_times(source, out)
    with av.open(str(out)) as container:
        assert exact(container.streams.video[0].time_base) == Fraction(1, 1000)
