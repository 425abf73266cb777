"""What a row of the media table is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from helpers import media
from helpers.table_material import FRAMES, HEIGHT_PX, WIDTH_PX, Material, transcode

Make = Callable[[Material, Path], object]


@dataclass(frozen=True)
class Change:
    """In what a result differs from its source on purpose."""

    what: str
    """A name of ``media_dump.describe_film``; one that ends in ``*`` stands for all that begin so."""
    becomes: Any
    """Its value in the result; None for any."""
    because: str


@dataclass(frozen=True, eq=False)
class Row:
    """One film of the table."""

    name: str
    file: str
    """Its name: the extension chooses the container."""
    make: Make
    becomes: str = "mkv"
    """Extension of the result."""
    sections: dict[str, Any] = field(default_factory=dict)
    """What the config says beyond the defaults."""
    times: tuple[Fraction, ...] | None = None
    """When its pictures are shown, seconds after the first; None: as the file says."""
    changes: tuple[Change, ...] = ()


def every(rate: Fraction | int, count: int = FRAMES) -> tuple[Fraction, ...]:
    """Times of a constant rate."""
    return tuple(index / Fraction(rate) for index in range(count))


def ms(*times: int) -> tuple[Fraction, ...]:
    """Times in milliseconds, after the first."""
    return tuple(Fraction(time - times[0], 1000) for time in times)


def in_container(container: str, **encode: Any) -> dict[str, Any]:
    """Sections that name the container, and how pictures are encoded."""
    return {"output": {"container": container}, "encode": encode}


def made(**options: Any) -> Make:
    """Twelve numbered pictures, as ``media.write_counter_video`` makes them."""
    defaults = {"frames": FRAMES, "height": HEIGHT_PX, "width": WIDTH_PX}
    return lambda _, path: media.write_counter_video(path, **(defaults | options))


def with_codec(*options: str, pixel_format: str = "yuv420p", sound: str = "") -> Make:
    """The numbered pictures through ffmpeg."""
    return lambda material, path: transcode(material, path, *options, pixel_format=pixel_format, with_sound=sound)


ADTS = Change("audio * packets", None, "a transport stream wraps AAC in ADTS headers, which go; the sound is compared")
NO_DEFAULT = tuple(
    Change(
        f"{what} dispositions", ("default",), "mp4 and mov: a film without a default track enables the first of each"
    )
    for what in ("picture", "audio 0", "subtitle 0")
)
GUESSED_FULL = Change("range", 2, "grey without a range is full, as libav reads it")


def converted(codec: str) -> tuple[Change, ...]:
    """Text that the container holds in another form; its lines and their times are compared all the same."""
    because = "the container holds text in another form"
    return (
        Change("subtitle * codec", codec, because),
        Change("subtitle * packets", None, because),
        Change("subtitle * times", None, "mov_text says with a packet of its own that nothing is shown"),
    )
