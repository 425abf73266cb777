"""What is decided about a film's fields."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from pipeline.config.models import DecodeSection
from pipeline.decode.deinterlace_plan import FieldPlan, plan_fields
from pipeline.decode.field_findings import FieldFindings, SeenPlace
from pipeline.decode.synthetic import CONTAINER, SyntheticFilm, describe_film
from pipeline.errors import UnsupportedMedia
from pipeline.media import MediaInfo

TOP = SeenPlace(frames=25, flagged_top=25, top=25, combed=25)
PLAIN = SeenPlace(frames=25, progressive=25)
MISFLAGGED = SeenPlace(frames=25, flagged_top=25, progressive=25)
UNFLAGGED = SeenPlace(frames=25, bottom=25, combed=25, combed_unflagged=25)
WRONG_ORDER = SeenPlace(frames=25, flagged_top=25, bottom=25, combed=25)
TELECINED = SeenPlace(frames=25, flagged_top=25, top=21, progressive=4, combed=10, repeated_top=5, repeated_bottom=5)
STILL = SeenPlace(frames=25)
STILL_FLAGGED = SeenPlace(frames=25, flagged_top=25)


def film(**changes: Any) -> MediaInfo:
    info = describe_film(SyntheticFilm(frame_count=100))
    return replace(info, container="matroska,webm", video=replace(info.video, **changes))


def decide(*places: SeenPlace, is_flagged: bool = False, **settings: Any) -> FieldPlan:
    findings = FieldFindings(places=places) if places else None
    return plan_fields(DecodeSection(**settings), film(is_interlaced=is_flagged), findings=findings)


@pytest.mark.parametrize("places", [(TOP,), (PLAIN, TOP), (UNFLAGGED,), (TELECINED,), (STILL_FLAGGED,)])
def test_an_interlaced_film_is_refused_by_default_with_advice(places):
    with pytest.raises(UnsupportedMedia, match="is interlaced") as caught:
        decide(*places)
    assert "decode.deinterlace: auto" in caught.value.hint
    assert "ffmpeg -i" in caught.value.hint


def test_flags_alone_are_enough_where_nobody_looked():
    with pytest.raises(UnsupportedMedia, match="is interlaced"):
        decide(is_flagged=True)


def test_a_telecined_film_is_refused_with_the_filters_that_undo_it():
    with pytest.raises(UnsupportedMedia, match="telecined") as caught:
        decide(TELECINED)
    assert "fieldmatch,decimate" in caught.value.hint


def test_a_misflagged_film_is_refused_with_the_key_that_lets_it_pass():
    with pytest.raises(UnsupportedMedia, match="looks progressive") as caught:
        decide(MISFLAGGED)
    assert "decode.field_order: progressive" in caught.value.hint


@pytest.mark.parametrize("deinterlace", ["off", "auto"])
@pytest.mark.parametrize("places", [(), (PLAIN,), (STILL,)])
def test_a_progressive_film_is_left_alone(deinterlace, places):
    plan = decide(*places, deinterlace=deinterlace)
    assert (plan.deinterlacing, plan.warnings) == (None, ())


@pytest.mark.parametrize("deinterlace", ["off", "auto", "bwdif"])
def test_whoever_says_that_films_are_progressive_is_believed(deinterlace):
    plan = decide(TOP, is_flagged=True, deinterlace=deinterlace, field_order="progressive")
    assert plan.deinterlacing is not None
    assert plan.deinterlacing.frames == "none"


def test_a_computed_film_has_no_fields():
    info = describe_film(SyntheticFilm())
    assert info.container == CONTAINER
    assert plan_fields(DecodeSection(deinterlace="bwdif"), info, findings=None).deinterlacing is None


@pytest.mark.parametrize(
    ("places", "frames", "order", "warning"),
    [
        ((TOP,), "flagged", None, None),
        ((STILL_FLAGGED,), "flagged", None, None),
        ((PLAIN, TOP), "flagged", None, None),
        ((UNFLAGGED,), "all", "bottom", "looks interlaced where it is flagged progressive"),
        ((TOP, replace(UNFLAGGED, top=25, bottom=0)), "all", "top", "looks interlaced where"),
        ((WRONG_ORDER,), "flagged", "bottom", "flagged top field first and taken as bottom field first"),
        ((MISFLAGGED,), "none", None, "looks progressive"),
        ((TELECINED,), "flagged", None, "telecined"),
    ],
)
def test_auto_does_what_the_film_needs_and_says_what_is_odd(places, frames, order, warning):
    plan = decide(*places, is_flagged=bool(places[0].flagged), deinterlace="auto")
    assert plan.deinterlacing is not None
    assert (plan.deinterlacing.frames, plan.deinterlacing.order) == (frames, order)
    assert [warning in text for text in plan.warnings] == ([] if warning is None else [True])


def test_bwdif_deinterlaces_every_frame_of_every_film():
    plan = decide(PLAIN, deinterlace="bwdif")
    assert plan.deinterlacing is not None
    assert (plan.deinterlacing.frames, plan.deinterlacing.order) == ("all", None)


@pytest.mark.parametrize("order", ["top", "bottom"])
def test_the_order_that_the_config_names_holds(order):
    plan = decide(WRONG_ORDER, deinterlace="auto", field_order=order)
    assert plan.deinterlacing is not None
    assert plan.deinterlacing.order == order


def test_by_field_the_film_has_twice_the_frames_in_the_same_time():
    source = film(is_interlaced=True, average_rate=Fraction(30000, 1001), time_base=Fraction(1, 90000), start_pts=901)
    plan = plan_fields(DecodeSection(deinterlace="auto", deinterlace_rate="field"), source, findings=None)
    video = plan.info.video
    assert (video.average_rate, video.frame_count_from_header) == (Fraction(60000, 1001), 200)
    assert (video.time_base, video.start_pts) == (Fraction(1, 180000), 1802)
    assert video.duration_s == source.video.duration_s
    assert plan.deinterlacing is not None
    assert plan.deinterlacing.source.video.time_base == Fraction(1, 90000)
