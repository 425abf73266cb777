"""The work on one film from its order to what became of it: plan, run, compare, report."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from engines.errors import BuildCancelled, EngineError
from engines.gpu.driver import has_nvidia_driver
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.engine import passed_over_lines
from pipeline.errors import GraphFailed, OutputError, OutputHeld, PipelineError, SetupError
from pipeline.failures import FailureKind, classify
from pipeline.graph.channel import Aborted
from pipeline.graph.stop import StopToken
from pipeline.inputs.output_names import REPORT_ENDING, place_beside
from pipeline.job import JobOutcome, run_job
from pipeline.jobs.film_pictures import write_film_comparison, write_film_thumbnails
from pipeline.jobs.order import FilmOrder
from pipeline.journal import check_finished, wish_digest
from pipeline.keeping import KeepTerms, KeptFrames
from pipeline.night.disk import measure_room
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.results import JobResult
from pipeline.show.build import BuildReporter
from pipeline.show.explain import ExitCode, exit_code, explain
from pipeline.show.morning.summary import Problem, Thumbnails, problems_of
from pipeline.show.plan_words import choice_lines, engine_as_json, estimate_disk_bytes, list_choices, plan_as_json
from pipeline.show.progress import Display, JobStart, JobStatus
from pipeline.show.report import build_report, write_report
from pipeline.show.wording import format_count
from pipeline.work_folder import clear_work, set_work_aside

logger = logging.getLogger(__name__)


class _NothingToDo(Exception):
    """The film is finished; the text says since when."""


def work_film(order: FilmOrder, *, display: Display, stop: StopToken) -> JobResult:
    """Do everything for a film, whatever happens to it.

    Args:
        order: What to do.
        display: Told about the beginning and the progress; the end is the caller's to show.
        stop: Ends the work.

    Returns:
        What became of it. Films fail in here, not by raising.
    """
    film = _Film(order=order)
    film.work(display, stop=stop)
    return film.result()


@dataclass(slots=True, kw_only=True)
class _Film:
    """A film while it is worked on: filled in step by step, so that a failure finds what there was."""

    order: FilmOrder
    plan: JobPlan | None = None
    outcome: JobOutcome | None = None
    comparison: Path | None = None
    report: Path | None = None
    status: JobStatus = "failed"
    code: int = ExitCode.DONE
    failure: FailureKind | None = None
    errors: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    reason: str = ""
    kept: KeptFrames = field(default_factory=KeptFrames)
    thumbnails: Thumbnails | None = None
    choices: tuple[str, ...] = ()
    wish: str = ""
    warnings: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    def work(self, display: Display, *, stop: StopToken) -> None:
        """See ``work_film``."""
        started_at, started_s = datetime.now(UTC), time.perf_counter()
        try:
            self._begin(display)
            self._upscale(display, stop=stop)
        except BuildCancelled:
            stop.abort()  # however the compiler heard of it, it was the user's wish
            self.status, self.errors = "stopped", ("stopped by the user while the engine was compiled",)
        except _NothingToDo as exc:
            self.status, self.reason = "skipped", str(exc)
        except OutputHeld as exc:
            self.status, self.reason, self.code = "held", str(exc), ExitCode.SOME_FAILED
            self._fail(exc)
        except (PipelineError, EngineError, GraphFailed) as exc:
            self.code = exit_code(exc)
            self.status = "stopped" if stop.is_aborted else "failed"
            self.failure = None if stop.is_aborted else classify(exc)
            self._fail(exc)
        except Aborted:
            self.status, self.errors = "stopped", (self._stopped_words(),)
        self.elapsed_s = time.perf_counter() - started_s
        self._write_report(display, started_at=started_at)

    def _fail(self, exc: Exception) -> None:
        self.errors, self.problems = explain(exc), problems_of(exc)
        logger.debug("traceback of that error", exc_info=exc)

    def _stopped_words(self) -> str:
        count = self.kept.frames
        if not count:
            return "stopped by the user; no segment of this film was finished"
        return f"stopped by the user; {format_count(count, 'frame')} are kept, and the next run goes on there"

    def _begin(self, display: Display) -> None:
        """Plan the film and announce it; a film that cannot be planned is announced too."""
        lines: tuple[str, ...] = ()
        details: tuple[str, ...] = ()
        try:
            order = self.order
            plan = plan_film(order.config, probe_film(order.config, order.source))
            taken = dict(order.taken)
            if plan.output in taken:
                raise OutputError(
                    f"{order.name} and {taken[plan.output]} would both be written to {plan.output}",
                    path=plan.output,
                    hint="give them different names, or run them with different output.dir",
                )
            self.plan = plan
            self.wish = wish_digest(order.config)
            self.choices = choice_lines(plan)
            details = passed_over_lines(plan.backend)
            if not has_nvidia_driver():  # where there is no GPU, that none is used goes without saying
                for detail in details:
                    logger.info("%s", detail)
                details = ()
            lines = (*self.choices, f"output: {plan.output if plan.is_written else 'none (null encoder)'}")
            self.warnings += plan.warnings
            if (shortage := _foresee_shortage(plan)) is not None:
                self.warnings.append(shortage)
        finally:
            display.job_started(
                JobStart(
                    name=self.order.name,
                    index=self.order.index,
                    count=self.order.count,
                    frame_count_estimated=None if self.plan is None else self.plan.frame_count_estimated,
                    lines=lines,
                    details=details,
                )
            )
        for guess in self.plan.info.guesses:
            display.note(guess)
        for warning in self.warnings:
            display.warning(warning)

    def _upscale(self, display: Display, *, stop: StopToken) -> None:
        plan, order = self.plan, self.order
        assert plan is not None
        if plan.is_written:
            self._look_at_earlier_runs(plan)
        outcome = run_job(
            plan,
            report=display.job_progress,
            interval_s=order.interval_s,
            stop=stop,
            keep=KeepTerms(root=order.root, wish=self.wish, run_folder=order.run_folder),
            kept=self.kept,
            listener=BuildReporter(display, stop=stop),
            warn=lambda text: self._say(display, text),
            note=display.note,
        )
        self.outcome = outcome
        self.status = "done"
        for note in outcome.notes:
            if note not in self.warnings:  # said while it ran
                self._say(display, note)
        if outcome.damage is not None:
            self.status, self.code, self.errors = "damaged", ExitCode.SOME_FAILED, (outcome.damage,)
            self.problems = (Problem(message=outcome.damage),)
        try:
            self.comparison = write_film_comparison(plan, outcome)
            self.thumbnails = write_film_thumbnails(plan, outcome, order=order)
        except PipelineError as exc:  # the film itself is whole
            self._warn(display, exc)

    def _look_at_earlier_runs(self, plan: JobPlan) -> None:
        """See whether the film is finished already, and move what there is of it aside if that was asked for.

        Raises:
            _NothingToDo: It is finished.
            OutputError: It cannot be moved, or removed.
        """
        order = self.order
        if order.restart:
            set_work_aside(plan.output)
            return
        check = check_finished(order.root, output=plan.output, source=self.order.source, config_digest=self.wish)
        if check.is_finished:
            clear_work(plan.output)
            raise _NothingToDo(check.reason)

    def _write_report(self, display: Display, *, started_at: datetime) -> None:
        """Write the report beside the output, if there is a place for it."""
        plan, outcome = self.plan, self.outcome
        if plan is None or not plan.is_written or not plan.output.parent.is_dir() or self.status in ("skipped", "held"):
            return
        try:
            ffmpeg = find_ffmpeg().path
        except SetupError:
            ffmpeg = None
        content = build_report(
            status=self.status,
            started_at=started_at,
            ended_at=datetime.now(UTC),
            elapsed_s=self.elapsed_s,
            input_path=plan.info.path,
            media=plan.info,
            output=None if outcome is None else outcome.output,
            config=self.order.config.model_dump(mode="json"),
            choices=list_choices(plan),
            engine=engine_as_json(plan),
            tiles=plan_as_json(plan)["tiles"],
            graph=None if outcome is None else outcome.graph,
            verdict=None if outcome is None else outcome.verdict,
            frames_done=0 if outcome is None else outcome.frames_done,
            warnings=self.warnings,
            errors=self.errors,
            verification=None if outcome is None else outcome.verification,
            ffmpeg=ffmpeg,
        )
        report = place_beside(plan.output, REPORT_ENDING)
        try:
            write_report(report, content)
            self.report = report
        except PipelineError as exc:
            self._warn(display, exc)

    def _warn(self, display: Display, exc: PipelineError) -> None:
        for line in explain(exc):
            self._say(display, line)

    def _say(self, display: Display, warning: str) -> None:
        self.warnings.append(warning)
        display.warning(warning)

    def result(self) -> JobResult:
        """What became of it."""
        plan = self.plan
        return JobResult(
            name=self.order.name,
            source=self.order.source,
            status=self.status,
            code=self.code,
            outcome=self.outcome,
            errors=self.errors,
            warnings=tuple(self.warnings),
            report=self.report,
            comparison=self.comparison,
            elapsed_s=self.elapsed_s,
            failure=self.failure,
            planned_output=plan.output if plan is not None and plan.is_written else None,
            problems=self.problems,
            reason=self.reason,
            choices=self.choices,
            source_size=None if plan is None else (plan.info.video.height, plan.info.video.width),
            output_size=None if plan is None else (plan.height, plan.width),
            frame_count_estimated=None if plan is None else plan.frame_count_estimated,
            frames_done=self.kept.frames if self.outcome is None else self.outcome.frames_done,
            frames_resumed=self.kept.resumed_frames,
            thumbnails=self.thumbnails,
        )


def _foresee_shortage(plan: JobPlan) -> str | None:
    """Say so if the disk probably has too little room: the run then waits for more, in the middle of the film."""
    wanted = estimate_disk_bytes(plan)
    if wanted is None or not plan.is_written:
        return None
    try:
        room = measure_room(plan.output.parent)
    except OSError:
        return None
    reserve = plan.config.run.disk_reserve_mb << 20
    if 2 * wanted + reserve <= room.free_bytes:
        return None
    return (
        f"the disk may be too small: about {2 * wanted / 1e9:.1f} GB are needed, {room.words()}, of which"
        f" run.disk_reserve_mb keeps {reserve / 1e9:.1f} GB: the run waits when that is reached"
    )
