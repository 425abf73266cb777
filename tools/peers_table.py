"""The table of ``bench_peers.py`` and its picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.peers_run import Taken


@dataclass(slots=True, kw_only=True)
class Row:
    """One program."""

    name: str
    version: str = ""
    remark: str = ""
    missing: str = ""
    """Why it took no part; empty if it did."""
    failure: str = ""
    """Why it gave no result."""
    frames: int = 0
    first_use: Taken | None = None
    """The first run of all, over a film of one frame: kernels may be compiled and chosen, and kept for the others."""
    short: list[Taken] = field(default_factory=list)
    """Runs over a film of one frame: everything that a run costs before and after the others."""
    long: list[Taken] = field(default_factory=list)
    """Runs over the whole film."""
    psnr_db: float | None = None
    """Of its result against this project's float32 result; None for that one itself."""
    flaw: str = ""
    """What is wrong with the result."""

    @property
    def fps(self) -> float:
        """All frames over the whole time, start and end included; the median of all runs."""
        return self.frames / statistics.median(taken.seconds for taken in self.long)

    @property
    def steady_fps(self) -> float | None:
        """Frames after the first over the time that they add; None where they add none."""
        more_s = statistics.median(taken.seconds for taken in self.long) - self.first_s
        return (self.frames - 1) / more_s if more_s > 0 and self.frames > 1 else None

    @property
    def first_s(self) -> float:
        """From the start to a finished film of one frame."""
        return statistics.median(taken.seconds for taken in self.short)

    @property
    def peak_bytes(self) -> int:
        """Of all runs."""
        return max(taken.peak_bytes for taken in (*self.short, *self.long))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of text."""
    yield f"{'':34} {'fps':>8} {'steady':>8} {'first use':>10} {'one frame':>10} {'memory':>9} {'PSNR':>8}"
    for row in rows:
        if row.missing or row.failure:
            yield f"{row.name:34} {'not run: ' + row.missing if row.missing else 'failed: ' + row.failure}"
            continue
        steady = "" if row.steady_fps is None else f"{row.steady_fps:.3g}"
        first_use = "" if row.first_use is None else f"{row.first_use.seconds:.1f} s"
        quality = "" if row.psnr_db is None else f"{row.psnr_db:.1f} dB"
        yield (
            f"{row.name:34} {row.fps:8.3g} {steady:>8} {first_use:>10} {row.first_s:8.1f} s "
            f"{row.peak_bytes / 2**20:5.0f} MiB {quality:>8}{'  ' + row.flaw if row.flaw else ''}"
        )


def plot(rows: Sequence[Row], path: Path, *, title: str) -> None:
    """Draw the steady rates and the rates of whole runs as bars.

    Args:
        rows: Those that ran are drawn.
        path: PNG or SVG, by its ending.
        title: Above it.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    drawn = [row for row in rows if row.long and not row.failure][::-1]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.6 * len(drawn)), layout="constrained")
    for place, row in enumerate(drawn):
        colour = "#2f7ed8" if row.name.startswith("nightscale") else "#8a97a6"
        steady = row.steady_fps or row.fps
        axes.barh(place + 0.18, steady, height=0.34, color=colour)
        axes.barh(place - 0.18, row.fps, height=0.34, color=colour, alpha=0.5)
        axes.text(steady, place + 0.18, f" {steady:.3g}", va="center", fontsize=9)
        axes.text(row.fps, place - 0.18, f" {row.fps:.3g} with start and end", va="center", fontsize=9)
    axes.set_yticks(range(len(drawn)), [row.name for row in drawn])
    axes.set_xlabel("frames per second")
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
