"""The report says everything, survives JSON, and is written whole."""

from __future__ import annotations

import enum
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.frames import ColourTags, SampleFormat
from pipeline.graph.metrics import ChannelSnapshot, GraphSnapshot, StageSnapshot, Verdict
from pipeline.host import available_memory_bytes, git_revision, installed_version, probe_host, probe_versions
from pipeline.media import MediaInfo, VideoTrack
from pipeline.show.report import Choice, build_report, json_native, write_report

STARTED = datetime(2031, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=2)))


def media() -> MediaInfo:
    track = VideoTrack(
        index=0, codec="h264", height=272, width=640, pixel_format="yuv420p", format=SampleFormat(matrix="bt601"),
        tags=ColourTags(), time_base=Fraction(1, 12800), average_rate=Fraction(30000, 1001), start_pts=0,
        duration_s=10.0, frame_count_from_header=250,
    )  # fmt: skip
    return MediaInfo(
        path=Path("in/film.mp4"),
        container="mp4",
        size_bytes=1000,
        start_s=0.0,
        duration_s=10.0,
        video=track,
        streams=(),
    )


def graph() -> GraphSnapshot:
    stage = StageSnapshot(
        name="infer", state="done", items_in=8, items_out=8, elapsed_s=10.0, wait_in_s=1.0, wait_out_s=2.0
    )
    channel = ChannelSnapshot(
        name="infer->encode", capacity=4, depth=0, peak=3, sent=8, received=8, occupancy=0.5, full=0.25
    )
    return GraphSnapshot(elapsed_s=10.0, stages=(stage, stage), channels=(channel,), pool_bytes=4096)


def report(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "status": "done",
        "started_at": STARTED,
        "ended_at": STARTED + timedelta(seconds=20),
        "elapsed_s": 20.0,
        "input_path": Path("in/film.mp4"),
        "media": media(),
        "output": None,
        "config": {"tile": {"overlap_px": 16}, "output": {"dir": Path("out")}},
        "choices": [Choice(part="engine", chosen="openvino", reason="no GPU was found")],
        "engine": {"model": "mine", "files": [{"path": Path("/nets/mine.pth"), "sha256": "aa"}]},
        "tiles": {"count": np.int64(6), "starts": np.arange(3)},
        "graph": graph(),
        "verdict": Verdict(stage="infer", load=0.7, text="infer limits the run."),
        "frames_done": 250,
        "frames_resumed": 50,
        "warnings": ("no colour tags",),
        "verification": {"frames": 250, "is_whole": np.bool_(True)},
    }
    return build_report(**(values | changes))  # type: ignore[arg-type]


def test_a_report_survives_being_written_and_read(tmp_path: Path) -> None:
    built = report()
    write_report(tmp_path / "report.json", built)
    assert json.loads((tmp_path / "report.json").read_text(encoding="ascii")) == built
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_report_says_what_was_done_and_how_fast() -> None:
    built = report()
    assert built["schema_version"] == 1
    assert built["started_at"] == "2031-01-02T01:04:05.678+00:00"
    assert built["fps"] == 10.0
    assert built["choices"] == [{"part": "engine", "chosen": "openvino", "reason": "no GPU was found"}]
    assert built["engine"] == {"model": "mine", "files": [{"path": "/nets/mine.pth", "sha256": "aa"}]}
    assert built["tiles"] == {"count": 6, "starts": [0, 1, 2]}
    assert built["config"] == {"tile": {"overlap_px": 16}, "output": {"dir": "out"}}
    assert built["verification"] == {"frames": 250, "is_whole": True}
    assert built["warnings"] == ["no colour tags"]
    film = built["input"]["media"]["video"]  # type: ignore[index]
    assert (film["average_rate"], film["time_base"], film["height"]) == ("30000/1001", "1/12800", 272)


def test_a_report_holds_the_figures_of_every_stage_and_channel() -> None:
    built = report()
    stages, channels = built["stages"], built["channels"]
    assert isinstance(stages, list) and isinstance(channels, list)
    assert len(stages) == 2
    expected = {"name": "infer", "busy_s": 7.0, "wait_in_s": 1.0, "wait_out_s": 2.0, "wait_buffer_s": 0.0, "load": 0.7}
    assert expected.items() <= stages[0].items()
    assert {"name": "infer->encode", "capacity": 4, "peak": 3, "occupancy": 0.5}.items() <= channels[0].items()
    assert built["pool_bytes"] == 4096


