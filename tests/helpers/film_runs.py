"""Runs of a plan's frames below the job: to segments, with what each left."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.load import make_config
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.stop import StopToken
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.run_terms import RunTerms, UpscaledFilm
from pipeline.segments import CommittedSegment

SEGMENT_FRAMES = 8


def film_plan(folder: Path, film: Path, *, lanes: int = 1, **sections: Any) -> JobPlan:
    """A plan that repeats pixels and encodes with libx264 in segments of eight frames (at 25 a second)."""
    config = make_config(
        {
            "input": {"paths": [str(film)]},
            "infer": {"model": "nearest-x2", "backend": "resize"},
            "encode": {"threads": 1, "preset": "ultrafast"},
            "output": {"dir": str(folder / "out"), "segment_s": 0.3},
            "run": {"lanes": lanes, **sections.pop("run", {})},
            **sections,
        },
        folder=folder,
    )
    return plan_film(config, probe_film(config, film))


@dataclass
class Listener:
    """Hears of segments and figures."""

    committed: list[CommittedSegment] = field(default_factory=list)
    discarded: list[CommittedSegment] = field(default_factory=list)
    figures: list[tuple[GraphSnapshot, int]] = field(default_factory=list)

    def terms(self, work: Path, stop: StopToken | None = None) -> RunTerms:
        work.mkdir(exist_ok=True)
        return RunTerms(
            work=work,
            stop=stop or StopToken(),
            on_snapshot=lambda graph, done: self.figures.append((graph, done)),
            interval_s=60.0,
            on_committed=self.committed.append,
            on_discarded=self.discarded.append,
        )


def upscale(
    plan: JobPlan, terms: RunTerms, *, done: tuple[CommittedSegment, ...] = ()
) -> tuple[UpscaledFilm, list[bytes]]:
    """The film, and the bytes of its segments."""
    from pipeline.lane_run import upscale_film

    with open_planned_runner(plan) as runner:
        film = upscale_film(plan, runner, terms, done=done)
    return film, contents(film)


def contents(film: UpscaledFilm) -> list[bytes]:
    """Of the segment files, in order."""
    return [segment.path.read_bytes() for segment in film.segments if segment.path is not None]
