"""Patterns of paths as in a shell, matched name by name, so that folders that cannot fit need not be looked into."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path, PurePath

MAGIC = re.compile(r"[*?\[]")
"""What makes a name a pattern."""

ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern of paths: ``*``, ``?`` and ``[abc]`` within a name, ``**`` for any number of folders.

    Upper and lower case differ. A pattern is followed from name to name with a set of places in it: ``start``, then
    ``step`` for every name of a path; the path fits if ``is_end`` holds for what is left.
    """

    names: tuple[re.Pattern[str] | None, ...]
    """A pattern for each name; None for ``**``."""

    @classmethod
    def of(cls, names: Iterable[str]) -> PathPattern:
        """Read a pattern from its names."""
        return cls(tuple(None if name == ANY_DEPTH else re.compile(translate(name)) for name in names))

    @property
    def start(self) -> frozenset[int]:
        """Places before the first name."""
        return self._with_skips({0})

    def step(self, places: frozenset[int], name: str) -> frozenset[int]:
        """Places after one more name; empty if nothing that begins so fits."""
        after = set()
        for place in places:
            if place == len(self.names):
                continue
            pattern = self.names[place]
            if pattern is None:
                after.add(place)
            elif pattern.match(name):
                after.add(place + 1)
        return self._with_skips(after)

    def is_end(self, places: frozenset[int]) -> bool:
        """Whether a path that led to these places fits."""
        return len(self.names) in places

    def goes_on(self, places: frozenset[int]) -> bool:
        """Whether a longer path may fit."""
        return any(place < len(self.names) for place in places)

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a path fits, given as its names."""
        places = self.start
        for name in names:
            places = self.step(places, name)
        return self.is_end(places)

    def _with_skips(self, places: set[int]) -> frozenset[int]:
        """Add the places behind each ``**``, which may also stand for no folder."""
        for place in sorted(places):
            skipped = place
            while skipped < len(self.names) and self.names[skipped] is None:
                skipped += 1
                places.add(skipped)
        return frozenset(places)


def has_magic(path: PurePath) -> bool:
    """Whether a path is a pattern."""
    return MAGIC.search(str(path)) is not None


def split_pattern(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that a pattern starts in, and the names from the first one that is a pattern."""
    parts = path.parts
    first = next(index for index, part in enumerate(parts) if MAGIC.search(part))
    return Path(*parts[:first]), parts[first:]


def end_pattern(text: str) -> PathPattern:
    """A pattern of the ends of paths: ``*.avi`` fits names, ``Season 1/*`` also the folder."""
    return PathPattern.of((ANY_DEPTH, *PurePath(text).parts))
