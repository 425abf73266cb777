"""The soak tool sees what it is there to see: another film, a stray process, a leftover, a promise that is broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import media
from helpers.child_scripts import is_alive, wait_until
from helpers.tool_modules import load_tool

soak = load_tool("soak")
runs = load_tool("soak_runs")
scenarios = load_tool("soak_scenarios")
truth = load_tool("soak_truth")


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = runs.Place(tmp_path, (tmp_path / "film.mkv",))
    made.out.mkdir()
    yield made
    made.end_all()


def test_a_film_is_itself_and_no_other(tmp_path: Path) -> None:
    film = truth.make_film(tmp_path / "a.mkv", frame_count=12, height=32, width=32, seed=1)
    same = truth.make_film(tmp_path / "b.mkv", frame_count=12, height=32, width=32, seed=1)
    other = truth.make_film(tmp_path / "c.mkv", frame_count=12, height=32, width=32, seed=2)
    uneven = truth.make_film(tmp_path / "d.mp4", frame_count=12, height=32, width=32, seed=1, is_even=False)
    wanted = truth.fingerprint(film)
    assert wanted["frames"] == "12" and sum(name.startswith("packets") for name in wanted) == 3
    assert truth.differing_parts(truth.fingerprint(same), wanted) == []
    found = " ".join(truth.differing_parts(truth.fingerprint(other), wanted))
    assert "pictures" in found and "packets of stream 1" in found and "times" not in found
    assert "times" in " ".join(truth.differing_parts(truth.fingerprint(uneven), wanted))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "c.mkv", "d.mp4"]


def test_a_late_or_a_lost_frame_is_seen(tmp_path: Path) -> None:
    wanted = truth.fingerprint(media.write_counter_video(tmp_path / "a.mkv", frames=9))
    fewer = truth.fingerprint(media.write_counter_video(tmp_path / "b.mkv", frames=8))
    assert "frames: 8, not 9" in truth.differing_parts(fewer, wanted)


def test_a_result_that_is_no_film_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match=r"a\.mkv cannot be read"):
        truth.fingerprint(tmp_path / "a.mkv")


def test_processes_are_found_however_they_descend(place: Any) -> None:
    """Also those of a session of their own whose parent is gone."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=2, start_new_session=True).pid)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, runs.MARK: place.mark},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    stray = int(done.stdout)
    try:
        assert place.processes() == [stray]
        place.end_all()
        assert wait_until(lambda: not is_alive(stray))
        place.expect_alone()
    finally:
        if is_alive(stray):
            os.kill(stray, signal.SIGKILL)


def test_only_results_and_what_runs_keep_may_be_left(place: Any) -> None:
    kept = [".nightscale/runs/1/status.json", ".nightscale/finished/0.json", "film.mkv", "film.mkv.report.json"]
    wrong = [".film.mkv.work/seg-00000.mp4", ".film.mkv.report.json.7.part", ".nightscale/finished/.0.json.7.part"]
    for name in (*kept, *wrong):
        path = place.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert place.leftovers() == [
        ".film.mkv.report.json.7.part",
        ".film.mkv.work",
        ".nightscale/finished/.0.json.7.part",
    ]


def test_a_broken_promise_is_told_with_what_brings_it_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken_promise(scene: Any) -> None:
        raise runs.SoakFailure("it was not kept")

    monkeypatch.setenv(soak._INSIDE, "cannot mount")
    monkeypatch.setattr(soak, "SCENARIOS", (scenarios.Scenario(act=broken_promise, film_count=0),))
    assert soak.main(["--seed", "5", "--only", "broken-promise", "--number", "3"]) == 1
    said = capsys.readouterr().out
    assert "--seed 5 --only broken-promise --number 3" in said and said.count("it was not kept") == 2


def test_nothing_tried_is_no_success(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As where all that is asked for needs to mount something."""
    monkeypatch.setenv(soak._INSIDE, "cannot mount")
    assert soak.main(["--only", "disk-full", "--number", "1"]) == 2
    assert "left out" in capsys.readouterr().out
