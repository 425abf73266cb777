"""Whatever is wrong: one clear error, the right exit code, no traceback, and no file under a final name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import media
from helpers.runs import leftovers, run_films

Builder = Callable[[Path], Path]


def missing(folder: Path) -> Path:
    return folder / "nowhere.mkv"


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def headless_mp4(folder: Path) -> Path:
    whole = media.write_counter_video(folder / "whole.mp4", frames=30)
    path = media.truncate_copy(whole, folder / "cut.mp4", fraction=0.5)
    whole.unlink()
    return path


def headless_webm(folder: Path) -> Path:
    whole = media.write_counter_video(folder / "whole.webm", frames=10, codec="libvpx-vp9")
    path = folder / "cut.webm"
    path.write_bytes(whole.read_bytes()[:358])  # within the description of the track
    whole.unlink()
    return path


FILMS: dict[str, tuple[Builder, str]] = {
    "missing": (missing, "does not exist"),
    "empty": (empty, "empty"),
    "text": (lambda folder: media.write_text(folder / "text.mp4"), "not a media file"),
    "audio only": (lambda folder: media.write_audio_only(folder / "sound.mp4"), "no video"),
    "cover only": (lambda folder: media.write_cover_only(folder / "cover.mp4"), "no video"),
    "no frames": (lambda folder: media.write_no_frames(folder / "none.avi"), "frame"),
    "cut mp4": (headless_mp4, "not a media file"),
    "cut webm": (headless_webm, "cut off or broken"),
    "interlaced": (lambda folder: media.write_interlaced(folder / "fields.mkv"), "interlaced"),
}


@pytest.mark.parametrize("case", FILMS)
def test_a_film_that_cannot_be_upscaled(capfd: pytest.CaptureFixture[str], tmp_path: Path, case: str) -> None:
    build, words = FILMS[case]
    film = build(tmp_path)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 1, ran.err
    assert ran.outputs == []
    assert len(ran.errors) == 1, ran.err
    assert film.name in ran.errors[0] and words in ran.errors[0].lower()
    assert leftovers(tmp_path / "out") == []


CONFIGS: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown key": ({"tile": {"overlap": 8}}, 2, "tile.overlap"),
    "out of range": ({"infer": {"batch_tiles": 0}}, 2, "infer.batch_tiles"),
    "unknown model": ({"infer": {"model": "realesrgan"}}, 2, "realesrgan"),
    "bad preset": ({"encode": {"kind": "libx264", "preset": "warp"}}, 2, "warp"),
    "bad quality": ({"encode": {"kind": "libx264", "quality": 99}}, 2, "encode.quality"),
    "bad option": ({"encode": {"kind": "libx264", "options": {"x264-params": "no-such-thing=1"}}}, 2, "no-such-thing"),
    "impossible format": ({"encode": {"kind": "libsvtav1", "chroma": "444"}}, 2, "libsvtav1"),
    "container cannot hold": ({"encode": {"kind": "ffv1"}, "output": {"container": "mp4"}}, 2, "ffv1"),
    "overlap too large": ({"tile": {"max_px": 32, "overlap_px": 31}}, 2, "tile.overlap_px"),
    "precision": ({"infer": {"model": "realesr-animevideov3", "backend": "openvino", "precision": "fp16"}}, 2, "fp16"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_setting_that_cannot_work(capfd: pytest.CaptureFixture[str], tmp_path: Path, case: str) -> None:
    sections, code, words = CONFIGS[case]
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    ran = run_films(capfd, tmp_path, film, **sections)
    assert ran.code == code, ran.err
    assert len(ran.errors) == 1 and words in ran.err, ran.err
    assert leftovers(tmp_path / "out") == []


def test_an_existing_result_is_not_replaced_unless_asked(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    (tmp_path / "out").mkdir()
    old = tmp_path / "out" / "film.mkv"
    old.write_bytes(b"precious")
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 1 and "output.overwrite" in ran.err
    assert old.read_bytes() == b"precious"
    ran = run_films(capfd, tmp_path, film, output={"overwrite": True})
    assert ran.code == 0, ran.err
    assert media.video_counters(old) == [0, 1]


def test_the_input_is_never_replaced(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    before = film.read_bytes()
    ran = run_films(capfd, tmp_path, film, output={"dir": ".", "overwrite": True})
    assert ran.code == 1 and "replace the input" in ran.err
    assert film.read_bytes() == before


def test_a_result_folder_that_cannot_be_made(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    (tmp_path / "file").write_text("not a folder")
    ran = run_films(capfd, tmp_path, film, output={"dir": "file/out"})
    assert ran.code == 1
    assert len(ran.errors) == 1 and "cannot make" in ran.errors[0]


def test_without_ffmpeg_nothing_starts(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imageio_ffmpeg

    def absent() -> str:
        raise RuntimeError("no ffmpeg exe")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", absent)
    film = media.write_counter_video(tmp_path / "film.mkv", frames=2)
    ran = run_films(capfd, tmp_path, film)
    assert ran.code == 3, ran.err
    assert len(ran.errors) == 1 and "ffmpeg" in ran.errors[0]
    assert leftovers(tmp_path / "out") == []
