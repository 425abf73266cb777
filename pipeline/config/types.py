"""What config fields are made of: the base of all sections and the types that several of them share.

Values come from YAML or from Python; strictness, text for paths and exact frame rates are decided here, once.
"""

import os
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from engines.models import is_model_file
from pipeline.night.hours import parse_hours

RATE_PATTERN = r"[0-9]+(\.[0-9]+|/[1-9][0-9]*)?"
"""Spelling of a frame rate: ``24``, ``23.976`` or ``24000/1001``."""

MIN_RATE = Fraction(1, 100)
MAX_RATE = 1000
"""Bounds of a frame rate, frames per second: from time lapses to slow-motion cameras."""

NAME_FIELDS = ("stem", "suffix", "folder", "height", "width", "model", "factor")
"""What ``output.name`` may contain in braces."""

UNQUOTED = ("null", "420", "422", "444")
"""Choices that YAML reads as null or as a number unless they are quoted."""

Auto = Literal["auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBroken:
    """One rule about several keys that does not hold."""

    keys: tuple[str, ...]
    """Dotted keys the rule is about; the first one is where the error is reported."""
    text: str
    """What must hold and what was found, without the first key's name."""


def anchor_path(path: Path, info: ValidationInfo) -> Path:
    """Expand ``~`` and make a relative path absolute, starting from the validation context's ``folder`` if it has one.

    Raises:
        ValueError: The home folder that ``~`` stands for is unknown, or the path holds a NUL byte.
    """
    if "\0" in str(path):
        raise ValueError("a path cannot contain a NUL byte")
    try:
        expanded = path.expanduser()
    except RuntimeError as exc:
        raise ValueError("the home folder that ~ stands for is unknown") from exc
    folder: Path | None = (info.context or {}).get("folder")
    # normpath, not resolve: a link stays the link that the user named, and ../out beside a config is what it looks like
    return expanded if folder is None else Path(os.path.normpath(folder / expanded))


LIST_MARK = "@"
"""What a path of ``input.paths`` begins with if it is that of a list of films."""


def anchor_input(value: Any, info: ValidationInfo) -> Any:
    """Make a path of ``input.paths`` absolute, also behind the ``@`` of a list; what is no text stays as it is.

    Raises:
        ValueError: See `anchor_path`.
    """
    if not isinstance(value, str | Path):
        return value
    mark = LIST_MARK if str(value).startswith(LIST_MARK) else ""
    return f"{mark}{anchor_path(Path(str(value).removeprefix(mark)), info)}"


def anchor_text(path: str, *, folder: Path) -> str:
    """Make a relative path absolute, starting at ``folder``; ``~`` and absolute ones stay as they are."""
    if path.startswith(LIST_MARK):
        return LIST_MARK + anchor_text(path.removeprefix(LIST_MARK), folder=folder)
    return path if path.startswith("~") else str(folder / path)


def anchor_model(name: str, info: ValidationInfo) -> str:
    """Make the path of a model file absolute as other paths are; a name of the table stays as it is.

    Raises:
        ValueError: See `anchor_path`.
    """
    return str(anchor_path(Path(name), info)) if is_model_file(name) else name


def tells_paths(field: FieldInfo) -> Callable[[str], bool]:
    """What tells which texts of a field, or of its items, are paths: all of them, none, or those of model files."""
    pending: list[Any] = [field.annotation, *field.metadata]
    while pending:
        part = pending.pop()
        if isinstance(part, AfterValidator | BeforeValidator) and part.func in (anchor_path, anchor_input):
            return lambda _: True
        if isinstance(part, AfterValidator) and part.func is anchor_model:
            return is_model_file
        pending += [*getattr(part, "__args__", ()), *getattr(part, "__metadata__", ())]
    return lambda _: False


def spell_path(value: Any) -> Any:
    """Turn a Path into text: a default or an already loaded value must also pass while JSON is validated."""
    return str(value) if isinstance(value, Path) else value


def parse_rate(value: Any) -> Fraction:
    """Turn ``24``, ``23.976`` or ``"24000/1001"`` into an exact Fraction.

    Raises:
        PydanticCustomError: Anything else, or a rate outside ``MIN_RATE`` to ``MAX_RATE``.
    """
    text = "" if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction) else str(value)
    # The pattern and the length keep out exponents and numbers that take for ever to compute.
    if len(text) > 40 or not re.fullmatch(RATE_PATTERN, text) or not MIN_RATE <= Fraction(text) <= MAX_RATE:
        raise PydanticCustomError("wrong_rate", f"must be {float(MIN_RATE)} to {MAX_RATE} frames per second")
    return Fraction(text)


