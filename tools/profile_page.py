"""A profile as one page of HTML: nothing is loaded, no script, day and night, on a desk and on a phone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.profile_figures import Figures
from tools.profile_record import Recorded
from tools.profile_samples import cores_busy
from tools.profile_shares import KINDS, pieces_of

WIDTH = 1000
"""Units along the time of every plot, which is then as wide as the page."""
CLOSE_UP_FRAMES = 16
"""In the timeline, of all lanes."""
MOST_PIECES = 4000
"""In the timeline: more are finer than a pixel, and only make the page slow."""
BINS = 250
"""Along the time of a queue's plot: four pixels each on a wide page."""
WORDS = {
    "work": "works",
    "starved": "waits for work",
    "blocked": "waits for the next stage",
    "unbuffered": "waits for a buffer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A track of the timeline."""

    name: str
    rects: tuple[tuple[str, float, float, str], ...]
    """Class, x, width, and what to say of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A value over the time of the run."""

    name: str
    remark: str
    points: str
    """Of a polyline, 0 to 100 upwards."""
    top: str
    """What 100 means."""


def build_page(
    run: Recorded, figures: Figures, *, title: str, paragraph: str, what_ifs: Sequence[dict[str, str]], doubts: str = ""
) -> str:
    """The page.

    Args:
        run: What was watched.
        figures: Of it.
        title: What ran.
        paragraph: What limits it.
        what_ifs: Rows of that table, as ``profile_whatif.as_rows`` gives them; may be empty.
        doubts: What makes those doubtful; may be empty.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    window = close_up(run, figures)
    return environment.get_template("profile_page.html").render(
        title=title,
        paragraph=paragraph,
        figures=figures,
        kinds=KINDS,
        words=WORDS,
        rows=timeline_rows(run, window=window),
        close_up_ms=1e3 * (window[1] - window[0]),
        close_up_at_s=window[0] - run.graph.started_s,
        queues=queue_plots(run),
        uses=use_plots(run),
        what_ifs=what_ifs,
        doubts=doubts,
        width=WIDTH,
        run_s=run.graph.ended_s - run.graph.started_s,
    )


def close_up(run: Recorded, figures: Figures) -> tuple[float, float]:
    """The middle of the steady part, about `CLOSE_UP_FRAMES` long."""
    start_s, stop_s = figures.window
    share = min(1.0, CLOSE_UP_FRAMES / max(1, figures.steady_frames))
    middle_s, half_s = (start_s + stop_s) / 2, share * (stop_s - start_s) / 2
    return max(run.graph.started_s, middle_s - half_s), min(run.graph.ended_s, middle_s + half_s)


def timeline_rows(run: Recorded, *, window: tuple[float, float]) -> list[Row]:
    """One row for each stage of each lane, and for each kind of the GPU's work."""
    start_s, stop_s = window
    scale = WIDTH / max(1e-9, stop_s - start_s)
    rows: list[Row] = []

    def rect(kind: str, begin_s: float, end_s: float, words: str) -> tuple[str, float, float, str]:
        begin_s, end_s = max(begin_s, start_s), min(end_s, stop_s)
        return kind, round((begin_s - start_s) * scale, 2), round((end_s - begin_s) * scale, 2), words

    is_single = len(run.graph.lanes) == 1
    for place in range(len(run.graph.lanes[0].stages)):
        for lane, line in enumerate(run.graph.lanes):
            stage = line.stages[place]
            seen = [piece for piece in pieces_of(stage) if piece.start_s < stop_s and piece.stop_s > start_s]
            rects = [
                rect(
                    f"{piece.kind} odd" if piece.kind == "work" and piece.first % 2 else piece.kind,
                    piece.start_s,
                    piece.stop_s,
                    f"{stage.name} {WORDS[piece.kind]}"
                    + (f", frame {piece.first}" if piece.stop > piece.first else "")
                    + f", {1e3 * piece.length_s:.2f} ms",
                )
                for piece in seen[:MOST_PIECES]
            ]
            rows.append(Row(name=stage.name if is_single else f"{stage.name} {lane}", rects=tuple(rects)))
    for kind, lane in sorted({(span.kind, span.lane) for span in run.gpu_spans}):
        own = [
            s for s in run.gpu_spans if (s.kind, s.lane) == (kind, lane) and s.start_s < stop_s and s.stop_s > start_s
        ]
        rects = [
            rect(
                "gpu odd" if span.frame % 2 else "gpu",
                span.start_s,
                span.stop_s,
                f"{kind}, frame {span.frame}, {1e3 * (span.stop_s - span.start_s):.3f} ms",
            )
            for span in own[:MOST_PIECES]
        ]
        rows.append(Row(name=f"GPU {kind}" if is_single else f"GPU {kind} {lane}", rects=tuple(rects)))
    return rows


def queue_plots(run: Recorded) -> list[Plot]:
    """How full each channel was, the mean of each four pixels, lanes together."""
    started_s, ended_s = run.graph.started_s, run.graph.ended_s
    plots = []
    for place, channel in enumerate(run.graph.lanes[0].channels):
        bins = [0.0] * BINS
        for line in run.graph.lanes:
            steps = [(started_s, 0), *line.channels[place].depths, (ended_s, 0)]
            for (from_s, depth), (until_s, _) in itertools.pairwise(steps):
                _spread(bins, from_s - started_s, until_s - started_s, depth, span_s=ended_s - started_s)
        capacity = channel.capacity * len(run.graph.lanes)
        mean = sum(bins) / BINS
        points = [(i + 0.5, value / capacity) for i, value in enumerate(bins)]
        plots.append(
            Plot(
                name=channel.name.replace("->", " → "),
                remark=f"{mean:.1f} of {capacity} on average",
                points=_polyline([(x / BINS, y) for x, y in points]),
                top=str(capacity),
            )
        )
    return plots


def _spread(bins: list[float], start_s: float, stop_s: float, value: float, *, span_s: float) -> None:
    """Add a value that holds for some time to the means of the bins that it lies in."""
    if not value or stop_s <= start_s:
        return
    each_s = span_s / len(bins)
    for place in range(max(0, int(start_s / each_s)), min(len(bins), int(stop_s / each_s) + 1)):
        overlap_s = min(stop_s, (place + 1) * each_s) - max(start_s, place * each_s)
        bins[place] += value * max(0.0, overlap_s) / each_s


def use_plots(run: Recorded) -> list[Plot]:
    """Cores, memory and the GPU's own figures over time."""
    started_s, span_s = run.graph.started_s, run.graph.ended_s - run.graph.started_s
    series: dict[str, list[tuple[float, float]]] = {}
    for time_s, cores in cores_busy(run.samples):
        series.setdefault("cores busy", []).append(((time_s - started_s) / span_s, cores))
    for sample in run.samples:
        at = (sample.time_s - started_s) / span_s
        series.setdefault("host memory, MiB", []).append((at, sample.rss_bytes / 2**20))
        for name, field, unit in GPU_SERIES:
            value = None if sample.gpu is None else getattr(sample.gpu, field)
            if value is not None:
                series.setdefault(name, []).append((at, value / unit))
    plots = []
    for name, points in series.items():
        top = max(y for _, y in points) or 1.0
        mean = sum(y for _, y in points) / len(points)
        inside = [(min(1.0, max(0.0, x)), y / top) for x, y in points]
        plots.append(Plot(name=name, remark=f"{mean:.3g} on average", points=_polyline(inside), top=f"{top:.3g}"))
    return plots


GPU_SERIES = (
    ("GPU kernels, % of the time", "sm_percent", 1),
    ("GPU memory accesses, % of the time", "memory_percent", 1),
    ("NVDEC, %", "decoder_percent", 1),
    ("NVENC, %", "encoder_percent", 1),
    ("GPU clock, MHz", "sm_mhz", 1),
    ("GPU memory taken, MiB", "used_bytes", 2**20),
    ("GPU power, W", "watts", 1),
)
"""Name, field of ``GpuReading``, and what to divide by."""


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    """From shares of the width and the height."""
    return " ".join(f"{WIDTH * x:.1f},{100 - 100 * y:.1f}" for x, y in points)
