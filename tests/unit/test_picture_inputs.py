"""Which pictures are the frames of a sequence and which are photos, and what both are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import picture_files

from pipeline.config.load import make_config
from pipeline.errors import ConfigError
from pipeline.inputs.find import Jobs, find_jobs
from pipeline.inputs.pictures import is_sequence, list_pictures, source_stem
from pipeline.inputs.watch import Watch
from pipeline.journal.identity import FileIdentity

SMALL = np.zeros((4, 6, 3), dtype=np.uint8)


def write(folder: Path, *names: str, pixels: Any = SMALL, **options: Any) -> list[Path]:
    return [picture_files.write(folder / name, pixels, **options) for name in names]


def numbered(first: int, stop: int, *, name: str = "f_{:03d}.png") -> list[str]:
    return [name.format(number) for number in range(first, stop)]


def find(folder: Path, *paths: str, **section: Any) -> Jobs:
    entries = [str(folder / path) for path in paths]
    return find_jobs(make_config({"input": {"paths": entries, **section}}, folder=folder))


def sources(jobs: Jobs, folder: Path) -> list[str]:
    return [str(job.source.relative_to(folder)) for job in jobs.jobs if job.source is not None]


def test_a_folder_of_frames_is_one_film_that_is_called_as_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "shot.v2", *numbered(7, 19))
    jobs = find(tmp_path, "shot.v2")
    assert sources(jobs, tmp_path) == ["shot.v2"]
    (job,) = jobs.jobs
    assert job.source is not None
    assert source_stem(job.source) == "shot.v2"
    assert [path.name for path in list_pictures(job.source)] == numbered(7, 19)
    assert job.config.input.images == "sequence"


def test_a_film_alone_is_found_again_by_its_own_config(tmp_path: Path) -> None:
    write(tmp_path / "mixed", *numbered(1, 12), "poster.png")
    for job in find(tmp_path, "mixed", image_rate=30).jobs:
        (again,) = find_jobs(job.config).jobs
        assert again.source == job.source
        assert again.config.input == job.config.input


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (numbered(1, 8), "too few"),
        ([*numbered(1, 6), *numbered(7, 14)], "one is missing"),
        ([f"photo {word}.png" for word in "abcdefghijkl"], "no numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures_that_are_no_sequence_are_jobs_of_their_own(tmp_path: Path, names: list[str], why: str) -> None:
    write(tmp_path / "heap", *names)
    assert sources(find(tmp_path, "heap"), tmp_path) == [f"heap/{name}" for name in names], why


def test_photos_of_a_camera_are_no_sequence_however_they_are_numbered(tmp_path: Path) -> None:
    write(tmp_path / "heap", *numbered(1, 13, name="DSC_{:04d}.jpg"), exif=picture_files.exif(1, make="A camera"))
    assert len(find(tmp_path, "heap").jobs) == 12
    assert len(find(tmp_path, "heap", images="sequence").jobs) == 1


def test_pictures_of_several_sizes_are_no_sequence(tmp_path: Path) -> None:
    write(tmp_path / "heap", *numbered(1, 12))
    write(tmp_path / "heap", *numbered(12, 13), pixels=np.zeros((5, 6, 3), np.uint8))
    assert len(find(tmp_path, "heap").jobs) == 12


def test_single_takes_frames_apart_and_sequence_joins_a_heap(tmp_path: Path) -> None:
    write(tmp_path / "frames", *numbered(1, 13))
    write(tmp_path / "heap", "b.png", "a.png")
    assert len(find(tmp_path, "frames", images="single").jobs) == 12
    (job,) = find(tmp_path, "heap", images="sequence").jobs
    assert job.source == tmp_path / "heap"
    assert [path.name for path in list_pictures(job.source)] == ["a.png", "b.png"]


def test_two_sequences_in_a_folder_are_two_films(tmp_path: Path) -> None:
    names = [*numbered(1, 13, name="diffuse.{:04d}.png"), *numbered(1, 13, name="depth.{:04d}.png")]
    write(tmp_path / "renders", *names)
    jobs = find(tmp_path, "renders")
    assert sources(jobs, tmp_path) == ["renders/depth.%04d.png", "renders/diffuse.%04d.png"]
    assert [source_stem(job.source) for job in jobs.jobs if job.source] == ["depth", "diffuse"]


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path / "frames", *numbered(1, 13, name="{}.png"))
    (job,) = find(tmp_path, "frames").jobs
    assert job.source is not None
    assert [int(path.stem) for path in list_pictures(job.source)] == list(range(1, 13))
    assert [int(path.stem) for path in list_pictures(tmp_path / "frames" / "%d.png")] == list(range(1, 13))


def test_a_pattern_of_ffmpeg_is_always_a_sequence(tmp_path: Path) -> None:
    write(tmp_path, *numbered(4, 7), "f_1000.png", "f_01.png", "g_005.png")
    (job,) = find(tmp_path, "f_%03d.png").jobs
    assert job.source == tmp_path / "f_%03d.png"
    assert [path.name for path in list_pictures(job.source)] == [*numbered(4, 7), "f_1000.png"]
    assert source_stem(job.source) == "f"
    with pytest.raises(ConfigError, match="no picture fits the pattern"):
        find(tmp_path, "h_%03d.png")


def test_a_glob_takes_a_part_of_a_sequence(tmp_path: Path) -> None:
    write(tmp_path / "frames", *numbered(1, 40))
    (job,) = find(tmp_path, "frames/f_01*.png").jobs
    assert job.source == tmp_path / "frames" / "f_01*.png"
    assert [path.name for path in list_pictures(job.source)] == numbered(10, 20)


def test_a_picture_that_is_named_is_one_by_itself(tmp_path: Path) -> None:
    write(tmp_path, *numbered(1, 13), "50%d.png")
    jobs = find(tmp_path, "f_003.png", "50%d.png", images="sequence")
    assert sources(jobs, tmp_path) == ["f_003.png", "50%d.png"]
    assert not any(is_sequence(job.source) for job in jobs.jobs if job.source)


def test_pictures_beside_films_are_passed_over_and_said_unless_they_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "films", "poster.jpg", "fanart.png")
    (tmp_path / "films" / "film.mkv").write_bytes(b"1")
    jobs = find(tmp_path, "films")
    assert sources(jobs, tmp_path) == ["films/film.mkv"]
    assert any("2 pictures beside films" in note for note in jobs.notes)
    assert len(find(tmp_path, "films", images="single").jobs) == 3


def test_folders_keep_their_places_below_the_results(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "in" / name / "frames", *numbered(1, 13))
    write(tmp_path / "in" / "c", "photo.png")
    jobs = find(tmp_path, "in")
    below = [str(job.config.output.dir.relative_to(tmp_path / "out")) for job in jobs.jobs]
    assert sources(jobs, tmp_path) == ["in/a/frames", "in/b/frames", "in/c/photo.png"]
    assert below == ["a", "b", "c"]


def test_two_pictures_that_would_get_the_same_result_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "heap", "photo.jpg", "photo.png")
    with pytest.raises(ConfigError, match="would both be written to"):
        find(tmp_path, "heap")


def test_who_watches_gets_pictures_only_as_single_ones(tmp_path: Path) -> None:
    write(tmp_path / "in", *numbered(1, 13))
    for images, count in (("auto", 0), ("single", 12)):
        document = {"input": {"paths": [str(tmp_path / "in")], "watch": True, "images": images, "settle_s": 1}}
        watch = Watch(config=make_config(document, folder=tmp_path))
        watch.poll(0.0)
        assert len(watch.poll(10.0).jobs) == count
    with pytest.raises(ConfigError, match=r"input\.images"):
        make_config({"input": {"paths": ["in"], "watch": True, "images": "sequence"}}, folder=tmp_path)


@pytest.mark.parametrize("source", ["frames", "frames/f_%03d.png", "frames/f_*.png"])
def test_a_sequence_is_another_one_as_soon_as_a_picture_is_added_gone_or_changed(tmp_path: Path, source: str) -> None:
    paths = write(tmp_path / "frames", *numbered(1, 13))
    before = FileIdentity.of(tmp_path / source)
    assert before.changes(tmp_path / source) == ()
    (tmp_path / "frames" / "notes.txt").write_text("not a picture")
    assert before.changes(tmp_path / source) == ()
    content = paths[5].read_bytes()
    for change in (paths[5].unlink, lambda: paths[5].write_bytes(content + b"1")):
        change()
        assert before.changes(tmp_path / source) != ()
    paths[5].write_bytes(content)
    write(tmp_path / "frames", *numbered(13, 14))
    assert before.changes(tmp_path / source) != ()
