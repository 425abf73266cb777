"""Films in a folder: what is hidden, what this program made, and what was seen already is passed over."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.inputs.own_results import OwnResults
from pipeline.inputs.pattern import PathPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFilm:
    """A file that is to be upscaled."""

    path: Path
    """Absolute; the name under which it was found, which may be a link."""
    relative: Path
    """The same from the folder that was looked through; the name alone for a file that was named."""
    status: os.stat_result | None
    """Of the file, not of a link to it; None if there is no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for in a folder."""

    root: Path
    """The folder, absolute."""
    pattern: PathPattern
    """Of paths from there on."""
    suffixes: Collection[str] | None
    """In small letters; None: any."""


@dataclass(slots=True, kw_only=True)
class Walk:
    """Looks through folders, each once, however many links lead there."""

    results: OwnResults
    shut: Collection[tuple[int, int]]
    """Device and inode of folders that are not looked into: those of the results."""
    result_count: int = 0
    """Results that were passed over."""
    notes: list[str] = field(default_factory=list)
    """Folders and files that could not be looked at, a sentence each."""

    def films(self, search: Search) -> list[FoundFilm]:
        """All films of one search, those behind links last, so that a film is found under its own name first."""
        self.results.look_above(_real(search.root))
        found: list[FoundFilm] = []
        seen: set[tuple[int, int]] = set()
        pending: deque[tuple[Path, frozenset[int]]] = deque([(search.root, search.pattern.start)])
        linked: deque[tuple[Path, frozenset[int]]] = deque()
        linked_films: list[FoundFilm] = []
        while pending or linked:
            folder, places = pending.popleft() if pending else linked.popleft()
            try:
                status = folder.stat()
                is_root = folder == search.root
                key = (status.st_dev, status.st_ino)
                # A folder that was named itself is looked into even if it is that of the results.
                if key in seen or (key in self.shut and not is_root):
                    continue
                seen.add(key)
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as exc:
                self.notes.append(f"cannot look into {folder}: {exc.strerror or exc}")
                continue
            real_folder = _real(folder)
            self.results.look_in(real_folder)
            for entry in listed:
                after = search.pattern.step(places, entry.name)
                if entry.name.startswith(".") or not after:
                    continue
                if _is_folder(entry):
                    if search.pattern.goes_on(after):
                        (linked if entry.is_symlink() else pending).append((Path(entry.path), after))
                elif search.pattern.is_end(after):
                    film = self._film(entry, search=search, real_folder=real_folder)
                    if film is not None:
                        (linked_films if entry.is_symlink() else found).append(film)
        return found + linked_films

    def _film(self, entry: os.DirEntry[str], *, search: Search, real_folder: Path) -> FoundFilm | None:
        """A file of a folder, if it is a film to upscale."""
        path = Path(entry.path)
        if search.suffixes is not None and path.suffix.lower() not in search.suffixes:
            return None
        try:
            status = entry.stat()
        except FileNotFoundError:
            return None  # a link to nowhere, or gone a moment ago
        except OSError as exc:
            self.notes.append(f"cannot look at {path}: {exc.strerror or exc}")
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        real_path = real_folder / path.name
        if entry.is_symlink():
            real_path = _real(path)
            self.results.look_above(real_path.parent)
        if self.results.has(real_path, status):
            self.result_count += 1
            return None
        return FoundFilm(path=path, relative=path.relative_to(search.root), status=status)


def _real(path: Path) -> Path:
    """Without links, so that what is remembered of a folder is found whatever it is called on the way to it."""
    return Path(os.path.realpath(path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to what nobody may see
        return False
