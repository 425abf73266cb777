"""What to say of a film whose process ended without a word, or never began."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pipeline.failures import FailureKind, classify
from pipeline.jobs.messages import Started
from pipeline.jobs.order import FilmOrder
from pipeline.results import JobResult
from pipeline.show.explain import ExitCode
from pipeline.show.wording import safe_text

_LOG_LINES = 8
"""Lines of a dead process's log that are shown."""

_LINE_CHARACTERS = 200
"""Of each of them."""

_TAIL_BYTES = 1 << 16
"""End of the log in which they are looked for."""

_FATAL = "Fatal Python error:"
"""How the stacks of a process that a signal killed begin: what is said first, not last, is the cause. Source:
``faulthandler``."""


def explain_death(
    order: FilmOrder,
    code: int,
    *,
    job: Started | None,
    is_aborted: bool,
    was_killed: bool,
    log: Path,
    log_start: int,
    elapsed_s: float,
) -> JobResult:
    """What became of a film whose process ended without a word.

    Args:
        order: What it was to do.
        code: Its exit code; negative: the signal that killed it.
        job: What it said when the film was planned, if it got that far.
        is_aborted: Whether it was asked to end at once.
        was_killed: Whether it was killed because it did not end.
        log: What it wrote.
        log_start: Where in there its part begins, bytes; the log may have been begun anew since.
        elapsed_s: How long it lived.
    """
    if is_aborted:
        return _result(
            order, status_code=ExitCode.STOPPED, failure=None, errors=("stopped by the user",), job=job, s=elapsed_s
        )
    how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
    hint = f"all that it wrote is in {log}"
    if was_killed:
        how = "said nothing any more and had to be killed"
    elif code == -signal.SIGKILL:
        hint = f"the kernel may have killed it for memory: see dmesg; {hint}"
    errors = (
        f"error: the process of this film {how}",
        *(f"  {line}" for line in _last_lines(log, start=log_start)),
        f"hint: {hint}",
    )
    return _result(
        order,
        status_code=ExitCode.INTERNAL,
        failure="stall" if code == ExitCode.INTERNAL else "crash",
        errors=errors,
        job=job,
        s=elapsed_s,
    )


def explain_no_start(order: FilmOrder, exc: OSError) -> JobResult:
    """What became of a film whose process could not be started.

    Args:
        order: What it was to do.
        exc: Why not.
    """
    kind = classify(exc)
    return _result(
        order,
        status_code=ExitCode.INTERNAL,
        failure=kind if kind in ("memory", "disk") else "io",
        errors=(
            f"error: the process of this film could not be started: {exc}",
            "hint: the machine has run out of something: look at its memory, its processes and its disks",
        ),
        job=None,
        s=0.0,
    )


def _result(
    order: FilmOrder,
    *,
    status_code: ExitCode,
    failure: FailureKind | None,
    errors: tuple[str, ...],
    job: Started | None,
    s: float,
) -> JobResult:
    return JobResult(
        name=order.name,
        source=order.source,
        status="stopped" if failure is None else "failed",
        code=status_code,
        outcome=None,
        errors=errors,
        warnings=(),
        report=None,
        comparison=None,
        elapsed_s=s,
        failure=failure,
        frame_count_estimated=None if job is None else job.job.frame_count_estimated,
    )


def _last_lines(log: Path, *, start: int) -> list[str]:
    """What the process wrote about its end, safe to show; nothing if that cannot be read."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - _TAIL_BYTES, start if start <= end else 0, 0))
            said = file.read(_TAIL_BYTES).decode("utf-8", "backslashreplace").splitlines()
    except OSError:
        return []
    fatal = next((index for index, line in enumerate(said) if line.startswith(_FATAL)), None)
    shown = said[-_LOG_LINES:] if fatal is None else said[fatal : fatal + _LOG_LINES]
    return [safe_text(line[:_LINE_CHARACTERS]) for line in shown]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
