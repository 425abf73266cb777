"""From a config to the films of its run, each with the config that holds for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.config import Config, InputSection
from pipeline.config.overrides import with_settings
from pipeline.errors import ConfigError
from pipeline.inputs.durations import Durations
from pipeline.inputs.entries import list_films
from pipeline.inputs.job import Job
from pipeline.inputs.order import DurationOf, sort_films
from pipeline.inputs.output_names import OutputNames
from pipeline.inputs.pattern import end_pattern
from pipeline.inputs.pictures import is_sequence
from pipeline.inputs.walk import FoundFilm


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The films of a run."""

    jobs: tuple[Job, ...]
    """In the order in which they are to be worked on."""
    notes: tuple[str, ...] = ()
    """What was passed over and what to look at, a sentence each."""


def find_jobs(config: Config, *, duration_of: DurationOf | None = None) -> Jobs:
    """Find all films of a run. Reads folders and changes nothing.

    Args:
        config: The run.
        duration_of: Playing time of a film in seconds, asked only with ``input.order: longest`` and ``shortest``; None
            asks ffmpeg.

    Returns:
        The films; a synthetic one if that is asked for.

    Raises:
        ConfigError: An entry of ``input.paths`` holds no film (unless ``input.watch``), overrides contradict each
            other, or two films would get the same result; all problems at once.
        SetupError: Playing times are needed, and there is no ffmpeg.
    """
    if config.decode.kind == "synthetic":
        return Jobs(jobs=(Job(source=None, config=config),))
    finding = list_films(config)
    problems = list(finding.problems)
    notes = list(finding.notes)
    if count := finding.result_count:
        notes.append(
            f"{count} {'file is a result' if count == 1 else 'files are results'} of earlier runs: passed over"
        )
    configs, names = FilmConfigs(config), OutputNames()
    jobs = []
    for film in sort_films(finding.films, config.input.order, duration_of=duration_of or Durations()):
        try:
            job = Job(source=film.path, config=configs.of(film))
        except ConfigError as exc:
            problems += exc.problems
            continue
        clash, doubt = names.claim(job.config, film.path)
        if clash:
            problems.append(f"output.name: {clash}")
        elif doubt:
            notes.append(doubt)
        jobs.append(job)
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)), hint=_hint(problems))
    return Jobs(jobs=tuple(jobs), notes=(*notes, *configs.unused()))


def _hint(problems: list[str]) -> str:
    if any(problem.startswith("output.name: ") for problem in problems):
        return 'set output.name to what tells them apart, such as "{stem}.{suffix}" or "{folder} {stem}"'
    if any("no film" in problem for problem in problems):
        return "look at input.paths and input.suffixes; with input.watch: true a run waits for films that come later"
    return "look at input.paths and input.overrides"


@dataclass(slots=True)
class FilmConfigs:
    """The configs of films: the run's, with the overrides that fit, with the folder of the film's result."""

    config: Config
    _known: dict[tuple[int, ...], Config] = field(default_factory=dict)
    """By the indices of the overrides that fit: five hundred films have a handful of configs."""

    def of(self, film: FoundFilm) -> Config:
        """The config of a film.

        Raises:
            ConfigError: The overrides that fit it contradict each other or the rest.
        """
        overrides = self.config.input.overrides
        names = film.path.parts
        fitting = tuple(index for index, item in enumerate(overrides) if end_pattern(item.match).fits(names))
        if fitting not in self._known:
            settings = [overrides[index].set for index in fitting]
            fitted = with_settings(self.config, settings, source=str(film.path)) if fitting else self.config
            self._known[fitting] = fitted
        config = self._known[fitting]
        output = config.output
        if output.keep_folders:
            output = output.model_copy(update={"dir": output.dir / film.relative.parent})
        # With the film alone, this is a config that makes it again, at the same place.
        alone = InputSection.model_construct(paths=(film.path,))
        if is_sequence(film.path):
            alone = alone.model_copy(update={"images": "sequence", "image_rate": config.input.image_rate})
        return config.model_copy(update={"input": alone, "output": output})

    def unused(self) -> tuple[str, ...]:
        """A sentence for each override that fitted no film so far."""
        used = {index for fitting in self._known for index in fitting}
        return tuple(
            f"input.overrides[{index}] fits no film (match: {item.match})"
            for index, item in enumerate(self.config.input.overrides)
            if index not in used
        )
