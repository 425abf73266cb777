"""Plain values to a `Config`, and pydantic's errors to problems in plain words.

What a field must be is worded from the same JSON schema that editors use, so the two cannot disagree.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.config import Config
from pipeline.config.problems import ProblemList, parse_key, spell_key
from pipeline.config.types import RuleBroken, Section
from pipeline.config.words import describe_field, spell_value
from pipeline.config.yaml_text import Key, shorten


def validate(values: Mapping[str, Any], *, folder: Path) -> tuple[Config | None, list[ErrorDetails]]:
    """Validate plain values; pydantic's errors if they are wrong."""
    try:
        # As JSON, because strictness there still takes a list for a tuple and text for a path.
        return Config.model_validate_json(json.dumps(values), context={"folder": folder}), []
    except ValidationError as exc:
        return None, exc.errors(include_url=False)


def translate(
    errors: Sequence[ErrorDetails],
    values: Mapping[str, Any],
    *,
    problems: ProblemList,
    without: frozenset[Any] | set[Any] = frozenset(),
) -> None:
    """Turn pydantic's errors into problems in plain words.

    Args:
        errors: pydantic's.
        values: What was validated.
        problems: Where they go.
        without: Sections whose fields are wrong already; rules that touch them are left out.
    """
    for error in errors:
        broken: tuple[RuleBroken, ...] = error.get("ctx", {}).get("broken", ())
        for rule in broken:
            keys = [parse_key(key) for key in rule.keys]
            if any(key[0] in without for key in keys):
                continue
            # Reported where it can be acted on: at the override, if one of the rule's keys came from one.
            place = next((key for key in keys if key in problems.overridden), keys[0])
            text = rule.text if place == keys[0] else f"{spell_key(keys[0])} {rule.text}"
            problems.add(place, text)
        if broken:
            continue
        key, section, field_name = locate(error["loc"], values)
        if error["type"] == "extra_forbidden":
            known = sorted(section.model_fields)
            near = difflib.get_close_matches(str(key[-1]), known, n=1)
            advice = f"did you mean {spell_key((*key[:-1], near[0]))}?" if near else f"known here: {', '.join(known)}"
            problems.add(key, f"unknown key; {advice}")
        elif error["type"] == "value_error":
            problems.add(key, f"{error['ctx']['error']} (got {shorten(error['input'])})")
        else:
            expected = describe_field(section, field_name, item=len(key) > 0 and key[-1] != field_name)
            problems.add(key, f"must be {expected} (got {spell_value(error['input'])})")


def locate(
    loc: tuple[str | int, ...], values: Any, *, section: type[Section] = Config
) -> tuple[Key, type[Section], str]:
    """Find the key that a pydantic error is about.

    Args:
        loc: pydantic's location, which may end in names of union members.
        values: What was validated.
        section: What it was validated as.

    Returns:
        The key; the section that its field belongs to, and the field's name (empty for a section or an unknown key).
    """
    field_name = ""
    key: list[str | int] = []
    for part in loc:
        if field_name:  # inside a list or a mapping
            if isinstance(values, list | dict) and (isinstance(part, int) or part in values):
                key.append(part)
            break
        key.append(part)
        values = values.get(part) if isinstance(values, dict) else None
        field = section.model_fields.get(str(part))
        if field is None:
            break
        inner = find_section(field.annotation)
        if inner is not None and isinstance(values, dict):
            section = inner
        else:
            field_name = str(part)
            item_section = find_item_section(field.annotation)
            rest = loc[len(key) :]
            if item_section is not None and len(rest) > 1 and isinstance(values, list) and isinstance(rest[0], int):
                inner_key, section, field_name = locate(rest[1:], values[rest[0]], section=item_section)
                return (*key, rest[0], *inner_key), section, field_name
    return tuple(key), section, field_name


def find_section(annotation: Any) -> type[Section] | None:
    """The section class that a field's annotation is or contains (``Section | None``), but not in a list."""
    if get_origin(annotation) is tuple:
        return None
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if is_section(candidate):
            section: type[Section] = candidate
            return section
    return None


def find_item_section(annotation: Any) -> type[Section] | None:
    """The section class of the items of a field that is a list of sections."""
    return find_section(get_args(annotation)[0]) if get_origin(annotation) is tuple else None


def is_section(annotation: Any) -> bool:
    """Whether a field's annotation is a section."""
    return isinstance(annotation, type) and issubclass(annotation, Section)
