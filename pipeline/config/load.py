"""From a YAML file and ``--set`` overrides to a `Config`, or to one error that lists everything wrong with them.

Each problem reads ``config.yaml:12: tile.overlap_px: must be ... (got 300)``. What a field must be is worded from the
same JSON schema that editors use, so the two cannot disagree.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.config.overrides import settle_overrides
from pipeline.config.problems import ProblemList, parse_key
from pipeline.config.types import Section, anchor_text, tells_paths
from pipeline.config.validate import find_section, is_section, translate, validate
from pipeline.config.words import spell_value
from pipeline.config.yaml_text import Document, Key, YamlProblem, dump_yaml, parse_yaml, shorten
from pipeline.errors import ConfigError

MAX_CONFIG_BYTES = 1 << 20
"""Larger files are not configs: the example with all comments is a hundredth of it."""

SUPPORTED_VERSION = 1


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: The YAML file. Relative paths in it start at its folder, those in overrides at the current one.
        overrides: ``section.key=value`` each, the value in YAML's spelling; later ones win.

    Returns:
        The config, with absolute paths.

    Raises:
        ConfigError: The file cannot be read or anything in it or in the overrides is wrong; all problems at once.
    """
    path = Path(path)
    try:
        document = parse_yaml(read_text(path))
    except YamlProblem as exc:
        place = str(path) if exc.line is None else f"{path}:{exc.line}"
        raise ConfigError((f"{place}: {exc.text}",)) from exc
    if document.value is None:
        raise ConfigError(
            (f"{path}: the file is empty",),
            hint="it needs at least: input: {paths: [film.mkv]}; see configs/example.yaml",
        )
    if not isinstance(document.value, dict):
        raise ConfigError(
            (f"{path}: must be a mapping of sections such as input: and output: (got {spell_value(document.value)})",)
        )
    return build_config(document, source=str(path), folder=path.absolute().parent, overrides=overrides)


def make_config(values: Mapping[str, Any], *, folder: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Make a config from plain values as a YAML file would hold them.

    Args:
        values: Nested dicts and lists of str, int, float, bool and None.
        folder: Where relative paths start; the current folder if None.
        overrides: As for `load_config`.

    Raises:
        ConfigError: Anything is wrong; all problems at once.
    """
    document = Document(value=copy.deepcopy(dict(values)))
    return build_config(document, source="config", folder=(folder or Path.cwd()).absolute(), overrides=overrides)


def read_text(path: Path) -> str:
    """Read a config file's text.

    Raises:
        ConfigError: There is no such file, or it is not a text file of a config's size.
    """
    hint = ""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            what = f"larger than {MAX_CONFIG_BYTES} bytes, so not a config file"
        else:
            return content.decode("utf-8-sig")
    except FileNotFoundError:
        what = "no such file"
    except IsADirectoryError:
        what = "is a folder, not a config file"
    except UnicodeDecodeError as exc:
        what = f"not a text file in UTF-8 (byte {exc.start})"
    except (OSError, ValueError) as exc:
        what = f"cannot be read: {getattr(exc, 'strerror', None) or exc}"
    if not what.startswith("cannot"):
        hint = "give a YAML file such as configs/example.yaml; films are named in it, under input.paths"
    raise ConfigError((f"{path}: {what}",), hint=hint)


def build_config(document: Document, *, source: str, folder: Path, overrides: Sequence[str]) -> Config:
    """Apply overrides to a parsed document and validate the result.

    Args:
        document: What was parsed; its value is a mapping and is changed.
        source: Name of the file in messages.
        folder: Absolute; where relative paths start.
        overrides: ``section.key=value`` each.

    Raises:
        ConfigError: Anything is wrong; all problems at once.
    """
    problems = ProblemList(source=source, lines=document.lines)
    values: dict[str, Any] = document.value
    version = values.get("version", SUPPORTED_VERSION)
    if version != SUPPORTED_VERSION or isinstance(version, bool):
        problems.add(
            ("version",),
            f"this program reads version {SUPPORTED_VERSION} of the config format (got {shorten(version)})",
        )
        problems.check()
    for key, line, first_line in document.duplicates:
        problems.add(key, f"is given twice, first in line {first_line}", line=line)
    for override in overrides:
        apply_override(values, override, problems=problems)
    for name, field in Config.model_fields.items():
        if values.get(name, 0) is None and is_section(field.annotation):
            values[name] = {}  # all keys of the section are commented out
    config, errors = validate(values, folder=folder)
    translate(errors, values, problems=problems)
    if config is None:
        # Rules between sections run only where all fields are right: run those that the wrong ones do not touch.
        wrong = {error["loc"][0] for error in errors if error["loc"]}
        _, more = validate({name: value for name, value in values.items() if name not in wrong}, folder=folder)
        translate([error for error in more if not error["loc"]], values, problems=problems, without=wrong)
    if config is not None:
        config = settle_overrides(config, folder=folder, problems=problems)
    problems.check()
    assert config is not None, "a config without problems was validated"
    return config


def apply_override(values: dict[str, Any], override: str, *, problems: ProblemList) -> None:
    """Set one ``section.key=value`` in plain values, noting what is wrong with it."""
    name, equals, text = override.partition("=")
    key = tuple(name.strip().split("."))
    if not equals or not all(key):
        problems.add_override(key, f"must be written as section.key=value (got {shorten(override)})")
        return
    if key == ("version",):
        problems.add_override(key, "cannot be overridden")
        return
    try:
        value = parse_yaml(text).value
    except YamlProblem as exc:
        problems.add_override(key, f"{exc.text} (got {shorten(text)})")
        return
    *folders, last = key
    target = values
    for part in folders:
        if target.get(part) is None:
            target[part] = {}
        if not isinstance(target[part], dict):
            problems.add_override(key, f"is not a key: {part} is {spell_value(target[part])}")
            return
        target = target[part]
    target[last] = anchor_override(key, value)
    problems.overridden.add(key)


def anchor_override(key: Key, value: Any) -> Any:
    """Make the paths of an override absolute: they start where the command is typed, as the shell completes them."""
    if key == ("input", "overrides"):
        return [anchor_settings(item) for item in value] if isinstance(value, list) else value
    section: type[Section] | None = Config
    for part in key[:-1]:
        field = section.model_fields.get(str(part)) if section is not None else None
        section = find_section(field.annotation) if field is not None else None
    field = section.model_fields.get(str(key[-1])) if section is not None else None
    if field is None:
        return value
    is_path, folder = tells_paths(field), Path.cwd()

    def anchored(item: Any) -> Any:
        return anchor_text(item, folder=folder) if isinstance(item, str) and is_path(item) else item

    return [anchored(item) for item in value] if isinstance(value, list) else anchored(value)


def anchor_settings(override: Any) -> Any:
    """The same for what an item of ``input.overrides`` sets."""
    settings = override.get("set") if isinstance(override, dict) else None
    if not isinstance(settings, dict):
        return override
    return {**override, "set": {name: anchor_override(parse_key(name), value) for name, value in settings.items()}}


def resolved_yaml(config: Config) -> str:
    """Write a config with all defaults filled in and all paths absolute, as YAML that loads to an equal config."""
    return dump_yaml(config.model_dump(mode="json"))
