"""Measures settings on a film: the real run of so many frames, given up when it is clearly slower than the best."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engines import EngineError, Runner
from pipeline.config import Config
from pipeline.config.overrides import with_settings
from pipeline.errors import GraphFailed, PipelineError
from pipeline.graph.channel import Aborted
from pipeline.graph.metrics import GraphSnapshot
from pipeline.graph.stop import StopToken
from pipeline.graph.tracing import GraphTrace
from pipeline.media import MediaInfo
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.preflight import open_planned_runner
from pipeline.warmup import compile_kernels
from tools.profile_figures import measure
from tools.profile_predict import costs_of
from tools.profile_record import record_run
from tools.profile_shares import STEADY_SHARE
from tools.profile_whatif import usable_cores
from tools.tune_trials import Measured, Settings

FEWEST_FRAMES = 12
"""Of a run, and at least so many for each two lanes: less is beginning and end only."""
MOST_FRAMES = 480
RUNS_IN_BUDGET = 24
"""About how many runs of full length the budget is to have room for: the search's own and the contenders'."""
PILOT_FRAMES = 8
OPEN_RUNNERS = 2
"""Networks kept open on the processor, so that two that take turns are not opened each time; one on a GPU."""

SLOWER = 0.85
"""A run is given up when it is slower than this share of its rival beyond ``ERRORS`` standard errors."""
ERRORS = 3.0
FLIGHTS = 3
"""How many times as many frames a run has at least as are in the network at once: they come out together."""
LOOKS = 12
"""How often a run is looked at, if it is as fast as its rival."""
FEWEST_LOOKS = 4
LEAST_SHARE = 0.25
"""Of a run's frames, before which it is not given up."""
BLOCKS = 5
"""Parts of the steady time whose rates give the standard error."""


