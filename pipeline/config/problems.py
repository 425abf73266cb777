"""What is wrong with a config, collected until all of it is known, each problem with its file, line and key."""

from collections.abc import Mapping

from pipeline.config.yaml_text import Key
from pipeline.errors import ConfigError


class ProblemList:
    """Collects what is wrong, knowing which line or override each key came from."""

    AFTER_ALL_LINES = 1 << 62

    def __init__(self, *, source: str, lines: Mapping[Key, int]) -> None:
        self.source = source
        self.lines = lines
        self.overridden: set[Key] = set()
        self.found: list[tuple[int, str]] = []

    def add(self, key: Key, text: str, *, line: int | None = None) -> None:
        """Note one problem of one key; the same line is noted once."""
        if any(key[: len(changed)] == changed or changed[: len(key)] == key for changed in self.overridden):
            self.add_override(key, text)
            return
        line = line or next((self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), None)
        place = self.source if line is None else f"{self.source}:{line}"
        entry = (line or 0, f"{place}: {spell_key(key)}: {text}" if key else f"{place}: {text}")
        if entry not in self.found:
            self.found.append(entry)

    def add_override(self, key: Key, text: str) -> None:
        """Note one problem of an override; it is listed after those of the file."""
        entry = (self.AFTER_ALL_LINES, f"--set {spell_key(key)}: {text}")
        if entry not in self.found:
            self.found.append(entry)

    def check(self, *, hint: str = "") -> None:
        """Raise all problems as one error, in the order of the file, overrides last.

        Raises:
            ConfigError: At least one problem was noted.
        """
        if self.found:
            raise ConfigError(tuple(text for _, text in sorted(self.found, key=lambda entry: entry[0])), hint=hint)


def spell_key(key: Key) -> str:
    """``("input", "paths", 0)`` as ``input.paths[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def parse_key(text: str) -> Key:
    """``input.paths[0]`` as ``("input", "paths", 0)``: the inverse of `spell_key` for keys of the models."""
    parts: list[str | int] = []
    for part in text.split("."):
        name, _, index = part.partition("[")
        parts.append(name)
        if index:
            parts.append(int(index.removesuffix("]")))
    return tuple(parts)
