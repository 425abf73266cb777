"""Films that come while a run is under way become jobs once, when they have stopped growing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.config.load import make_config
from pipeline.inputs.watch import Watch


class Clock:
    """A watch of one folder, and the time."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        values = {"input": {"paths": ["in"], "watch": True, **sections.pop("input", {})}, **sections}
        self.folder = folder / "in"
        self.folder.mkdir()
        self.watch = Watch(config=make_config(values, folder=folder))
        self.now_s = 1000.0
        self.notes: list[str] = []

    def put(self, name: str, *, size: int = 1, mtime_s: int = 1) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0" * size)
        os.utime(path, (mtime_s, mtime_s))
        return path

    def after(self, seconds: float) -> list[str]:
        self.now_s += seconds
        jobs = self.watch.poll(self.now_s)
        self.notes += jobs.notes
        return [job.name for job in jobs.jobs]


def test_a_film_is_told_once_when_it_did_not_change_for_a_while(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    assert clock.after(0) == []
    clock.put("a.mkv")
    assert clock.after(6) == []
    assert clock.after(9) == []
    assert clock.after(6) == ["a.mkv"]
    assert clock.after(100) == []


def test_a_film_that_grows_or_is_touched_is_not_told(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    for size in range(1, 5):
        clock.put("a.mkv", size=size)
        assert clock.after(9) == []
    for mtime_s in range(2, 5):
        clock.put("a.mkv", size=4, mtime_s=mtime_s)
        assert clock.after(20) == []
    assert clock.after(10) == ["a.mkv"]


def test_an_empty_file_and_one_that_is_open_to_write_are_waited_for(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.put("empty.mkv", size=0)
    path = clock.put("open.mkv")
    with path.open("ab"):
        assert clock.after(6) == []
        assert clock.after(20) == []
    with path.open("rb"):
        assert clock.after(6) == ["open.mkv"]


def test_a_film_that_vanishes_before_it_is_ready_is_forgotten(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.put("a.mkv")
    clock.after(6)
    (clock.folder / "a.mkv").unlink()
    assert clock.after(20) == []
    clock.put("a.mkv")
    assert clock.after(20) == []
    assert clock.after(10) == ["a.mkv"]


def test_a_film_is_told_again_only_if_another_one_comes_in_its_place(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    path = clock.put("a.mkv")
    clock.after(6)
    assert clock.after(20) == ["a.mkv"]
    clock.put("a.mkv", size=5)  # changed where it is
    assert clock.after(6) + clock.after(20) == []
    path.unlink()
    clock.after(6)
    clock.put("a.mkv", size=9)
    assert clock.after(6) + clock.after(20) == ["a.mkv"]


def test_a_disk_that_goes_and_comes_back_brings_nothing_twice(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.put("a.mkv")
    clock.put("b.mkv")
    clock.after(6)
    assert clock.after(20) == ["a.mkv", "b.mkv"]
    clock.put("a.mkv", size=5)  # changed where it is, after it was told
    assert clock.after(20) == []
    clock.folder.rename(tmp_path / "away")
    assert clock.after(20) == []
    (tmp_path / "away").rename(clock.folder)
    os.utime(clock.folder / "b.mkv", (9, 9))
    assert clock.after(6) + clock.after(20) == ["b.mkv"]
    assert clock.after(6) + clock.after(20) == []


def test_a_film_that_is_renamed_or_linked_is_not_told_again(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    path = clock.put("m.mkv")
    clock.after(6)
    assert clock.after(20) == ["m.mkv"]
    (clock.folder / "a.mkv").hardlink_to(path)
    assert clock.after(6) + clock.after(20) == []
    path.unlink()
    assert clock.after(6) + clock.after(20) == []


def test_the_clock_on_the_wall_does_not_matter(tmp_path: Path) -> None:
    """Files of the future and of 1970 are ready as soon as others, and reading the steady clock late does no harm."""
    clock = Clock(tmp_path)
    clock.put("past.mkv", mtime_s=0)
    clock.put("future.mkv", mtime_s=4_000_000_000)
    assert clock.after(6) == []
    assert clock.after(9) == []
    assert clock.after(100_000) == ["future.mkv", "past.mkv"]


def test_films_that_are_ready_together_come_in_order(tmp_path: Path) -> None:
    clock = Clock(tmp_path, input={"order": "size"})
    clock.put("a.mkv", size=3)
    clock.put("b.mkv", size=1)
    clock.after(6)
    assert clock.after(20) == ["b.mkv", "a.mkv"]


def test_a_later_film_with_the_result_of_an_earlier_one_is_passed_over_and_said_once(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.put("a.mkv")
    clock.after(6)
    assert clock.after(20) == ["a.mkv"]
    clock.put("a.avi")
    assert clock.after(6) + clock.after(20) + clock.after(20) == []
    assert len(clock.notes) == 1
    assert "the second is passed over" in clock.notes[0]


def test_folders_are_not_looked_through_all_the_time(tmp_path: Path) -> None:
    clock = Clock(tmp_path, input={"settle_s": 1.0})
    clock.put("a.mkv")
    assert clock.after(0) == []
    assert clock.after(0.4) == []
    assert clock.after(0.7) == ["a.mkv"]


def test_a_film_has_the_config_that_fits_it(tmp_path: Path) -> None:
    clock = Clock(tmp_path, input={"overrides": [{"match": "s/*", "set": {"encode.quality": 20}}]})
    clock.put("s/a.mkv")
    clock.watch.poll(0)
    (job,) = clock.watch.poll(50).jobs
    assert (job.config.encode.quality, job.config.output.dir) == (20, tmp_path / "out/s")
