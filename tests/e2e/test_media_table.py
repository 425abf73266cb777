"""The media table: a result has its source's pictures at the same times, and the same streams, tags and chapters.

Each row is one generated film that goes through the whole CPU path; what libav then says of source and result is
compared name by name. In what a result may differ, and why, stands in the row.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.media_rows import REFUSED, ROWS, Row
from helpers.media_table import broken_promises, make_source, sections_of
from helpers.runs import leftovers, run_films
from helpers.table_material import Material


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("material"))


def test_the_table_covers_enough_films_under_names_of_their_own() -> None:
    names = [row.name for row in (*ROWS, *REFUSED)]
    assert len(ROWS) >= 60
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_result_is_its_source_but_for_the_size(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, material: Material, row: Row
) -> None:
    source = make_source(row, material, tmp_path)
    ran = run_films(capfd, tmp_path, source, **sections_of(row))
    assert ran.code == 0, ran.err
    assert ran.outputs == [tmp_path / "out" / f"{source.stem}.{row.becomes}"]
    assert broken_promises(row, source, ran.outputs[0], scale=2) == []


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_what_a_container_cannot_hold_is_refused_by_name_before_the_run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, material: Material, row: Row
) -> None:
    source = make_source(row, material, tmp_path)
    ran = run_films(capfd, tmp_path, source, **sections_of(row))
    assert ran.code == 2, ran.err
    assert ran.errors and all(row.becomes in line for line in ran.errors), ran.err
    assert leftovers(tmp_path / "out") == []
