"""A table for people: ruled on a terminal that is wide enough, plain columns in files, a paragraph a row otherwise."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from engines.commands import Output

_GAP = "  "


def put_table(output: Output, *, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to where results go.

    Args:
        output: The command's.
        columns: Titles.
        rows: As many cells as there are titles, each.
    """
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            output.put(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    terminal = shutil.get_terminal_size().columns
    if sum(widths) + len(_GAP) * (len(widths) - 1) <= terminal:
        output.put(_ruled(columns, rows, width=terminal))
        return
    for row in rows:
        text = ", ".join(f"{title} {cell}" for title, cell in zip(columns[1:], row[1:], strict=True))
        output.put(row[0])
        output.put(textwrap.fill(text, width=terminal, initial_indent=_GAP, subsequent_indent=_GAP))


def _ruled(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=True) for cell in row))
    console = Console(force_terminal=True, width=width)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
