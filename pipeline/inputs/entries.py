"""From the entries of ``input.paths`` to files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config, InputSection
from pipeline.config.types import LIST_MARK
from pipeline.inputs.order import natural_key
from pipeline.inputs.own_results import OwnResults
from pipeline.inputs.pattern import ANY_DEPTH, PathPattern, has_magic, split_pattern
from pipeline.inputs.pictures import PICTURE_SUFFIXES, is_numbered, is_picture, is_sequence
from pipeline.inputs.sequences import join_sequences, named_sequence
from pipeline.inputs.walk import FoundFilm, Search, Walk

MOST_LIST_BYTES = 64 * 2**20
"""Larger files are no lists: half a million paths of the usual length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the entries of ``input.paths`` came to."""

    films: tuple[FoundFilm, ...]
    """In the order of the entries, in folders by name; each file once."""
    problems: tuple[str, ...]
    """Entries that are nothing or hold nothing, a sentence each, as in a config's problems."""
    notes: tuple[str, ...]
    """What was passed over, a sentence each."""
    result_count: int
    """Files that were passed over because they are results of this program."""


def list_films(config: Config, *, results: OwnResults | None = None) -> Finding:
    """Look at every entry of ``input.paths``.

    Args:
        config: The run.
        results: What is known of results from an earlier look.
    """
    walk = Walk(results=results or OwnResults(), shut=_result_folders(config))
    listing = _Listing(section=config.input, walk=walk)
    for path in config.input.paths:
        listing.add(path, name="input.paths")
    return Finding(
        films=tuple(listing.films),
        problems=tuple(listing.problems),
        notes=(*dict.fromkeys(walk.notes), *listing.doubles),
        result_count=walk.result_count,
    )


def _result_folders(config: Config) -> frozenset[tuple[int, int]]:
    """Device and inode of all folders that results go to."""
    folders = [config.output.dir]
    folders += [Path(str(item.set["output.dir"])) for item in config.input.overrides if "output.dir" in item.set]
    found = set()
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            continue  # not made yet
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)


@dataclass(slots=True, kw_only=True)
class _Listing:
    section: InputSection
    walk: Walk
    films: list[FoundFilm] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    paths: dict[Path | tuple[int, int], Path] = field(default_factory=dict)
    """The path under which a file was found first, by its path and by its device and inode."""

    def add(self, path: Path, *, name: str, folder: Path | None = None) -> None:
        """Add what an entry names.

        Args:
            path: The entry.
            name: Where the entry is written, for problems.
            folder: Of the list that it stands in; None if it stands in none.
        """
        if str(path).startswith(LIST_MARK) and folder is None:
            self._add_list(Path(str(path).removeprefix(LIST_MARK)), name=name)
            return
        try:
            is_folder, exists = path.is_dir(), os.path.lexists(path)
        except OSError:
            is_folder, exists = False, False  # a name that no file can have: the film fails with that
        if is_folder:
            names: tuple[str, ...] = (ANY_DEPTH,) if self.section.recursive else ("*",)
            search = Search(root=path, pattern=PathPattern.of(names), suffixes=self._suffixes)
            self._add_search(search, what=f"the folder {path} holds no film", name=name)
        elif is_numbered(path) and not exists:
            if sequence := named_sequence(path):
                self.films.append(sequence)
            else:
                self.problems.append(f"{name}: no picture fits the pattern {path}")
        elif has_magic(path) and not exists:  # a file that is really called so is meant
            root, names = split_pattern(path)
            suffix = Path(names[-1]).suffix
            # Who writes *.dav means those files, whatever suffixes films usually have.
            has_own = suffix and not has_magic(Path(suffix))
            search = Search(root=root, pattern=PathPattern.of(names), suffixes=None if has_own else self._suffixes)
            self._add_search(search, what=f"no film fits the pattern {path}", name=name, patterns=(names[-1],))
        elif exists or not self.section.watch:  # what is not there fails as a film; who watches waits for it
            film = FoundFilm(path=path, relative=Path(path.name), status=_status(path))
            if self._is_first(film):
                self.films.append(film)

    @property
    def _suffixes(self) -> frozenset[str]:
        """Of what is looked for in folders. Who waits for films does not mean the pictures that lie beside them."""
        films = frozenset(self.section.suffixes)
        return films if self.section.watch and self.section.images == "auto" else films.union(PICTURE_SUFFIXES)

    def _add_search(self, search: Search, *, what: str, name: str, patterns: tuple[str, ...] = ()) -> None:
        result_count, note_count = self.walk.result_count, len(self.walk.notes)
        films = self._join(self.walk.films(search), patterns=patterns)
        # Chosen in the order of the walk, files before links to them; then put into that of names.
        chosen = [film for film in films if self._is_first(film)]
        self.films += sorted(chosen, key=lambda film: natural_key(film.relative))
        if not films and not self.section.watch:
            results = self.walk.result_count - result_count
            why = f" that is not the result of an earlier run ({results} are)" if results else ""
            if search.suffixes is not None and not results:
                why = f" (input.suffixes: {' '.join(self.section.suffixes)})"
            if unseen := self.walk.notes[note_count:]:
                why = f": {unseen[0]}"
            self.problems.append(f"{name}: {what}{why}")

    def _join(self, found: list[FoundFilm], *, patterns: tuple[str, ...]) -> list[FoundFilm]:
        """Films, and pictures alone or as sequences."""
        pictures = [film for film in found if is_picture(film.path)]
        films = [film for film in found if not is_picture(film.path)]
        if films and pictures and self.section.images == "auto":
            self.walk.notes.append(
                f"{len(pictures)} pictures beside films are passed over (input.images: single or sequence takes them)"
            )
            return films
        return [*films, *join_sequences(pictures, images=self.section.images, patterns=patterns)]

    def _is_first(self, film: FoundFilm) -> bool:
        """Whether a file was not found before, under this or another name."""
        is_file = film.status is not None and not is_sequence(film.path)
        key = (film.status.st_dev, film.status.st_ino) if is_file and film.status is not None else film.path
        if key not in self.paths:
            self.paths[key] = film.path
            return True
        if self.paths[key] != film.path:
            self.doubles.append(f"{film.path} is the same file as {self.paths[key]}: passed over")
        return False

    def _add_list(self, path: Path, *, name: str) -> None:
        """Add what a list of films names."""
        try:
            with path.open("rb") as file:
                content = file.read(MOST_LIST_BYTES + 1)
        except OSError as exc:
            if not self.section.watch or not isinstance(exc, FileNotFoundError):
                self.problems.append(f"{name}: the list {path} cannot be read: {exc.strerror or exc}")
            return
        if len(content) > MOST_LIST_BYTES or b"\0" in content:
            self.problems.append(f"{name}: {path} is not a list of films (one path a line)")
            return
        is_empty = True
        for number, text in _list_lines(content):
            is_empty = False
            entry = os.path.expanduser(text)  # noqa: PTH111 - that of Path raises where there is no home
            self.add(Path(os.path.normpath(path.parent / entry)), name=f"{path}:{number}", folder=path.parent)
        if is_empty and not self.section.watch:
            self.problems.append(f"{name}: the list {path} names no film")


def _list_lines(content: bytes) -> Iterator[tuple[int, str]]:
    """The lines of a list that name something, with their numbers from 1; names of any bytes."""
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        text = os.fsdecode(line.removesuffix(b"\r"))
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
