"""Draws the times of work on a GPU: one row per kind and lane, time along x, frames coloured by number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.gpu_overlap import ENGINE, Interval, Span

KINDS = (
    "decode",
    "surface copy",
    "surface upload",
    "surface download",
    "upload",
    "cut",
    ENGINE,
    "blend",
    "finish",
    "copy",
    "graph",
    "download",
    "encode",
)
"""From top to bottom, in the order in which a frame meets them."""

COLOURS = 10
"""Of matplotlib's ``tab10``: frame n has the colour n % 10."""

CLOSE_UP_FRAMES = 8
"""Frames of each lane in the lower panel."""


def plot_timeline(spans: Sequence[Span], path: Path, *, window: Interval, title: str, words: Sequence[str]) -> None:
    """Draw a window of a trace as a whole, and below it the middle of it in detail.

    Args:
        spans: Of any time.
        path: The PNG to write.
        window: Seconds, as the spans'.
        title: What ran.
        words: Lines of figures, written under the title.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = row_order(spans)
    height = 0.8 + max(2.0, 0.2 * len(rows))
    figure, axes = plt.subplots(2, 1, figsize=(15, 2 * height + 1.2))
    for axis, part in zip(axes, (window, close_up(spans, window=window)), strict=True):
        _draw(axis, spans, rows=rows, part=part, is_numbered=axis is axes[1])
        axis.set_xlabel(f"ms after {part[0]:.3f} s of the run; colour: number of the frame, by tens", fontsize=8)
    figure.suptitle("\n".join((title, *words)), fontsize=9, x=0.01, ha="left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def row_order(spans: Sequence[Span]) -> list[tuple[str, int]]:
    """Every (kind, lane) that occurs, from top to bottom."""
    known = {kind: place for place, kind in enumerate(KINDS)}
    found = {(span.kind, span.lane) for span in spans}
    return sorted(found, key=lambda row: (known.get(row[0], len(KINDS)), *row))


def close_up(spans: Sequence[Span], *, window: Interval) -> Interval:
    """A part in the middle of a window in which the engine does about ``CLOSE_UP_FRAMES`` frames of each lane."""
    frames = {(span.lane, span.frame) for span in spans if span.kind == ENGINE and _touches(span, window)}
    lanes = len({lane for lane, _ in frames})
    share = min(1.0, CLOSE_UP_FRAMES * lanes / max(1, len(frames)))
    middle_s, half_s = (window[0] + window[1]) / 2, share * (window[1] - window[0]) / 2
    return middle_s - half_s, middle_s + half_s


def _draw(
    axis: object, spans: Sequence[Span], *, rows: list[tuple[str, int]], part: Interval, is_numbered: bool
) -> None:
    from matplotlib import colormaps
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    colours = colormaps["tab10"]
    lanes = len({lane for _, lane in rows})
    on_host = {span.kind for span in spans if span.is_on_host}
    for place, row in enumerate(rows):
        if place and rows[place - 1][0] != row[0]:
            axis.axhline(place - 0.5, color="0.85", linewidth=0.5)
        shown = [span for span in spans if (span.kind, span.lane) == row and _touches(span, part)]
        axis.broken_barh(
            [(1e3 * (span.start_s - part[0]), 1e3 * (span.stop_s - span.start_s)) for span in shown],
            (place - 0.4, 0.8),
            color=[colours(span.frame % COLOURS) for span in shown],
            linewidth=0.6,  # so that what is shorter than a pixel is seen
        )
        if is_numbered and row[0] == ENGINE:
            for span in shown:
                centre_ms = 1e3 * ((span.start_s + span.stop_s) / 2 - part[0])
                axis.text(centre_ms, place, str(span.frame), ha="center", va="center", fontsize=6, clip_on=True)
    names = [f"{kind}{' (host)' if kind in on_host else ''}{f' {lane}' if lanes > 1 else ''}" for kind, lane in rows]
    axis.set_yticks(range(len(rows)), names, fontsize=7)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 1e3 * (part[1] - part[0]))
    axis.spines[["top", "right"]].set_visible(False)


def _touches(span: Span, part: Interval) -> bool:
    return span.start_s < part[1] and span.stop_s > part[0]
