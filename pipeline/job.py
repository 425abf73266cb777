"""One film from its file to the finished, verified output.

Order: own the work folder and see what of the film is done already, check the paths, load the network, run the graph,
join the segments and copy the other streams, verify, and only then give the result its name. Until that last step
everything lies in the work folder beside the output. It is removed when the film is finished, and when nothing of it is
worth going on with; otherwise it stays for the next job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.atomic import commit_file, fsync_folder
from engines.build_options import BuildListener
from pipeline.assembly.expected import Expected
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.assembly.mux import assemble, write_pictures
from pipeline.assembly.named_pictures import verify_named_pictures, write_named_pictures
from pipeline.assembly.verify import verify_output
from pipeline.attempts import run_attempts
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import OutputError, VerificationFailed
from pipeline.graph.metrics import GraphSnapshot, Verdict, find_bottleneck
from pipeline.graph.stop import StopToken
from pipeline.journal import wish_digest
from pipeline.keeping import JobStopped, KeepTerms, KeptFrames, KeptWork, open_kept_work
from pipeline.picture_plan import picture_form
from pipeline.plan import JobPlan
from pipeline.preflight import check_paths, make_output_folder
from pipeline.run_terms import RunTerms, UpscaledFilm
from pipeline.show.progress import JobPhase, JobProgress, RateMeter
from pipeline.show.wording import format_count
from pipeline.verify.keeping import keep_failed
from pipeline.work_folder import REPLACED_NAME

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
    """Of all lanes; where a single lane had to finish what several had begun, or memory ran out, of what ran last."""
    verdict: Verdict
    damage: str | None
    """What of the input could not be read; None if nothing was lost."""
    notes: tuple[str, ...]
    verification: dict[str, Any] | None
    frames_resumed: int = 0
    """Of ``frames_done``, made by earlier jobs."""

    @property
    def fps(self) -> float:
        """Frames per second while frames flowed."""
        return (self.frames_done - self.frames_resumed) / self.graph_s if self.graph_s > 0 else 0.0


def run_job(
    plan: JobPlan,
    *,
    report: Callable[[JobProgress], None],
    interval_s: float,
    stop: StopToken,
    keep: KeepTerms | None = None,
    kept: KeptFrames | None = None,
    listener: BuildListener | None = None,
    warn: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> JobOutcome:
    """Upscale one film, or go on with it.

    Args:
        plan: What to do, from ``plan_film``.
        report: Called in this thread with how far the job is.
        interval_s: About how often, seconds.
        stop: Ends the job from outside: after the segments in work, or at once. What is in finished segments stays in
            the work folder, and the next job for the same output goes on with it.
        keep: Where work is kept; None: by the plan's config.
        kept: Told what is safe on disk while the job runs.
        listener: Hears of an engine that has to be compiled before the frames can flow.
        warn: Called in this thread with what the user should know while the job runs: that memory ran out, and what
            it goes on with. The outcome's notes have it too.
        note: Called in this thread with what the job goes on from, one sentence each.

    Returns:
        The outcome. The file under ``plan.output`` is whole and verified.

    Raises:
        GraphFailed: A stage failed; the first member is the cause.
        OutputHeld: Another run is working on the same output.
        ResumeRefused: What is there was begun with something else.
        PipelineError: Memory (twice), paths, tools, assembly or verification failed.
        BuildCancelled: The compilation of the engine was cancelled.
        EngineError: The network could not be loaded.
        JobStopped: ``stop.stop()`` was called, and the film is not finished.
        Aborted: ``stop.abort()`` was called.
    """
    started_s = time.perf_counter()
    if plan.streams is not None:
        find_ffmpeg()  # missing: say so now, not after the night
    progress = _Progress(plan, report=report)
    terms = RunTerms(work=plan.output, stop=stop, on_snapshot=progress.update, interval_s=interval_s)
    if not plan.is_written:
        film = run_attempts(plan, terms, listener=listener, on_begin=progress.begin, warn=warn)
        if not film.is_complete:
            raise JobStopped(f"stopped after {film.frame_count} frames")
        return _outcome(plan, film, started_s=started_s, verification=None)
    make_output_folder(plan)
    keep = keep or KeepTerms(root=plan.config.output.dir, wish=wish_digest(plan.config))
    with open_kept_work(plan, keep, kept=kept or KeptFrames(), stop=stop) as work:
        if work.finished_frames is not None:
            work.remember(frame_count=work.finished_frames)
            return _finished_before(plan, frame_count=work.finished_frames, started_s=started_s)
        check_paths(plan)
        for text in work.greetings():
            logger.info("%s: %s", plan.info.path, text)
            if note is not None:
                note(text)
        film = run_attempts(
            work.plan,
            replace(terms, work=work.work, on_committed=work.commit, on_discarded=work.discard),
            done=work.done,
            listener=listener,
            on_begin=progress.begin,
            warn=warn,
            on_lowered=work.lower,
        )
        if not film.is_complete:
            raise JobStopped(f"stopped after {film.frame_count} frames")
        progress.enter("assembling")
        verification = _assemble(work, film, stop=stop, progress=progress)
        work.remember(frame_count=film.frame_count, damage=film.damage)
    if different := verification.get("pictures", {}).get("differences"):
        words = (
            f"{format_count(len(different), 'frame')} of those compared with the damaged film differ: {different[0]}"
        )
        film = replace(film, notes=(*film.notes, words))
    outcome = _outcome(plan, film, started_s=started_s, verification=verification)
    return replace(outcome, frames_resumed=sum(segment.frame_count for segment in work.done))


def _outcome(plan: JobPlan, film: UpscaledFilm, *, started_s: float, verification: dict[str, Any] | None) -> JobOutcome:
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


def _finished_before(plan: JobPlan, *, frame_count: int, started_s: float) -> JobOutcome:
    """The outcome of a job whose earlier attempt ended right after the result got its name."""
    nothing = GraphSnapshot(elapsed_s=0.0, stages=(), channels=())
    return JobOutcome(
        output=plan.output,
        frames_done=frame_count,
        elapsed_s=time.perf_counter() - started_s,
        graph_s=0.0,
        graph=nothing,
        verdict=find_bottleneck(nothing),
        damage=None,
        notes=("finished by an earlier run, which ended before it could say so",),
        verification=None,
    )


def _assemble(work: KeptWork, film: UpscaledFilm, *, stop: StopToken, progress: _Progress) -> dict[str, Any]:
    """Make the whole result in the work folder, verify it there, and move it to its name."""
    plan, segments = work.plan, film.segments
    form = picture_form(plan)
    is_single = plan.container == "picture"
    finished = work.work / f"result.{'png' if is_single else plan.container}"
    if form is not None:
        write_named_pictures(segments, form=form, out=finished, is_single=is_single)
    elif plan.container == "png":
        write_pictures(segments, out=finished)
    else:
        assert plan.streams is not None
        source = plan.info if plan.info.path.is_file() else None
        assemble(segments, source=source, plan=plan.streams, encode=plan.encode, out=finished, stop=stop)
    stop.raise_if_aborted()
    progress.enter("verifying")
    try:
        if form is not None:
            verified = verify_named_pictures(finished, form, is_single=is_single)
        else:
            verified = verify_output(finished, Expected.of(plan, segments))
        verified |= _compare_pictures(finished, plan, film, names=() if form is None else form.names, stop=stop)
    except VerificationFailed as exc:
        raise keep_failed(exc, finished, output=plan.output) from exc
    stop.raise_if_aborted()
    work.verify(finished, frame_count=sum(segment.frame_count for segment in segments))
    try:
        _commit(finished, plan.output, work=work.work)
    except OSError as exc:
        raise OutputError(
            f"cannot move the result to {plan.output}: {exc.strerror}", path=plan.output, hint="check the folder"
        ) from exc
    return verified


def _compare_pictures(
    finished: Path, plan: JobPlan, film: UpscaledFilm, *, names: Sequence[str], stop: StopToken
) -> dict[str, Any]:
    """Compare a result's frames with the source's; ``names`` are those of its pictures, if it is made of such."""
    segments, mode, info = film.segments, plan.config.output.verify, plan.info
    if mode == "off" or not (info.container == SYNTHETIC_CONTAINER or info.pictures or info.path.exists()):
        return {}
    from pipeline.verify.check import CheckTerms, check_pictures, require_pictures

    started_s = time.perf_counter()
    terms = CheckTerms(
        source=info,
        model=plan.model.name,
        frame_count=film.frame_count,
        is_full=mode == "full",
        seams=tuple(segment.start for segment in segments[1:]),
        deinterlacing=plan.deinterlacing,
        is_damaged=film.damage is not None or any(segment.complaint for segment in segments),
        threads=plan.config.decode.threads,
        picture_names=names,
    )
    found = check_pictures(finished, terms, tick=stop.raise_if_aborted)
    pictures = require_pictures(found, path=plan.output, is_damaged=terms.is_damaged)
    return {"pictures": pictures, "pictures_s": time.perf_counter() - started_s}


def _commit(finished: Path, output: Path, *, work: Path) -> None:
    """Give the result its name; an older one goes only then."""
    if not finished.is_dir():
        commit_file(finished, output)
        return
    if output.exists():
        output.rename(work / REPLACED_NAME)
    finished.rename(output)
    fsync_folder(output.parent)


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

    def begin(self, frames_done: int) -> None:
        """The rate counts from here: what is done already took no time of this attempt."""
        self._meter.update(frames_done=frames_done, now_s=time.perf_counter())

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
