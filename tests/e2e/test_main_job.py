"""A film in, an upscaled film out: every frame at its time, every stream, every tag."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import media
from helpers.runs import leftovers, run_films

from pipeline.probe import probe_media


def streams_of(path: Path) -> list[tuple[str, str]]:
    with av.open(str(path)) as container:
        return [
            (stream.type, stream.codec_context.name if stream.codec_context else "") for stream in container.streams
        ]


def relative(times: list[Fraction | None]) -> list[Fraction]:
    assert all(time is not None for time in times)
    return [time - times[0] for time in times]  # type: ignore[operator]


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def test_every_frame_arrives_at_its_time_with_the_sound(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mp4", frames=60, b_frames=2, audio_tracks=1)
    ran = run_films(capfd, tmp_path, film, output={"segment_s": 1})
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    assert output == tmp_path / "out" / "film.mp4"
    assert media.video_counters(output) == list(range(60))
    assert relative(media.packet_times(output)) == relative(media.packet_times(film))
    assert [kind for kind, _ in streams_of(output)] == ["video", "audio"]
    with av.open(str(output)) as container:
        video = container.streams.video[0]
        assert (video.height, video.width) == (128, 192)
        assert len(list(container.decode(audio=0))) > 0
    report = ran.report()
    assert report["status"] == "done"
    assert report["frames_done"] == 60
    assert [stage["name"] for stage in report["stages"]] == ["decode", "tile", "upscale", "stitch", "encode"]
    assert report["verdict"]["text"]
    assert leftovers(tmp_path / "out") == ["film.mp4"]


def test_an_mkv_keeps_everything_that_is_in_it(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_rich_mkv(tmp_path / "film.mkv")
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    assert output.suffix == ".mkv"
    assert [kind for kind, _ in streams_of(output)] == [kind for kind, _ in streams_of(film)]
    with av.open(str(film)) as before, av.open(str(output)) as after:
        assert len(after.chapters()) == len(before.chapters()) == 3
        assert after.metadata["title"] == "A film"
        assert [s.metadata.get("language") for s in after.streams.audio] == [
            s.metadata.get("language") for s in before.streams.audio
        ]


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_tags_in_a_wrong_encoding_arrive_byte_for_byte(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, container: str
) -> None:
    """The film's title and its video stream's, in Latin-1 instead of UTF-8."""
    plain, film = media.write_counter_video(tmp_path / "plain.mkv", frames=3), tmp_path / "film.mkv"
    titles = ("-metadata", "title=Foo_bar", "-metadata:s:v", "title=Bar_foo")
    media.run_ffmpeg("-i", str(plain), "-c", "copy", *titles, str(film))
    film.write_bytes(film.read_bytes().replace(b"Foo_bar", b"F\xf6\xf6_bar").replace(b"Bar_foo", b"B\xe4r_foo"))
    ran = run_films(capfd, tmp_path, film, output={"container": container})
    assert ran.code == 0, ran.err
    content = ran.outputs[0].read_bytes()
    assert (content.count(b"F\xf6\xf6_bar"), content.count(b"B\xe4r_foo")) == (1, 1)


def test_variable_frame_times_are_kept(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_vfr(tmp_path / "film.mkv", b_frames=2)
    ran = run_films(capfd, tmp_path, film, output={"container": "mp4"})
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    assert relative(media.packet_times(output)) == [Fraction(ms, 1000) for ms in media.VFR_PTS]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("kind", ["libx265", "libsvtav1"])
def test_hdr_stays_hdr(capfd: pytest.CaptureFixture[str], tmp_path: Path, kind: str, container: str) -> None:
    film = media.write_hdr10(tmp_path / "film.mkv")
    ran = run_films(capfd, tmp_path, film, encode={"kind": kind}, output={"container": container})
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    with av.open(str(output)) as result:
        frame = next(result.decode(video=0))
        context = result.streams.video[0].codec_context
        assert frame.format.name == "yuv420p10le"
        assert (int(context.colorspace), int(context.color_primaries), int(context.color_trc)) == (9, 9, 16)
    video = probe_media(output).video
    assert video.mastering_display == media.MASTERING_DISPLAY
    assert video.content_light == media.CONTENT_LIGHT
    assert video.tags.chroma_location == "topleft"
    content = output.read_bytes()
    # mp4: boxes; mkv: Colour's MasteringMetadata and MaxCLL
    for mark in (b"colr", b"mdcv", b"clli") if container == "mp4" else (b"\x55\xd0", b"\x55\xbc"):
        assert mark in content, mark


@pytest.mark.parametrize(("height", "width", "frames"), [(1, 1, 3), (15, 15, 3), (17, 33, 1), (64, 96, 1)], ids=str)
def test_small_and_odd_films_work(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, height: int, width: int, frames: int
) -> None:
    film = media.write_counter_video(
        tmp_path / "film.mkv", frames=frames, height=height, width=width, codec="ffv1", pixel_format="yuv420p"
    )
    ran = run_films(capfd, tmp_path, film, encode={"kind": "ffv1"})
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    found = frames_of(output)
    assert len(found) == frames
    with av.open(str(output)) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (2 * height, 2 * width)


def test_tiles_leave_no_trace(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=4, codec="ffv1")
    encode = {"kind": "ffv1"}
    whole = run_films(capfd, tmp_path, film, encode=encode, output={"name": "whole"}).outputs[0]
    tile = {"max_px": 40, "overlap_px": 8}
    for batch in (1, 3):
        cut = run_films(
            capfd,
            tmp_path,
            film,
            encode=encode,
            tile=tile,
            infer={"batch_tiles": batch},
            output={"name": f"cut{batch}"},
        ).outputs[0]
        assert all(np.array_equal(a, b) for a, b in zip(frames_of(whole), frames_of(cut), strict=True))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({"factor": 2}, (128, 192)),
        ({"factor": 1.5}, (96, 144)),
        ({"factor": 3}, (192, 288)),
        ({"height": 100}, (100, 150)),
        ({"fit": {"height": 1000, "width": 120}}, (80, 120)),
    ],
    ids=str,
)
def test_the_output_has_the_size_asked_for(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, scale: dict[str, object], expected: tuple[int, int]
) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    ran = run_films(capfd, tmp_path, film, scale=scale)
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    with av.open(str(output)) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == expected
    assert media.video_counters(output) == [0, 1]


@pytest.mark.parametrize("kind", ["libx264", "libx265", "libsvtav1", "ffv1", "prores_ks"])
def test_every_encoder_makes_a_whole_film(capfd: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=30, audio_tracks=1)
    ran = run_films(capfd, tmp_path, film, encode={"kind": kind}, output={"segment_s": 0.5})
    assert ran.code == 0, ran.err
    (output,) = ran.outputs
    assert media.video_counters(output) == list(range(30))
    assert relative(media.packet_times(output)) == [Fraction(40 * index, 1000) for index in range(30)]


def test_pictures_are_numbered_and_whole(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=5)
    ran = run_films(capfd, tmp_path, film, encode={"kind": "png"}, output={"segment_s": 0.08})
    assert ran.code == 0, ran.err
    (folder,) = ran.outputs
    pictures = sorted(folder.iterdir())
    assert len(pictures) == 5
    assert [media.video_counters(picture) for picture in pictures] == [[index] for index in range(5)]


def test_the_null_encoder_measures_and_writes_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran = run_films(
        capfd,
        tmp_path,
        decode={"kind": "synthetic", "synthetic": {"height": 32, "width": 48, "frame_count": 20}},
        encode={"kind": "null"},
    )
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert "20 frames" in ran.err
    assert leftovers(tmp_path) == ["config.yaml"]


def test_a_synthetic_film_can_be_written(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran = run_films(
        capfd,
        tmp_path,
        decode={"kind": "synthetic", "synthetic": {"height": 32, "width": 48, "frame_count": 20}},
    )
    assert ran.code == 0, ran.err
    assert media.video_counters(ran.outputs[0]) == list(range(20))


def test_a_damaged_film_keeps_what_can_be_read_and_says_so(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole = media.write_counter_video(tmp_path / "whole.mkv", frames=50, keyframe_interval=5)
    film = media.truncate_copy(whole, tmp_path / "film.mkv", fraction=0.6)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 1
    counters = media.video_counters(ran.outputs[0])
    assert counters == list(range(len(counters))) and 20 < len(counters) < 50
    report = ran.report()
    assert report["status"] == "damaged" and report["errors"]


def test_two_runs_give_the_same_frames(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=10, height=24, width=32)
    infer = {"model": "realesr-animevideov3", "backend": "auto"}
    first, second = (
        run_films(capfd, tmp_path, film, infer=infer, output={"name": name}).outputs[0] for name in ("a", "b")
    )
    assert all(np.array_equal(a, b) for a, b in zip(frames_of(first), frames_of(second), strict=True))


def test_one_bad_film_does_not_stop_the_others(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = media.write_text(tmp_path / "bad.mp4")
    good = media.write_counter_video(tmp_path / "good.mkv", frames=3)
    ran = run_films(capfd, tmp_path, bad, good)
    assert ran.code == 1
    assert [path.name for path in ran.outputs] == ["good.mkv"]
    assert "bad.mp4" in ran.err
    stopped = run_films(capfd, tmp_path, bad, good, run={"on_error": "stop"}, output={"name": "{stem}-2"})
    assert stopped.code == 1 and stopped.outputs == []


def films_of_one_name(folder: Path) -> list[Path]:
    films = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        films.append(media.write_counter_video(folder / name / "film.mkv", frames=2))
    return films


def test_two_films_never_become_one_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    films = films_of_one_name(tmp_path)
    ran = run_films(capfd, tmp_path, *films, output={"overwrite": True})
    assert ran.code == 2
    assert ran.outputs == []
    assert "output.name" in ran.err and all(str(film) in ran.err for film in films)


def test_films_of_one_name_can_be_measured_together(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ran = run_films(capfd, tmp_path, *films_of_one_name(tmp_path), encode={"kind": "null"})
    assert ran.code == 0, ran.err
