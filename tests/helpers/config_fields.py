"""Every field of the config models, with values that it takes, from the models themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.config.types import Section
from pipeline.config.validate import find_section


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCase:
    """One field that is not a section."""

    key: str
    """Dotted."""
    schema: dict[str, Any] = field(repr=False)
    """Its JSON schema."""
    default: Any = None
    """As in a YAML file."""

    def __str__(self) -> str:
        return self.key

    @property
    def options(self) -> list[dict[str, Any]]:
        """The alternatives of a union, or the schema alone."""
        return [option for option in self.schema.get("anyOf", [self.schema]) if option.get("type") != "null"]

    def another_value(self) -> Any:
        """An allowed value that is not the default; None if there is none."""
        for option in self.options:
            # Near the default first: rules between sizes hold there.
            if (
                isinstance(self.default, int)
                and option.get("type") == "integer"
                and self.default < option.get("maximum", 0)
            ):
                return self.default + 1
            for value in allowed_values(option):
                if value is not None and value != self.default:
                    return value
        return None


def allowed_values(schema: dict[str, Any]) -> Iterator[Any]:
    """A few values that one alternative of a schema allows."""
    if "const" in schema:
        yield schema["const"]  # one choice
    elif "examples" in schema:
        yield from schema["examples"]
    elif "enum" in schema:
        yield from schema["enum"]
    elif schema.get("type") in {"integer", "number"}:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        yield low + 1
        yield low + 2
    elif schema.get("type") == "boolean":
        yield from (True, False)
    elif schema.get("format") == "path":
        yield "elsewhere"
    elif schema.get("type") == "string":
        yield "25/2" if "pattern" in schema else "another {stem}"
    elif schema.get("type") == "array":
        yield ["another.mkv"]
    else:
        yield {"another": "value"}


def field_cases(section: type[Section] = Config, prefix: str = "") -> list[FieldCase]:
    """All fields of a section and of the sections in it."""
    cases = []
    properties = section.model_json_schema()["properties"]
    for name, model_field in section.model_fields.items():
        inner = find_section(model_field.annotation)
        if inner is not None:
            cases += field_cases(inner, f"{prefix}{name}.")
        else:
            schema = properties[name]
            cases.append(FieldCase(key=f"{prefix}{name}", schema=schema, default=schema.get("default")))
    return cases


PROFILE = {"infer.engine.min_px": 16, "infer.engine.opt_px": 512, "infer.engine.max_px": 640}
"""Keys that have to be in ascending order, with their defaults."""


def document_with(key: str, value: Any) -> dict[str, Any]:
    """A right config as plain values, with one key set; where a rule ties others to it, they follow."""
    document: dict[str, Any] = {"input": {"paths": ["film.mkv"]}}
    if key in PROFILE and isinstance(value, int) and not isinstance(value, bool):
        keys = list(PROFILE)
        for index, (other, default) in enumerate(PROFILE.items()):
            side = min(default, value) if index < keys.index(key) else max(default, value)
            document = merge_key(document, other, min(max(side, 1), 16384))
    return merge_key(document, key, value)


def merge_key(document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Set one dotted key in plain values."""
    *folders, last = key.split(".")
    target = document
    for part in folders:
        target = target.setdefault(part, {})
    target[last] = value
    return document
