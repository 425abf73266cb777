"""Promises of pipeline.decode.sidedata: HDR metadata arrives in the encoder's notation or not at all."""

from __future__ import annotations

import struct

import pytest

from pipeline.decode.sidedata import content_light_text, mastering_display_text

P3_D65 = ((34000, 16000), (13250, 34500), (7500, 3000), (15635, 16450))


def payload(*, has_primaries: int = 1, has_luminance: int = 1, denominator: int = 50000) -> bytes:
    numbers = [n for point in P3_D65 for value in point for n in (value, denominator)]
    return struct.pack("=22i", *numbers, 50, 10000, 10000000, 10000, has_primaries, has_luminance)


def test_mastering_display_is_written_as_x265_reads_it():
    assert mastering_display_text(payload()) == "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.mark.parametrize(
    "broken", [b"", b"\0" * 40, payload(has_primaries=0), payload(has_luminance=0), payload(denominator=0)]
)
def test_incomplete_mastering_display_is_absent(broken):
    assert mastering_display_text(broken) == ""


def test_content_light_is_max_cll_and_fall():
    assert content_light_text(struct.pack("=2I", 1000, 400)) == "1000,400"
    assert content_light_text(b"\0\0") == ""
