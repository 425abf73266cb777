"""What kind of failure ended a film's work: whether trying again, and with what changed, can help."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Literal

from engines.errors import EngineError, InferenceFailed
from pipeline.backoff import find_lack
from pipeline.errors import (
    ConfigError,
    MediaError,
    OutputError,
    PipelineError,
    SetupError,
    StallError,
    VerificationFailed,
)
from pipeline.show.explain import find_cause

FailureKind = Literal["memory", "disk", "io", "gpu", "stall", "crash", "input", "output", "config", "setup", "internal"]
"""memory: of the GPU or the host ran out. disk: it is full. io: a file could not be read or written for a moment. gpu:
it failed. stall: nothing moved. crash: the process died. The others will fail again: the film (input), the place of the
result (output), the config, the machine (setup), this program (internal)."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
PASSING_IO = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN, errno.EHOSTDOWN})
"""What disks and network folders answer while something else is wrong with them."""


def classify(exc: BaseException) -> FailureKind:
    """Name the kind of a failure.

    Args:
        exc: What ended the work; of a group, the first member counts.
    """
    cause = find_cause(exc)
    if isinstance(cause, VerificationFailed):  # whatever made it so: the same frames would be joined and refused again
        return "internal"
    numbers = set(_error_numbers(cause))
    if find_lack(exc) is not None or errno.ENOMEM in numbers:
        return "memory"
    if numbers & DISK_FULL:
        return "disk"
    if numbers & PASSING_IO:
        return "io"
    if isinstance(cause, StallError):
        return "stall"
    if isinstance(cause, InferenceFailed):
        return "gpu"
    if isinstance(cause, ConfigError):
        return "config"
    if isinstance(cause, SetupError | EngineError):
        return "setup"
    if isinstance(cause, OutputError):
        return "output"
    if isinstance(cause, MediaError):
        return "input"
    return "internal" if not isinstance(cause, PipelineError) else "output"


def _error_numbers(exc: BaseException) -> Iterator[int]:
    """``errno`` of an error and of what caused it, as far as they have one."""
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        number = getattr(current, "errno", None)
        if isinstance(number, int):
            yield abs(number)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
