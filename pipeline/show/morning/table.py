"""The end of a run as a table: on a terminal as wide as it is, elsewhere as plain lines.

Rich draws it for both. Beneath it stands why, a line each: what failed and what to do, what is unfinished, who holds a
film.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from pipeline.show.morning import words
from pipeline.show.morning.summary import FilmStatus, JobSummary, RunSummary
from pipeline.show.wording import format_rate, safe_text

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger(__name__)

PLAIN_WIDTH = 140
"""Columns where the stream is no terminal: all columns fit, and a log still can be read."""
_STYLES: dict[FilmStatus, str] = {
    "done": "green",
    "damaged": "bold yellow",
    "failed": "bold red",
    "stopped": "bold yellow",
    "skipped": "bright_black",
    "held": "bold yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column and from which width of the terminal on it is shown."""

    title: str
    from_width: int
    is_figure: bool


_COLUMNS = (
    _Column(title="film", from_width=0, is_figure=False),
    _Column(title="result", from_width=0, is_figure=False),
    _Column(title="frames", from_width=56, is_figure=True),
    _Column(title="speed", from_width=56, is_figure=True),
    _Column(title="time", from_width=72, is_figure=True),
    _Column(title="size", from_width=88, is_figure=True),
    _Column(title="limited by", from_width=104, is_figure=False),
)


def print_table(summary: RunSummary, *, stream: TextIO, width: int | None = None) -> None:
    """Print the table, the totals, and why what is not done is not. A stream that is gone does not end the run.

    Args:
        summary: The run.
        stream: Where to; control sequences are only written to a terminal.
        width: Columns; None for the terminal's own, or ``PLAIN_WIDTH`` where there is none.
    """
    from rich.console import Console
    from rich.text import Text

    if stream.closed:
        return
    encoding = stream.encoding or "utf-8"
    is_terminal = stream.isatty()
    if width is None and not is_terminal:
        width = PLAIN_WIDTH
    drawn = io.StringIO()  # not the stream itself: rich ends the process when a pipe breaks
    console = Console(file=drawn, width=width, force_terminal=is_terminal, highlight=False, emoji=False, markup=False)
    if len(summary.jobs) > 1:
        console.print(_table(summary, width=console.width, encoding=encoding))
    for line in (*reason_lines(summary), total_line(summary)):
        console.print(Text(safe_text(line, encoding=encoding), overflow="ignore"), crop=False, soft_wrap=True)
    try:
        stream.write(drawn.getvalue())
        stream.flush()
    except OSError as exc:
        logger.warning("the table could not be shown: %s", exc)


def reason_lines(summary: RunSummary) -> tuple[str, ...]:
    """Say why, for each film that is not simply done: one line, and one more with the advice if there is any."""
    lines = []
    for job in summary.jobs:
        if not words.needs_attention(job):
            continue
        label = f"{job.name}: {words.STATUS_WORDS[job.status]}"
        causes = [job.reason] if job.reason else [problem.message for problem in job.errors[:1]]
        lines.append(": ".join((label, *causes)))
        lines += [f"  hint: {problem.hint}" for problem in job.errors[:1] if problem.hint]
    return tuple(lines)


def total_line(summary: RunSummary) -> str:
    """The night in one line: the verdict, frames, speed, size, time."""
    totals = words.Totals.of(summary)
    span_s = (summary.ended_at - summary.started_at).total_seconds()
    figures = [f"{totals.frames:,} frames"]
    if totals.fps > 0:
        figures.append(format_rate(totals.fps))
    if totals.written_bytes:
        figures.append(words.spell_bytes(totals.written_bytes))
    return f"{words.say_verdict(summary).text} {', '.join(figures)} in {words.spell_span(span_s)}."


def _table(summary: RunSummary, *, width: int, encoding: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    is_plain = safe_text("─", encoding=encoding) != "─"
    columns = [index for index, column in enumerate(_COLUMNS) if width >= column.from_width]
    table = Table(box=box.ASCII if is_plain else box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index in columns:
        column = _COLUMNS[index]
        table.add_column(
            column.title,
            justify="right" if column.is_figure else "left",
            no_wrap=column.is_figure or column.title == "result",
            min_width=12 if column.title == "film" else None,
            overflow="fold",
        )
    for job in summary.jobs:
        cells = [Text(safe_text(cell, encoding=encoding)) for cell in _cells(job)]
        cells[1].stylize(_STYLES[job.status])
        table.add_row(*(cells[index] for index in columns))
    return table


def _cells(job: JobSummary) -> tuple[str, ...]:
    was_begun = bool(job.attempts) or job.frames_done > 0
    return (
        job.name,
        words.STATUS_WORDS[job.status],
        words.spell_frames(job) if was_begun else "",
        format_rate(job.fps) if job.fps > 0 else "",
        words.spell_span(job.elapsed_s) if was_begun else "",
        words.spell_bytes(job.output.size_bytes) if job.output is not None else "",
        words.spell_bottleneck(job) if was_begun else "",
    )
