"""An engine that is being compiled: the compiler's reports go to a display, the user's Ctrl-C to the compiler."""

from __future__ import annotations

import time

from pipeline.graph.stop import StopToken
from pipeline.show.progress import BuildProgress, Display
from pipeline.show.wording import format_span, safe_text


class BuildReporter:
    """An ``engines.build_options.BuildListener`` that shows builds on a display and cancels them on request.

    Args:
        display: Told about every build, at most every ``display.interval_s``.
        stop: Where it is to stop, the build is cancelled: no segment is in work; None if nothing can ask for that.
    """

    def __init__(self, display: Display, *, stop: StopToken | None = None) -> None:
        self._display = display
        self._stop = stop
        self._latest = BuildProgress(text="", phase="", share=0.0, elapsed_s=0.0)
        self._started_s = 0.0
        self._shown_s = 0.0

    def begin(self, text: str) -> None:
        """Show that a build begins."""
        self._started_s = time.perf_counter()
        self._show(BuildProgress(text=text, phase="", share=0.0, elapsed_s=0.0), now_s=self._started_s)

    def progress(self, *, phase: str, share: float) -> bool:
        """Show how far the build is, now and then.

        Returns:
            False once the run was asked to end.
        """
        now_s = time.perf_counter()
        self._latest = BuildProgress(
            text=self._latest.text, phase=phase, share=share, elapsed_s=now_s - self._started_s
        )
        if now_s - self._shown_s >= self._display.interval_s:
            self._show(self._latest, now_s=now_s)
        return self._stop is None or not self._stop.is_stopping

    def end(self) -> None:
        """Show that the build is over."""
        elapsed_s = time.perf_counter() - self._started_s
        latest = self._latest
        self._display.build_finished(
            BuildProgress(text=latest.text, phase=latest.phase, share=latest.share, elapsed_s=elapsed_s)
        )

    def _show(self, build: BuildProgress, *, now_s: float) -> None:
        self._latest, self._shown_s = build, now_s
        self._display.build_progress(build)


def draw_bar(build: BuildProgress, *, cells: int, encoding: str) -> str:
    """Draw a build's bar and figures in one line.

    Args:
        build: Where it is.
        cells: Width of the terminal; the line is no longer unless its figures alone are.
        encoding: What the stream encodes to; without line-drawing characters in it, the bar is drawn in ASCII.
    """
    drawn, rest = ("━", "─") if safe_text("━─", encoding=encoding) == "━─" else ("=", "-")
    figures = f" {int(100 * build.share):3} %  {format_span(build.elapsed_s)}"
    bar_cells = max(0, min(40, cells - len(figures)))
    filled = round(bar_cells * min(1.0, build.share))
    bar = drawn * filled + rest * (bar_cells - filled)
    room = cells - bar_cells - len(figures) - 2
    return bar + figures + (f"  {build.phase}"[: room + 2] if build.phase and room >= 8 else "")
