"""The morning's page in a real browser: everything can be read, on a desk and on a phone, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import nights
from helpers.browser import FLAWS, Browser, open_browser, require_browser
from PIL import Image

from pipeline.show.morning.page import write_page
from pipeline.show.morning.summary import RunSummary, Thumbnails
from pipeline.show.morning.thumbnails import encode_jpeg


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = require_browser()
    with open_browser(path, folder=tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def thumbnails(tmp_path_factory: pytest.TempPathFactory) -> Thumbnails:
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[:288, :512]
    picture = np.stack((rows * 255 // 287, columns * 255 // 511, (rows + columns) % 256), axis=2).astype(np.uint8)
    for name in ("before", "after"):
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(picture, quantiser=4))
    return Thumbnails(before=folder / "before.jpg", after=folder / "after.jpg", caption="frame 7: 512x288 pixels")


NIGHTS = {
    "eventful": nights.eventful(),
    "hostile": nights.hostile(),
    "one film": nights.run(nights.film(1, 1, 60), minutes=61),
    "nothing": nights.run(),
    "many": nights.run(*(nights.film(i + 1, 3 * i, 3 * i + 3) for i in range(60))),
    "seconds": nights.run(nights.film(1, 0, 0.3), nights.film(2, 0.3, 0.5), minutes=0.5),
    "days": nights.run(nights.film(1, 0, 4000), nights.film(2, 4000, 9000), minutes=9000),
}


def pictured(night: RunSummary, thumbnails: Thumbnails) -> RunSummary:
    return replace(night, jobs=tuple(replace(job, thumbnails=thumbnails) for job in night.jobs))


@pytest.mark.parametrize("width", [1280, 768, 390, 320])
@pytest.mark.parametrize("name", NIGHTS)
def test_everything_can_be_read(
    name: str, width: int, browser: Browser, thumbnails: Thumbnails, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    write_page(page, pictured(NIGHTS[name], thumbnails), zone=UTC)
    for is_dark in (False, True):
        browser.open(page, width=width, is_dark=is_dark)
        assert browser.evaluate("innerWidth") == width
        assert browser.evaluate(FLAWS) == []
    browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.evaluate(FLAWS) == [], "with everything opened"


def levels(browser: Browser, png: Path) -> Any:
    browser.screenshot(png)
    return np.asarray(Image.open(png).convert("L"))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_bright_by_day_and_dark_by_night(
    width: int, browser: Browser, thumbnails: Thumbnails, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    write_page(page, nights.eventful(thumbnails=thumbnails), zone=UTC)
    browser.open(page, width=width)
    day = levels(browser, tmp_path / "day.png")
    browser.open(page, width=width, is_dark=True)
    night = levels(browser, tmp_path / "night.png")
    assert day.shape == night.shape and day.shape[1] == width
    assert np.median(day) > 230 and np.median(night) < 45


def test_on_paper_it_is_black_on_white_even_at_night(browser: Browser, thumbnails: Thumbnails, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_page(page, nights.eventful(thumbnails=thumbnails), zone=UTC)
    browser.open(page, width=794, is_dark=True, media="print")  # A4 at 96 pixels an inch
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert browser.evaluate(FLAWS) == []


def test_pictures_stand_side_by_side_on_a_desk_and_one_above_the_other_on_a_phone(
    browser: Browser, thumbnails: Thumbnails, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    write_page(page, nights.run(nights.film(1, 1, 60, thumbnails=thumbnails)), zone=UTC)
    boxes = "[...document.images].map(i => { const b = i.getBoundingClientRect(); return [b.left, b.top, b.width]; })"
    browser.open(page, width=1280)
    (left, top, width), (left_after, top_after, _) = browser.evaluate(boxes)
    assert top == top_after and left + width < left_after and width == 512, "pixel for pixel"
    browser.open(page, width=390)
    (left, top, width), (left_after, top_after, _) = browser.evaluate(boxes)
    assert left == left_after and top < top_after and width > 300
