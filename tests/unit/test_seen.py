"""What a network sees of HDR films: the curve that is said, undone without loss, and chosen by what the film says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.decode import probe_synthetic
from pipeline.decode.synthetic import SyntheticFilm
from pipeline.frames import ColourTags
from pipeline.media import VideoTrack
from pipeline.seen import SeenCurve, choose_seen

CURVES = [
    SeenCurve(family="pq", gamma=3.2, peak_cd_m2=1000.0),
    SeenCurve(family="pq", gamma=3.2, peak_cd_m2=4000.0),
    SeenCurve(family="pq", gamma=3.2, peak_cd_m2=10_000.0),
    SeenCurve(family="hlg", gamma=2.4),
]


def words(curve: SeenCurve) -> str:
    return f"{curve.family}-{curve.peak_cd_m2:g}"


def shown(curve: SeenCurve, codes: NDArray[Any]) -> NDArray[np.float32]:
    rgb = np.broadcast_to(codes.astype(np.float32), (3, 1, len(codes))).copy()
    curve.show(rgb)
    assert np.array_equal(rgb[0], rgb[1], equal_nan=True)
    assert np.array_equal(rgb[0], rgb[2], equal_nan=True)
    return rgb[0, 0]


def restored(curve: SeenCurve, seen: NDArray[Any]) -> NDArray[np.float32]:
    rgb = np.broadcast_to(seen.astype(np.float32), (3, 1, len(seen))).copy()
    curve.restore(rgb)
    return rgb[1, 0]


def light_of(family: str, codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100-2 tables 4 and 5: cd/m2 of PQ codes, scene light of HLG codes."""
    if family == "pq":
        root = codes ** (32 / 2523)
        return 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (16384 / 2610)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)


@pytest.mark.parametrize("curve", CURVES, ids=words)
def test_the_network_sees_the_power_of_light_that_is_said(curve: SeenCurve) -> None:
    codes = np.arange(1024) / 1023
    light = light_of(curve.family, codes) / (curve.peak_cd_m2 or 1)
    assert shown(curve, codes) == pytest.approx(light ** (1 / curve.gamma), rel=2e-5, abs=1e-6)


def test_the_mastering_peak_is_seen_as_one() -> None:
    code_of_1000 = 0.7518271
    assert shown(CURVES[0], np.array([code_of_1000]))[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("bits", "most"), [(10, 0.02), (12, 0.08)])
@pytest.mark.parametrize("curve", CURVES, ids=words)
def test_every_code_comes_back(curve: SeenCurve, bits: int, most: float) -> None:
    highest = 2**bits - 1
    codes = np.arange(highest + 1)
    found = restored(curve, shown(curve, codes / highest)) * highest
    assert np.abs(found - codes).max() <= most


@pytest.mark.parametrize("curve", CURVES, ids=words)
def test_every_code_of_10_bits_comes_back_through_a_network_of_halves(curve: SeenCurve) -> None:
    codes = np.arange(1024)
    halves = shown(curve, codes / 1023).astype(np.float16)
    assert np.array_equal(np.rint(restored(curve, halves) * 1023), codes)


@pytest.mark.parametrize("curve", CURVES, ids=words)
def test_what_is_brighter_is_seen_brighter_and_comes_back_brighter(curve: SeenCurve) -> None:
    codes = np.arange(-410, 4915) / 4095  # from below black to above white
    seen = shown(curve, codes)
    assert np.all(np.diff(seen) > 0)
    assert np.all(np.diff(restored(curve, np.linspace(-0.5, 3, 4001))) >= 0)
    assert np.all(np.diff(restored(curve, seen)) > 0)


