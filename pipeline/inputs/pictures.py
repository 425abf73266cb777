"""Pictures as inputs: which files are some, and what a source that stands for several of them names.

A source of pictures is one path: a picture, a folder of pictures, or a pattern in the last name. Patterns are those of
ffmpeg (``frame_%05d.png``) and of the shell (``frame_*.png``). A file or folder that is really called so comes first.
"""

from __future__ import annotations

import os
import re
from fnmatch import translate
from pathlib import Path

from pipeline.inputs.order import natural_key
from pipeline.inputs.pattern import has_magic

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
"""Suffixes of pictures, in small letters."""

_NUMBER = re.compile(r"%(?:0(?P<digits>[1-9]))?d")
_LAST_NUMBER = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]+)(?P<suffix>[^0-9]*\.[^.]*)", re.DOTALL)
_SEPARATORS = " ._-"
"""What stands between a sequence's name and its numbers."""


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_numbered(path: Path) -> bool:
    """Whether the last name is a pattern of ffmpeg's."""
    return len(_NUMBER.findall(path.name)) == 1 and is_picture(path)


def split_number(name: str) -> tuple[str, str, str] | None:
    """What stands before, in and behind the last number of a picture's name; None if it has none."""
    match = _LAST_NUMBER.fullmatch(name)
    return None if match is None else (match["prefix"], match["number"], match["suffix"])


def is_picture_source(path: Path) -> bool:
    """Whether a source is one of pictures: by its name, and by whether there is a folder."""
    return is_picture(path) or path.is_dir()


def is_sequence(path: Path) -> bool:
    """Whether a source of pictures stands for several of them."""
    if path.is_dir():
        return True
    is_glob = has_magic(Path(path.name)) and (is_picture(path) or not path.suffix)  # no film that is gone
    return (is_numbered(path) or is_glob) and not path.exists()


def list_pictures(source: Path) -> tuple[Path, ...]:
    """The pictures that a source stands for, in order: by number where it is a pattern of ffmpeg's, else by name.

    Raises:
        OSError: Its folder cannot be read.
    """
    if not is_sequence(source):
        return (source,)
    if source.is_dir():
        return tuple(sorted(_pictures_in(source), key=natural_key))
    if is_numbered(source):
        pattern = _numbered_pattern(source.name)
        found = [(match, path) for path in _pictures_in(source.parent) if (match := pattern.fullmatch(path.name))]
        return tuple(path for _, path in sorted(found, key=lambda pair: (int(pair[0]["number"]), pair[1])))
    fits = re.compile(translate(source.name)).match
    return tuple(sorted((path for path in _pictures_in(source.parent) if fits(path.name)), key=natural_key))


def name_numbered(folder: Path, name: str) -> Path:
    """The pattern of ffmpeg's that a numbered picture's name fits, with as many digits where it has leading zeros."""
    parts = split_number(name)
    if parts is None:
        raise ValueError(f"{name} has no number")
    prefix, number, suffix = parts
    return folder / f"{prefix}%{f'0{len(number)}' if number.startswith('0') and len(number) < 10 else ''}d{suffix}"


def source_stem(source: Path) -> str:
    """What a source is called without suffix and number; a sequence that is nothing but numbers, as its folder."""
    if source.is_dir():
        return source.name
    if not is_sequence(source):
        return source.stem
    start = _NUMBER.split(source.name)[0] if is_numbered(source) else re.split(r"[*?\[]", source.name)[0]
    return start.rstrip(_SEPARATORS) or source.parent.name


def _numbered_pattern(name: str) -> re.Pattern[str]:
    match = _NUMBER.search(name)
    assert match is not None
    digits = rf"[0-9]{{{match['digits']},}}" if match["digits"] else "[0-9]+"
    return re.compile(f"{re.escape(name[: match.start()])}(?P<number>{digits}){re.escape(name[match.end() :])}")


def _pictures_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    return [folder / name for name in names if is_picture(Path(name))]
