"""The table at the end of a run: everything is in it, nothing steers the terminal, every line says why."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from helpers import nights
from rich.cells import cell_len

from pipeline.show.morning.summary import RunSummary
from pipeline.show.morning.table import print_table, reason_lines, total_line


class Terminal(io.StringIO):
    """What rich takes for a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def printed(night: RunSummary, *, width: int | None = None, encoding: str = "utf-8") -> str:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding=encoding, newline="")
    print_table(night, stream=stream, width=width)
    stream.flush()
    return content.getvalue().decode(encoding)


def test_every_film_has_its_row_and_what_is_known_of_it() -> None:
    lines = printed(nights.eventful()).splitlines()
    for name, figures in (
        ("Episode 01.mkv", "done 153,600 41.7 fps 1 h 04 min 2.25 GiB upscale 97 %"),
        ("Episode 04.mkv", "failed 41,300 of 180,000 41.7 fps 25 min 00 s upscale 97 %"),
        ("Episode 07.mkv", "skipped"),
    ):
        row = next(line for line in lines if line.startswith(name))
        assert " ".join(row.removeprefix(name).split()) == figures


def test_what_is_not_done_says_why_in_a_line_and_what_to_do_in_another() -> None:
    assert reason_lines(nights.eventful())[:2] == (
        "Episode 04.mkv: failed: cannot read /films/in/Episode 04.mkv: Input/output error (decode, frame 41300)",
        "  hint: copy the film again, or check the disk it lies on; what was made is kept and will be used",
    )
    assert reason_lines(nights.eventful())[-1] == (
        "Episode 08.mkv: held elsewhere: process 812 on render-01 works on it since 23:02"
    )
    assert reason_lines(nights.run(nights.film(1, 0, 5))) == ()


def test_the_last_line_is_the_whole_night() -> None:
    night = nights.run(nights.film(1, 0, 60), nights.film(2, 60, 120), minutes=120)
    assert total_line(night) == "All 2 films are done. 288,000 frames, 40.5 fps, 4.50 GiB in 2 h 00 min."
    assert printed(night).splitlines()[-1] == total_line(night)
    assert total_line(nights.run(minutes=0)) == "There was nothing to do. 0 frames in 0.0 s."


def test_one_film_needs_no_table() -> None:
    assert len(printed(nights.run(nights.film(1, 0, 60), minutes=61)).splitlines()) == 1


@pytest.mark.parametrize("width", [40, 56, 80, 100, 120, 200])
def test_no_row_is_wider_than_the_terminal_and_no_figure_is_cut(width: int) -> None:
    night = nights.eventful()
    lines = printed(night, width=width).splitlines()
    rows = lines[: -len(reason_lines(night)) - 1]
    assert max(map(cell_len, rows)) <= width
    text = "\n".join(rows)
    assert ("41,300 of 180,000" in text) == (width >= 56)
    assert ("upscale 97 %" in text) == (width >= 104)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("width", [None, 60])
def test_nothing_from_outside_steers_the_terminal(encoding: str, width: int | None) -> None:
    text = printed(nights.hostile(), encoding=encoding, width=width)
    assert not re.search(r"[^\x20-\x7e\n\u00a0-\U0010ffff]", text)
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in text and "\\x1b[31m" in text


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    print_table(nights.eventful(), stream=terminal, width=120)
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b" not in printed(nights.eventful(), width=120)


def test_five_hundred_films_are_five_hundred_rows() -> None:
    jobs = [replace(nights.film(1, i, i + 1), number=i + 1, name=f"{i:03}.mkv") for i in range(500)]
    assert len(re.findall(r"^\d{3}\.mkv .*done", printed(nights.run(*jobs)), re.MULTILINE)) == 500


def test_a_pipe_that_broke_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(io.StringIO):
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    print_table(nights.eventful(), stream=Broken())
    assert "the table could not be shown: [Errno 32] Broken pipe" in caplog.text
    closed = Terminal()
    closed.close()
    print_table(nights.eventful(), stream=closed)
