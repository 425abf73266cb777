"""What each container holds, decided from the probe alone; every refusal names the stream and the remedy."""

from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.assembly.containers import choose_container, plan_streams
from pipeline.encode import ENCODERS
from pipeline.errors import ConfigError
from pipeline.frames import ColourTags, SampleFormat
from pipeline.media import MediaInfo, StreamEntry, VideoTrack

X264 = ENCODERS["libx264"]


def film(
    *others: StreamEntry, container: str = "matroska,webm", name: str = "film.mkv", chapters: int = 0
) -> MediaInfo:
    video = VideoTrack(
        index=0,
        codec="h264",
        height=48,
        width=64,
        pixel_format="yuv420p",
        format=SampleFormat(matrix="bt709"),
        tags=ColourTags(),
        time_base=Fraction(1, 1000),
        average_rate=Fraction(25),
        start_pts=0,
        duration_s=1.0,
        frame_count_from_header=25,
    )
    return MediaInfo(
        path=Path(name),
        container=container,
        size_bytes=1,
        start_s=0.0,
        duration_s=1.0,
        video=video,
        streams=(StreamEntry(index=0, kind="video", codec="h264"), *others),
        chapter_count=chapters,
    )


MP4 = {"container": "mov,mp4,m4a,3gp,3g2,mj2", "name": "film.mp4"}


def entry(kind, codec, **more):
    return StreamEntry(index=1, kind=kind, codec=codec, **more)


@pytest.mark.parametrize(
    ("container", "kind", "codec", "becomes"),
    [
        ("mp4", "audio", "aac", "aac"),
        ("mp4", "audio", "opus", "opus"),
        ("mp4", "subtitle", "subrip", "mov_text"),
        ("mp4", "subtitle", "ass", "mov_text"),
        ("mov", "subtitle", "webvtt", "mov_text"),
        ("mov", "audio", "pcm_s24le", "pcm_s24le"),
        ("mkv", "subtitle", "mov_text", "subrip"),
        ("mkv", "subtitle", "ass", "ass"),
        ("mkv", "subtitle", "hdmv_pgs_subtitle", "hdmv_pgs_subtitle"),
        ("mkv", "audio", "truehd", "truehd"),
        ("mkv", "attachment", "ttf", "ttf"),
        ("mkv", "attachment", "", ""),
        ("mkv", "video", "vp9", "vp9"),
        ("mp4", "video", "mpeg4", "mpeg4"),
    ],
)
def test_a_stream_goes_along(container, kind, codec, becomes):
    """As it is, or as the text format that the container has; a conversion is said."""
    plan = plan_streams(film(entry(kind, codec)), container=container, encoder=X264)
    assert plan.problems == ()
    assert [copy.codec for copy in plan.copies] == [becomes]
    assert plan.copies[0].is_converted == (codec != becomes)
    assert len(plan.warnings) == (codec != becomes)


@pytest.mark.parametrize(
    ("container", "kind", "codec"),
    [
        ("mp4", "subtitle", "hdmv_pgs_subtitle"),
        ("mp4", "subtitle", "dvd_subtitle"),
        ("mp4", "attachment", "ttf"),
        ("mov", "attachment", ""),
        ("mp4", "audio", "wmav2"),
        ("mov", "audio", "vorbis"),
        ("mp4", "video", "prores"),
        ("mkv", "audio", ""),
        ("mkv", "subtitle", "eia_608"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(container, kind, codec):
    plan = plan_streams(film(entry(kind, codec, language="eng")), container=container, encoder=X264)
    assert plan.copies == ()
    (problem,) = plan.problems
    assert f"{container} cannot hold {kind} stream 1" in problem
    assert codec in problem
    assert "eng" in problem


@pytest.mark.parametrize(("container", "held"), [("mp4", True), ("mkv", True), ("mov", False)])
def test_cover_art(container, held):
    plan = plan_streams(film(entry("video", "mjpeg", is_attached_pic=True)), container=container, encoder=X264)
    assert bool(plan.copies) == held
    assert bool(plan.problems) != held
    assert held or "cover art" in plan.problems[0]


def test_data_streams_are_left_out_with_a_warning():
    plan = plan_streams(film(entry("data", "tmcd"), **MP4), container="mp4", encoder=X264)
    assert plan.copies == plan.problems == ()
    assert "data stream 1 (tmcd) is left out" in plan.warnings[0]


def test_the_titles_track_of_mp4_chapters_is_no_loss():
    """Chapters are copied as chapters."""
    plan = plan_streams(film(entry("data", ""), **MP4, chapters=3), container="mp4", encoder=X264)
    assert plan.warnings == plan.problems == ()


def test_the_main_video_is_never_copied():
    assert plan_streams(film(), container="mkv", encoder=X264).copies == ()


@pytest.mark.parametrize(
    ("source", "encoder", "expected"),
    [
        (film(), "libx264", "mkv"),
        (film(**MP4), "libx264", "mp4"),
        (film(**MP4), "libsvtav1", "mp4"),
        (film(container=MP4["container"], name="film.mov"), "libx264", "mov"),
        (film(container=MP4["container"], name="film.mov"), "libsvtav1", "mkv"),
        (film(container=MP4["container"], name="film.mov"), "prores_ks", "mov"),
        (film(**MP4), "ffv1", "mkv"),
        (film(entry("subtitle", "dvd_subtitle"), **MP4), "libx264", "mkv"),
        (film(container="avi", name="film.avi"), "libx264", "mkv"),
        (film(**MP4), "png", "png"),
        (film(**MP4), "null", ""),
    ],
)
def test_auto_takes_the_sources_own_container_if_everything_fits(source, encoder, expected):
    assert choose_container("auto", info=source, encoder=ENCODERS[encoder]) == expected


def test_a_named_container_is_taken_or_refused_never_replaced():
    assert choose_container("mov", info=film(), encoder=X264) == "mov"
    with pytest.raises(ConfigError, match=r"mov cannot hold av1") as caught:
        choose_container("mov", info=film(), encoder=ENCODERS["libsvtav1"])
    assert "mp4 or mkv" in caught.value.hint
    with pytest.raises(ConfigError, match="folder of pictures"):
        choose_container("mkv", info=film(), encoder=ENCODERS["png"])


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
def test_sound_in_the_form_of_discs_becomes_plain(container):
    plan = plan_streams(film(entry("audio", "pcm_bluray")), container=container, encoder=X264)
    assert [copy.codec for copy in plan.copies] == ["pcm_s24le"]
    assert plan.problems == ()
    assert "samples stay the same" in plan.warnings[0]


@pytest.mark.parametrize("codec", ["nellymoser", "adpcm_ima_qt"])
def test_sound_that_matroska_does_not_hold_is_refused_by_name(codec):
    plan = plan_streams(film(entry("audio", codec)), container="mkv", encoder=X264)
    assert codec in plan.problems[0]


def test_what_cannot_be_held_is_left_out_where_the_config_says_so():
    source = film(entry("subtitle", "hdmv_pgs_subtitle", language="eng"))
    plan = plan_streams(source, container="mp4", encoder=X264, leave_out_unheld=True)
    assert plan.problems == plan.copies == ()
    assert "hdmv_pgs_subtitle" in plan.warnings[0] and "left out" in plan.warnings[0]


def test_a_stream_of_which_nothing_is_known_is_left_out_with_a_warning():
    plan = plan_streams(film(entry("audio", "aac", is_empty=True)), container="mkv", encoder=X264)
    assert plan.problems == plan.copies == ()
    assert "nothing of it can be read" in plan.warnings[0]
