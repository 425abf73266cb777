"""Colour tags that change within a film are followed, or refused with the time and both values."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers import media

from pipeline.decode import open_decoder
from pipeline.errors import UnsupportedMedia
from pipeline.frames import Frame
from pipeline.probe import probe_media

FIRST: dict[str, Any] = {"matrix": 1, "primaries": 1, "transfer": 1, "full_range": False}


def write_change(path: Path, **later: Any) -> Path:
    """A transport stream whose tags change after 10 frames."""
    whole = b""
    for number, tags in enumerate((FIRST, FIRST | later)):
        part = path.with_name(f"part{number}.ts")
        pts = [number * 400 + 40 * index for index in range(10)]
        media.write_counter_video(
            part, frames=10, pts=pts, time_base=Fraction(1, 1000), first_index=number * 10, **tags
        )
        whole += part.read_bytes()
        part.unlink()
    path.write_bytes(whole)
    return path


def decode(path: Path) -> tuple[list[Frame], tuple[str, ...]]:
    with open_decoder("libav", info=probe_media(path)) as decoder:
        return list(decoder.frames()), decoder.notes


def test_a_new_matrix_is_followed_and_said(tmp_path: Path) -> None:
    frames, notes = decode(write_change(tmp_path / "film.ts", matrix=6))
    assert [frame.format.matrix for frame in frames] == ["bt709"] * 10 + ["bt601"] * 10
    assert [media.read_counter(frame) for frame in frames] == list(range(20))
    assert any("matrix or range change at 0.400 s" in note for note in notes)


def test_a_new_range_is_followed(tmp_path: Path) -> None:
    frames, _ = decode(write_change(tmp_path / "film.ts", full_range=True))
    assert [frame.format.full_range for frame in frames] == [False] * 10 + [True] * 10


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ({"primaries": 9}, "colour primaries change from H.273 code 1 to 9"),
        ({"transfer": 16}, "transfer change from H.273 code 1 to 16"),
        ({"matrix": 10}, "BT.2020 constant luminance (H.273 code 10)"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_time_and_both_values(
    tmp_path: Path, later: dict[str, int], words: str
) -> None:
    path = write_change(tmp_path / "film.ts", **later)
    with pytest.raises(UnsupportedMedia) as caught:
        decode(path)
    assert words in str(caught.value)
    assert "at 0.400 s" in str(caught.value)
    assert caught.value.hint


def test_tags_that_go_missing_change_nothing(tmp_path: Path) -> None:
    frames, notes = decode(write_change(tmp_path / "film.ts", matrix=2, primaries=2, transfer=2, full_range=None))
    assert {frame.format.matrix for frame in frames} == {"bt709"}
    assert not any("matrix" in note for note in notes)