def parse_option(value: Any) -> Any:
    """Take a number as an encoder option's text: encoders read all options from text."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def quote_choice(value: Any) -> Any:
    """Take ``420`` and ``null`` as the words they are among a field's choices: YAML reads both as something else."""
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def allow_unquoted(schema: dict[str, Any]) -> None:
    """Let editors accept what `quote_choice` accepts: each choice as YAML reads it without quotes."""
    unquoted = [None if choice == "null" else int(choice) for choice in schema["enum"] if choice in UNQUOTED]
    schema["enum"] = [*schema["enum"], *unquoted]
    del schema["type"]


def check_name(template: str) -> str:
    """Check a template for output names.

    Raises:
        ValueError: Unbalanced braces, a field that is not in ``NAME_FIELDS``, or a path separator.
    """
    allowed = ", ".join(f"{{{name}}}" for name in NAME_FIELDS)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ValueError(f"braces must be paired around one of {allowed}") from exc
    for _, name, spec, conversion in parts:
        if name is not None and (name not in NAME_FIELDS or spec or conversion):
            written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"{{{written}}} is not one of {allowed}")
    if "/" in template or "\\" in template or "\0" in template:
        raise ValueError("must be a file name without folders; output.dir names the folder")
    return template


def name_fields(template: str) -> set[str]:
    """The fields that a right template for output names contains; ``{{stem}}`` is text and no field."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def check_suffix(suffix: str) -> str:
    """Check the suffix of a file name; the same in small letters.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"\.[^./\\\0\s]+", suffix):
        raise ValueError("must be a suffix with its dot, such as .mkv")
    return suffix.lower()


def check_hours(text: str) -> str:
    """Check times of the day.

    Raises:
        ValueError: They are none.
    """
    try:
        parse_hours(text)
    except ValueError as exc:
        raise ValueError(str(exc).partition(" (got ")[0]) from exc  # whoever words the problem adds the value
    return text


def check_command(command: str) -> str:
    """Check a command for the shell.

    Raises:
        ValueError: No program can be given it.
    """
    if "\0" in command or not command.strip():
        raise ValueError("must be a command for the shell")
    return command


ConfigPath = Annotated[Path, Field(strict=False), BeforeValidator(spell_path), AfterValidator(anchor_path)]
"""A path; relative ones start at the config file's folder."""
Rate = Annotated[
    Fraction,
    BeforeValidator(parse_rate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": float(MIN_RATE), "maximum": MAX_RATE},
                {"type": "string", "pattern": f"^{RATE_PATTERN}$"},
            ]
        }
    ),
]
"""Frames per second, exact: a number or a ratio in quotes."""
OptionName = Annotated[str, Field(min_length=1, max_length=100)]
OptionText = Annotated[
    str, BeforeValidator(parse_option), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
ThreadCount = Annotated[int, Field(ge=0, le=1024)]
QueueLength = Annotated[int, Field(ge=1, le=1024)]
SidePx = Annotated[int, Field(ge=1, le=65536)]


class Section(BaseModel):
    """Base of all parts of a config: unknown keys are errors, ``"4"`` is not 4, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        # A section left out is a default instance: only revalidating it anchors its default paths.
        revalidate_instances="always",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def rules(self) -> Iterator[RuleBroken]:
        """Yield every broken rule about several keys. Runs once each field alone is right."""
        yield from ()

    @model_validator(mode="after")
    def check_rules(self) -> Self:
        """Refuse the section if a rule about several keys is broken, with all that are in one error."""
        broken = tuple(self.rules())
        if broken:
            text = "; ".join(f"{rule.keys[0]}: {rule.text}" for rule in broken)
            raise PydanticCustomError("rules_broken", "{text}", {"text": text, "broken": broken})
        return self
