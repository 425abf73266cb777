"""Config fields and values in words, for error messages: what a field may be, from its JSON schema, and what it was."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.types import Section
from pipeline.config.yaml_text import shorten


def spell_value(value: Any) -> str:
    """Spell a wrong value for a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return shorten(value)


def describe_field(section: type[Section], name: str, *, item: bool) -> str:
    """Say in words what a field, or one item of a list or mapping field, may be."""
    schema = section.model_json_schema()["properties"][name]
    if item:
        schema = schema.get("items") or schema.get("additionalProperties") or schema
    return describe_schema(schema)


def describe_schema(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(describe_schema(option) for option in schema["anyOf"])
    if "const" in schema:
        return spell_choice(schema["const"])
    if "enum" in schema:
        words = list(dict.fromkeys(spell_choice(choice) for choice in schema["enum"]))
        return f"{', '.join(words[:-1])} or {words[-1]}"
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        word = "a whole number" if kind == "integer" else "a number"
        bounds = [
            f"{sign} {schema[name]:g}" if isinstance(schema[name], float) else f"{sign} {schema[name]}"
            for name, sign in (("exclusiveMinimum", ">"), ("minimum", ">="), ("maximum", "<="))
            if name in schema
        ]
        return f"{word} {' and '.join(bounds)}" if bounds else word
    if kind == "string":
        if "pattern" in schema:
            return "a ratio in quotes such as '24000/1001'"
        if schema.get("format") == "path":
            return "a path"
        return "text" if not schema.get("maxLength") else f"text of 1 to {schema['maxLength']} characters"
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        return f"a list, each item {describe_schema(schema['items'])}"
    if kind == "null":
        return "null"
    return "a mapping of keys to values"


def spell_choice(choice: Any) -> str:
    """Spell one of a field's choices without quotes, as it is written in YAML."""
    return choice if isinstance(choice, str) else shorten(choice)
