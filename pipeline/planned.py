"""What each film's job would be, and how fast its network is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.errors import BuildCancelled, EngineError
from pipeline.config import Config
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from engines.build_options import BuildListener
    from pipeline.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFilm:
    """A film's job."""

    plan: JobPlan
    pace_fps: float
    """Frames per second of the network alone, measured."""


def plan_all(config: Config, *, listener: BuildListener) -> Iterator[PlannedFilm | PipelineError | EngineError]:
    """Plan all films of a config; go on after one that cannot be planned.

    Args:
        config: The run.
        listener: Hears of engines that have to be compiled.

    Yields:
        For each film its job, or why it has none.

    Raises:
        BuildCancelled: The compilation of an engine was cancelled.
        PipelineError: The films cannot be listed.
    """
    from pipeline.inputs.find import find_jobs
    from pipeline.plan import plan_film, probe_film
    from pipeline.preflight import measure_pace

    tiles_per_s: dict[tuple[int, int, int], float] = {}  # a folder of alike films is measured once
    for job in find_jobs(config).jobs:
        try:
            plan = plan_film(job.config, probe_film(job.config, job.source))
            shape = (plan.grid.tile_height, plan.grid.tile_width, plan.engine_scale)
            if shape not in tiles_per_s:
                tiles_per_s[shape] = measure_pace(plan, listener=listener) * len(plan.grid.tiles)
        except BuildCancelled:
            raise
        except (PipelineError, EngineError) as exc:
            yield exc
            continue
        yield PlannedFilm(plan=plan, pace_fps=tiles_per_s[shape] / len(plan.grid.tiles))
