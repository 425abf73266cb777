"""A preview: the frame that is on the screen at that time, as a run makes it, on a page that can be used."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import FLAWS, Browser, open_browser, require_browser
from helpers.media import (
    VFR_PTS,
    read_counter,
    write_clock_set_back,
    write_counter_video,
    write_interlaced,
    write_late_start,
    write_text,
    write_vfr,
    write_without_timestamps,
)

from pipeline.assembly.png_file import decode_png
from pipeline.config.load import load_config
from pipeline.decode import open_decoder
from pipeline.errors import MediaError
from pipeline.plan import JobPlan, plan_film, probe_film
from tools import preview
from tools.preview_frame import frame_at
from tools.preview_variant import rgb_of, upscale

ROOT = Path(__file__).parents[2]
QUICK = ("infer.model=nearest-x2", "infer.backend=resize", "scale.factor=2")


def planned(film: Path, *overrides: str) -> JobPlan:
    config = load_config(
        ROOT / "configs/demo.yaml", [f"input.paths=[{film}]", "encode.kind=libx264", *QUICK, *preview.OWN, *overrides]
    )
    return plan_film(config, probe_film(config, film))


def counter_at(film: Path, time_s: float, *overrides: str) -> int:
    return read_counter(frame_at(planned(film, *overrides), time_s=time_s)[0])


def run(film: Path, *arguments: Any) -> int:
    words = [ROOT / "configs/demo.yaml", "--set", f"input.paths=[{film}]", "--set", "scale.factor=2", *arguments]
    return preview.main([str(word) for word in words])


def test_the_frame_is_the_one_on_the_screen(tmp_path: Path) -> None:
    film = write_counter_video(tmp_path / "a.mp4", frames=60, b_frames=2, keyframe_interval=12)
    for time_s, index in ((0, 0), (0.039, 0), (0.04, 1), (1.0, 25), (1.239, 30), (2.36, 59), (2.399, 59)):
        assert counter_at(film, time_s) == index


def test_each_frame_of_variable_rate_stays_until_the_next(tmp_path: Path) -> None:
    film = write_vfr(tmp_path / "a.mkv", b_frames=2)
    for index, (start, stop) in enumerate(zip(VFR_PTS, [*VFR_PTS[1:], 1001], strict=True)):
        assert counter_at(film, start / 1000) == index
        assert counter_at(film, (stop - 1) / 1000) == index


def test_time_counts_from_the_first_frame(tmp_path: Path) -> None:
    film = write_late_start(tmp_path / "a.mkv")
    frame, found_s = frame_at(planned(film), time_s=0.085)
    assert read_counter(frame) == 2 and found_s == pytest.approx(0.08)


@pytest.mark.parametrize("time_s", [0.5, 100.0])
def test_a_time_beyond_the_end_is_one_error(time_s: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_counter_video(tmp_path / "a.mp4", frames=10)
    assert run(film, "--at", time_s, "--out", tmp_path / "p.html") == 1
    assert f"has no frame at {time_s:.3f} s" in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()


def test_films_without_times_are_counted(tmp_path: Path) -> None:
    film = write_without_timestamps(tmp_path / "a.h264")
    assert counter_at(film, 0.2) == 5
    with pytest.raises(MediaError, match="no frame at"):
        frame_at(planned(film), time_s=5)


def test_a_transport_stream_that_begins_behind_its_clock_is_read(tmp_path: Path) -> None:
    film = write_counter_video(
        tmp_path / "a.ts", frames=40, keyframe_interval=10, b_frames=2, container_format="mpegts"
    )
    assert [counter_at(film, index / 25 + 0.001) for index in (0, 9, 10, 11, 39)] == [0, 9, 10, 11, 39]


def test_a_clock_that_is_set_back_gives_a_frame_or_an_error(tmp_path: Path) -> None:
    film = write_clock_set_back(tmp_path / "a.ts", first_frames=24)
    assert counter_at(film, 0.041) in (1, 25)


def test_interlaced_films_are_deinterlaced(tmp_path: Path) -> None:
    film = write_interlaced(tmp_path / "a.mp4", frames=12)
    plan = planned(film, "decode.deinterlace=auto")
    assert plan.deinterlacing is not None
    assert frame_at(plan, time_s=0.1)[0].height == 64


def test_the_frame_is_what_a_run_makes(tmp_path: Path) -> None:
    film = write_counter_video(tmp_path / "a.mkv", frames=30, keyframe_interval=8)
    plan = planned(film, "infer.model=realesr-animevideov3", "infer.backend=openvino", "tile.max_px=64")
    frame, _ = frame_at(plan, time_s=0.8)
    with open_decoder("libav", plan.info) as decoder:
        [wanted] = decoder.frames(20, 21)
        for plane, own in zip(frame.planes, wanted.planes, strict=True):
            assert np.array_equal(plane, own)
        assert frame.format == wanted.format and frame.stamp.pts == wanted.stamp.pts
        made = upscale(plan, wanted, name="a")
    assert made.pixels.shape == (128, 192, 3) and len(plan.grid.tiles) > 1
    assert read_counter(made.pixels[:, :, 1]) == 20


def pictures_of(page: Path) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text())
    return [decode_png(base64.b64decode(png)) for png in found]


def test_the_page_holds_the_source_and_each_network_and_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = write_counter_video(tmp_path / "a.mkv", frames=30)
    page = tmp_path / "p.html"
    options = ("--at", "0:00:00.81", "--models", "nearest-x2,realesr-animevideov3", "--scales", "2,3")
    assert run(film, *options, "--set", "infer.precision=fp32", "--out", page) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "source: 288x192",
        "nearest-x2 ×2: 192x128",
        "nearest-x2 ×3: 288x192",
        "realesr-animevideov3 ×2: 192x128",
        "realesr-animevideov3 ×3: 288x192",
    ]
    pictures = pictures_of(page)
    assert [picture.shape[:2] for picture in pictures] == [(192, 288), (128, 192), (192, 288), (128, 192), (192, 288)]
    assert [read_counter(picture[:, :, 1]) for picture in pictures] == [20] * 5
    [frame] = [frame_at(planned(film), time_s=0.81)[0]]
    doubled = np.repeat(np.repeat(rgb_of(frame), 2, axis=0), 2, axis=1)
    assert np.abs(pictures[1].astype(int) - doubled).mean() < 3
    assert "a.mkv at 0.800\N{NO-BREAK SPACE}s" in page.read_text()


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", 12.5), ("1:02", 62.0), ("1:02:03.25", 3723.25), ("0", 0.0), ("90:00", 5400.0)]
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert preview.parse_time(text) == seconds


@pytest.mark.parametrize("options", [("--at", "soon"), ("--at", "-1"), (), ("--at", "1", "--scales", "2,x"),
                                     ("--at", "1", "--scales", "0"), ("--at", "1", "--models", "a,,b")])  # fmt: skip
def test_wrong_options_are_refused(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        preview.main(["config.yaml", *options])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bad_input_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_counter_video(tmp_path / "a.mkv")
    assert run(write_text(tmp_path / "b.mkv"), "--at", 0) == 1
    assert run(film, "--at", 0, "--models", "nothing") == 1
    assert run(film, "--at", 0, "--models", "nearest-x2", "--out", tmp_path / "no" / "p.html") == 1
    said = capsys.readouterr().err
    assert said.count("error:") == 3 and "Traceback" not in said and "cannot write" in said


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    film = write_counter_video(folder / "<a & b>.mkv", frames=3, height=180, width=320)
    assert run(film, "--at", 0, "--models", "nearest-x2,nearest-x4", "--out", folder / "p.html") == 0
    return folder / "p.html"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    path = require_browser()
    with open_browser(path, folder=tmp_path) as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_can_be_read_by_day_and_by_night(page: Path, browser: Browser, width: int) -> None:
    for is_dark in (False, True):
        browser.open(page, width=width, is_dark=is_dark)
        assert browser.evaluate(FLAWS) == []
        assert browser.evaluate("document.querySelector('h1').textContent") == "<a & b>.mkv at 0.000\N{NO-BREAK SPACE}s"
        assert browser.evaluate("[...document.images].every(i => i.naturalWidth === 640)")
        stage = browser.evaluate("(() => { const b = document.getElementById('stage').getBoundingClientRect();"
                                 " return [b.width / b.height, b.width, b.bottom]; })()")  # fmt: skip
        assert stage[0] == pytest.approx(16 / 9, rel=0.01) and stage[1] > 0.7 * width and stage[2] < 900


def test_nothing_is_loaded_and_only_its_own_script_runs(page: Path) -> None:
    html = page.read_text()
    assert re.findall(r'(?:src|href)="(.{10})', html) == ["data:image"] * 3
    assert "default-src 'none'" in html and "script-src 'sha256-" in html and html.count("<script") == 1
    assert not re.search(r"https?://", html)


def mouse(browser: Browser, kind: str, x: float, y: float, **more: Any) -> None:
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def key(browser: Browser, name: str, text: str = "") -> None:
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=name, text=text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=name)


def split(browser: Browser) -> int:
    return int(browser.evaluate("document.getElementById('divider').getAttribute('aria-valuenow')"))


def scale(browser: Browser) -> float:
    return float(browser.evaluate("new DOMMatrix(document.getElementById('canvas').style.transform).a"))


def place(browser: Browser) -> list[float]:
    box = "document.getElementById('stage').getBoundingClientRect()"
    return [float(v) for v in browser.evaluate(f"(b => [b.left, b.top, b.width, b.height])({box})")]


def test_the_divider_is_dragged(page: Path, browser: Browser) -> None:
    browser.open(page, width=1280)
    left, top, width, height = place(browser)
    assert split(browser) == 50
    mouse(browser, "mousePressed", left + width / 2, top + height / 2, button="left", clickCount=1)
    mouse(browser, "mouseMoved", left + width / 4, top + height / 2, button="left", buttons=1)
    mouse(browser, "mouseReleased", left + width / 4, top + height / 2, button="left", clickCount=1)
    assert split(browser) == 25
    clip = browser.evaluate("document.images[1].style.clipPath")
    assert float(clip.split()[-1].rstrip("px)")) == pytest.approx(width / 4, abs=1)
    mouse(browser, "mouseMoved", left + width * 0.9, top + height / 2)
    assert split(browser) == 25, "it stays when nobody holds it"


def test_what_is_left_and_right_of_the_divider_is_what_it_says(page: Path, browser: Browser, tmp_path: Path) -> None:
    browser.open(page, width=1280)
    browser.evaluate("document.images[0].style.filter = 'brightness(0)'")
    left, top, width, height = (round(value) for value in place(browser))
    browser.screenshot(tmp_path / "shot.png")
    shot = decode_png((tmp_path / "shot.png").read_bytes())
    middle = shot[top + 60 : top + height - 60, left + 30 : left + width - 30]
    half = middle.shape[1] // 2
    assert middle[:, : half - 40].max() == 0 and middle[:, half + 40 :].max() > 200
    assert browser.evaluate("[...document.querySelectorAll('.side')].map(e => e.textContent)") == [
        "source",
        "nearest-x2",
    ]


def test_keys_move_the_divider_zoom_and_swap(page: Path, browser: Browser) -> None:
    browser.open(page, width=1280)
    browser.evaluate("document.getElementById('divider').focus()")
    key(browser, "ArrowLeft")
    assert split(browser) == 48
    key(browser, "End")
    assert split(browser) == 100
    key(browser, "Home")
    assert split(browser) == 0
    key(browser, "+", "+")
    assert scale(browser) == pytest.approx(1.5)
    browser.evaluate("document.getElementById('stage').focus()")
    key(browser, "ArrowRight")
    moved = browser.evaluate("new DOMMatrix(document.getElementById('canvas').style.transform).e")
    width = place(browser)[2]
    assert moved == pytest.approx(-width / 4 - 40, abs=1)
    key(browser, "0", "0")
    assert scale(browser) == 1
    key(browser, "x", "x")
    assert browser.evaluate("[...document.querySelectorAll('.side')].map(e => e.textContent)") == [
        "nearest-x2",
        "source",
    ]


def test_everything_is_reached_by_tab(page: Path, browser: Browser) -> None:
    browser.open(page, width=1280)
    seen = []
    for _ in range(9):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(browser.evaluate("document.activeElement.id"))
    assert seen == ["left", "right", "do-swap", "do-out", "do-in", "do-fit", "do-original", "stage", "divider"]


def test_the_wheel_zooms_where_it_points_and_the_picture_is_moved(page: Path, browser: Browser) -> None:
    browser.open(page, width=1280)
    left, top, width, height = place(browser)
    mouse(browser, "mouseWheel", left + width * 0.75, top + height / 2, deltaX=0, deltaY=-400)
    factor = scale(browser)
    assert factor == pytest.approx(np.e, rel=0.01)
    at = browser.evaluate("new DOMMatrix(document.getElementById('canvas').style.transform).e")
    assert at == pytest.approx(width * 0.75 * (1 - factor), abs=1), "what is under the pointer stays there"
    mouse(browser, "mousePressed", left + 100, top + 100, button="left", clickCount=1)
    mouse(browser, "mouseMoved", left + 160, top + 100, button="left", buttons=1)
    mouse(browser, "mouseReleased", left + 160, top + 100, button="left", clickCount=1)
    moved = browser.evaluate("new DOMMatrix(document.getElementById('canvas').style.transform).e")
    assert moved == pytest.approx(at + 60, abs=1) and split(browser) == 50


def test_one_pixel_of_the_picture_for_one_of_the_screen(page: Path, browser: Browser) -> None:
    browser.open(page, width=390)
    browser.evaluate("document.getElementById('do-original').click()")
    assert scale(browser) == pytest.approx(640 / place(browser)[2], rel=1e-4)
    assert browser.evaluate("document.getElementById('zoom').textContent") == "100 %"


def test_fingers_drag_and_pinch(page: Path, browser: Browser) -> None:
    browser.open(page, width=390)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    left, top, width, height = place(browser)
    y = top + height / 2

    def touch(kind: str, *xs: float) -> None:
        points = [{"x": x, "y": y, "id": number} for number, x in enumerate(xs)]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    touch("touchStart", left + width / 2)
    touch("touchMove", left + width * 0.8)
    touch("touchEnd")
    assert split(browser) == 80
    middle = left + width / 2
    touch("touchStart", middle - 20, middle + 20)
    touch("touchMove", middle - 60, middle + 60)
    touch("touchEnd")
    assert scale(browser) == pytest.approx(3, rel=0.1)


def test_another_version_is_chosen(page: Path, browser: Browser) -> None:
    browser.open(page, width=1280)
    browser.evaluate("(c => { c.selectedIndex = 2; c.dispatchEvent(new Event('change')); })"
                     "(document.getElementById('right'))")  # fmt: skip
    assert browser.evaluate("[...document.images].map(i => i.style.visibility)") == ["visible", "hidden", "visible"]
    assert browser.evaluate("document.getElementById('label-right').textContent") == "nearest-x4"
