"""What a film's process says to the one that started it: one JSON object per line.

The values are those that displays take, so whoever receives a message shows it as if the film were worked on right
there. Both ends are the same program, and read exactly what they write: unknown messages are errors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.results import JobResult
from pipeline.show.progress import BuildProgress, JobProgress, JobStart


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The first message: from now on the process listens to signals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The film was planned, or could not be."""

    job: JobStart


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """An engine is being compiled."""

    build: BuildProgress
    is_over: bool
    """Whether the compiler ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """Frames are flowing."""

    progress: JobProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something was noticed."""

    text: str
    is_warning: bool
    """Whether a person should look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The film is over; the last message."""

    result: JobResult


Message = Ready | Started | Building | Progressed | Noted | Ended

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Ready, Started, Building, Progressed, Noted, Ended)
}


class BrokenMessage(Exception):
    """A line is no message: something else wrote into the pipe, or the writer died in the middle of it."""


def encode_message(message: Message) -> bytes:
    """One line, ASCII, with its line feed. Paths keep bytes that are no UTF-8 as lone surrogates."""
    name = type(message).__name__
    value = _adapter(name).dump_python(message, mode="json")
    return json.dumps({name: value}, separators=(",", ":")).encode("ascii") + b"\n"


def decode_message(line: bytes) -> Message:
    """Read a line back.

    Raises:
        BrokenMessage: It is not one of ``encode_message``.
    """
    try:
        ((name, value),) = json.loads(line).items()
        return cast(Message, _adapter(name).validate_python(value, strict=False))
    except (ValueError, AttributeError, KeyError, RecursionError, ValidationError) as exc:
        raise BrokenMessage(f"not a message: {line[:100]!r}") from exc


def is_progress(line: bytes) -> bool:
    """Whether a line is a ``Progressed``, without reading it."""
    return line.startswith(b'{"Progressed":')


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    """Making one takes milliseconds."""
    return TypeAdapter(_KINDS[name])
