"""The media table: a result has its source's pictures at the same times, and the same streams, tags and chapters.

Each row is one generated film that goes through the whole CPU path; what libav then says of source and result is
compared name by name. In what a result may differ, and why, stands in the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.media_rows import REFUSED, ROWS, Row
from helpers.media_table import broken_promises, sections_of
from helpers.runs import leftovers, run_films
from helpers.table_material import Material

BATCH = 12
"""Rows that go through one run."""
MORE_OF_THE_SAME = frozenset(
    {
        *("23.976, ts", "29.97, webm to mp4", "uneven 90 kHz, mp4", "mpeg4 with B, avi", "raw h264", "first pts 1.5 s"),
        *("sound late, ts", "picture late, mov to mkv", "edit list cuts the beginning, mp4 to mkv", "one picture, mkv"),
        *("an hour without a picture, mp4", "odd timescale, mov", "mpeg2, ts", "flv1, flv", "theora, ogv", "av1, mp4"),
        *("mjpeg, avi", "dnxhr, mov", "wmv asf", "mp4 to mkv", "bt709 limited", "422 8 bits", "444 10 bits"),
        *("mirrored (vflip), mp4", "mirrored (transverse), mp4", "mirrored (hflip), mp4 to mkv", "rotated by 180, mov"),
        *("mirrored (transpose), mp4 to mkv", "odd size 4:4:4, mp4", "cover, mp4 to mkv", "two films, mp4"),
        *("three sounds, mp4", "sounds, mov", "dispositions, mkv to mp4", "chapters and tags, mp4 to mkv"),
        *("chapters and tags, mkv to mp4", "srt, mkv", "srt, mkv to mov"),
    }
)
"""Rows each of whose properties is in another row too: these are slow."""


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("material"))


def batches(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Rows with the same settings, some at a time."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        alike.setdefault(repr(row.sections), []).append(row)
    return [tuple(group[at : at + BATCH]) for group in alike.values() for at in range(0, len(group), BATCH)]


USUAL = batches([row for row in ROWS if row.name not in MORE_OF_THE_SAME])
MORE = batches([row for row in ROWS if row.name in MORE_OF_THE_SAME])


def test_the_table_covers_enough_films_under_names_of_their_own() -> None:
    names = [row.name for row in (*ROWS, *REFUSED)]
    assert sum(len(batch) for batch in USUAL) >= 60
    assert len(names) == len(set(names))
    assert set(names) >= MORE_OF_THE_SAME


@pytest.mark.parametrize(
    "rows",
    [*USUAL, *(pytest.param(rows, marks=pytest.mark.slow) for rows in MORE)],
    ids=lambda rows: f"{rows[0].name} and {len(rows) - 1} more",
)
def test_a_result_is_its_source_but_for_the_size(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, material: Material, rows: tuple[Row, ...]
) -> None:
    sources = {row: tmp_path / f"{number:02d}-{row.file}" for number, row in enumerate(rows)}
    for row, source in sources.items():
        row.make(material, source)
    ran = run_films(capfd, tmp_path, *sources.values(), **sections_of(rows[0]))
    broken = {}
    for row, source in sources.items():
        result = tmp_path / "out" / f"{source.stem}.{row.becomes}"
        if not result.exists():
            broken[row.name] = ["there is no result"]
        elif promises := broken_promises(row, source, result, scale=2):
            broken[row.name] = promises
    assert broken == {}, ran.err
    assert ran.code == 0, ran.err
    assert len(ran.outputs) == len(rows)


def test_what_a_container_cannot_hold_is_refused_by_name_before_the_run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, material: Material
) -> None:
    for number, row in enumerate(REFUSED):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = folder / row.file
        row.make(material, source)
        ran = run_films(capfd, folder, source, **sections_of(row))
        assert ran.code == 2, ran.err
        assert ran.errors and all(row.becomes in line for line in ran.errors), ran.err
        assert leftovers(folder / "out") == []
