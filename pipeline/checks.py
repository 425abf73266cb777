"""What ``check`` looks at besides the config itself, in words: what was found, then what else to know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engines.errors import EngineError
from pipeline.config import Config
from pipeline.errors import PipelineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One thing that was looked at."""

    name: str
    found: tuple[str, ...] = ()
    """In words, the first one for itself; empty if ``error`` is set."""
    error: PipelineError | EngineError | None = None


def check_all(config: Config) -> Iterator[Checked]:
    """Look at the machine and at each film; go on after a problem.

    Nothing is written, but the output folder is made: whether it can be written is part of the question.

    Args:
        config: The run.

    Yields:
        What was found, as soon as it was.

    Raises:
        PipelineError: The films cannot be listed.
    """
    from pipeline.inputs.find import find_jobs

    has_failed = False
    for name, look in (("engine", partial(describe_engine, config)), ("ffmpeg", describe_ffmpeg)):
        checked = _look(name, look)
        has_failed |= checked.error is not None
        yield checked
    for job in find_jobs(config).jobs:
        # without an engine every film would fail for that one reason
        look = partial(describe_film, job.config, job.source, with_plan=not has_failed)
        yield _look(str(job.source or "synthetic"), look)


def _look(name: str, look: Callable[[], tuple[str, ...]]) -> Checked:
    try:
        return Checked(name=name, found=look())
    except (PipelineError, EngineError) as exc:
        return Checked(name=name, error=exc)


def describe_engine(config: Config) -> tuple[str, ...]:
    """Say which engine a config gets here, and which better ones were passed over.

    Raises:
        EngineError: It gets none.
    """
    from pipeline.engine import choose_engine, find_network, list_model_files, passed_over_lines

    model = find_network(config.infer)
    list_model_files(model)  # if they are not here, say so now
    choice = choose_engine(config.infer, model=model)
    text = f"{model.name} with {choice.backend} in {choice.precision} on {choice.device}: {choice.reason}"
    return (text, *passed_over_lines(choice))


def describe_ffmpeg() -> tuple[str, ...]:
    """Say which ffmpeg program is used.

    Raises:
        SetupError: There is none.
    """
    from pipeline.assembly.ffmpeg import find_ffmpeg

    program = find_ffmpeg()
    return (f"{program.version}, {program.path}",)


def describe_film(config: Config, path: Path | None, *, with_plan: bool) -> tuple[str, ...]:
    """Say what a film is.

    Args:
        config: The run.
        path: One of its inputs; None for the synthetic film.
        with_plan: Whether to see also if the run could begin with it.

    Raises:
        PipelineError: It cannot be upscaled, or not with this config.
        EngineError: The network cannot be used for it.
    """
    from pipeline.plan import plan_film, probe_film
    from pipeline.preflight import check_paths

    info = probe_film(config, path)
    if with_plan:
        check_paths(plan_film(config, info))
    video = info.video
    rate = f", {float(video.average_rate):.6g} fps" if video.average_rate else ""
    frames = video.frame_count_estimated
    count = "" if frames is None else f", {'' if video.frame_count_from_header else 'about '}{frames} frames"
    return (f"{video.width}x{video.height} {video.codec} {video.pixel_format}{rate}{count}",)
