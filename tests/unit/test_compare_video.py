"""Two films compared: the figures are ffmpeg's, what differs is found, said and shown, and bad input is one error."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.browser import FLAWS, open_browser, require_browser
from helpers.media import make_counter_frame, real_film, run_ffmpeg, write_counter_video, write_interlaced, write_text

from pipeline.assembly.png_file import decode_png
from tools import compare_video, compare_vmaf
from tools.compare_films import compare
from tools.compare_pairs import PairedFilms
from tools.compare_vmaf import NoVmaf, measure_vmaf
from tools.compare_worst import find_window

PRINTED_DB = 0.006
"""ffmpeg's log of frames has two decimals of PSNR."""
PRINTED_SSIM = 2e-6
"""And six of SSIM; its own sums are float32 in part."""


def film(path: Path, *, pixel_format: str = "yuv420p", crf: int = 0, frames: int = 8, name: str = "bikes") -> Path:
    """The beginning of a real film, in x264."""
    codec = ["-c:v", "ffv1"] if pixel_format in ("gbrp", "gray") else ["-c:v", "libx264", "-preset", "ultrafast"]
    quality = [] if "ffv1" in codec else ["-crf", str(crf)] if crf else ["-qp", "0"]
    run_ffmpeg(
        *("-i", str(real_film(name)), "-frames:v", str(frames), "-an", "-vf", f"scale=318:134,format={pixel_format}"),
        *(*codec, *quality, str(path)),
    )
    return path


def blurred(source: Path, path: Path, *, pixel_format: str) -> Path:
    stored = {"gbrp": "bgr0"}.get(pixel_format, pixel_format)  # what ffv1 has of it
    run_ffmpeg("-i", str(source), "-vf", f"gblur=1.5,format={stored}", "-c:v", "ffv1", str(path))
    return path


def damaged(source: Path, path: Path, *, frame: int, x: int, y: int) -> Path:
    """A copy with a grey square in one frame."""
    box = f"drawbox=x={x}:y={y}:w=40:h=30:color=gray:t=fill:enable='eq(n,{frame})'"
    run_ffmpeg("-i", str(source), "-vf", box, "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast", str(path))
    return path


def logged(name: str, a: Path, b: Path, *, pixel_format: str, folder: Path) -> list[dict[str, float]]:
    """What an ffmpeg filter says of every frame."""
    log = folder / f"{name}.log"
    planar = f"format={pixel_format}"  # ffv1 gives packed RGB, of which the filters would make Y'CbCr
    graph = f"[0:v]{planar}[b];[1:v]{planar}[a];[b][a]{name}=stats_file={log}"
    run_ffmpeg("-i", str(b), "-i", str(a), "-lavfi", graph, "-f", "null", "-")
    lines = log.read_text().splitlines()
    return [{key: float(value) for key, value in re.findall(r"(\S+?):(\S+)", line)} for line in lines]


def run(*arguments: Any) -> int:
    return compare_video.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "gbrp", "gray"])
