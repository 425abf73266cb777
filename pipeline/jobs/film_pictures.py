"""The pictures that a finished film is shown by: before and after, for its folder and for the report of the run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from pipeline.inputs.output_names import place_beside
from pipeline.job import JobOutcome
from pipeline.jobs.order import FilmOrder
from pipeline.plan import JobPlan
from pipeline.show.morning.summary import Thumbnails
from pipeline.show.morning.thumbnails import choose_frame, write_thumbnails
from pipeline.show.picture import write_comparison

MAX_THUMBNAIL_FILMS = 200
"""Films of a run that get pictures: as many as the report shows."""


def write_film_thumbnails(plan: JobPlan, outcome: JobOutcome, *, order: FilmOrder) -> Thumbnails | None:
    """Write two small pictures for the morning report of the run, if it has one."""
    if order.run_folder is None or order.index >= MAX_THUMBNAIL_FILMS or outcome.output is None:
        return None
    if plan.container == "png" or plan.info.pictures is not None:
        return None
    if not plan.info.path.exists() or not outcome.frames_done:
        return None
    folder = order.run_folder / "thumbnails"
    folder.mkdir(exist_ok=True)
    return write_thumbnails(
        plan.info.path,
        outcome.output,
        frame_index=choose_frame(outcome.frames_done, rate=plan.info.video.average_rate or Fraction(25)),
        before=folder / f"{order.index:05d}-before.jpg",
        after=folder / f"{order.index:05d}-after.jpg",
        stream_index=plan.info.video.index,
        per_frame=1 if plan.deinterlacing is None else plan.deinterlacing.per_frame,
        crop=plan.info.video.crop,
    )


def write_film_comparison(plan: JobPlan, outcome: JobOutcome) -> Path | None:
    """Write the picture that ``output.comparison_s`` asks for."""
    at_s = plan.config.output.comparison_s
    if at_s is None or outcome.output is None or plan.container == "png" or plan.info.pictures is not None:
        return None
    if not plan.info.path.exists():
        return None
    rate = plan.info.video.average_rate or 1
    index = min(outcome.frames_done - 1, int(at_s * rate))
    png = place_beside(plan.output.with_name(plan.output.stem), ".comparison.png")
    write_comparison(
        plan.info.path,
        outcome.output,
        frame_index=index,
        png=png,
        stream_index=plan.info.video.index,
        per_frame=1 if plan.deinterlacing is None else plan.deinterlacing.per_frame,
        crop=plan.info.video.crop,
    )
    return png
