"""Reading frozen dataclasses from JSON by their field types, refusing whatever does not fit.

The other way is ``pipeline.show.report.json_native``. What one writes the other reads back equal: tuples from lists,
paths and times from strings. Times keep milliseconds; a number that is not finite was written as null.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_SHOWN_CHARACTERS = 60
"""Of a wrong value in a message."""


class WrongJson(ValueError):
    """A JSON value is not what its place asks for; the message names the place and the value."""


def read_dataclass(kind: type[T], value: Any, *, where: str) -> T:
    """Make a dataclass from a JSON object.

    Args:
        kind: A dataclass whose fields are dataclasses, ``tuple[X, ...]``, ``Mapping[str, X]``, literals, paths, times
            with a zone, strings, numbers, booleans, or one of these or None.
        value: The object: every field without a default has its key, no other key is there.
        where: Its place, for the message.

    Raises:
        WrongJson: A key is missing or unknown, or a value has another type; the first one found is named.
    """
    if not isinstance(value, Mapping):
        raise WrongJson(f"{where}: must be an object (got {_shown(value)})")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in value if key not in fields)
    if unknown:
        raise WrongJson(f"{where}: unknown key {unknown[0]!r}")
    hints = typing.get_type_hints(kind)
    content = {}
    for name, field in fields.items():
        if name in value:
            content[name] = _read(hints[name], value[name], where=f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WrongJson(f"{where}: key {name!r} is missing")
    return kind(**content)


def _read(kind: Any, value: Any, *, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(arguments, value, where=where)
    if origin is typing.Literal:
        if value not in arguments:
            raise WrongJson(f"{where}: must be one of {', '.join(map(str, arguments))} (got {_shown(value)})")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise WrongJson(f"{where}: must be a list (got {_shown(value)})")
        return tuple(_read(arguments[0], item, where=f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise WrongJson(f"{where}: must be an object (got {_shown(value)})")
        return {str(key): _read(arguments[1], item, where=f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read_dataclass(kind, value, where=where)
    return _read_scalar(kind, value, where=where)


def _read_union(kinds: tuple[Any, ...], value: Any, *, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    for kind in rest[:-1]:
        try:
            return _read(kind, value, where=where)
        except WrongJson:
            continue
    return _read(rest[-1], value, where=where)


def _read_scalar(kind: Any, value: Any, *, where: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, str):
        if kind is str:
            return value
        if kind is Path:
            return Path(value)
        if kind is datetime:
            return _read_time(value, where=where)
    raise WrongJson(f"{where}: must be {_NAMES.get(kind, str(kind))} (got {_shown(value)})")


def _read_time(value: str, *, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError as exc:
        raise WrongJson(f"{where}: must be {_NAMES[datetime]} (got {_shown(value)})") from exc
    if time.tzinfo is None:
        raise WrongJson(f"{where}: has no time zone (got {_shown(value)})")
    return time.astimezone(UTC)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    datetime: "a time such as 2026-01-31T22:15:00.000+00:00",
}
