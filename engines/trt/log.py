"""What TensorRT says. One logger per library and process, because the library keeps the first one it is given; each
call's lines are told apart by the thread that made it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

_ERROR_CODE = re.compile(r"^.*?Error Code \d+: ")
_SOURCE = re.compile(r"\.?\s*In \w+ at \S+?:\d+(?P<closing>[)]?)|\[\w+\.cpp:\d+: \w+\] ?")
_DRIVER_ECHO = "catchCudaError"
"""Second line that every failing call leaves on a machine without a driver; it says nothing about the failure."""


@dataclass(slots=True)
class LogLines:
    """What the library said during one call, in order."""

    errors: list[str] = field(default_factory=list)
    """Severities ERROR and INTERNAL_ERROR, verbatim."""
    warnings: list[str] = field(default_factory=list)
    """Severity WARNING, verbatim."""
    notes: list[str] = field(default_factory=list)
    """Severity INFO, verbatim."""

    def essence(self) -> str:
        """The error that says most, without codes and source positions; empty if there was none."""
        telling = [line for line in self.errors if _DRIVER_ECHO not in line] or self.errors
        return strip_source(telling[0]) if telling else ""


def strip_source(line: str) -> str:
    """A log line without the library's error code and the position in its source."""
    text = _ERROR_CODE.sub("", line.strip())
    return _SOURCE.sub(lambda found: found["closing"] or "", text).replace("( (", "((").strip()


class TrtLog:
    """The one logger of a library in this process.

    Args:
        trt: The library's module.
    """

    def __init__(self, trt: Any) -> None:
        self._here: ContextVar[LogLines | None] = ContextVar("trt_log_lines", default=None)
        self._open: list[LogLines] = []
        self.logger = _make_logger(trt, self._take)
        """``ILogger`` for ``Builder``, ``OnnxParser`` and ``Runtime``."""

    @contextmanager
    def collect(self) -> Iterator[LogLines]:
        """Gather what the library says from here on because of this thread's calls.

        Lines from threads of the library itself cannot be told apart and go to every open collection.
        """
        lines = LogLines()
        token = self._here.set(lines)
        self._open.append(lines)
        try:
            yield lines
        finally:
            self._open.remove(lines)
            self._here.reset(token)

    def _take(self, kind: str, text: str) -> None:
        here = self._here.get()
        targets = [here] if here is not None else list(self._open)
        for lines in targets:
            getattr(lines, kind).append(text)
        level = {"errors": logging.ERROR, "warnings": logging.WARNING}.get(kind, logging.DEBUG)
        logger.log(logging.DEBUG if targets else level, "%s", text)


def _make_logger(trt: Any, take: Any) -> Any:
    severity = trt.ILogger.Severity
    kinds = {
        severity.INTERNAL_ERROR: "errors",
        severity.ERROR: "errors",
        severity.WARNING: "warnings",
        severity.INFO: "notes",
    }

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is known only at run time
        """Passes on everything but VERBOSE, of which one build gives tens of thousands of lines."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, text: str) -> None:
            """Called by the library, from any thread."""
            kind = kinds.get(level)
            if kind is not None:
                take(kind, text)

    return Log()