def test_psnr_and_ssim_are_those_of_ffmpeg(pixel_format: str, tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", pixel_format=pixel_format)
    b = blurred(a, tmp_path / "b.mkv", pixel_format=pixel_format)
    found = compare(PairedFilms(a, b), wants_vmaf=False)
    psnr, ssim = (logged(name, a, b, pixel_format=pixel_format, folder=tmp_path) for name in ("psnr", "ssim"))
    assert len(found.frames) == len(psnr) == len(ssim) == 8
    planes = ("r", "g", "b") if pixel_format == "gbrp" else ("y",) if pixel_format == "gray" else ("y", "u", "v")
    for frame, of_psnr, of_ssim in zip(found.frames, psnr, ssim, strict=True):
        assert frame.psnr_db == pytest.approx(of_psnr["psnr_avg"], abs=PRINTED_DB)
        assert frame.ssim_all == pytest.approx(of_ssim["All"], abs=PRINTED_SSIM)
        for plane, value, likeness in zip(planes, frame.psnr_planes_db, frame.ssim, strict=True):
            assert value == pytest.approx(of_psnr[f"psnr_{plane}"], abs=PRINTED_DB)
            assert likeness == pytest.approx(of_ssim[plane.upper()], abs=PRINTED_SSIM)
    errors = [entry["mse_avg"] for entry in psnr]
    assert found.figures.psnr_db == pytest.approx(
        10 * math.log10(found.frames[0].peak ** 2 / float(np.mean(errors))), abs=0.02
    )


def test_equal_films_are_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_counter_video(tmp_path / "a.mkv")
    assert run(a, a, "--json", tmp_path / "c.json", "--min-psnr", 90, "--min-frame-ssim", 1, "--no-vmaf") == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["psnr_db"] is None and found["ssim"] == 1 and found["worst"] == [] and found["failures"] == []
    assert "no difference" in capsys.readouterr().out


def test_more_bits_of_the_same_picture_are_no_difference(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames=2)
    run_ffmpeg("-i", str(a), "-vf", "format=yuv420p10le", "-c:v", "ffv1", str(tmp_path / "b.mkv"))
    found = compare(PairedFilms(a, tmp_path / "b.mkv"), wants_vmaf=False)
    assert math.isinf(found.figures.psnr_db) and found.frames[0].peak == 1023


def test_a_missing_frame_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_counter_video(tmp_path / "a.mkv", frames=12)
    b = write_counter_video(tmp_path / "b.mkv", frames=11)
    assert run(a, b, "--no-vmaf") == 1
    assert "A has 12 frames, B 11" in capsys.readouterr().err


def test_other_times_are_said_and_those_of_a_coarser_clock_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = write_counter_video(tmp_path / "a.mp4", frames=12, rate=Fraction(24000, 1001))
    coarse = write_counter_video(tmp_path / "b.mkv", frames=12, rate=Fraction(24000, 1001))
    assert run(fine, coarse, "--no-vmaf") == 0
    pts = [round(1001 * i / 24) + (20 if i > 6 else 0) for i in range(12)]
    late = write_counter_video(tmp_path / "c.mkv", frames=12, pts=pts, time_base=Fraction(1, 1000))
    assert run(fine, late, "--no-vmaf") == 1
    assert "frame 7 is shown at 0.2920 s in A and at 0.3120 s in B" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "words"),
    [("psnr", "PSNR is"), ("frame-psnr", "PSNR of frame"), ("ssim", "SSIM is"), ("frame-ssim", "SSIM of frame")],
)
def test_each_limit_decides(limit: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = film(tmp_path / "a.mkv", frames=3), film(tmp_path / "b.mkv", frames=3, crf=40)
    high, low = ("60", "10") if "psnr" in limit else ("0.9999", "0.1")
    assert run(a, b, "--no-vmaf", f"--min-{limit}", low) == 0
    assert run(a, b, "--no-vmaf", f"--min-{limit}", high) == 1
    said = capsys.readouterr().err
    assert words in said and f"{float(high):g} was asked for" in said


def test_other_sizes_are_refused_with_advice_and_scaled_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = film(tmp_path / "a.mkv", frames=2)
    run_ffmpeg("-i", str(a), "-vf", "scale=636:268:flags=lanczos,format=gbrp", "-c:v", "ffv1", str(tmp_path / "b.mkv"))
    assert run(a, tmp_path / "b.mkv") == 2
    said = capsys.readouterr().err
    assert "A has 318x134 420 bt601 limited range, B 636x268 RGB full range" in said and "--scale" in said
    assert run(a, tmp_path / "b.mkv", "--scale", "--no-vmaf", "--min-frame-psnr", 33) == 0
    assert "brought to A's size" in capsys.readouterr().out


def bad_text(folder: Path) -> Path:
    return write_text(folder / "b.mkv")


def bad_missing(folder: Path) -> Path:
    return folder / "nothing.mkv"


def bad_interlaced(folder: Path) -> Path:
    return write_interlaced(folder / "b.mkv")


def bad_small(folder: Path) -> Path:
    return write_counter_video(folder / "b.mkv", height=8, width=16)


@pytest.mark.parametrize("make", [bad_text, bad_missing, bad_interlaced, bad_small])
def test_bad_input_is_one_error(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_counter_video(tmp_path / "a.mkv")
    b = make(tmp_path)
    assert run(b if make is bad_small else a, b) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("error:") == 1 and str(b) in said.err


def test_a_result_that_cannot_be_written_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_counter_video(tmp_path / "a.mkv")
    assert run(a, a, "--no-vmaf", "--json", tmp_path / "no" / "c.json") == 2
    assert capsys.readouterr().err.startswith("error: cannot write")


def test_the_worst_frame_is_shown_where_it_differs(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames=8, name="bigbuckbunny")
    b = damaged(a, tmp_path / "b.mkv", frame=5, x=200, y=60)
    assert run(a, b, "--no-vmaf", "--png", tmp_path / "png", "--json", tmp_path / "c.json") == 0
    assert json.loads((tmp_path / "c.json").read_text())["worst"] == [5]
    [png] = (tmp_path / "png").iterdir()
    assert png.name == "worst-000005.png"
    picture = decode_png(png.read_bytes()).astype(int)
    assert picture.shape == (134, 3 * 318 + 2 * 4, 3)
    before, after, difference = picture[:, :318], picture[:, 322:640], picture[:, 644:]
    assert np.abs(before - after)[:, :190].max() <= 8, "beside the square nothing differs"
    assert np.abs(before - after)[62:88, 204:236].mean() > 20
    assert difference[62:88, 204:236].max() == 255 and difference[:, :190].max() < 40


def test_worst_frames_are_apart(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mkv", frames=60)
    found = compare(PairedFilms(a, film(tmp_path / "b.mkv", frames=60, crf=40)), wants_vmaf=False)
    kept = [frame.figures for frame in found.worst]
    assert len(kept) >= 2
    assert min(frame.psnr_db for frame in found.frames) == kept[0].psnr_db
    indices = sorted(frame.index for frame in kept)
    assert min(np.diff(indices)) >= 12


def test_the_window_is_where_the_difference_is() -> None:
    difference = np.zeros((100, 200), np.int16)
    difference[70:80, 150:160] = 9
    top, left = find_window(difference, height=20, width=30)
    assert top <= 70 and top + 20 >= 80 and left <= 150 and left + 30 >= 160
    assert find_window(difference, height=500, width=500) == (0, 0)


def test_pictures_are_compared_as_films_are(tmp_path: Path) -> None:
    for name, error in (("a", 0), ("b", 3)):
        (tmp_path / name).mkdir()
        for i in range(3):
            frame = make_counter_frame(i, height=64, width=96, pixel_format="rgb24", full_range=True)
            codes = (frame.to_ndarray().clip(10, 240) + error).astype(np.uint8)
            av.VideoFrame.from_ndarray(codes, format="rgb24").to_image().save(tmp_path / name / f"{i:03d}.png")
    found = compare(PairedFilms(tmp_path / "a" / "%03d.png", tmp_path / "b" / "%03d.png"))
    assert found.count_a == found.count_b == 3 and "pictures" in found.no_vmaf
    assert [frame.mse for frame in found.frames] == [(9.0, 9.0, 9.0)] * 3


def has_vmaf() -> bool:
    return compare_vmaf.has_libvmaf(compare_vmaf.find_ffmpeg().path)


def test_vmaf_is_measured_where_ffmpeg_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_vmaf():
        pytest.skip("this ffmpeg has no libvmaf")
    odd = tmp_path / "a:b,c'd[e]"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    a = film(tmp_path / "a.mkv", frames=4)
    b = film(tmp_path / "b.mkv", frames=4, crf=40)
    assert min(measure_vmaf(PairedFilms(a, a), frame_count=4, threads=1)) > 90
    found = compare(PairedFilms(a, b))
    assert found.no_vmaf == "" and found.figures.vmaf is not None and 5 < found.figures.vmaf < 80
    assert all(frame.vmaf is not None for frame in found.frames)


def test_without_libvmaf_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_vmaf, "has_libvmaf", lambda program: False)
    a = write_counter_video(tmp_path / "a.mkv")
    with pytest.raises(NoVmaf, match="built without libvmaf"):
        measure_vmaf(PairedFilms(a, a), frame_count=12, threads=1)
    assert run(a, a) == 0
    assert "not measured" in capsys.readouterr().out
    assert run(a, a, "--min-vmaf", 80) == 1, "what was asked for and not measured is not reached"
    assert "VMAF was not measured" in capsys.readouterr().err


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_can_be_read_by_day_and_by_night(width: int, tmp_path: Path) -> None:
    path = require_browser()
    a = film(tmp_path / "a.mkv", frames=30, name="bigbuckbunny")
    b = film(tmp_path / "<b & c>.mkv", frames=29, name="bigbuckbunny", crf=38)
    page = tmp_path / "page.html"
    assert run(a, b, "--no-vmaf", "--html", page, "--min-frame-psnr", 36) == 1
    assert not re.search(r'(src|href)="(?!data:image/png)', page.read_text()) and "<script" not in page.read_text()
    with open_browser(path, folder=tmp_path) as browser:
        for is_dark in (False, True):
            browser.open(page, width=width, is_dark=is_dark)
            assert browser.evaluate(FLAWS) == []
            assert browser.evaluate("document.querySelector('h1').textContent") == "<b & c>.mkv compared with a.mkv"
            assert browser.evaluate("document.querySelectorAll('svg polyline').length") == 2
            assert "A has 30 frames, B 29" in browser.evaluate("document.body.textContent")
