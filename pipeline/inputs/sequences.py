"""What tells the frames of a sequence from a heap of photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pipeline.inputs.order import natural_key
from pipeline.inputs.picture_header import read_header
from pipeline.inputs.pictures import list_pictures, name_numbered, split_number
from pipeline.inputs.walk import FoundFilm

Images = Literal["auto", "sequence", "single"]

FEWEST_FRAMES = 8
"""Fewer numbered pictures are not taken for a sequence by themselves: a third of a second at 24 a second is no film,
and collections of a few numbered pictures are common."""


def join_sequences(pictures: Iterable[FoundFilm], *, images: Images, patterns: Sequence[str] = ()) -> list[FoundFilm]:
    """Make of pictures what is worked on: each alone, or sequences.

    With ``auto``, pictures of one folder are a sequence if their names differ in a number alone that leaves none out,
    they are at least ``FEWEST_FRAMES``, have one size, and the first names no camera. With ``sequence``, all pictures
    of a folder whose names differ in a number alone are one; if some have no number, the whole folder is.

    Args:
        pictures: Found by one search; without links to each other.
        images: As configured.
        patterns: Patterns of names that the search had, for sequences that are a part of their folder.

    Returns:
        Pictures, and sequences in the form that ``list_pictures`` takes. Those of one folder stand together.
    """
    found: list[FoundFilm] = []
    folders: dict[Path, list[FoundFilm]] = {}
    for picture in pictures:
        folders.setdefault(picture.path.parent, []).append(picture)
    for folder, members in folders.items():
        if images == "single":
            found += members
            continue
        for group in _groups(members, images=images):
            is_one = images == "sequence" or _looks_like_frames(group)
            source = _name_sequence(folder, group, patterns=patterns) if is_one else None
            if source is None:
                found += group
            else:
                found.append(_sequence(source, group))
    return found


def named_sequence(source: Path) -> FoundFilm | None:
    """A sequence that was named by a pattern of ffmpeg's; None if there is no picture of it."""
    try:
        pictures = list_pictures(source)
    except OSError:
        return None
    return FoundFilm(path=source, relative=Path(source.name), status=_status(pictures)) if pictures else None


def _groups(members: list[FoundFilm], *, images: Images) -> list[list[FoundFilm]]:
    """Pictures whose names differ in their last number alone."""
    groups: dict[tuple[str, str] | str, list[FoundFilm]] = {}
    for member in members:
        parts = split_number(member.path.name)
        if parts is None and images == "sequence":
            return [sorted(members, key=lambda one: natural_key(one.path))]
        groups.setdefault(member.path.name if parts is None else (parts[0], parts[2]), []).append(member)
    return [sorted(group, key=lambda one: natural_key(one.path)) for group in groups.values()]


def _looks_like_frames(group: list[FoundFilm]) -> bool:
    if len(group) < FEWEST_FRAMES:
        return False
    parts = [split_number(member.path.name) for member in group]
    numbers = [int(part[1]) for part in parts if part is not None]
    if numbers != list(range(numbers[0], numbers[0] + len(group))):
        return False
    first = read_header(group[0].path)
    if first is None or first.is_photo:
        return False
    headers = (read_header(member.path) for member in group)
    return all(
        header is not None and (header.height, header.width) == (first.height, first.width) for header in headers
    )


def _name_sequence(folder: Path, group: list[FoundFilm], *, patterns: Sequence[str]) -> Path | None:
    """The source that stands for these pictures and no others; None if there is no such name."""
    wanted = {member.path.name for member in group}
    candidates = [folder]
    if split_number(group[0].path.name) is not None:
        candidates.append(name_numbered(folder, group[0].path.name))
    candidates += [folder / pattern for pattern in patterns]
    for candidate in candidates:
        try:
            if {path.name for path in list_pictures(candidate)} == wanted:
                return candidate
        except OSError:
            continue
    return None


def _sequence(source: Path, group: list[FoundFilm]) -> FoundFilm:
    is_folder = source == group[0].path.parent
    above = group[0].relative.parent
    # a folder that was searched itself is called by its own name
    relative = (above if above.name else Path(source.name)) if is_folder else above / source.name
    return replace(group[0], path=source, relative=relative, status=_status([member.path for member in group]))


def _status(pictures: Sequence[Path]) -> os.stat_result | None:
    """Of the sequence as a whole: the first picture's, with the size of all."""
    try:
        statuses = [path.stat() for path in pictures]
    except OSError:
        return None
    values = list(statuses[0])
    values[6] = sum(status.st_size for status in statuses)
    return os.stat_result(values)
