"""What the process of a film is told to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmOrder:
    """One film to work on. Whole in itself: nothing else is needed to do it."""

    config: Config
    """Of this film; paths absolute."""
    source: Path | None
    """The film; None for a synthetic one."""
    index: int
    """0-based place among the run's films."""
    count: int
    """Films of the run."""
    interval_s: float
    """About how often progress is wanted, seconds."""
    root: Path
    """Folder of all results (``output.dir`` of the run): where what is finished is remembered."""
    run_folder: Path | None = None
    """Of the run; None if it has none."""
    log: Path | None = None
    """Where the film's process and its libraries write; None: wherever they did before."""
    restart: bool = False
    """Whether what an earlier run left of this film is moved aside and the film begun anew."""
    taken: tuple[tuple[Path, str], ...] = ()
    """Outputs of this run's earlier films, each with that film's name."""

    @property
    def name(self) -> str:
        """What people call the film."""
        return self.source.name if self.source is not None else "synthetic film"


def encode_order(order: FilmOrder) -> bytes:
    """What the process of a film reads: one line, ASCII, with its line feed."""
    return json.dumps(_adapter().dump_python(order, mode="json")).encode("ascii") + b"\n"


def decode_order(text: bytes) -> FilmOrder:
    """Read an order back.

    Raises:
        ValueError: It is none.
    """
    return _adapter().validate_python(json.loads(text), strict=False)


@cache
def _adapter() -> TypeAdapter[FilmOrder]:
    """Making one takes milliseconds."""
    return TypeAdapter(FilmOrder)
