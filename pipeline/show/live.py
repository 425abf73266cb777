"""Progress as a panel that is redrawn in place on a terminal, by rich.

While a job runs, the panel stands at the bottom; everything that has to stay (what was chosen, warnings, how jobs
ended) is printed above it and scrolls away as usual. When the job ends, the panel is erased and its last lines stay.

No thread: the panel is redrawn when the caller reports. Standard output is not touched. While the panel stands, lines
that other code writes to ``sys.stderr`` are printed above it; a log handler must look ``sys.stderr`` up when it writes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from pipeline.graph.metrics import ChannelSnapshot, StageSnapshot
from pipeline.show.build import draw_bar
from pipeline.show.plain import build_end_line, end_lines, job_label, progress_line, start_lines
from pipeline.show.progress import BuildProgress, JobEnd, JobProgress, JobStart, JobStatus, RunEnd
from pipeline.show.wording import format_frames, format_rate, format_span, safe_text

logger = logging.getLogger(__name__)

REDRAW_INTERVAL_S = 0.25
"""Four times a second: figures can still be read while they change (also rich's own default)."""
NAME_CELLS = 12
"""Widest stage name that is shown whole."""
ROOMY_CELLS = 60
"""From this width on, a row says ``queue 3/4``; below, ``3/4``."""


class _Share(NamedTuple):
    """One way in which a stage spends its time, as drawn: tellable apart by the sign alone, without colour."""

    label: str
    sign: str
    plain_sign: str
    style: str


_SHARES = (
    _Share("busy", "█", "#", "green"),
    _Share("starved", "·", ".", "bright_black"),
    _Share("held up", "▒", "=", "yellow"),
    _Share("no memory", "○", "o", "magenta"),
)
_STATUS_STYLES: dict[JobStatus, str] = {
    "done": "green",
    "damaged": "bold yellow",
    "failed": "bold red",
    "stopped": "bold yellow",
    "skipped": "bright_black",
    "held": "bold yellow",
}


def split_cells(shares: tuple[float, ...], *, cells: int) -> tuple[int, ...]:
    """Divide ``cells`` by largest remainder, so that the parts add up and a share of 0 gets none.

    Args:
        shares: Non-negative; their sum counts as the whole.
        cells: Cells to divide.

    Returns:
        One count per share; all 0 if the shares are.
    """
    whole = sum(shares)
    if whole <= 0:
        return (0,) * len(shares)
    exact = [share / whole * cells for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: cells - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


class JobPanel:
    """The panel of one job at one moment, drawn to whatever width there is.

    Args:
        job: The job.
        progress: Where it is.
        encoding: What the stream encodes to; without block characters in it, the bars are drawn in ASCII.
    """

    def __init__(self, job: JobStart, progress: JobProgress, *, encoding: str) -> None:
        self._job = job
        self._progress = progress
        self._encoding = encoding
        self._is_plain = safe_text("█·▒○━─…", encoding=encoding) != "█·▒○━─…"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw line by line; no line is wider than the terminal, so none wraps."""
        width = max(1, options.max_width)
        progress = self._progress
        yield self._fitted(Text(self._safe(job_label(self._job)), style="bold"), width)
        yield self._film_bar(width)
        yield self._figures(width)
        stages, channels = progress.graph.stages, progress.graph.channels
        name_cells = min(NAME_CELLS, width // 4, max((cell_len(stage.name) for stage in stages), default=0))
        for i, stage in enumerate(stages):
            yield self._stage_row(stage, channels[i] if i < len(channels) else None, name_cells=name_cells, width=width)
        if stages:
            yield self._fitted(self._legend(gap="  " if width >= ROOMY_CELLS else " "), width)
        if progress.verdict.text:
            yield from Text(self._safe(progress.verdict.text), style="cyan").wrap(console, width, no_wrap=False)

    def _safe(self, text: str) -> str:
        return safe_text(text, encoding=self._encoding)

    def _fitted(self, text: Text, width: int) -> Text:
        if cell_len(text.plain) > width:
            mark = "..." if self._is_plain else "…"
            text.truncate(max(0, width - len(mark)), overflow="crop")
            text.append(mark[:width])
        text.no_wrap = True
        return text

    def _film_bar(self, width: int) -> Text:
        """The share of the film that is finished; what comes after the last frame where there is no share."""
        total = self._job.frame_count_estimated
        done = self._progress.frames_done
        frames = format_frames(done=done, total=total)
        if self._progress.phase != "upscaling":
            frames = f"{frames}, {self._progress.phase}"
        cells = width - cell_len(frames) - 1
        if not total or done > total or cells < 8:
            return self._fitted(Text(frames, style="bold"), width)
        filled = cells * done // total
        drawn, rest = ("=", "-") if self._is_plain else ("━", "─")
        return Text.assemble(
            (drawn * filled, "green"), (rest * (cells - filled), "bright_black"), (f" {frames}", "bold")
        )

    def _figures(self, width: int) -> Text:
        progress = self._progress
        parts = [format_rate(progress.fps), f"elapsed {format_span(progress.elapsed_s)}"]
        if progress.phase == "upscaling":
            parts.append("ETA unknown" if progress.eta_s is None else f"ETA {format_span(progress.eta_s)}")
        return self._fitted(Text("   ".join(parts) if width >= ROOMY_CELLS else "  ".join(parts)), width)

    def _stage_row(self, stage: StageSnapshot, after: ChannelSnapshot | None, *, name_cells: int, width: int) -> Text:
        """``infer  ███████···  71 %  queue 3/4``: name, where its time went, its load, what waits after it."""
        name = self._fitted(Text(self._safe(stage.name)), name_cells)
        name.pad_right(max(0, name_cells - cell_len(name.plain)))
        word = "queue " if width >= ROOMY_CELLS else ""
        queue = f"{word}{after.depth}/{after.capacity}" if after is not None else ""
        right = f" {stage.load:4.0%}".replace("%", " %") + f"  {queue:<{len(word) + 5}}"
        bar_cells = max(0, width - name_cells - 1 - len(right))
        shares = (stage.busy_s, stage.wait_in_s, stage.wait_out_s, stage.wait_buffer_s)
        row = name.append(" ")
        for share, cells in zip(_SHARES, split_cells(shares, cells=bar_cells), strict=True):
            row.append((share.plain_sign if self._is_plain else share.sign) * cells, style=share.style)
        row.pad_right(max(0, name_cells + 1 + bar_cells - cell_len(row.plain)))
        is_limit = stage.name == self._progress.verdict.stage
        row.append(right.rstrip(), style="bold" if is_limit else "")
        return self._fitted(row, width)

    def _legend(self, *, gap: str) -> Text:
        legend = Text(style="bright_black")
        for share in _SHARES:
            legend.append(share.plain_sign if self._is_plain else share.sign, style=share.style)
            legend.append(f" {share.label}{gap}")
        legend.rstrip()
        return legend


class _DetachedConsole(Console):
    """A console that goes quiet when its pipe breaks; rich's own ends the process."""

    def on_broken_pipe(self) -> None:
        """Write nothing from now on."""
        self.quiet = True


class LiveDisplay:
    """Progress on a terminal; see the module.

    Args:
        stream: The terminal. If it is none, it gets the control sequences all the same: ``live`` was asked for.
    """

    def __init__(self, *, stream: TextIO) -> None:
        self.interval_s = REDRAW_INTERVAL_S
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._console = _DetachedConsole(file=stream, force_terminal=True, highlight=False, emoji=False, markup=False)
        self._live: Live | None = None
        self._job: JobStart | None = None
        self._latest: JobProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Erase the panel, show the cursor, and keep one line of where an unfinished job was."""
        self._erase_panel()
        if self._job is not None and self._latest is not None:
            self._print(progress_line(self._latest, job=self._job))
        self._job = None

    def run_started(self, job_count: int) -> None:
        """Say nothing: every job's label holds the number of jobs."""

    def job_started(self, job: JobStart) -> None:
        """Print what was chosen; the panel comes with the first progress."""
        self._erase_panel()
        self._job, self._latest = job, None
        first, *rest = start_lines(job)
        self._print(first, style="bold")
        chosen = len(rest) - len(job.details)
        for index, line in enumerate(rest):
            self._print(line, style="" if index < chosen else "dim")

    def build_progress(self, build: BuildProgress) -> None:
        """Redraw the bar of an engine that is being compiled."""
        bar = draw_bar(build, cells=self._console.width, encoding=self._encoding)
        text = Text(
            safe_text(f"building {build.text}", encoding=self._encoding), style="bold", no_wrap=True, overflow="crop"
        )
        self._draw(text.append(f"\n{safe_text(bar, encoding=self._encoding)}", style="green"))

    def build_finished(self, build: BuildProgress) -> None:
        """Erase the bar and print how long it took."""
        self._erase_panel()
        self._print(build_end_line(build))

    def job_progress(self, progress: JobProgress) -> None:
        """Redraw the panel."""
        if self._job is None:
            return
        self._latest = progress
        self._draw(JobPanel(self._job, progress, encoding=self._encoding))

    def _draw(self, panel: JobPanel | Text) -> None:
        with self._drawing():
            if self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=self._stream is sys.stderr,
                )
                self._live.start()
            self._live.update(panel, refresh=True)

    def job_finished(self, end: JobEnd) -> None:
        """Erase the panel and print how the job ended."""
        self._erase_panel()
        first, *rest = end_lines(end, job=self._job)
        self._print(first, style=_STATUS_STYLES[end.status])
        for line in rest:
            self._print(line)
        self._job = None

    def note(self, text: str) -> None:
        """Print a line above the panel."""
        self._print(text)

    def warning(self, text: str) -> None:
        """Print a line that begins with ``warning:`` above the panel."""
        self._print(f"warning: {text}", style="bold yellow")

    def run_finished(self, end: RunEnd) -> None:
        """Print how many jobs ended how, if there were several."""
        self._erase_panel()
        if len(end.jobs) != 1:
            self._print(end.summary(), style="bold")

    def _print(self, text: str, *, style: str = "") -> None:
        # Lines break between words, but never inside one: the terminal does that, so that a path can be copied whole.
        line = Text(safe_text(text, encoding=self._encoding), style=style, no_wrap=False, overflow="ignore")
        with self._drawing():
            self._console.print(line, crop=False)

    def _erase_panel(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            with self._drawing():
                live.stop()

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Fall silent when the terminal is gone: that must not end a run."""
        if self._stream.closed:
            self._console.quiet = True
        try:
            yield
        except OSError as exc:
            self._console.quiet = True
            logger.warning("progress is no longer shown: %s", exc)
