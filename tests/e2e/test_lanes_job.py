"""Whole films in several lanes: the same file, bit for bit, as in one."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import av
import pytest
from helpers import media
from helpers.runs import (
    Ran,
    interrupt_twice,
    leftovers,
    run_films,
    start_program,
    wait_for_segments,
    write_config,
)

SEGMENTS: dict[str, Any] = {"output": {"segment_s": 0.3}, "encode": {"threads": 1, "preset": "ultrafast"}}
"""Eight frames each at 25 a second; the encoder's bits can depend on its threads, which follow the lanes."""


def in_lanes(capfd: pytest.CaptureFixture[str], folder: Path, film: Path, *, lanes: int, **sections: Any) -> Ran:
    own = folder / f"lanes-{lanes}"
    own.mkdir()
    return run_films(capfd, own, film, **{**SEGMENTS, **sections}, run={"lanes": lanes})


def digest(ran: Ran) -> str:
    """Of the video's packets with their times: Matroska gives every file a number of its own."""
    assert ran.code in {0, 1}, ran.err
    (path,) = (path for path in (ran.folder / "out").iterdir() if path.suffix == ".mkv")
    found = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                found.update(f"{packet.pts} {packet.dts} {packet.duration} {packet.is_keyframe} ".encode())
                found.update(bytes(packet))
    return found.hexdigest()


def damaged(path: Path) -> Path:
    """Forty frames in groups of five, with a hole in the middle of the file."""
    media.write_counter_video(path, frames=40, keyframe_interval=5, codec="mpeg4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    return path


FILMS: dict[str, Any] = {
    "b-frames": lambda path: media.write_counter_video(path, frames=45, b_frames=2, keyframe_interval=7),
    "variable rate": lambda path: media.write_vfr(path, b_frames=2),
    "damaged": damaged,
    "shorter than a segment": lambda path: media.write_counter_video(path, frames=5),
    "whole segments": lambda path: media.write_counter_video(path, frames=24, keyframe_interval=4),
    "a single frame": lambda path: media.write_counter_video(path, frames=1),
}


@pytest.mark.parametrize("kind", FILMS)
def test_the_file_does_not_depend_on_the_lanes(capfd: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    film = FILMS[kind](tmp_path / "film.mkv")
    runs = [in_lanes(capfd, tmp_path, film, lanes=lanes) for lanes in (1, 2, 3)]
    assert len({digest(ran) for ran in runs}) == 1
    assert len({ran.code for ran in runs}) == 1
    reports = [ran.report() for ran in runs]
    assert len({(report["status"], report["frames_done"], tuple(report["errors"])) for report in reports}) == 1
    assert (runs[0].code == 0) == (kind != "damaged")
    given_up = [any("one lane instead of" in line for line in report["warnings"]) for report in reports]
    assert given_up == [False, kind == "damaged", kind == "damaged"]
    assert leftovers(tmp_path / "lanes-3" / "out") == ["film.mkv"]


HDR: dict[str, Any] = {
    "encode": {"kind": "ffv1"},
    "infer": {"hdr": "curve"},
    "tile": {"max_px": 48, "overlap_px": 8},
    "scale": {"factor": 1.5},
}


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_a_film_seen_by_a_curve_depends_on_neither_lanes_nor_segments(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, transfer: int
) -> None:
    path = tmp_path / "film.mkv"
    colour = {"pixel_format": "yuv420p10le", "codec": "libx265", "matrix": 9, "primaries": 9, "transfer": transfer}
    film = media.write_counter_video(path, frames=30, keyframe_interval=7, **colour)
    runs = [in_lanes(capfd, tmp_path, film, lanes=lanes, **HDR) for lanes in (1, 3)]
    (tmp_path / "whole").mkdir()
    runs.append(in_lanes(capfd, tmp_path / "whole", film, lanes=1, **{**HDR, "output": {"segment_s": 100}}))
    assert len({digest(ran) for ran in runs}) == 1
    (choice,) = (choice for choice in runs[0].report()["choices"] if choice["part"] == "hdr")
    assert choice["chosen"] == "curve"


def test_what_the_network_sees_of_hdr_changes_nothing_of_another_film(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=12)
    digests = set()
    for hdr in ("auto", "direct", "curve"):
        (tmp_path / hdr).mkdir()
        ran = in_lanes(capfd, tmp_path / hdr, film, lanes=1, infer={"hdr": hdr})
        digests.add(digest(ran))
        assert "hdr" not in {choice["part"] for choice in ran.report()["choices"]}
    assert len(digests) == 1


def test_a_film_that_ends_too_early_says_so_in_any_number_of_lanes(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = media.write_counter_video(tmp_path / "whole.mkv", frames=60, keyframe_interval=5)
    film = tmp_path / "film.mkv"
    film.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    one, three = (in_lanes(capfd, tmp_path, film, lanes=lanes) for lanes in (1, 3))
    assert digest(one) == digest(three)
    assert one.report()["errors"] == three.report()["errors"] != []


def test_an_empty_film_is_an_error_in_any_number_of_lanes(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for lanes in (1, 3):
        folder = tmp_path / str(lanes)
        folder.mkdir()
        synthetic = {"kind": "synthetic", "synthetic": {"frame_count": 0}}
        ran = run_films(capfd, folder, decode=synthetic, run={"lanes": lanes})
        assert ran.code == 1
        assert "no frame could be decoded" in ran.err


def test_the_report_tells_of_the_lanes(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=40, keyframe_interval=4)
    report = in_lanes(capfd, tmp_path, film, lanes=2).report()
    assert [stage["name"] for stage in report["stages"]] == ["decode", "tile", "upscale", "stitch", "encode"]
    assert report["stages"][-1]["items_in"] == 40
    (choice,) = (choice for choice in report["choices"] if choice["part"] == "lanes")
    assert (choice["chosen"], choice["reason"]) == ("2", "as the config says")
    names = [stage["name"] for lane in report["lanes"] for stage in lane["stages"]]
    assert "decode[0]" in names and "encode[1]" in names


def test_memory_does_not_grow_with_the_film_in_any_number_of_lanes(tmp_path: Path) -> None:
    def peak_bytes(frame_count: int) -> int:
        folder = tmp_path / str(frame_count)
        folder.mkdir()
        film = {"height": 120, "width": 160, "frame_count": frame_count}
        config = write_config(
            folder, decode={"kind": "synthetic", "synthetic": film}, output={"segment_s": 2}, run={"lanes": 2}
        )
        with start_program("run", str(config)) as program:
            _, err = program.communicate(timeout=100)
        assert program.returncode == 0, err
        (report,) = folder.rglob("*.report.json")
        return int(json.loads(report.read_text())["peak_rss_bytes"])

    assert peak_bytes(2000) <= 1.1 * peak_bytes(200)


def test_a_second_signal_ends_all_lanes_and_keeps_what_is_whole(tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=400, height=180, width=320, keyframe_interval=10)
    config = write_config(
        tmp_path,
        film,
        infer={"model": "realesr-animevideov3", "backend": "auto"},
        output={"segment_s": 1},
        run={"lanes": 2},
    )
    with start_program("run", str(config)) as program:
        try:
            wait_for_segments(tmp_path / "out", program, count=2)
            _, err = interrupt_twice(program, signal.SIGINT)
        finally:
            program.kill()
    assert program.returncode == 130, err
    kept = leftovers(tmp_path / "out")
    assert all(name.startswith(".film.mkv.work/") and not name.endswith(".part") for name in kept), kept
