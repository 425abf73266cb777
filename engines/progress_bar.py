"""Shows how an engine build goes on: a bar on a terminal, a line now and then elsewhere. No thread of its own: it draws
when the compiler reports.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from engines.build_options import BuildListener

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

REDRAW_INTERVAL_S = 0.1
"""A compiler reports thousands of steps per second; ten pictures per second look smooth."""
LINE_INTERVAL_S = 10.0
"""Between two lines where there is no terminal: a build of ten minutes gives sixty."""


class BarListener:
    """A bar that is redrawn in place and erased at the end.

    Args:
        stream: A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn_s = 0.0

    def begin(self, text: str) -> None:
        """Draw the empty bar under a line that says what is built."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        console = Console(file=self._stream)
        console.print(f"building {text}", highlight=False, markup=False, soft_wrap=True)
        self._bar = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=1.0)
        self._bar.refresh()

    def progress(self, *, phase: str, share: float) -> bool:
        """Move the bar."""
        now_s = time.perf_counter()
        if self._bar is not None and self._task is not None and now_s - self._drawn_s >= REDRAW_INTERVAL_S:
            self._drawn_s = now_s
            self._bar.update(self._task, completed=share, description=phase)
            self._bar.refresh()
        return True

    def end(self) -> None:
        """Erase the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class LineListener:
    """A line at the beginning and at the end, and one now and then between them.

    Args:
        say: Writes one line.
        clock: Seconds that only grow.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._say = say
        self._clock = clock
        self._begun_s = self._said_s = 0.0

    def begin(self, text: str) -> None:
        """Say what is built."""
        self._begun_s = self._said_s = self._clock()
        self._say(f"building {text}")

    def progress(self, *, phase: str, share: float) -> bool:
        """Say how far it is, if the last line was long ago."""
        now_s = self._clock()
        if now_s - self._said_s >= LINE_INTERVAL_S:
            self._said_s = now_s
            self._say(f"  {share:4.0%} after {now_s - self._begun_s:.0f} s: {phase}")
        return True

    def end(self) -> None:
        """Say how long it took."""
        self._say(f"  the compiler ended after {self._clock() - self._begun_s:.1f} s")


def make_listener(say: Callable[[str], None], *, stream: TextIO | None = None) -> BuildListener:
    """A bar where ``stream`` is a terminal, lines otherwise.

    Args:
        say: Writes one line of words.
        stream: Where the bar is drawn; None is standard error.
    """
    target = sys.stderr if stream is None else stream
    return BarListener(target) if target.isatty() else LineListener(say)
