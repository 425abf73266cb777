"""A comparison as one page of HTML: nothing is loaded, no script, day and night, on a desk and on a phone."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.compare_figures import FilmFigures, FrameFigures
from tools.compare_worst import WorstFrame

WIDTH = 1000
"""Units along the time of a plot, which is as wide as the page."""
BINS = 1000
"""Along the time: more frames than that share one, as finer than a pixel."""
HIGHEST_DB = 100.0
"""Where frames without any difference are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A measure over the time of the film."""

    name: str
    remark: str
    lowest: str
    """Points of a polyline: the lowest of the frames that share a place; 0 to 100 upwards."""
    mean: str
    """Points of their mean; empty where each frame has a place of its own."""
    top: str
    bottom: str
    limit: float | None
    """Height of the line of what is asked for; None where nothing is, or where it is beyond the plot."""


def build_page(
    frames: Sequence[FrameFigures],
    figures: FilmFigures,
    worst: Sequence[WorstFrame],
    *,
    names: tuple[str, str],
    facts: Sequence[tuple[str, str]],
    failures: Sequence[str],
    limits: dict[str, float],
) -> str:
    """The page.

    Args:
        frames: At least one.
        figures: Of them.
        worst: To show, the worst first.
        names: Of A and B.
        facts: Lines of the table: what, and its value in words.
        failures: What is not as it should be; empty if everything is.
        limits: Asked of every frame: ``psnr``, ``ssim``, ``vmaf``; what is not in it has none.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("compare_page.html").render(
        names=names,
        facts=facts,
        failures=failures,
        plots=list(_plots(frames, figures, limits)),
        worst=[_shown(frame) for frame in worst],
        width=WIDTH,
        seconds=frames[-1].a_s,
    )


def _plots(frames: Sequence[FrameFigures], figures: FilmFigures, limits: dict[str, float]) -> list[Plot]:
    psnr = figures.worst_psnr
    ssim = figures.worst_ssim
    plots = [
        plot(
            frames,
            lambda frame: min(frame.psnr_db, HIGHEST_DB),
            name="PSNR, dB",
            remark=f"lowest {decibels(psnr.psnr_db)} in frame {psnr.index}",
            limit=limits.get("psnr"),
            places=1,
        ),
        plot(
            frames,
            lambda frame: frame.ssim_all,
            name="SSIM",
            remark=f"lowest {ssim.ssim_all:.4f} in frame {ssim.index}",
            limit=limits.get("ssim"),
            places=4,
        ),
    ]
    scored = [frame for frame in frames if frame.vmaf is not None]
    if figures.worst_vmaf is not None:
        vmaf = figures.worst_vmaf
        plots.append(
            plot(
                scored,
                lambda frame: frame.vmaf or 0.0,
                name="VMAF",
                remark=f"lowest {vmaf.vmaf:.1f} in frame {vmaf.index}",
                limit=limits.get("vmaf"),
                places=1,
            )
        )
    return plots


def plot(
    frames: Sequence[FrameFigures],
    value: Callable[[FrameFigures], float],
    *,
    name: str,
    remark: str,
    limit: float | None,
    places: int,
) -> Plot:
    """A plot from the lowest value to the highest."""
    end_s = max(frame.a_s for frame in frames) or 1.0
    bins: dict[int, list[FrameFigures]] = {}
    for frame in frames:
        bins.setdefault(min(BINS - 1, int(BINS * frame.a_s / end_s)), []).append(frame)
    values = [value(frame) for frame in frames]
    bottom, top = min(values), max(values)
    span = (top - bottom) or 1.0

    def points(of: Callable[[list[float]], float]) -> str:
        pairs = [
            (WIDTH * shared[0].a_s / end_s, 100 - 100 * (of([value(frame) for frame in shared]) - bottom) / span)
            for shared in bins.values()
        ]
        pairs = pairs if len(pairs) > 1 else [pairs[0], (WIDTH, pairs[0][1])]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)

    is_shared = len(bins) < len(frames)
    return Plot(
        name=name,
        remark=remark,
        lowest=points(min),
        mean=points(lambda shared: sum(shared) / len(shared)) if is_shared else "",
        top=f"{top:.{places}f}",
        bottom=f"{bottom:.{places}f}",
        limit=None if limit is None or not bottom <= limit <= top else 100 - 100 * (limit - bottom) / span,
    )


def decibels(value: float) -> str:
    """A PSNR in words."""
    return "no difference" if math.isinf(value) else f"{value:.2f} dB"


def _shown(frame: WorstFrame) -> dict[str, Any]:
    figures = frame.figures
    vmaf = "" if figures.vmaf is None else f", VMAF {figures.vmaf:.1f}"
    return {
        "index": figures.index,
        "words": f"at {figures.a_s:.3f} s: {decibels(figures.psnr_db)}, SSIM {figures.ssim_all:.4f}{vmaf}; "
        f"the part that differs most, from ({frame.left}, {frame.top})",
        "largest": frame.largest,
        "panels": [
            (word, base64.b64encode(png).decode("ascii"))
            for word, png in (("A", frame.a), ("B", frame.b), ("difference", frame.difference))
        ],
    }