def test_a_report_says_on_what_it_ran() -> None:
    built = report()
    host, versions = built["host"], built["versions"]
    assert isinstance(host, dict) and isinstance(versions, dict)
    assert 1 <= host["cpu_count_usable"] <= host["cpu_count"]
    assert host["memory_bytes"] > built["peak_rss_bytes"] > 1_000_000  # type: ignore[operator]
    assert versions["numpy"] == np.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions["libavcodec"])
    assert versions["ffmpeg_program"] is None


def test_available_memory_is_a_part_of_the_machines() -> None:
    assert 1_000_000 < available_memory_bytes() <= probe_host()["memory_bytes"]  # type: ignore[operator]


def test_a_job_that_never_ran_has_a_report_too() -> None:
    built = report(
        status="failed", media=None, graph=None, verdict=None, tiles=None, verification=None, elapsed_s=0.0,
        frames_done=0, frames_resumed=0, errors=("no such file",),
    )  # fmt: skip
    assert (built["fps"], built["stages"], built["verdict"], built["errors"]) == (0.0, [], None, ["no such file"])


def test_the_output_is_reported_with_its_size(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(b"12345")
    assert report(output=film)["output"] == {"path": str(film), "size_bytes": 5}
    assert report(output=tmp_path / "gone")["output"] == {"path": str(tmp_path / "gone"), "size_bytes": None}


def test_a_name_of_bytes_that_are_no_text_survives(tmp_path: Path) -> None:
    name = "film\udcff.mp4"
    write_report(tmp_path / "report.json", report(input_path=Path(name)))
    assert json.loads((tmp_path / "report.json").read_bytes())["input"]["path"] == name


def test_a_report_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "report.json"
    with pytest.raises(OutputError, match="No such file") as caught:
        write_report(path, report())
    assert caught.value.path == path


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "native"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (np.float32(0.5), 0.5),
        (np.array([[1, 2]], dtype=np.uint8), [[1, 2]]),
        (Fraction(25), "25"),
        (Colour.RED, "red"),
        ({2, 1}, [1, 2]),
        ((1, (2,)), [1, [2]]),
        ({1: Path("a/b")}, {"1": "a/b"}),
        (datetime(2031, 1, 1, tzinfo=UTC).date(), "2031-01-01"),
        (True, True),
    ],
)
def test_values_become_what_json_has(value: object, native: object) -> None:
    result = json_native(value)
    assert result == native
    assert type(result) is type(native)


def test_a_value_without_json_form_is_named_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"report\.config\.a\[1\]: bytes has no JSON form"):
        report(config={"a": [0, b"x"]})


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        report(started_at=datetime(2031, 1, 1))


def program(folder: Path, *, script: str) -> Path:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    path.chmod(0o755)
    return path


def test_the_ffmpeg_program_is_asked_for_its_version(tmp_path: Path) -> None:
    asked = program(tmp_path, script='[ "$1" = -version ] && printf "ffmpeg version 7.1\\nmore\\n"')
    assert probe_versions(ffmpeg=asked)["ffmpeg_program"] == "ffmpeg version 7.1"


@pytest.mark.parametrize("script", ["exit 1", "true"])
def test_an_ffmpeg_program_that_says_nothing_is_no_error(tmp_path: Path, script: str) -> None:
    assert probe_versions(ffmpeg=program(tmp_path, script=script))["ffmpeg_program"] is None
    assert probe_versions(ffmpeg=tmp_path / "gone")["ffmpeg_program"] is None


def test_a_distribution_that_is_not_installed_has_no_version() -> None:
    assert installed_version("no-such-distribution-of-nightscale") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_that_of_the_checkout_and_says_if_it_was_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_revision(tmp_path) is None
    git("init", "-q")
    assert git_revision(tmp_path) is None, "no commit yet"
    (tmp_path / "a").write_text("1", encoding="ascii")
    git("add", "a")
    git("commit", "-qm", "x")
    head = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == head
    (tmp_path / "a").write_text("22", encoding="ascii")
    assert git_revision(tmp_path) == f"{head}-dirty"
    (tmp_path / "installed").mkdir()
    assert git_revision(tmp_path / "installed") is None, "a folder inside somebody else's repository"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None
