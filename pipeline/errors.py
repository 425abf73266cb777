"""What can go wrong in a run.

::

    GraphFailed (ExceptionGroup)   raised by run_graph; members are the stages' own exceptions in order of time
    PipelineError                  .hint: one line, what to do next
    ├── ConfigError                .problems: every problem found, each with file, line and key
    ├── SetupError                 no ffmpeg, no GPU, no codec; .missing
    ├── OutputError                the output exists, cannot be written, is the input, or the disk is full; .path
    │   ├── OutputHeld             another run is working on it
    │   └── ResumeRefused          what lies there was begun with something else; .differences
    ├── MediaError                 .path
    │   ├── UnsupportedMedia       readable, but not something this program can upscale
    │   ├── DamagedMedia           the input ends early or has holes; what was decodable was kept
    │   └── VerificationFailed     the finished file is not what was promised
    ├── StallError                 nothing moved for too long; .states
    └── StageInterrupted           a stage raised what is not an Exception (SystemExit ...); the cause holds it

`engines` has its own tree, ``engines.errors.EngineError``, which also carries ``.hint``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class PipelineError(Exception):
    """Base of all errors that a user can act on.

    Args:
        message: What is wrong, with the value that is wrong.
        hint: One line that says what to do next; empty if the message says it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(PipelineError):
    """The config file or an override is wrong.

    Args:
        problems: One line each, ``file:line: section.key: what is wrong (got value)``; at least one.
        hint: What to do next.
    """

    def __init__(self, problems: tuple[str, ...], *, hint: str = "") -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class SetupError(PipelineError):
    """Something that the machine must have is missing.

    Args:
        message: What is missing and what needs it.
        missing: Its name.
        hint: The command that installs it.
    """

    def __init__(self, message: str, *, missing: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class OutputError(PipelineError):
    """The output cannot be written where the config says.

    Args:
        message: What is wrong.
        path: The path concerned.
        hint: What to do next.
    """

    def __init__(self, message: str, *, path: Path, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path


class ResumeRefused(OutputError):
    """Work on an output was begun with another film, other settings, another network or another program.

    Args:
        message: Names every difference, before and now.
        path: The work folder.
        differences: The same as values (``pipeline.journal.Difference``).
        hint: What to do next.
    """

    def __init__(self, message: str, *, path: Path, differences: tuple[Any, ...] = (), hint: str = "") -> None:
        super().__init__(message, path=path, hint=hint)
        self.differences = differences


class OutputHeld(OutputError):
    """Another run is working on the output at this moment."""


class MediaError(PipelineError):
    """An input or a finished output is not what it has to be.

    Args:
        message: What is wrong.
        path: The media file concerned.
        hint: What to do next.
    """

    def __init__(self, message: str, *, path: Path, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path


class UnsupportedMedia(MediaError):
    """The file can be read, but it is not something this program can upscale."""


class DamagedMedia(MediaError):
    """The input ends early or has holes; everything decodable was kept."""


class VerificationFailed(MediaError):
    """A finished file does not have the frames, times, streams or tags that it must have."""


class StallError(PipelineError):
    """No item moved anywhere for longer than the stall time-out.

    Args:
        message: How long nothing moved.
        states: One line per stage and channel: what each was doing.
    """

    def __init__(self, message: str, *, states: tuple[str, ...]) -> None:
        super().__init__(message, hint="the log holds the stacks of all threads; please report it with them")
        self.states = states


class StageInterrupted(PipelineError):
    """A stage raised something that is not an ``Exception``, as ``SystemExit`` or ``KeyboardInterrupt``.

    ``__cause__`` is what it raised; wrapped, because `GraphFailed` holds exceptions only.
    """


class GraphFailed(ExceptionGroup[Exception]):
    """A run failed. The first member happened first and is the cause; later ones happened while stopping."""

    def derive(self, excs: Sequence[Exception]) -> GraphFailed:  # type: ignore[override]
        """Keep the type through ``split`` and ``subgroup``."""
        return GraphFailed(self.message, excs)
