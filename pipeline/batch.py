"""All films of a config, one after the other.

A film that fails leaves a reason and a report, and the next one begins (``run.on_error``). Signals are caught here: the
first Ctrl-C or SIGTERM aborts the film in work and cleans up, a second one ends the process at once.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from engines.errors import BuildCancelled, EngineError
from engines.gpu.driver import has_nvidia_driver
from pipeline.assembly.ffmpeg import find_ffmpeg
from pipeline.config import Config
from pipeline.engine import passed_over_lines
from pipeline.errors import GraphFailed, OutputError, PipelineError, SetupError
from pipeline.graph.channel import Aborted
from pipeline.graph.stop import StopToken
from pipeline.job import JobOutcome, run_job
from pipeline.plan import JobPlan, plan_film, probe_film
from pipeline.results import BatchResult, JobResult
from pipeline.show.build import BuildReporter
from pipeline.show.explain import ExitCode, exit_code, explain
from pipeline.show.picture import write_comparison
from pipeline.show.plan_words import choice_lines, engine_as_json, list_choices, plan_as_json
from pipeline.show.progress import Display, JobStart, JobStatus, RunEnd
from pipeline.show.report import build_report, write_report

logger = logging.getLogger(__name__)


def run_batch(config: Config, *, display: Display) -> BatchResult:
    """Upscale all films of a config, in order.

    Args:
        config: The run.
        display: Where progress is shown; already entered.

    Returns:
        What became of each film that was begun. Films fail in here, not by raising.
    """
    started_s = time.perf_counter()
    sources: tuple[Path | None, ...] = config.input.paths or (None,)
    stop = StopToken()
    films: list[_Film] = []
    display.run_started(len(sources))
    with _signals_to(stop):
        for index, source in enumerate(sources):
            film = _Film(config, source, index=index, count=len(sources))
            plans = ((other.plan, other.name) for other in films)
            taken = {plan.output: name for plan, name in plans if plan is not None and plan.is_written}
            film.work(display, stop=stop, taken=taken)
            films.append(film)
            display.job_finished(film.result().end())
            if stop.is_aborted or (film.status == "failed" and config.run.on_error == "stop"):
                break
    result = BatchResult(
        jobs=tuple(film.result() for film in films),
        elapsed_s=time.perf_counter() - started_s,
        was_stopped=stop.is_aborted,
    )
    display.run_finished(RunEnd(jobs=tuple(job.end() for job in result.jobs), elapsed_s=result.elapsed_s))
    return result


@dataclass(slots=True)
class _Film:
    """One film of the batch while it is worked on: filled in step by step, so that a failure finds what there was."""

    config: Config
    source: Path | None
    index: int
    count: int
    plan: JobPlan | None = None
    outcome: JobOutcome | None = None
    comparison: Path | None = None
    report: Path | None = None
    status: JobStatus = "failed"
    code: int = ExitCode.DONE
    errors: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def name(self) -> str:
        """What people call it."""
        return self.source.name if self.source is not None else "synthetic film"

    def work(self, display: Display, *, stop: StopToken, taken: dict[Path, str]) -> None:
        """Do everything for this film, whatever happens to it.

        Args:
            display: Told about the beginning and the progress.
            stop: Ends the work.
            taken: Outputs of this run's earlier films, and the films' names.
        """
        started_at, started_s = datetime.now(UTC), time.perf_counter()
        try:
            self._begin(display, taken=taken)
            self._upscale(display, stop=stop)
        except BuildCancelled:
            stop.abort()  # however the compiler heard of it, it was the user's wish
            self.status, self.errors = "stopped", ("stopped by the user while the engine was compiled",)
        except (PipelineError, EngineError, GraphFailed) as exc:
            self.errors, self.code = explain(exc), exit_code(exc)
            self.status = "stopped" if stop.is_aborted else "failed"
            logger.debug("traceback of that error", exc_info=exc)
        except Aborted:
            self.status, self.errors = "stopped", ("stopped by the user; nothing of this film was kept",)
        self.elapsed_s = time.perf_counter() - started_s
        self._write_report(display, started_at=started_at)

    def _begin(self, display: Display, *, taken: dict[Path, str]) -> None:
        """Plan the film and announce it; a film that cannot be planned is announced too."""
        lines: tuple[str, ...] = ()
        details: tuple[str, ...] = ()
        try:
            plan = plan_film(self.config, probe_film(self.config, self.source))
            if plan.output in taken:
                raise OutputError(
                    f"{self.name} and {taken[plan.output]} would both be written to {plan.output}",
                    path=plan.output,
                    hint="give them different names, or run them with different output.dir",
                )
            self.plan = plan
            details = passed_over_lines(plan.backend)
            if not has_nvidia_driver():  # where there is no GPU, that none is used goes without saying
                for detail in details:
                    logger.info("%s", detail)
                details = ()
            lines = (*choice_lines(plan), f"output: {plan.output if plan.is_written else 'none (null encoder)'}")
            self.warnings += plan.warnings
        finally:
            display.job_started(
                JobStart(
                    name=self.name,
                    index=self.index,
                    count=self.count,
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
        assert self.plan is not None
        outcome = run_job(
            self.plan,
            report=display.job_progress,
            interval_s=display.interval_s,
            stop=stop,
            listener=BuildReporter(display, stop=stop),
        )
        self.outcome = outcome
        self.status = "done"
        self.warnings += outcome.notes
        for note in outcome.notes:
            display.warning(note)
        if outcome.damage is not None:
            self.status, self.code, self.errors = "damaged", ExitCode.SOME_FAILED, (outcome.damage,)
        try:
            self.comparison = _compare(self.plan, outcome)
        except PipelineError as exc:  # the film itself is whole
            self._warn(display, exc)

    def _write_report(self, display: Display, *, started_at: datetime) -> None:
        """Write the report beside the output, if there is a place for it."""
        plan, outcome = self.plan, self.outcome
        if plan is None or not plan.is_written or not plan.output.parent.is_dir():
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
            config=self.config.model_dump(mode="json"),
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
        report = plan.output.with_name(f"{plan.output.name}.report.json")
        try:
            write_report(report, content)
            self.report = report
        except PipelineError as exc:
            self._warn(display, exc)

    def _warn(self, display: Display, exc: PipelineError) -> None:
        for line in explain(exc):
            self.warnings.append(line)
            display.warning(line)

    def result(self) -> JobResult:
        """What became of it."""
        return JobResult(
            name=self.name,
            source=self.source,
            status=self.status,
            code=self.code,
            outcome=self.outcome,
            errors=self.errors,
            warnings=tuple(self.warnings),
            report=self.report,
            comparison=self.comparison,
            elapsed_s=self.elapsed_s,
        )


def _compare(plan: JobPlan, outcome: JobOutcome) -> Path | None:
    """Write the picture that ``output.comparison_s`` asks for."""
    at_s = plan.config.output.comparison_s
    if at_s is None or outcome.output is None or plan.container == "png" or not plan.info.path.exists():
        return None
    rate = plan.info.video.average_rate or 1
    index = min(outcome.frames_done - 1, int(at_s * rate))
    png = plan.output.with_name(f"{plan.output.stem}.comparison.png")
    write_comparison(plan.info.path, outcome.output, frame_index=index, png=png, stream_index=plan.info.video.index)
    return png


@contextmanager
def _signals_to(stop: StopToken) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an abort; the second one exits at once with 130."""

    def abort(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop.is_aborted:
            os._exit(ExitCode.STOPPED)
        stop.abort()

    try:
        previous = {number: signal.signal(number, abort) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever started us handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