class FilmBench:
    """Runs a film's first frames. A context manager. See ``tools.tune_trials.Bench``.

    Args:
        config: The run; what was tuned before plays no part.
        path: Which of its films; None for the synthetic one.
        abandons: Whether runs are given up; not for a grid, whose time is what is compared.
    """

    def __init__(self, config: Config, path: Path | None, *, abandons: bool = True) -> None:
        run = config.run.model_copy(update={"tuned": False})
        self.config = config.model_copy(update={"run": run})
        self.frame_count = PILOT_FRAMES
        self._abandons = abandons
        self._info: MediaInfo = probe_film(self.config, path)
        self._runners: OrderedDict[tuple[Any, ...], Runner] = OrderedDict()

    def plan(self, settings: Settings | Mapping[str, Any] = ()) -> JobPlan:
        """The plan with some settings.

        Raises:
            PipelineError, EngineError: They cannot be.
        """
        config = self.config
        if settings:
            config = with_settings(config, [dict(settings)], source="tools/tune.py")
        return plan_film(config, self._info)

    def settle_frames(self, *, budget_s: float) -> float:
        """Choose how many frames a run has, by how fast the film goes; whatever is compiled, is then.

        Returns:
            Seconds that this took.

        Raises:
            PipelineError, EngineError, GraphFailed: The run cannot be made as it is.
        """
        started_s = time.perf_counter()
        plan = self.plan()
        fewest = FEWEST_FRAMES * max(1, plan.lanes // 2)
        self.frame_count = min(PILOT_FRAMES * plan.lanes, plan.frame_count_estimated or MOST_FRAMES)
        runner = self._open(plan)
        record_run(plan, runner, frame_count=self.frame_count)
        pilot = measure(record_run(plan, runner, frame_count=self.frame_count))
        wanted = int(pilot.steady_fps * budget_s / RUNS_IN_BUDGET)
        self.frame_count = min(max(wanted, fewest), max(MOST_FRAMES, fewest), plan.frame_count_estimated or MOST_FRAMES)
        return time.perf_counter() - started_s

    def measure(self, settings: Settings, *, rival_fps: float | None) -> Measured:
        """See ``Bench``."""
        started_s = time.perf_counter()
        watch = _Watch(rival_fps if self._abandons else None, frame_count=self.frame_count)

        def ended(**figures: Any) -> Measured:
            return Measured(settings=settings, seconds=time.perf_counter() - started_s, **figures)

        try:
            plan = self.plan(settings)
            refusal = _unlike(plan, settings) or _too_many_at_once(plan, settings, frame_count=self.frame_count)
            if refusal:
                return ended(fps=0.0, refusal=refusal)
            run = record_run(
                plan,
                self._open(plan),
                frame_count=self.frame_count,
                stop=watch.stop,
                on_snapshot=watch.look,
                interval_s=watch.interval_s,
            )
        except Aborted:
            if not watch.stop.is_aborted:
                raise
            return ended(fps=watch.fps, is_abandoned=True)
        except (PipelineError, EngineError, GraphFailed) as exc:
            self.close()  # whatever it was short of
            return ended(fps=0.0, refusal=_words(exc))
        figures = measure(run)
        return ended(
            fps=figures.steady_fps,
            error=standard_error(run.graph),
            costs=tuple(costs_of(figures)),
            lanes=plan.lanes,
            cores=usable_cores([figures]),
            limit=figures.verdict.stage,
            peak_bytes=figures.rss_peak_bytes,
            device_peak_bytes=figures.device_peak_bytes,
            frame_bytes=run.bytes / max(1, run.frames),
        )

    def _open(self, plan: JobPlan) -> Runner:
        """The network of a plan, perhaps still open; the one that was not used for the longest is closed."""
        infer, grid = plan.config.infer, plan.grid
        key = (
            *(grid.tile_height, grid.tile_width, infer.batch, plan.slots, infer.threads),
            *(plan.backend.backend, plan.backend.precision, plan.engine_scale),
        )
        if key in self._runners:
            self._runners.move_to_end(key)
            return self._runners[key]
        while len(self._runners) >= (OPEN_RUNNERS if plan.backend.activation_share > 0 else 1):
            self._runners.popitem(last=False)[1].close()
        self._runners[key] = open_planned_runner(plan)
        compile_kernels(plan)
        return self._runners[key]

    def close(self) -> None:
        """Close all networks."""
        while self._runners:
            self._runners.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return the bench."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all networks."""
        self.close()


class _Watch:
    """Looks at a run from time to time and gives it up when it is clearly slower than its rival."""

    def __init__(self, rival_fps: float | None, *, frame_count: int) -> None:
        self.stop = StopToken()
        self.interval_s = 1.0 if not rival_fps else max(0.05, frame_count / rival_fps / LOOKS)
        self.fps = 0.0
        self._rival_fps = rival_fps
        self._frame_count = frame_count
        self._seen: list[tuple[float, int]] = []

    def look(self, graph: GraphSnapshot, done_before: int) -> None:  # noqa: ARG002 - signature of ``RunTerms``
        frames, now_s = graph.stages[-1].items_in, time.perf_counter()
        if not self._rival_fps or frames == (self._seen[-1][1] if self._seen else 0):
            return
        self._seen.append((now_s, frames))  # a look at which something had arrived
        (start_s, first), (stop_s, last) = self._seen[0], self._seen[-1]
        if len(self._seen) <= FEWEST_LOOKS or last - first < LEAST_SHARE * self._frame_count:
            return
        self.fps = (last - first) / (stop_s - start_s)
        rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(self._seen)]
        error = statistics.stdev(rates) / len(rates) ** 0.5
        if self.fps + ERRORS * error < SLOWER * self._rival_fps:
            self.stop.abort()


def standard_error(graph: GraphTrace) -> float:
    """Of the frames per second in the steady part of a run, as a share; 0 where there are too few frames to say."""
    arrivals_s = sorted(mark[0] for lane in graph.lanes for mark in lane.stages[-1].marks)
    low, high = (round(share * len(arrivals_s)) for share in STEADY_SHARE)
    steady_s = arrivals_s[low:high]
    length = len(steady_s) // BLOCKS
    if length < 2:
        return 0.0
    times_s = [steady_s[(n + 1) * length - 1] - steady_s[n * length] for n in range(BLOCKS)]
    return statistics.stdev(times_s) / statistics.fmean(times_s) / math.sqrt(BLOCKS)


def usable_core_count() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _unlike(plan: JobPlan, settings: Settings) -> str:
    """Why a plan is not what the settings say; empty if it is."""
    lanes = dict(settings).get("run.lanes")
    return f"only {plan.lanes} lanes: {plan.lanes_reason}" if lanes is not None and plan.lanes != lanes else ""


def _too_many_at_once(plan: JobPlan, settings: Settings, *, frame_count: int) -> str:
    """Why a run of so many frames says nothing of settings that work on many at once; empty if it does, or if none."""
    at_once = plan.config.infer.batch * plan.slots * plan.lanes / len(plan.grid.tiles)
    if not settings or frame_count >= FLIGHTS * at_once:
        return ""
    return f"{at_once:.0f} frames are in work at once: {frame_count} are too few to measure that, give it more time"


def _words(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
