"""YAML as configs use it: the core schema of YAML 1.2, with the line of every key, and nothing that surprises.

Unlike PyYAML's own loaders: ``off``, ``no`` and ``12:30`` are text, ``1e3`` is a number, a key given twice is an error,
and so are anchors, aliases and tags, which no config needs.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Key = tuple[str | int, ...]
"""Where a value lies in a document: keys of mappings and indices of lists, from the outside in."""

MAX_DEPTH = 16
"""Levels of nesting that are read. Configs have three; without a limit a hostile file exhausts Python's stack."""

PROBLEMS_SHOWN_LENGTH = 60
"""Characters of a wrong value that an error message repeats."""


class YamlProblem(Exception):
    """A text is not YAML that a config may be written in.

    Args:
        text: What is wrong.
        line: 1-based line; None if it is the text as a whole.
    """

    def __init__(self, text: str, *, line: int | None) -> None:
        super().__init__(text)
        self.text = text
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed text."""

    value: Any
    """Plain dicts, lists, str, int, float, bool and None; None for an empty text."""
    lines: dict[Key, int] = field(default_factory=dict)
    """1-based line of each key and list item, by its place."""
    duplicates: tuple[tuple[Key, int, int], ...] = ()
    """Keys given more than once: place, line of this one, line of the first one."""


class CoreLoader(yaml.SafeLoader):
    """Builds node trees with the resolvers of YAML 1.2's core schema; refuses anchors, aliases and deep nesting."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's protocol

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node as the base class does, within the limits."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise YamlProblem("anchors (&) and aliases (*) are not used in configs; write the value out", line=line)
        if self.depth >= MAX_DEPTH:
            raise YamlProblem(f"nested deeper than {MAX_DEPTH} levels", line=line)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class CoreDumper(yaml.SafeDumper):
    """Quotes exactly what `CoreLoader` would otherwise read as something else."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's protocol

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - signature of the base class
        """Write every value out: `CoreLoader` reads no aliases."""
        return True


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Write text; with escapes if it holds a line break, since PyYAML folds rare ones (U+0085) into a space."""
    breaks_line = text.splitlines() not in ([], [text])
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if breaks_line else None)


# Source: YAML 1.2.2, 10.3.2 "Tag Resolution" of the core schema.
for _class in (CoreLoader, CoreDumper):
    for _tag, _pattern, _first in (
        ("null", r"null|Null|NULL|~|", "nN~"),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            "-+.0123456789",
        ),
    ):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
    _class.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


CoreDumper.add_representer(str, represent_text)


def check_text(node: yaml.ScalarNode) -> str:
    """The text of a scalar node.

    Raises:
        YamlProblem: It holds half a surrogate pair, which an escape can write but no file or encoder can take.
    """
    text = str(node.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise YamlProblem("half a surrogate pair is not text", line=node.start_mark.line + 1)
    return text


def parse_scalar(node: yaml.ScalarNode) -> Any:
    """Turn a scalar node into a Python value by its resolved tag.

    Raises:
        YamlProblem: The node has a tag that configs do not use, or a number too long to be one.
    """
    text = check_text(node)
    line = node.start_mark.line + 1
    kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
    try:
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
            return int(text, base)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as exc:
        raise YamlProblem(f"not a number: {shorten(text)}", line=line) from exc
    raise YamlProblem(f"tags such as {node.tag} are not used in configs", line=line)


def parse_yaml(text: str) -> Document:
    """Parse one YAML document.

    Raises:
        YamlProblem: A syntax error, more than one document, or a feature of YAML that configs do not use.
    """
    lines: dict[Key, int] = {}
    duplicates: list[tuple[Key, int, int]] = []

    def convert(node: yaml.Node, key: Key) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return parse_scalar(node)
        if node.tag not in {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}:
            raise YamlProblem(f"tags such as {node.tag} are not used in configs", line=node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, child in enumerate(node.value):
                lines[(*key, index)] = child.start_mark.line + 1
                items.append(convert(child, (*key, index)))
            return items
        mapping: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlProblem("a key must be a word", line=line)
            name = check_text(key_node)
            place = (*key, name)
            if name in mapping:
                duplicates.append((place, line, lines[place]))
                convert(child, place)
                continue
            lines[place] = line
            mapping[name] = convert(child, place)
        return mapping

    try:
        root = CoreLoader(text).get_single_node()
        value = None if root is None else convert(root, ())
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        what = "; ".join(part for part in (exc.context, exc.problem) if part)
        raise YamlProblem(f"not valid YAML: {what}", line=mark.line + 1 if mark else None) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise YamlProblem(f"not valid YAML: character #x{exc.character:04x} is not allowed", line=line) from exc
    return Document(value=value, lines=lines, duplicates=tuple(duplicates))


def dump_yaml(value: Any, *, flow: bool = False) -> str:
    """Write plain values as YAML that `parse_yaml` reads back to equal ones, keys in their given order.

    Args:
        value: Dicts, lists, str, int, float, bool and None.
        flow: Write lists and mappings in brackets, on one line.
    """
    return str(
        yaml.dump(value, Dumper=CoreDumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=flow)
    )


def shorten(value: Any) -> str:
    """Spell a value as YAML on one short line, for error messages."""
    if isinstance(value, str):
        text = repr(value)
    else:
        text = dump_yaml(value).removesuffix("\n").removesuffix("\n...") if is_plain(value) else str(value)
        text = " ".join(text.split())
    return text if len(text) <= PROBLEMS_SHOWN_LENGTH else text[: PROBLEMS_SHOWN_LENGTH - 3] + "..."


def is_plain(value: Any) -> bool:
    """Whether a value is a scalar that YAML can spell."""
    return value is None or isinstance(value, bool | int | float)
