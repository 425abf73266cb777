"""What each display writes, and how rates are measured."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.metrics import ChannelSnapshot, GraphSnapshot, StageSnapshot, Verdict
from pipeline.show.live import JobPanel, LiveDisplay, split_cells
from pipeline.show.plain import PlainDisplay, QuietDisplay
from pipeline.show.progress import JobEnd, JobProgress, JobStart, RateMeter, RunEnd, open_display
from pipeline.show.wording import format_frames, format_rate, format_span, safe_text

EMPTY = GraphSnapshot(elapsed_s=0.0, stages=(), channels=())
LIMIT = Verdict(stage="infer", load=0.9, text="infer limits the run.")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class BrokenPipe(io.StringIO):
    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


class ClosedTerminal(io.StringIO):
    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def latin_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


def text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def job(*, name: str = "film.mkv", count: int = 1, frames: int | None = 250, lines: tuple[str, ...] = ()) -> JobStart:
    return JobStart(name=name, index=0, count=count, frame_count_estimated=frames, lines=lines)


def progress(
    *, done: int = 125, elapsed_s: float = 10.0, fps: float = 12.5, eta_s: float | None = 10.0, **more: object
) -> JobProgress:
    values: dict[str, object] = {"graph": EMPTY, "verdict": LIMIT, **more}
    return JobProgress(frames_done=done, elapsed_s=elapsed_s, fps=fps, eta_s=eta_s, **values)  # type: ignore[arg-type]


def job_end(*, status: str = "done", output: Path | None = Path("out/film.mkv"), name: str = "film.mkv") -> JobEnd:
    return JobEnd(
        name=name, status=status, output=output, frames_done=250, elapsed_s=20.0, fps=12.5,  # type: ignore[arg-type]
        verdict="infer limited the run.", lines=("report: out/report.json",),
    )  # fmt: skip


def two_stages() -> GraphSnapshot:
    def stage(name: str, *, wait_in_s: float, wait_out_s: float, wait_buffer_s: float) -> StageSnapshot:
        return StageSnapshot(
            name=name, state="running", items_in=8, items_out=8, elapsed_s=10.0,
            wait_in_s=wait_in_s, wait_out_s=wait_out_s, wait_buffer_s=wait_buffer_s,
        )  # fmt: skip

    channel = ChannelSnapshot(
        name="decode->infer", capacity=4, depth=3, peak=4, sent=8, received=5, occupancy=1.0, full=0.5
    )
    return GraphSnapshot(
        elapsed_s=10.0,
        stages=(
            stage("decode", wait_in_s=0.0, wait_out_s=5.0, wait_buffer_s=2.5),
            stage("infer", wait_in_s=1.0, wait_out_s=0.0, wait_buffer_s=0.0),
        ),
        channels=(channel,),
    )


# --- plain


def test_plain_lines_of_a_job_are_exact() -> None:
    stream = io.StringIO()
    with PlainDisplay(stream=stream, report_every_s=10.0) as display:
        display.run_started(1)
        display.job_started(job(lines=("decode: libav", "encode: libx264")))
        display.job_progress(progress())
        display.note("a note")
        display.warning("no colour tags")
        display.job_progress(progress(done=250, elapsed_s=12.0, phase="verifying"))
        display.job_finished(job_end())
        display.run_finished(RunEnd(jobs=(job_end(),), elapsed_s=20.0))
    assert stream.getvalue().splitlines() == [
        "film.mkv: 250 frames expected",
        "  decode: libav",
        "  encode: libx264",
        "film.mkv: 125/250 frames (50 %), 12.5 fps, elapsed 0:10, ETA 0:10; infer limits the run.",
        "a note",
        "warning: no colour tags",
        "film.mkv: verifying, elapsed 0:12",
        "film.mkv: done, 250 frames in 0:20, 12.5 fps -> out/film.mkv",
        "  infer limited the run.",
        "  report: out/report.json",
    ]


def test_plain_numbers_the_jobs_of_a_run_and_sums_them_up() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream=stream)
    display.run_started(3)
    display.job_started(job(count=3))
    ends = (job_end(), job_end(status="failed", output=None), job_end(status="failed", output=None))
    display.run_finished(RunEnd(jobs=ends, elapsed_s=3721.0))
    assert stream.getvalue().splitlines() == [
        "run: 3 jobs",
        "[1/3] film.mkv: 250 frames expected",
        "run: 1 done, 2 failed in 1:02:01",
    ]


def test_plain_shows_a_job_of_unknown_length_and_no_speed() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream=stream)
    display.job_started(job(frames=None))
    display.job_progress(progress(done=0, fps=0.0, eta_s=None, verdict=Verdict(stage="", load=0.0, text="")))
    assert stream.getvalue().splitlines() == [
        "film.mkv: number of frames unknown",
        "film.mkv: 0 frames, 0.00 fps, elapsed 0:10, ETA unknown",
    ]


def test_plain_keeps_its_interval_however_often_it_is_called() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream=stream, report_every_s=10.0)
    display.job_started(job())
    for tick in range(1, 121):
        display.job_progress(progress(elapsed_s=tick * 0.25))
    assert len(stream.getvalue().splitlines()) == 1 + 3


def test_plain_loses_no_line_to_a_caller_that_comes_a_little_early() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream=stream, report_every_s=10.0)
    display.job_started(job())
    for elapsed_s in (9.9, 19.8, 29.9):
        display.job_progress(progress(elapsed_s=elapsed_s))
    assert len(stream.getvalue().splitlines()) == 1 + 3


def test_a_job_that_never_started_can_be_reported() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream=stream)
    display.job_started(job(name="first.mkv", count=2))
    display.job_finished(job_end(name="first.mkv"))
    display.job_finished(
        JobEnd(name="gone.mkv", status="failed", output=None, frames_done=0, elapsed_s=0.0, fps=0.0, lines=("no file",))
    )
    assert stream.getvalue().splitlines()[-2:] == ["gone.mkv: failed, 0 frames in 0:00", "  no file"]


def test_plain_writes_ascii_to_a_stream_that_has_nothing_else() -> None:
    stream = latin_stream()
    display = PlainDisplay(stream=stream)
    display.job_started(job(name="Ölfilm – 映.mkv"))
    assert text_of(stream) == "\\xd6lfilm - \\u6620.mkv: 250 frames expected\n"


# --- off, choice, lost terminals


def test_off_says_only_what_went_wrong() -> None:
    stream = io.StringIO()
    with QuietDisplay(stream=stream) as display:
        display.run_started(2)
        display.job_started(job())
        display.job_progress(progress(elapsed_s=100.0))
        display.note("a note")
        display.job_finished(job_end())
        assert stream.getvalue() == ""
        display.warning("odd")
        display.job_finished(job_end(status="damaged"))
        display.run_finished(RunEnd(jobs=(), elapsed_s=1.0))
    assert stream.getvalue().splitlines()[:2] == [
        "warning: odd",
        "film.mkv: damaged, 250 frames in 0:20, 12.5 fps -> out/film.mkv",
    ]
    assert "run:" not in stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "stream", "term", "chosen"),
    [
        ("auto", Terminal(), "xterm-256color", LiveDisplay),
        ("auto", Terminal(), "dumb", PlainDisplay),
        ("auto", Terminal(), "", PlainDisplay),
        ("auto", io.StringIO(), "xterm-256color", PlainDisplay),
        ("live", io.StringIO(), "xterm", LiveDisplay),
        ("plain", Terminal(), "xterm", PlainDisplay),
        ("off", Terminal(), "xterm", QuietDisplay),
    ],
)
def test_the_display_is_chosen_by_kind_and_terminal(
    kind: str, stream: io.StringIO, term: str, chosen: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert type(open_display(kind, stream=stream)) is chosen  # type: ignore[arg-type]


def test_displays_write_to_standard_error_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    open_display("plain").note("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("kind", ["plain", "live", "off"])
@pytest.mark.parametrize("stream_type", [BrokenPipe, ClosedTerminal])
def test_a_terminal_that_is_gone_does_not_end_the_run(kind: str, stream_type: type[io.StringIO]) -> None:
    with open_display(kind, stream=stream_type()) as display:  # type: ignore[arg-type]
        display.job_started(job())
        display.job_progress(progress(elapsed_s=20.0))
        display.warning("odd")
        display.job_finished(job_end(status="failed"))
        display.run_finished(RunEnd(jobs=(), elapsed_s=1.0))


def test_progress_can_be_imported_without_rich() -> None:
    code = "import sys, pipeline.show.progress, pipeline.show.plain; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- live


def draw(*, width: int, encoding: str = "utf-8", what: JobProgress | None = None, start: JobStart | None = None) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    panel = JobPanel(start or job(), what or progress(graph=two_stages()), encoding=encoding)
    with console.capture() as capture:
        console.print(panel)
    return capture.get()


def test_panel_shows_film_speed_stages_and_limit_at_80_columns() -> None:
    assert [line.rstrip() for line in draw(width=80).splitlines()] == [
        "film.mkv",
        "━" * 29 + "─" * 29 + " 125/250 frames (50 %)",
        "12.5 fps   elapsed 0:10   ETA 0:10",
        "decode " + "█" * 14 + "▒" * 27 + "○" * 13 + "  25 %  queue 3/4",
        "infer  " + "█" * 49 + "·" * 5 + "  90 %",
        "█ busy  · starved  ▒ held up  ○ no memory",
        "infer limits the run.",
    ]


@pytest.mark.parametrize("width", [1, 5, 10, 20, 40, 60, 80, 200])
def test_no_panel_line_is_wider_than_the_terminal(width: int) -> None:
    from rich.cells import cell_len

    start = job(name="映画" * 30, count=12)
    what = progress(graph=two_stages(), verdict=Verdict(stage="infer", load=0.9, text="a rather long sentence " * 4))
    assert max(cell_len(line) for line in draw(width=width, start=start, what=what).splitlines()) <= width


def test_panel_is_ascii_where_the_stream_is() -> None:
    text = draw(width=80, encoding="ascii", start=job(name="Ölfilm" * 20))
    assert text.isascii()
    assert "#" * 14 + "=" * 27 + "o" * 13 in text


def test_panel_without_total_has_counts_but_no_share() -> None:
    text = draw(width=80, start=job(frames=None), what=progress(eta_s=None, fps=0.0))
    assert "125 frames\n" in text
    assert "%" not in text
    assert "ETA unknown" in text


def test_panel_with_more_frames_than_expected_does_not_show_over_100_percent() -> None:
    assert "300 frames\n" in draw(width=80, what=progress(done=300))


def live_output(*, leave_early: bool = False) -> str:
    stream = Terminal()
    with LiveDisplay(stream=stream) as display:
        display.job_started(job(name="[bold]film[/bold].mkv"))
        display.job_progress(progress(graph=two_stages()))
        display.warning("odd")
        display.job_progress(progress(done=150, graph=two_stages()))
        if not leave_early:
            display.job_finished(job_end(name="[bold]film[/bold].mkv"))
    return stream.getvalue()


def test_live_shows_the_cursor_again_and_keeps_the_last_lines() -> None:
    written = live_output()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written[written.rindex("\x1b[?25h") :])
    assert "[bold]film[/bold].mkv: done, 250 frames in 0:20, 12.5 fps -> out/film.mkv" in last
    assert "█" not in last


def test_live_keeps_a_line_of_where_an_interrupted_job_was() -> None:
    written = live_output(leave_early=True)
    assert "[bold]film[/bold].mkv: 150/250 frames (60 %)" in written[written.rindex("\x1b[?25h") :]


def test_live_leaves_standard_output_and_standard_error_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    stdout = sys.stdout
    with LiveDisplay(stream=stream) as display:
        display.job_started(job())
        display.job_progress(progress())
        assert sys.stdout is stdout
    assert sys.stderr is stream


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(0, 300))
def test_a_divided_bar_is_full_and_near_its_shares(shares: list[float], cells: int) -> None:
    counts = split_cells(tuple(shares), cells=cells)
    if sum(shares) == 0:
        assert sum(counts) == 0
        return
    assert sum(counts) == cells
    assert all(abs(n - s / sum(shares) * cells) <= 1 + 1e-6 for n, s in zip(counts, shares, strict=True))


# --- rates


def test_rate_follows_the_window_and_forgets_what_is_older() -> None:
    meter = RateMeter(window_s=10.0)
    frames = 0
    for second in range(101):
        frames += 5 if second > 60 else 20
        meter.update(frames_done=frames, now_s=float(second))
    assert meter.fps == pytest.approx(5.0)
    assert 5.0 < meter.fps_overall < 20.0


def test_frames_of_an_earlier_run_count_for_no_rate() -> None:
    meter = RateMeter(window_s=10.0)
    meter.update(frames_done=1000, now_s=0.0)
    meter.update(frames_done=1010, now_s=5.0)
    assert meter.fps == meter.fps_overall == 2.0
    assert meter.eta_s(1100) == 45.0


def test_a_stall_brings_the_rate_to_zero_but_keeps_an_estimate() -> None:
    meter = RateMeter(window_s=10.0)
    for second in range(61):
        meter.update(frames_done=min(second, 30), now_s=float(second))
    assert meter.fps == 0.0
    assert meter.eta_s(60) == pytest.approx(30 / (0.5 / 2))


@pytest.mark.parametrize("frame_count", [None, 100, 5])
def test_nothing_is_estimated_before_the_first_frame_or_beyond_the_last(frame_count: int | None) -> None:
    meter = RateMeter()
    assert (meter.fps, meter.eta_s(frame_count)) == (0.0, None)
    meter.update(frames_done=10 if frame_count == 5 else 0, now_s=1.0)
    assert (meter.fps, meter.eta_s(frame_count)) == (0.0, None)


def test_nothing_is_left_of_a_finished_job() -> None:
    meter = RateMeter()
    meter.update(frames_done=0, now_s=0.0)
    meter.update(frames_done=10, now_s=1.0)
    assert meter.eta_s(10) == 0.0


def test_a_meter_that_is_told_very_often_stays_right() -> None:
    meter = RateMeter(window_s=10.0)
    for tick in range(30_000):
        meter.update(frames_done=tick, now_s=tick / 1000)
    assert meter.fps == pytest.approx(1000.0)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="window_s"):
        RateMeter(window_s=0)


# --- wording


@given(st.text(), st.sampled_from(["utf-8", "ascii", "latin-1", "cp1252"]))
def test_safe_text_can_always_be_written_and_steers_nothing(text: str, encoding: str) -> None:
    safe = safe_text(text, encoding=encoding)
    safe.encode(encoding)
    assert all(character.isprintable() or character == "\xa0" for character in safe)


def test_safe_text_shows_what_it_took_away() -> None:
    assert safe_text("a\x1b[2J\nb\tc\udcff") == "a\\x1b[2J\\nb c\\udcff"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00"), (0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03"), (93600, "26:00:00")],
)
def test_spans(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@pytest.mark.parametrize(
    ("fps", "text"), [(0, "0.00 fps"), (0.36, "0.36 fps"), (9.996, "10.0 fps"), (99.96, "100 fps"), (308, "308 fps")]
)
def test_rates(fps: float, text: str) -> None:
    assert format_rate(fps) == text


def test_a_share_is_never_rounded_up_to_done() -> None:
    assert format_frames(done=999, total=1000) == "999/1000 frames (99 %)"
    assert format_frames(done=1, total=1) == "1/1 frame (100 %)"
    assert format_frames(done=1, total=None) == "1 frame"
    assert format_frames(done=0, total=0) == "0/0 frames (100 %)"