@pytest.mark.parametrize("curve", CURVES, ids=words)
def test_values_beyond_black_and_white_survive(curve: SeenCurve) -> None:
    """Limited range has codes down to -0.07 and up to 1.09; super-white is straight on, sub-black mirrored."""
    codes = np.array([-0.3, -0.07, -0.001, 0.0, 1.0, 1.05, 1.1, 1.4])
    seen = shown(curve, codes)
    assert np.abs(restored(curve, seen) - codes).max() <= 2e-5
    assert seen[:3] == pytest.approx(-shown(curve, -codes[:3]))
    assert seen[6] - seen[5] == pytest.approx(seen[5] - seen[4], rel=1e-4)
    before = shown(curve, np.array([1 - 1e-3, 1.0]))
    assert (seen[5] - seen[4]) / 0.05 == pytest.approx((before[1] - before[0]) / 1e-3, rel=0.02)


@pytest.mark.parametrize("curve", CURVES, ids=words)
def test_nan_stays_nan(curve: SeenCurve) -> None:
    values = np.array([np.nan, 0.5])
    for way in (shown, restored):
        assert np.isnan(way(curve, values)).tolist() == [True, False]


def test_only_the_part_that_is_given_is_overwritten() -> None:
    whole = np.full((3, 8, 12), 0.5, np.float32)
    CURVES[0].show(whole[:, 2:5, 3:9])
    is_written = whole != 0.5
    assert is_written[:, 2:5, 3:9].all()
    assert is_written.sum() == 3 * 3 * 6


@pytest.mark.parametrize("wrong", [np.zeros((3, 4), np.float32), np.zeros((3, 4, 5), np.float64)])
def test_other_arrays_are_refused(wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="float32"):
        CURVES[0].show(wrong)


def track(*, transfer: int, mastering: str = "", content: str = "") -> VideoTrack:
    video = probe_synthetic(SyntheticFilm(height=24, width=40, frame_count=1)).video
    return replace(video, tags=ColourTags(transfer=transfer), mastering_display=mastering, content_light=content)


@pytest.mark.parametrize("transfer", [1, 2, 4, 6, 8, 13, 14, 15, 17, 255])
@pytest.mark.parametrize("hdr", ["auto", "direct", "curve"])
def test_films_without_hdr_are_seen_as_they_are_and_nothing_is_said(transfer: int, hdr: Any) -> None:
    choice = choose_seen(hdr, track(transfer=transfer))
    assert choice.curve is None
    assert not choice.reason


@pytest.mark.parametrize("transfer", [16, 18])
def test_who_wants_codes_gets_codes(transfer: int) -> None:
    choice = choose_seen("direct", track(transfer=transfer))
    assert choice.curve is None
    assert "infer.hdr" in choice.reason


@pytest.mark.parametrize("hdr", ["auto", "curve"])
def test_hlg_is_seen_by_its_own_curve(hdr: Any) -> None:
    choice = choose_seen(hdr, track(transfer=18, mastering="L(10000000,1)"))
    assert choice.curve == SeenCurve(family="hlg", gamma=2.4)
    assert "1/2.4" in choice.reason


@pytest.mark.parametrize(
    ("mastering", "content", "peak_cd_m2", "source"),
    [
        ("G(1,2)B(3,4)R(5,6)WP(7,8)L(10000000,50)", "", 1000, "mastering display"),
        ("G(1,2)B(3,4)R(5,6)WP(7,8)L(40000000,50)", "800,100", 4000, "mastering display"),
        ("G(1,2)B(3,4)R(5,6)WP(7,8)L(20000005,50)", "", 2000.0005, "mastering display"),
        ("", "1600,200", 1600, "brightest pixel"),
        ("G(1,2)B(3,4)R(5,6)WP(7,8)L(0,0)", "1600,200", 1600, "brightest pixel"),
        ("", "0,0", 4000, "does not say"),
        ("", "", 4000, "does not say"),
        ("G(1,2)B(3,4)R(5,6)WP(7,8)L(6000000,50)", "", 1000, "mastering display"),
        ("", "65535,100", 10_000, "brightest pixel"),
    ],
)
def test_the_peak_of_a_pq_film_is_what_its_metadata_say(
    mastering: str, content: str, peak_cd_m2: float, source: str
) -> None:
    choice = choose_seen("auto", track(transfer=16, mastering=mastering, content=content))
    assert choice.curve == SeenCurve(family="pq", gamma=3.2, peak_cd_m2=peak_cd_m2)
    assert source in choice.reason
