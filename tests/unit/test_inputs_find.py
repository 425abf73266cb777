"""Which films a run finds, in which order, with which config, and where their results go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers.media import write_counter_video

from pipeline.config import Config
from pipeline.config.load import load_config, make_config, resolved_yaml
from pipeline.errors import ConfigError, OutputError
from pipeline.inputs.durations import Durations
from pipeline.inputs.find import Jobs, find_jobs
from pipeline.inputs.output_names import place_beside, place_output
from pipeline.jobs.order import FilmOrder, decode_order, encode_order
from pipeline.journal import FinishedRecord, remember_finished

ROOT = Path(__file__).resolve().parents[2]


def put(folder: Path, *names: str, size: int = 1) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * size)


def config_of(folder: Path, paths: list[str], **sections: Any) -> Config:
    more = sections.pop("input", {})
    return make_config({"input": {"paths": paths, **more}, **sections}, folder=folder)


def find(folder: Path, *paths: str, **sections: Any) -> Jobs:
    return find_jobs(config_of(folder, list(paths), **sections))


def names(jobs: Jobs, folder: Path) -> list[str]:
    return [str(job.source.relative_to(folder)) for job in jobs.jobs if job.source is not None]


def problems_of(folder: Path, *paths: str, **sections: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        find(folder, *paths, **sections)
    return caught.value


def test_a_folder_holds_its_films_and_those_of_its_folders_in_natural_order(tmp_path: Path) -> None:
    put(tmp_path, "in/e10.mkv", "in/E2.MP4", "in/sub/a.avi", "in/note.txt", "in/film", "in/cover.jpg")
    assert names(find(tmp_path, "in"), tmp_path) == ["in/E2.MP4", "in/e10.mkv", "in/sub/a.avi"]
    assert names(find(tmp_path, "in", input={"recursive": False}), tmp_path) == ["in/E2.MP4", "in/e10.mkv"]
    assert names(find(tmp_path, "in", input={"suffixes": [".JPG"]}), tmp_path) == ["in/cover.jpg"]


def test_patterns_files_and_lists_stand_side_by_side_in_the_given_order(tmp_path: Path) -> None:
    put(tmp_path, "z.xyz", "p/q/1.mkv", "p/2.mkv", "l/b.mkv", "l/c d.mkv", "p/raw.dav")
    (tmp_path / "l/list.txt").write_bytes(b"# films\r\n\n  # more\nb.mkv\r\n./c d.mkv\n../p/*.dav\n")
    jobs = find(tmp_path, "z.xyz", "p/**/*.mkv", "@l/list.txt")
    assert names(jobs, tmp_path) == ["z.xyz", "p/2.mkv", "p/q/1.mkv", "l/b.mkv", "l/c d.mkv", "p/raw.dav"]


def test_a_file_that_is_missing_or_called_like_a_pattern_is_a_film_of_its_own(tmp_path: Path) -> None:
    """It fails as a film, with its reason, and the others go on."""
    put(tmp_path, "a[1].mkv", "a1.mkv")
    assert names(find(tmp_path, "a[1].mkv", "gone.mkv"), tmp_path) == ["a[1].mkv", "gone.mkv"]


def test_entries_that_hold_nothing_are_all_named_before_the_run(tmp_path: Path) -> None:
    put(tmp_path, "in/a.txt", "film.mkv")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "bad.txt").write_text("film.mkv\nnone*.mkv\n")
    error = problems_of(tmp_path, "in", "x/*.mkv", "film.mkv", "@no.txt", "@empty.txt", "@bad.txt")
    assert [problem.replace(str(tmp_path), "T") for problem in error.problems] == [
        "input.paths: the folder T/in holds no film (input.suffixes: " + error.problems[0].rpartition(": ")[2],
        "input.paths: no film fits the pattern T/x/*.mkv: cannot look into T/x: No such file or directory",
        "input.paths: the list T/no.txt cannot be read: No such file or directory",
        "input.paths: the list T/empty.txt names no film",
        "T/bad.txt:2: no film fits the pattern T/none*.mkv",
    ]
    assert "input.watch" in error.hint
    jobs = find(tmp_path, "in", "x/*.mkv", "@no.txt", "gone.mkv", input={"watch": True})
    assert jobs.jobs == ()


def test_what_is_hidden_is_found_nowhere_but_can_be_named(tmp_path: Path) -> None:
    put(tmp_path, "in/.a.mkv", "in/.b.mkv.work/seg-00000.mkv", "in/.nightscale/c.mkv", "in/d.mkv")
    assert names(find(tmp_path, "in"), tmp_path) == ["in/d.mkv"]
    assert names(find(tmp_path, "in/**/*"), tmp_path) == ["in/d.mkv"]
    assert names(find(tmp_path, "in/.a.mkv"), tmp_path) == ["in/.a.mkv"]


def test_a_folder_of_results_inside_the_input_is_not_looked_into(tmp_path: Path) -> None:
    put(tmp_path, "a.mkv", "out/a.mkv", "big/a.mkv")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    overrides = [{"match": "none.mkv", "set": {"output.dir": "big"}}]
    assert names(find(tmp_path, ".", input={"overrides": overrides}), tmp_path) == ["a.mkv"]


def remember(root: Path, output: Path) -> None:
    from pipeline.journal import FileIdentity

    source = root / "source.mkv"
    source.write_bytes(b"source")
    record = FinishedRecord.now(
        root=root, output=output, source=source, source_identity=FileIdentity.of(source), config_digest="x", frames=1
    )
    source.unlink()
    remember_finished(root, record)


@pytest.mark.parametrize("out", ["in", "in/earlier", "."])
def test_a_result_of_any_earlier_run_does_not_become_an_input(tmp_path: Path, out: str) -> None:
    put(tmp_path, "in/film.mkv", f"{out}/film x2.mkv")
    remember(tmp_path / out, tmp_path / out / "film x2.mkv")
    jobs = find(tmp_path, "in", ".", output={"dir": "elsewhere"})
    assert names(jobs, tmp_path) == ["in/film.mkv"]
    assert jobs.notes == ("1 file is a result of earlier runs: passed over",) or out != "."


def test_another_film_in_the_place_of_a_result_is_an_input(tmp_path: Path) -> None:
    put(tmp_path, "in/film.mkv")
    remember(tmp_path / "in", tmp_path / "in/film.mkv")
    assert "is not the result of an earlier run (1 are)" in problems_of(tmp_path, "in").problems[0]
    put(tmp_path, "in/film.mkv", size=7)
    assert names(find(tmp_path, "in"), tmp_path) == ["in/film.mkv"]


def test_a_result_that_only_its_report_tells_of_does_not_become_an_input(tmp_path: Path) -> None:
    put(tmp_path, "in/film.mkv", "in/kept.mkv", "in/failed.mkv", "in/odd.mkv")
    reports = {"kept": {"path": "/moved/kept.mkv", "size_bytes": 1}, "failed": None}
    for stem, output in reports.items():
        (tmp_path / f"in/{stem}.mkv.report.json").write_text(json.dumps({"output": output}))
    (tmp_path / "in/odd.mkv.report.json").write_text("[" * 100_000)
    assert names(find(tmp_path, "in"), tmp_path) == ["in/failed.mkv", "in/film.mkv", "in/odd.mkv"]


def test_links_are_followed_once_and_the_same_file_is_one_film(tmp_path: Path) -> None:
    put(tmp_path, "in/b/film.mkv", "other/x.mkv")
    (tmp_path / "in/a.mkv").symlink_to("b/film.mkv")
    (tmp_path / "in/b/c.mkv").hardlink_to(tmp_path / "in/b/film.mkv")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/b/up").symlink_to("../..")
    (tmp_path / "in/self").symlink_to("self")
    (tmp_path / "in/gone.mkv").symlink_to("nowhere.mkv")
    jobs = find(tmp_path, "in", "in/b/film.mkv")
    found = names(jobs, tmp_path)
    assert [name for name in found if "x.mkv" not in name] == ["in/b/c.mkv"]
    assert len([name for name in found if "x.mkv" in name]) == 1
    assert len([note for note in jobs.notes if "is the same file as" in note]) == 3


def test_names_of_any_bytes_reach_the_process_of_the_film(tmp_path: Path) -> None:
    odd = [b"a b.mkv", b"q'\"$(x).mkv", b"l\nf.mkv", b"\xff\xfe.mkv", b"-i.mkv", b"@at.mkv", b"n" * 246 + b".mkv"]
    for name in odd:
        put(tmp_path, os.fsdecode(b"in/\xff dir/" + name))
    jobs = find(tmp_path, "in").jobs
    assert {os.fsencode(job.source.name) for job in jobs if job.source} == set(odd)
    for job in jobs:
        order = FilmOrder(config=job.config, source=job.source, index=0, count=1, interval_s=1.0, root=tmp_path)
        assert decode_order(encode_order(order)) == order
        assert job.config.output.dir == tmp_path / "out" / os.fsdecode(b"\xff dir")


def test_a_list_names_files_of_any_bytes(tmp_path: Path) -> None:
    put(tmp_path, os.fsdecode(b"\xff.mkv"), " a.mkv")
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf\xff.mkv\n a.mkv")
    assert names(find(tmp_path, "@list"), tmp_path) == [os.fsdecode(b"\xff.mkv"), " a.mkv"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("given", ["z/9.mkv", "a/10.mkv", "a/B2.mkv", "a/b1.mkv"]),
        ("name", ["z/9.mkv", "a/10.mkv", "a/b1.mkv", "a/B2.mkv"]),
        ("size", ["a/B2.mkv", "a/10.mkv", "z/9.mkv", "a/b1.mkv"]),
        ("longest", ["a/10.mkv", "z/9.mkv", "a/b1.mkv", "a/B2.mkv"]),
        ("shortest", ["z/9.mkv", "a/b1.mkv", "a/10.mkv", "a/B2.mkv"]),
    ],
)
def test_films_come_in_the_wanted_order(tmp_path: Path, order: str, expected: list[str]) -> None:
    for name, size in {"z/9.mkv": 5, "a/10.mkv": 3, "a/B2.mkv": 1, "a/b1.mkv": 6}.items():
        put(tmp_path, name, size=size)
    seconds = {"9.mkv": 10.0, "10.mkv": 99.0, "b1.mkv": 10.0}
    asked: list[Path] = []

    def duration_of(path: Path) -> float | None:
        asked.append(path)
        return seconds.get(path.name)

    config = config_of(tmp_path, ["z/9.mkv", "a/10.mkv", "a/B2.mkv", "a/b1.mkv"], input={"order": order})
    assert names(find_jobs(config, duration_of=duration_of), tmp_path) == expected
    assert len(asked) == (4 if order in {"longest", "shortest"} else 0)


def test_a_playing_time_is_asked_once_until_the_film_changes(tmp_path: Path) -> None:
    put(tmp_path, "a.mkv")
    asked: list[Path] = []
    durations = Durations(lambda path: asked.append(path) or 1.0)
    assert durations(tmp_path / "a.mkv") == durations(tmp_path / "a.mkv") == 1.0
    put(tmp_path, "a.mkv", size=9)
    assert durations(tmp_path / "a.mkv") == 1.0
    assert durations(tmp_path / "gone.mkv") is None
    assert len(asked) == 2


def test_overrides_make_a_config_for_each_film(tmp_path: Path) -> None:
    put(tmp_path, "in/S1/a.avi", "in/S1/b.mkv", "in/c.mkv")
    overrides = [
        {"match": "*.avi", "set": {"encode.quality": 20, "scale.height": 720}},
        {"match": "S1/*", "set": {"encode.quality": 30, "output.name": "{folder} {stem}"}},
        {"match": "*.xyz", "set": {"encode.options.tune": "film"}},
    ]
    jobs = find(tmp_path, "in", input={"overrides": overrides})
    told = {job.name: (job.config.encode.quality, job.config.scale.height, job.config.output.name) for job in jobs.jobs}
    assert told == {
        "a.avi": (30, 720, "{folder} {stem}"),
        "b.mkv": (30, None, "{folder} {stem}"),
        "c.mkv": (None, None, "{stem}"),
    }
    assert jobs.notes == ("input.overrides[2] fits no film (match: *.xyz)",)


def test_the_config_of_a_film_makes_that_film_again_at_the_same_place(tmp_path: Path) -> None:
    put(tmp_path, "in/S1/a.avi")
    overrides = [{"match": "S1/*", "set": {"encode.quality": 20}}]
    (job,) = find(tmp_path, "in", input={"overrides": overrides}).jobs
    (tmp_path / "again.yaml").write_text(resolved_yaml(job.config))
    (again,) = find_jobs(load_config(tmp_path / "again.yaml")).jobs
    assert again == job


def test_overrides_that_contradict_each_other_name_the_film(tmp_path: Path) -> None:
    put(tmp_path, "a.mkv")
    overrides = [{"match": "*", "set": {"scale.factor": 2}}, {"match": "a*", "set": {"scale.height": 720}}]
    error = problems_of(tmp_path, "a.mkv", input={"overrides": overrides})
    assert error.problems[0].startswith(f"{tmp_path}/a.mkv: scale.height: only one of scale.factor")


def test_folders_are_kept_below_the_folder_that_was_given(tmp_path: Path) -> None:
    put(tmp_path, "in/show/1/a.mkv", "in/b.mkv", "c/d/e.mkv")
    jobs = find(tmp_path, "in", "c/*/*.mkv", "c/d/e.mkv")
    assert [job.config.output.dir for job in jobs.jobs] == [
        tmp_path / "out",
        tmp_path / "out/show/1",
        tmp_path / "out/d",
    ]
    jobs = find(tmp_path, "in", output={"keep_folders": False})
    assert {job.config.output.dir for job in jobs.jobs} == {tmp_path / "out"}


def test_two_films_with_one_result_are_an_error_before_the_run(tmp_path: Path) -> None:
    put(tmp_path, "in/film.avi", "in/film.mkv", "in/film.mp4", "in/s/film.avi")
    error = problems_of(tmp_path, "in")
    assert error.problems == (
        f"output.name: {tmp_path}/in/film.avi and {tmp_path}/in/film.mkv would both be written to "
        f"{tmp_path}/out/film.mkv",
    )
    assert "{suffix}" in error.hint
    assert len(problems_of(tmp_path, "in", output={"container": "mkv"}).problems) == 2
    assert len(problems_of(tmp_path, "in", output={"keep_folders": False}).problems) == 2
    assert len(problems_of(tmp_path, "in", encode={"kind": "ffv1"}).problems) == 2
    assert len(problems_of(tmp_path, "in", encode={"kind": "png"}).problems) == 2
    assert len(find(tmp_path, "in", output={"name": "{stem}.{suffix}"}).jobs) == 4
    assert len(find(tmp_path, "in", encode={"kind": "null"}).jobs) == 4


def test_films_that_only_their_size_can_tell_apart_are_noted(tmp_path: Path) -> None:
    put(tmp_path, "film.avi", "film.mkv")
    jobs = find(tmp_path, ".", output={"name": "{stem}_{height}p"})
    assert jobs.notes == (
        f"{tmp_path}/film.avi and {tmp_path}/film.mkv may get the same result, {tmp_path}/out/film_{{height}}p.mkv",
    )


def test_the_synthetic_film_is_one_job() -> None:
    config = make_config({"decode": {"kind": "synthetic"}})
    (job,) = find_jobs(config).jobs
    assert (job.source, job.config) == (None, config)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "n\0"])
def test_a_result_stays_in_its_folder(name: str) -> None:
    with pytest.raises(OutputError):
        place_output(Path("/out"), name, container="png")


def test_a_name_may_be_as_long_as_a_file_name_and_no_longer() -> None:
    assert place_output(Path("/out"), "é" * 125, container="mkv").name == "é" * 125 + ".mkv"
    with pytest.raises(OutputError, match="256 bytes") as caught:
        place_output(Path("/out"), "é" * 126, container="mkv")
    assert "output.name" in caught.value.hint


def test_what_lies_beside_a_result_has_a_name_of_its_own_that_fits() -> None:
    assert place_beside(Path("/out/a.mkv"), ".report.json") == Path("/out/a.mkv.report.json")
    one, other = (place_beside(Path(f"/out/{'é' * 124}{last}.mkv"), ".report.json") for last in "ab")
    assert one != other
    assert all(len(os.fsencode(path.name)) <= 235 and path.name.endswith(".report.json") for path in (one, other))


def test_nothing_is_written_by_looking(tmp_path: Path) -> None:
    put(tmp_path, "in/a.mkv")
    before = sorted(tmp_path.rglob("*"))
    find(tmp_path, "in", ".")
    assert sorted(tmp_path.rglob("*")) == before


def test_playing_times_are_those_that_ffmpeg_says(tmp_path: Path) -> None:
    short, long = tmp_path / "-short: %d.mkv", tmp_path / os.fsdecode(b"long\xff.mkv")
    write_counter_video(tmp_path / "film.mkv", frames=12, rate=Fraction(24)).rename(short)
    write_counter_video(tmp_path / "film.mkv", frames=60, rate=Fraction(24)).rename(long)
    put(tmp_path, "none.mkv")
    durations = Durations()
    assert durations(short) == pytest.approx(0.5, abs=0.1)
    assert durations(long) == pytest.approx(2.5, abs=0.1)
    assert durations(tmp_path / "none.mkv") is None
    assert names(find(tmp_path, ".", input={"order": "longest"}), tmp_path) == [long.name, short.name, "none.mkv"]


def test_the_order_by_playing_time_needs_no_codec_in_this_process(tmp_path: Path) -> None:
    put(tmp_path, "a.mkv")
    code = (
        "import sys; from pathlib import Path; from pipeline.config.load import make_config\n"
        "from pipeline.inputs.find import find_jobs\n"
        f"jobs = find_jobs(make_config({{'input': {{'paths': [{str(tmp_path)!r}], 'order': 'shortest'}}}}))\n"
        "assert len(jobs.jobs) == 1\n"
        "print(sorted({'av', 'torch', 'numba', 'onnx', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
