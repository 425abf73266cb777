"""What results are called, and whether two films would get the same."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config
from pipeline.config.types import name_fields
from pipeline.encode.table import ENCODERS
from pipeline.errors import OutputError
from pipeline.inputs.pictures import is_picture, is_sequence

MOST_NAME_BYTES = 255
"""Longest name of a file: NAME_MAX of Linux, and what ext4, xfs, btrfs and zfs take."""

MOST_SIDE_NAME_BYTES = 235
"""Longest name of a file beside a result: 255, less the 14 bytes that ``engines.atomic.write_atomic`` adds while it is
written (a dot, a dot and seven digits of a process, ``.part``), and some room."""

REPORT_ENDING = ".report.json"
"""What the name of a film's report has after that of its result."""

KNOWN_LATER = ("height", "width", "factor")
"""Fields of ``output.name`` that nobody knows before the film was looked into."""


def place_output(folder: Path, name: str, *, container: str) -> Path:
    """Where a result goes.

    Args:
        folder: Its folder.
        name: Its name without suffix, as ``output.name`` makes it.
        container: ``mkv``, ``mp4``, ``mov``; ``png`` for a folder of pictures, ``picture`` for one; empty if nothing is
            written.

    Raises:
        OutputError: No file can have that name.
    """
    suffix = {"": "", "png": "", "picture": ".png"}.get(container, f".{container}")
    whole = f"{name}{suffix}"
    hint = "set another output.name; in input.overrides, for this film alone"
    if whole in ("", ".", "..") or "/" in whole or "\0" in whole:
        raise OutputError(f"the result cannot be called {whole!r}", path=folder, hint=hint)
    length = len(os.fsencode(whole))
    if length > MOST_NAME_BYTES:
        raise OutputError(
            f"the result's name would have {length} bytes, and file systems take {MOST_NAME_BYTES}: {whole}",
            path=folder / whole,
            hint=hint,
        )
    return folder / whole


def place_beside(output: Path, ending: str) -> Path:
    """The path of a file beside a result: its name and an ending, shortened where no file could be called that.

    Args:
        output: The result, or any path in its folder.
        ending: Such as ``REPORT_ENDING``.
    """
    name = f"{output.name}{ending}"
    if len(os.fsencode(name)) <= MOST_SIDE_NAME_BYTES:
        return output.with_name(name)
    tail = f"~{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]}{ending}"
    # Whole characters: half of one would be no text.
    shown = output.name
    while len(os.fsencode(shown)) > MOST_SIDE_NAME_BYTES - len(os.fsencode(tail)):
        shown = shown[:-1]
    return output.with_name(f"{shown}{tail}")


def predict_output(config: Config, source: Path) -> tuple[Path, bool] | None:
    """What the result of a film will be called, as far as can be said without looking into it.

    Args:
        config: Of that film.
        source: The film.

    Returns:
        The path, and whether it has fields that are known later, which stand in it in braces: two films with the same
        path may still get different results. None if nothing is written.
    """
    encoder = ENCODERS.get(config.encode.kind)  # None: auto
    if encoder is not None and encoder.product == "nothing":
        return None
    name = config.output.format_name(
        source=source, height="{height}", width="{width}", model=config.infer.model, factor="{factor}"
    )
    if is_picture(source) and not is_sequence(source):
        return config.output.dir / f"{name}.png", _is_open(config)
    container = config.output.container if config.output.container != "auto" else _customary_container(source)
    if encoder is not None and config.output.container == "auto":
        if encoder.product == "pictures":
            container = "png"
        elif container not in encoder.containers:
            container = "mkv" if "mkv" in encoder.containers else encoder.containers[0]
    suffix = "" if container == "png" else f".{container}"
    return config.output.dir / f"{name}{suffix}", _is_open(config)


def _is_open(config: Config) -> bool:
    """Whether a result's name has fields that are known later."""
    return not name_fields(config.output.name).isdisjoint(KNOWN_LATER)


def _customary_container(source: Path) -> str:
    """What ``output.container: auto`` chooses for most films with that suffix."""
    suffix = source.suffix.lower()
    return "mov" if suffix in {".mov", ".qt"} else "mp4" if suffix in {".mp4", ".m4v"} else "mkv"


@dataclass(slots=True)
class OutputNames:
    """Which results belong to which films, so that no two films get the same."""

    films: dict[Path, Path] = field(default_factory=dict)
    """Film by result."""

    def claim(self, config: Config, source: Path) -> tuple[str, str]:
        """Note the result of a film.

        Returns:
            Why another film has it already, and why another film may have it: a sentence each, empty if none has.
        """
        predicted = predict_output(config, source)
        if predicted is None:
            return "", ""
        path, is_open = predicted
        other = self.films.setdefault(path, source)
        if other == source:
            return "", ""
        if is_open:
            return "", f"{other} and {source} may get the same result, {path}"
        return f"{other} and {source} would both be written to {path}", ""
