"""All films of a config: found, worked on one after the other, in processes of their own, and reported.

What happens between two films, and what a run waits for, is in ``pipeline.night``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.config.load import resolved_yaml
from pipeline.errors import MediaError, OutputError
from pipeline.graph.stop import StopToken
from pipeline.inputs.find import Jobs, find_jobs
from pipeline.inputs.job import Job
from pipeline.inputs.pictures import list_pictures
from pipeline.inputs.watch import Watch
from pipeline.jobs.order import FilmOrder
from pipeline.jobs.processes import FilmProcesses
from pipeline.journal import FinishedIndex, wish_digest
from pipeline.night.allowed import Allowance
from pipeline.night.disk import DiskGuard
from pipeline.night.folder import film_log, logging_to, make_run_folder
from pipeline.night.hours import parse_hours
from pipeline.night.reporting import NightReporter
from pipeline.night.supervisor import Supervisor
from pipeline.night.watching import WatchingDisplay
from pipeline.results import BatchResult, JobResult
from pipeline.show.explain import ExitCode
from pipeline.show.morning.table import print_table
from pipeline.show.progress import Display, RunEnd
from pipeline.work_folder import clear_work

_PROGRESS_S = 0.5
"""How often a film's process says how far it is, at least: displays have a pace of their own, the status is written
every second."""

_LEEWAY_S = 5.0
"""What a film's process has beyond ``run.join_deadline_s`` to end: its own last resort comes first, and says more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is said of a run on the command line, not in its config."""

    config_path: Path | None = None
    """The config file, for the report; None if there was none."""
    run_folder: Path | None = None
    """Where the run keeps its log and status; None: below ``output.dir``."""
    restart: bool = False
    """Whether films are begun anew that an earlier run has begun or finished."""


def run_batch(config: Config, *, display: Display, options: RunOptions | None = None) -> BatchResult:
    """Upscale all films of a config, in order.

    Args:
        config: The run.
        display: Where progress is shown; already entered.
        options: What else was asked for.

    Returns:
        What became of each film that was begun. Films fail in here, not by raising.

    Raises:
        ConfigError: No film was found, or two would have the same result.
        OutputError: The run's folder cannot be made.
    """
    options = options or RunOptions()
    started_s = time.perf_counter()
    found = Jobs(jobs=()) if config.input.watch else find_jobs(config)
    jobs = found.jobs
    folder = make_run_folder(config.output.dir, chosen=options.run_folder)
    watching = WatchingDisplay(display)
    with logging_to(folder):
        (folder / "config.yaml").write_text(resolved_yaml(config), encoding="utf-8", errors="surrogateescape")
        reporter = NightReporter(
            folder,
            config=config,
            config_path=options.config_path,
            display=watching,
            film_count=len(jobs),
            source_bytes=tuple(_size_of(job) for job in jobs),
        )
        processes = FilmProcesses()
        night = Supervisor(
            worker=_FilmWorker(
                config, processes, display=watching, folder=folder, count=len(jobs), restart=options.restart
            ),
            allowance=Allowance(
                folder=folder,
                output_dir=config.output.dir,
                hours=None if config.run.hours is None else parse_hours(config.run.hours),
                guard=DiskGuard(reserve_bytes=config.run.disk_reserve_mb << 20),
            ),
            display=watching,
            reporter=reporter,
            max_attempts=config.run.max_attempts,
            stops_on_error=config.run.on_error == "stop",
            on_wait=processes.rest,
        )
        with night.hearing_signals():  # the summary too is written to its end
            watching.run_started(len(jobs))
            for note in found.notes:
                watching.warning(note)
            with processes:
                night.run(_watched(config, display=watching) if config.input.watch else jobs)
            results = tuple(film.result for film in night.films if film.result is not None)
            batch = BatchResult(
                jobs=results,
                elapsed_s=time.perf_counter() - started_s,
                was_stopped=night.is_stopping,
                run_folder=folder,
            )
            summary = reporter.finish(night, exit_code=int(batch.exit_code), was_stopped=batch.was_stopped)
            watching.run_finished(RunEnd(jobs=tuple(job.end() for job in results), elapsed_s=batch.elapsed_s))
    if len(results) > 1 and config.run.progress != "off":
        print_table(summary, stream=sys.stderr)
    return batch


class _FilmWorker:
    """Works on a film, unless it is finished already. See ``pipeline.night.supervisor.Worker``.

    Args:
        config: The run's.
        processes: Those that films are worked on in; stays the caller's.
        display: Told how it goes.
        folder: The run's.
        count: Films that were found at the beginning.
        restart: See ``RunOptions``.
    """

    def __init__(
        self,
        config: Config,
        processes: FilmProcesses,
        *,
        display: WatchingDisplay,
        folder: Path,
        count: int,
        restart: bool,
    ) -> None:
        self._config = config
        self._processes = processes
        self._display = display
        self._folder = folder
        self._count = count
        self._restart = restart
        self._finished = FinishedIndex(config.output.dir)
        self._begun: set[int] = set()

    def __call__(self, job: Job, *, index: int, stop: StopToken, tick: Callable[[], None]) -> JobResult:
        """Work on a film until it is over or ``stop`` ends it."""
        if (result := self._skip(job)) is not None:
            return result
        order = FilmOrder(
            config=job.config,
            source=job.source,
            index=index,
            count=max(self._count, index + 1),
            interval_s=min(self._display.interval_s, _PROGRESS_S),
            root=self._config.output.dir,
            run_folder=self._folder,
            restart=self._restart and index not in self._begun,
        )
        self._begun.add(index)  # a second attempt goes on with what the first has made
        if not self._config.run.isolate:
            from pipeline.jobs.film import work_film

            with self._display.ticking(tick):
                return work_film(order, display=self._display, stop=stop)
        return self._processes.work(
            order,
            display=self._display,
            stop=stop,
            log=film_log(self._folder, index),
            deadline_s=self._config.run.join_deadline_s + _LEEWAY_S,
            tick=tick,
        )

    def _skip(self, job: Job) -> JobResult | None:
        """What becomes of a film that an earlier run finished: found out here, at no more than the cost of a look."""
        if self._restart or job.source is None or job.config.encode.kind == "null":
            return None
        try:
            record = self._finished.find(job.source, config_digest=wish_digest(job.config))
            if record is None:
                return None
            clear_work(self._config.output.dir / record.output)  # its run may have been killed before it had done so
        except (MediaError, OutputError):  # the film's own process will say it better
            return None
        return JobResult(
            name=job.name,
            source=job.source,
            status="skipped",
            code=ExitCode.DONE,
            outcome=None,
            errors=(),
            warnings=(),
            report=None,
            comparison=None,
            elapsed_s=0.0,
            planned_output=self._config.output.dir / record.output,
            reason=f"{record.words}: {record.output}",
            frames_done=record.frames,
            frames_resumed=record.frames,
        )


def _watched(config: Config, *, display: Display) -> Iterator[Job | None]:
    """The films that are there and those that come, each when it has stopped growing; None while there is none."""
    watch = Watch(config=config)
    while True:
        found = watch.poll(time.monotonic())
        for note in found.notes:
            display.note(note)
        yield from found.jobs or (None,)


def _size_of(job: Job) -> int:
    """Bytes of a film; 0 if it cannot be asked."""
    try:
        return 0 if job.source is None else sum(path.stat().st_size for path in list_pictures(job.source))
    except OSError:
        return 0
