"""Before a film begins it is said whether the disk will probably hold its result."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import media
from helpers.runs import run_films

from pipeline.night.disk import Room


@pytest.mark.parametrize(("free_bytes", "is_said"), [(1000, True), (10**15, False)])
def test_a_disk_that_is_too_small_is_said_beforehand(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, is_said: bool
) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=3)
    monkeypatch.setattr("pipeline.jobs.film.measure_room", lambda folder: Room(folder=folder, free_bytes=free_bytes))
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 0
    assert ("the disk may be too small" in ran.err) is is_said
