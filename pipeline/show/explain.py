"""What an error means to the person at the terminal: its lines and the exit code of a program that ends with it.

Known errors become ``error: ...`` and ``hint: ...``; anything else is a defect of this program and says so.
"""

from __future__ import annotations

from enum import IntEnum

from engines.errors import (
    BackendUnavailable,
    BuildCancelled,
    EngineError,
    ModelFileError,
    UnknownModel,
    UnsupportedModel,
    UnsupportedPrecision,
    UnsupportedShape,
    WeightsError,
)
from pipeline.errors import ConfigError, PipelineError, SetupError, StallError
from pipeline.show.wording import safe_text


class ExitCode(IntEnum):
    """Exit codes of all verbs."""

    DONE = 0
    """Everything asked for was done."""
    SOME_FAILED = 1
    """At least one film failed."""
    WRONG_CONFIG = 2
    """The command line or the config is wrong."""
    WRONG_SETUP = 3
    """The machine lacks something that is needed."""
    INTERNAL = 70
    """A defect of this program, or a run that stopped moving. Source: EX_SOFTWARE of sysexits(3)."""
    STOPPED = 130
    """Stopped by the user; can be started again. Source: 128 + SIGINT, the shells' convention."""


_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (KeyboardInterrupt, ExitCode.STOPPED),
    (BuildCancelled, ExitCode.STOPPED),
    (ConfigError, ExitCode.WRONG_CONFIG),
    (SetupError, ExitCode.WRONG_SETUP),
    (StallError, ExitCode.INTERNAL),
    (PipelineError, ExitCode.SOME_FAILED),
    (UnknownModel, ExitCode.WRONG_CONFIG),
    (ModelFileError, ExitCode.WRONG_CONFIG),
    (UnsupportedModel, ExitCode.WRONG_CONFIG),
    (UnsupportedPrecision, ExitCode.WRONG_CONFIG),
    (UnsupportedShape, ExitCode.WRONG_CONFIG),
    (BackendUnavailable, ExitCode.WRONG_SETUP),
    (WeightsError, ExitCode.WRONG_SETUP),
    (EngineError, ExitCode.SOME_FAILED),
)
"""Exit code by error, the first match counts."""


def find_cause(exc: BaseException) -> BaseException:
    """The error that came first: a failed graph's members are in order of time."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def is_expected(exc: BaseException) -> bool:
    """Whether an error is one that a user can act on, rather than a defect of this program."""
    return isinstance(find_cause(exc), PipelineError | EngineError | KeyboardInterrupt)


def exit_code(exc: BaseException) -> ExitCode:
    """The exit code of a program that ends with this error."""
    cause = find_cause(exc)
    return next((code for kind, code in _CODES if isinstance(cause, kind)), ExitCode.INTERNAL)


def explain(exc: BaseException, *, encoding: str = "utf-8") -> tuple[str, ...]:
    """Say in lines what went wrong and what to do next.

    Args:
        exc: Any error; of a group, its first member counts. Notes on it (the stage, the item) are shown.
        encoding: What the lines will be written in.

    Returns:
        ``error: ...``, one line per problem, then ``hint: ...`` if there is advice. No line holds control characters.
    """
    cause = find_cause(exc)
    if isinstance(cause, KeyboardInterrupt):
        return ("stopped",)
    if isinstance(cause, BuildCancelled):
        return (safe_text(f"stopped: {cause}", encoding=encoding),)
    notes = "; ".join(getattr(cause, "__notes__", ()))
    suffix = f" ({notes})" if notes else ""
    if isinstance(cause, ConfigError):
        texts = list(cause.problems)
    elif isinstance(cause, PipelineError | EngineError):
        texts = [str(cause) or type(cause).__name__]
    else:
        texts = [f"internal error: {type(cause).__name__}: {cause}".removesuffix(": ")]
    lines = [f"error: {text}{suffix}" for text in texts]
    hint = getattr(cause, "hint", "") if is_expected(cause) else "this is a defect of nightscale; please report it"
    if hint:
        lines.append(f"hint: {hint}")
    return tuple(safe_text(line, encoding=encoding) for line in lines)
