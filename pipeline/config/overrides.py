"""What ``input.overrides`` sets for some films: checked when a config is loaded, and put into the config of a film."""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config, OverrideSection
from pipeline.config.problems import ProblemList, parse_key, spell_key
from pipeline.config.types import Section, tells_paths
from pipeline.config.validate import find_section, translate, validate
from pipeline.config.yaml_text import Key

RUN_WIDE = ("input", "run", "version")
"""Sections that hold for the run as a whole."""


class SettingProblems(ProblemList):
    """Collects what is wrong with one override, in the place where it is written.

    Args:
        problems: Where everything goes.
        place: Of the override's ``set``.
        settings: The keys that it sets.
    """

    def __init__(self, problems: ProblemList, *, place: Key, settings: Iterable[str]) -> None:
        super().__init__(source=problems.source, lines=problems.lines)
        self.problems = problems
        self.place = place
        self.names = {parse_key(name): name for name in settings}
        self.overridden = set(self.names)

    def add(self, key: Key, text: str, *, line: int | None = None) -> None:
        """Note one problem of one key of a film's config."""
        nearest = (known for known in self.names if known[: len(key)] == key or key[: len(known)] == known)
        known = next(nearest, None)
        if known is None:  # a rule that was right before: some setting broke it
            self.problems.add(self.place, f"{spell_key(key)}: {text}", line=line)
            return
        name = self.names[known]
        self.problems.add((*self.place, name), text if known == key else f"{spell_key(key)}: {text}", line=line)


def settle_overrides(config: Config, *, folder: Path, problems: ProblemList) -> Config:
    """Check what every override sets, each alone, and make its paths absolute.

    Args:
        config: Right but for this.
        folder: Where relative paths start.
        problems: Where what is wrong is noted.

    Returns:
        The config with the overrides' paths absolute; whatever, if there were problems.
    """
    settled = []
    for index, override in enumerate(config.input.overrides):
        place: Key = ("input", "overrides", index, "set")
        ours = SettingProblems(problems, place=place, settings=override.set)
        if not check_names(override, place=place, problems=problems):
            continue
        changed = apply_settings(config, [override.set], folder=folder, problems=ours)
        if changed is not None:
            settings = {name: anchored(changed, parse_key(name), value) for name, value in override.set.items()}
            settled.append(override.model_copy(update={"set": settings}))
    if not settled:
        return config
    return config.model_copy(update={"input": config.input.model_copy(update={"overrides": tuple(settled)})})


def check_names(override: OverrideSection, *, place: Key, problems: ProblemList) -> bool:
    """Whether an override sets keys, and none that holds for the run as a whole."""
    is_right = True
    for name in override.set:
        key = parse_name(name)
        if key and key[0] in RUN_WIDE:
            problems.add((*place, name), "cannot be set for some films: it holds for the run as a whole")
        elif len(key) < 2:
            problems.add((*place, name), "must be a key such as encode.quality")
        else:
            continue
        is_right = False
    return is_right


def parse_name(name: str) -> tuple[str, ...]:
    """A dotted key as its parts; empty if a part is."""
    key = tuple(name.split("."))
    return key if all(key) else ()


def with_settings(config: Config, settings: Sequence[Mapping[str, Any]], *, source: str) -> Config:
    """The config of films that some overrides fit.

    Args:
        config: The run's; its paths are absolute.
        settings: What the overrides set, in order: later ones win.
        source: What they fit, in messages.

    Raises:
        ConfigError: Together they are no config, each problem with ``source``.
    """
    problems = ProblemList(source=source, lines={})
    changed = apply_settings(config, settings, folder=Path.cwd(), problems=problems)
    problems.check(hint="the keys are those of the overrides in input.overrides that fit this film")
    assert changed is not None, "a config without problems was validated"
    return changed


def apply_settings(
    config: Config, settings: Sequence[Mapping[str, Any]], *, folder: Path, problems: ProblemList
) -> Config | None:
    """Validate a config with some keys set; None where that is wrong, with the problems noted."""
    values = config.model_dump(mode="json")
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Only a folder that the config lies in can have such a name, and only here would it go through JSON.
        problems.add(("output", "dir"), "overrides need folders whose names are text in UTF-8")
        return None
    for chosen in settings:
        for name, value in chosen.items():
            *sections, last = name.split(".")
            target = values
            for part in sections:
                if target.get(part) is None:
                    target[part] = {}
                target = target[part]
                if not isinstance(target, dict):
                    problems.add(tuple(name.split(".")), f"is not a key: {part} has no keys")
                    return None
            target[last] = copy.deepcopy(value)
    values["input"] = {**values["input"], "overrides": []}
    changed, errors = validate(values, folder=folder)
    translate(errors, values, problems=problems)
    return changed


def anchored(config: Config, key: Key, value: Any) -> Any:
    """The value of a setting as the validated config has it, if it is a path."""
    section: type[Section] | None = Config
    inner: Any = config
    for part in key[:-1]:
        field = section.model_fields.get(str(part)) if section is not None else None
        section = None if field is None else find_section(field.annotation)
        inner = getattr(inner, str(part), None)
    field = section.model_fields.get(str(key[-1])) if section is not None else None
    if field is None or not isinstance(value, str) or not tells_paths(field)(value):
        return value
    return str(getattr(inner, str(key[-1])))
