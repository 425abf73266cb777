"""What is shown while an engine is compiled, and how a compilation is stopped."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from pipeline.graph.stop import StopToken
from pipeline.show.build import BuildReporter, draw_bar
from pipeline.show.live import LiveDisplay
from pipeline.show.plain import PlainDisplay, QuietDisplay
from pipeline.show.progress import BuildProgress, Display

TEXT = "RealESRGAN_x4plus fp16 for 8.9"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@dataclass
class Recorder(PlainDisplay):
    """A display that keeps what it is told."""

    interval_s: float = 10.0
    shown: list[BuildProgress] = field(default_factory=list)
    ended: list[BuildProgress] = field(default_factory=list)

    def build_progress(self, build: BuildProgress) -> None:
        self.shown.append(build)

    def build_finished(self, build: BuildProgress) -> None:
        self.ended.append(build)


def build(*, share: float = 0.437, phase: str = "Tactic timing") -> BuildProgress:
    return BuildProgress(text=TEXT, phase=phase, share=share, elapsed_s=83.0)


def run_build(display: Display, *, stop: StopToken | None = None, steps: int = 3) -> list[bool]:
    reporter = BuildReporter(display, stop=stop)
    reporter.begin(TEXT)
    answers = [reporter.progress(phase="Tactic timing", share=(step + 1) / steps) for step in range(steps)]
    reporter.end()
    return answers


def test_a_compiler_that_reports_too_often_is_shown_now_and_then() -> None:
    display = Recorder()
    assert all(run_build(display, steps=2000))
    assert [(one.text, one.share) for one in display.shown] == [(TEXT, 0.0)]
    (ended,) = display.ended
    assert (ended.text, ended.share) == (TEXT, 1.0)


def test_progress_is_shown_when_it_is_due() -> None:
    display = Recorder(interval_s=0.0)
    run_build(display, steps=4)
    assert [one.share for one in display.shown] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {one.phase for one in display.shown} == {"", "Tactic timing"}


def test_time_is_counted_from_the_beginning_of_each_build(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = itertools.count(100.0, step=7.0)
    monkeypatch.setattr("pipeline.show.build.time", SimpleNamespace(perf_counter=lambda: next(now_s)))
    display = Recorder()
    reporter = BuildReporter(display)
    for _ in range(2):
        reporter.begin(TEXT)
        reporter.end()
    assert [one.elapsed_s for one in display.ended] == [7.0, 7.0]


def test_an_aborted_run_cancels_the_build() -> None:
    stop = StopToken()
    assert run_build(Recorder(), stop=stop) == [True] * 3
    stop.abort()
    assert run_build(Recorder(), stop=stop) == [False] * 3


def test_without_a_terminal_a_build_is_whole_lines() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream=stream)
    display.build_progress(build())
    display.build_progress(build(phase="", share=1.0))
    display.build_finished(build())
    assert stream.getvalue().splitlines() == [
        f"building {TEXT}: 43 %, elapsed 1:23 (Tactic timing)",
        f"building {TEXT}: 100 %, elapsed 1:23",
        f"building {TEXT}: the compiler ended after 1:23",
    ]


def test_nothing_is_shown_where_nothing_is_to_be_shown() -> None:
    stream = io.StringIO()
    run_build(QuietDisplay(stream=stream))
    assert stream.getvalue() == ""


def test_on_a_terminal_a_build_is_a_bar_that_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    with LiveDisplay(stream=stream) as display:
        display.build_progress(build())
        assert "━" in stream.getvalue() and " 43 %" in stream.getvalue()
        display.build_finished(build())
    assert "\x1b[2K" in stream.getvalue()  # erase line
    assert stream.getvalue().rstrip().endswith(f"building {TEXT}: the compiler ended after 1:23")


@pytest.mark.parametrize("cells", [200, 80, 60, 30, 10, 1])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_bar_is_no_longer_than_the_terminal(cells: int, share: float) -> None:
    line = draw_bar(build(share=share, phase="a phase with a very long name " * 9), cells=cells, encoding="utf-8")
    assert len(line) <= max(cells, len(" 100 %  1:23"))


def test_a_bar_is_drawn_with_what_the_stream_can_carry() -> None:
    assert draw_bar(build(share=0.5), cells=80, encoding="ascii").isascii()
    assert draw_bar(build(share=0.5, phase=""), cells=20, encoding="utf-8") == "━━━━────  50 %  1:23"
