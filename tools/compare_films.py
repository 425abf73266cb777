"""Compares two films frame by frame."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction

from pipeline.errors import MediaError
from tools.compare_figures import FilmFigures, FrameFigures, compare_planes, summarise, with_vmaf
from tools.compare_pairs import PairedFilms
from tools.compare_vmaf import NoVmaf, measure_vmaf
from tools.compare_worst import WorstFrame, WorstFrames


@dataclass(kw_only=True)
class Comparison:
    """What was found."""

    films: PairedFilms
    frames: list[FrameFigures]
    """Of frames that both have."""
    count_a: int
    count_b: int
    first_late: FrameFigures | None
    """The first frame that the films do not show at the same time, within a tick of the coarser clock."""
    worst: list[WorstFrame]
    no_vmaf: str = ""
    """Why it was not measured; empty if it was."""
    figures: FilmFigures = field(init=False)

    def __post_init__(self) -> None:
        self.figures = summarise(self.frames)


def compare(
    films: PairedFilms, *, stop: int | None = None, wants_vmaf: bool = True, worst_count: int = 3
) -> Comparison:
    """Compare two films.

    Args:
        films: The two.
        stop: First frame not compared; None for all.
        wants_vmaf: Whether VMAF is measured where it can be.
        worst_count: Frames to show.

    Raises:
        MediaError: A film can no longer be read, or one has no frame.
        UnsupportedMedia: A film changes its size.
    """
    rate = films.a.video.average_rate or Fraction(25)
    worst = WorstFrames(films, count=worst_count, apart=max(1, round(rate)))
    tick_s = max(films.a.video.time_base, films.b.video.time_base)
    frames: list[FrameFigures] = []
    counts = [0, 0]
    starts_s: list[Fraction] = []
    first_late = None
    for pair in films.pairs(stop=stop):
        counts[0] += pair.a is not None
        counts[1] += pair.b is not None
        if pair.a is None or pair.b is None:
            continue
        times_s = [films.time_s(pair.a, of_b=False), films.time_s(pair.b, of_b=True)]
        starts_s = starts_s or times_s
        a_s, b_s = times_s[0] - starts_s[0], times_s[1] - starts_s[1]
        figures = compare_planes(
            pair.planes_a,
            pair.planes_b,
            bit_depth=films.format.bit_depth,
            index=pair.a.stamp.index,
            a_s=float(a_s),
            b_s=float(b_s),
        )
        frames.append(figures)
        worst.offer(figures, pair.planes_a, pair.planes_b)
        if first_late is None and abs(a_s - b_s) > tick_s:
            first_late = figures
    if not frames:
        empty = films.a if counts[0] == 0 else films.b
        raise MediaError(f"no frame of {empty.path} can be decoded", path=empty.path, hint="check it in a player")
    no_vmaf = "" if wants_vmaf else "--no-vmaf"
    if wants_vmaf:
        try:
            scores = measure_vmaf(films, frame_count=len(frames), threads=len(os.sched_getaffinity(0)))
            frames = with_vmaf(frames, scores)
        except NoVmaf as exc:
            no_vmaf = str(exc)
    return Comparison(
        films=films,
        frames=frames,
        count_a=counts[0],
        count_b=counts[1],
        first_late=first_late,
        worst=worst.pictures(),
        no_vmaf=no_vmaf,
    )
