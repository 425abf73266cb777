"""In which order films are worked on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.inputs.walk import FoundFilm

Order = Literal["given", "name", "size", "longest", "shortest"]

DurationOf = Callable[[Path], float | None]
"""Playing time of a film, seconds; None if nobody can say."""

_DIGITS = re.compile(r"([0-9]+)")

NameKey = tuple[tuple[tuple[int, int, str], ...], ...]


def natural_key(path: Path) -> tuple[NameKey, str]:
    """What paths are sorted by so that people find them in order: folder by folder, in any case, ``2`` before ``10``.

    Two paths have the same key only if they are the same.
    """
    names = tuple(
        tuple(
            (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.casefold())
            for part in _DIGITS.split(name)
            if part
        )
        for name in path.parts
    )
    return names, str(path)


def sort_films(films: Sequence[FoundFilm], order: Order, *, duration_of: DurationOf) -> list[FoundFilm]:
    """Put films into order; what is equal stays in the given one.

    Args:
        films: In the given order.
        order: ``input.order``.
        duration_of: Asked once for each film where the order needs it.

    Returns:
        The films; those whose size or playing time nobody knows are last.
    """
    if order == "name":
        return sorted(films, key=lambda film: natural_key(film.relative))
    if order == "size":
        return sorted(films, key=lambda film: (film.status is None, 0 if film.status is None else film.status.st_size))
    if order == "given":
        return list(films)
    sign = -1 if order == "longest" else 1
    durations_s = [None if film.status is None else duration_of(film.path) for film in films]
    ranks = [(duration_s is None, sign * (duration_s or 0)) for duration_s in durations_s]
    return [films[index] for index in sorted(range(len(films)), key=ranks.__getitem__)]
