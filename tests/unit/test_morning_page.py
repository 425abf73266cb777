"""The morning's page: self-contained, safe whatever it is told, bounded in size, and it says what happened."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import UTC
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import nights

from pipeline.errors import OutputError
from pipeline.show.morning.page import (
    MAX_CHARACTERS,
    MAX_LINES,
    MAX_PICTURE_BYTES,
    MAX_PICTURED_FILMS,
    build_page,
    write_page,
)
from pipeline.show.morning.summary import Problem, Thumbnails

VOID = {"meta", "img", "br", "link", "input"}


class Tree(HTMLParser):
    """Tags in order, text, and whether every tag is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data


def pictures(folder: Path, *, content: bytes = nights.PNG) -> Thumbnails:
    for name in ("before", "after"):
        (folder / name).write_bytes(content)
    return Thumbnails(before=folder / "before", after=folder / "after", caption="frame 7")


def test_the_page_says_what_happened(tmp_path: Path) -> None:
    page = Tree(build_page(nights.eventful(thumbnails=pictures(tmp_path)), zone=UTC))
    for words in (
        "5 of 8 films are done: 1 from damaged input, 1 failed",
        "Tuesday 4 March 2031, 22:40 to Wednesday 5 March, 07:10 (UTC) · 8 h 30 min · on render-02",
        "cannot read /films/in/Episode 04.mkv: Input/output error",
        "copy the film again, or check the disk it lies on",
        "finished on 3 March, unchanged",
        "process 812 on render-01 works on it since 23:02",
        "the GPU was throttled for 12 minutes",
        "subtitles of stream 4 cannot be held by mp4",
        "the GPU ran out of memory in upscale",
        "tiles of 384, not 512",
        "1920×1080 → 3840×2160",
        "700 MiB → 2.25 GiB",
        "850 GiB",
        "engine: TensorRT 10.9 runs realesr-animevideov3",
    ):
        assert words in page.text
    assert [attrs["id"] for tag, attrs in page.tags if tag == "article"] == [
        f"film-{number}" for number in (4, 5, 6, 8, 1, 2, 3)
    ], "what needs attention comes first, what was skipped has no card"


def test_every_link_leads_to_a_card() -> None:
    page = Tree(build_page(nights.eventful(), zone=UTC))
    cards = {f"#{attrs['id']}" for tag, attrs in page.tags if tag == "article"}
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert links == cards


@pytest.mark.parametrize("night", [nights.eventful(), nights.hostile()], ids=["eventful", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(night, tmp_path: Path) -> None:
    html = build_page(replace(night, jobs=tuple(
        replace(job, thumbnails=pictures(tmp_path)) for job in night.jobs)), zone=UTC)  # fmt: skip
    page = Tree(html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/"))
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "url(" not in html.replace("url(#hatch)", "") and "@import" not in html


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", nights.hostile(), zone=UTC)
    html = (tmp_path / "report.html").read_text("utf-8")
    shown = "<script>alert('x')</script> \"quoted\"\\nnew & old\\x1b[31m \\u202egnp.\\udcff %s {{ 7*7 }} Ünïcode 映画"
    assert Tree(html).text.count(shown) >= 15
    assert "<script" not in html and "\x1b" not in html and "\u202e" not in html


def test_pictures_are_in_the_page(tmp_path: Path) -> None:
    thumbnails = pictures(tmp_path)
    page = Tree(build_page(nights.run(nights.film(1, 0, 5, thumbnails=thumbnails)), zone=UTC))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["before: frame 7", "after: frame 7"]
    for image in images:
        head, _, content = (image["src"] or "").partition(",")
        assert (head, base64.b64decode(content)) == ("data:image/png;base64", nights.PNG)


@pytest.mark.parametrize(
    "content", [b"", b"<svg onload=alert(1)>", nights.PNG + bytes(MAX_PICTURE_BYTES)], ids=["empty", "svg", "large"]
)
def test_what_is_no_small_picture_is_left_out_and_said(content: bytes, tmp_path: Path) -> None:
    night = nights.run(nights.film(1, 0, 5, thumbnails=pictures(tmp_path, content=content)))
    page = Tree(build_page(night, zone=UTC))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "The pictures could not be read." in page.text


def test_a_huge_run_stays_below_forty_megabytes(tmp_path: Path) -> None:
    thumbnails = pictures(tmp_path, content=nights.PNG + bytes(MAX_PICTURE_BYTES - len(nights.PNG)))
    bad = {
        "warnings": ("w" * 2000,) * 50,
        "errors": (Problem(message="m" * 2000, hint="h" * 2000),),
        "thumbnails": thumbnails,
    }
    jobs = [replace(nights.film(i + 1, i, i + 1), **bad) for i in range(500)]
    jobs[499] = replace(jobs[499], status="failed")
    html = build_page(nights.run(*jobs), zone=UTC)
    assert len(html.encode()) < 40_000_000
    assert html.count("<img") == 2 * MAX_PICTURED_FILMS
    last = html[html.index('id="film-500"') :]
    assert last.index("<img") < last.index("</article>"), "what failed has its pictures first"
    assert html.count(f"Only the first {MAX_PICTURED_FILMS} films have pictures here.") == 500 - MAX_PICTURED_FILMS
    assert html.count(f"and {50 - MAX_LINES} more, in summary.json") == 500
    assert "w" * (MAX_CHARACTERS - 1) + "…" in html and "w" * MAX_CHARACTERS not in html


def test_a_run_of_nothing_has_a_page() -> None:
    assert "There was nothing to do." in Tree(build_page(nights.run(), zone=UTC)).text


def test_no_template_is_left_unfilled() -> None:
    assert not re.search(r"\{\{|\{%|\bNone\b|undefined", build_page(nights.eventful(), zone=UTC))


def test_what_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the page"):
        write_page(tmp_path / "missing" / "report.html", nights.run())
