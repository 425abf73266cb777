"""What an encoder is: frames of one segment in, one file out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Protocol

from pipeline.encode.table import EncoderSpec
from pipeline.frames import ColourTags, Frame, SampleFormat

RANGE_CODES: Mapping[bool | None, int] = MappingProxyType({None: 0, False: 1, True: 2})
"""libavutil/pixfmt.h AVColorRange by ``ColourTags.full_range``: unspecified, limited (MPEG), full (JPEG)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSpec:
    """Everything that decides an encoder's bits, apart from the pictures."""

    encoder: EncoderSpec
    height: int
    """Pixels."""
    width: int
    format: SampleFormat
    """Format of every frame; one that the encoder takes."""
    tags: ColourTags
    """Colour description written into the file."""
    time_base: Fraction
    """Unit of the frames' pts, seconds; the source's."""
    average_rate: Fraction | None = None
    """Frames per second, for rate control and levels only; never used to make a time."""
    sample_aspect: Fraction = Fraction(1)
    quality: float | None = None
    """None: the table's default."""
    preset: str | None = None
    """None: the table's default."""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The encoder's own options, passed as they are; they win over everything else."""
    threads: int = 0
    """Threads of the encoder; 0 = its own choice."""
    mastering_display: str = ""
    """SMPTE ST 2086 in x265's notation; empty if there is none."""
    content_light: str = ""
    """``MaxCLL,MaxFALL`` in cd/m2; empty if there is none."""

    @property
    def surface_format(self) -> str:
        """libav's name of the frames in a GPU's memory; empty if the encoder takes them from the host only."""
        return self.encoder.surface_format(self.format)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeResult:
    """What ``finish()`` wrote."""

    frame_count: int
    bytes: int
    """Of the file; 0 if nothing is written."""
    first_pts: int | None
    """In the source's time base; None without frames."""
    last_pts: int | None
    last_duration: int
    """Display time of the last frame in the same unit; 0 if unknown."""


class Encoder(Protocol):
    """Writes one segment. Only ``finish()`` makes the file whole."""

    def write(self, frame: Frame) -> None:
        """Encode one frame.

        Args:
            frame: In display order, of exactly the spec's size and format, in the memory for which the encoder was
                opened. The caller keeps the frame and releases it when this returns. Host planes must be ready, and are
                copied. Planes on a GPU need not be ready, and are read later: the encoder shares the frame's lease
                until then, or copies the planes if it cannot.

        Raises:
            ValueError: The frame does not have the spec's size or format, or its pts does not follow the last one's.
            OutputError: The file cannot be written, or the encoder failed.
        """
        ...

    def finish(self) -> EncodeResult:
        """Encode what is still held back and close the file. Nothing may be written afterwards.

        Raises:
            OutputError: The file cannot be written, or the encoder failed.
            InferenceFailed: A frame on a GPU was never made: something before it failed there.
        """
        ...

    def close(self) -> None:
        """Free everything; without ``finish()`` before it, remove the file. Idempotent."""
        ...
