"""One film from its file to the finished, verified output.

Order: check the paths, load the network, run the graph, join the segments and copy the other streams, verify, and only
then give the result its name. Until that last step everything lies in a work folder beside the output, which is removed
in the end, whatever the end is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.atomic import commit_file, fsync_folder
from engines.build_options import BuildListener
from pipeline.assembly.expected import Expected
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.assembly.mux import assemble, write_pictures
from pipeline.assembly.verify import verify_output
from pipeline.errors import OutputError
from pipeline.graph.metrics import GraphSnapshot, Verdict, find_bottleneck
from pipeline.graph.stop import StopToken
from pipeline.lane_run import RunTerms, upscale_film
from pipeline.plan import JobPlan
from pipeline.preflight import check_paths, open_planned_runner
from pipeline.segments import CommittedSegment
from pipeline.show.progress import JobPhase, JobProgress, RateMeter
from pipeline.warmup import compile_kernels
from pipeline.work_folder import open_work_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """What a finished job did."""

    output: Path | None
    """The result; None if nothing is written (``encode.kind: null``)."""
    frames_done: int
    elapsed_s: float
    """From opening the network to the final name."""
    graph_s: float
    """Of it, the time in which frames flowed."""
    graph: GraphSnapshot
    """Of all lanes; where a single lane had to finish what several had begun, its own."""
    verdict: Verdict
    damage: str | None
    """What of the input could not be read; None if nothing was lost."""
    notes: tuple[str, ...]
    verification: dict[str, Any] | None

    @property
    def fps(self) -> float:
        """Frames per second while frames flowed."""
        return self.frames_done / self.graph_s if self.graph_s > 0 else 0.0


def run_job(
    plan: JobPlan,
    *,
    report: Callable[[JobProgress], None],
    interval_s: float,
    stop: StopToken,
    listener: BuildListener | None = None,
) -> JobOutcome:
    """Upscale one film.

    Args:
        plan: What to do, from ``plan_film``.
        report: Called in this thread with how far the job is.
        interval_s: About how often, seconds.
        stop: Ends the job from outside; its work folder goes, nothing else was written.
        listener: Hears of an engine that has to be compiled before the frames can flow.

    Returns:
        The outcome. The file under ``plan.output`` is whole and verified.

    Raises:
        GraphFailed: A stage failed; the first member is the cause.
        PipelineError: Memory, paths, tools, assembly or verification failed.
        BuildCancelled: The compilation of the engine was cancelled.
        EngineError: The network could not be loaded.
        Aborted: ``stop.abort()`` was called.
    """
    started_s = time.perf_counter()
    check_paths(plan)
    if plan.streams is not None:
        find_ffmpeg()  # missing: say so now, not after the night
    progress = _Progress(plan, report=report)
    with _work_folder(plan) as work:
        with open_planned_runner(plan, listener=listener) as runner:
            compile_kernels(plan)
            stop.raise_if_aborted()
            progress.begin()
            terms = RunTerms(work=work, stop=stop, on_snapshot=progress.update, interval_s=interval_s)
            film = upscale_film(plan, runner, terms)
        verification = None
        if plan.is_written:
            progress.enter("assembling")
            verification = _assemble(plan, film.segments, work=work, stop=stop, progress=progress)
    return JobOutcome(
        output=plan.output if plan.is_written else None,
        frames_done=film.frame_count,
        elapsed_s=time.perf_counter() - started_s,
        graph_s=film.graph_s,
        graph=film.graph,
        verdict=find_bottleneck(film.graph),
        damage=film.damage,
        notes=film.notes,
        verification=verification,
    )


def _assemble(
    plan: JobPlan, segments: tuple[CommittedSegment, ...], *, work: Path, stop: StopToken, progress: _Progress
) -> dict[str, Any]:
    """Make the whole result in the work folder, verify it there, and move it to its name."""
    finished = work / f"result.{plan.container}"
    if plan.container == "png":
        write_pictures(segments, out=finished)
    else:
        assert plan.streams is not None
        source = plan.info if plan.info.path.exists() else None
        assemble(segments, source=source, plan=plan.streams, encode=plan.encode, out=finished, stop=stop)
    stop.raise_if_aborted()
    progress.enter("verifying")
    verified = verify_output(finished, Expected.of(plan, segments))
    stop.raise_if_aborted()
    try:
        _commit(finished, plan.output, work=work)
    except OSError as exc:
        raise OutputError(
            f"cannot move the result to {plan.output}: {exc.strerror}", path=plan.output, hint="check the folder"
        ) from exc
    return verified


def _commit(finished: Path, output: Path, *, work: Path) -> None:
    """Give the result its name; an older one goes only then."""
    if not finished.is_dir():
        commit_file(finished, output)
        return
    if output.exists():
        output.rename(work / "replaced")
    finished.rename(output)
    fsync_folder(output.parent)


def _work_folder(plan: JobPlan) -> AbstractContextManager[Path]:
    """Where segments go; a path that nobody uses if nothing is written."""
    if plan.is_written:
        return open_work_folder(plan.output, keep=plan.config.output.keep_work)
    return nullcontext(plan.output)


class _Progress:
    """Turns the runtime's snapshots into what displays show."""

    def __init__(self, plan: JobPlan, *, report: Callable[[JobProgress], None]) -> None:
        self._frame_count = plan.frame_count_estimated
        self._report = report
        self._meter = RateMeter()
        self._started_s = time.perf_counter()
        self._phase: JobPhase = "upscaling"
        self._latest: GraphSnapshot | None = None
        self._done_before = 0

    def begin(self) -> None:
        """The rate counts from here."""
        self._meter.update(frames_done=0, now_s=time.perf_counter())

    def update(self, graph: GraphSnapshot, done_before: int) -> None:
        """Take a snapshot and pass it on.

        Args:
            graph: Of the graph that runs.
            done_before: Frames that were finished before it began.
        """
        self._latest, self._done_before = graph, done_before
        done = done_before + graph.stages[-1].items_in
        now_s = time.perf_counter()
        self._meter.update(frames_done=done, now_s=now_s)
        self._report(
            JobProgress(
                frames_done=done,
                elapsed_s=now_s - self._started_s,
                fps=self._meter.fps,
                eta_s=self._meter.eta_s(self._frame_count),
                graph=graph,
                verdict=find_bottleneck(graph),
                phase=self._phase,
            )
        )

    def enter(self, phase: JobPhase) -> None:
        """Say that the frames are done and what comes now."""
        self._phase = phase
        if self._latest is not None:
            self.update(self._latest, self._done_before)
