"""What is known about a film before its first frame: its file, its streams, its picture. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.frames import ColourTags, SampleFormat

if TYPE_CHECKING:
    from pipeline.decode.field_findings import FieldFindings

StreamKind = Literal["video", "audio", "subtitle", "attachment", "data", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One stream of a container, as far as copying it is concerned."""

    index: int
    kind: StreamKind
    codec: str
    """libav codec name; empty if unknown."""
    language: str = ""
    title: str = ""
    is_attached_pic: bool = False
    """Cover art: a picture, never the film."""
    is_empty: bool = False
    """Nothing of it was found that says what it is: no container can take it."""
    time_base: Fraction = Fraction(1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """What of a decoded image is not shown because its container says so: pixels at each edge."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTrack:
    """The film's main video stream."""

    index: int
    """Stream index in the container."""
    codec: str
    height: int
    """Display height in pixels before rotation: cropping applied, pixel aspect not."""
    width: int
    pixel_format: str
    """libav name, as decoded."""
    format: SampleFormat
    """Fully resolved: what is unspecified in ``tags`` is guessed as players do."""
    tags: ColourTags
    """As the file says."""
    time_base: Fraction
    average_rate: Fraction | None
    """Frames per second from the header; only a hint."""
    start_pts: int | None
    duration_s: float | None
    """From the header, of the stream or else of the container."""
    frame_count_from_header: int | None
    """None where the container does not say; only a hint."""
    sample_aspect: Fraction = Fraction(1)
    rotation_deg: int = 0
    """Counter-clockwise display rotation of the display matrix, degrees."""
    is_mirrored: bool = False
    """Whether the picture is shown mirrored left to right, after that rotation."""
    crop: Crop = field(default_factory=Crop)
    """What the container cuts off decoded images to get ``height`` and ``width``; the codec's own cropping is done by
    its decoder."""
    is_interlaced: bool = False
    """Flagged so in one of the first frames."""
    fields: FieldFindings | None = None
    """How frames from all over the film look; None if nobody looked (``scan_fields``)."""
    mastering_display: str = ""
    """SMPTE ST 2086 in x265's notation ``G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)``; empty if absent."""
    content_light: str = ""
    """``MaxCLL,MaxFALL``; empty if absent."""
    dynamic_hdr: tuple[str, ...] = ()
    """HDR metadata that differs from frame to frame, by name: ``HDR10+``, ``Dolby Vision profile 8`` ... No encoder
    here writes it."""

    @property
    def decoded_height(self) -> int:
        """Height of the images that the decoder gives, before ``crop``."""
        return self.height + self.crop.top + self.crop.bottom

    @property
    def decoded_width(self) -> int:
        """Width of the images that the decoder gives, before ``crop``."""
        return self.width + self.crop.left + self.crop.right

    @property
    def frame_count_estimated(self) -> int | None:
        """Frames, from the header or from duration and rate; None if neither is known."""
        if self.frame_count_from_header:
            return self.frame_count_from_header
        if self.duration_s and self.average_rate:
            return max(1, round(self.duration_s * self.average_rate))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """The pictures that a film is made of: one, or the frames of a sequence."""

    files: tuple[Path, ...]
    """In order."""
    is_single: bool
    """Whether it is a picture by itself, which becomes a picture."""
    has_alpha: bool = False
    is_grey: bool = False
    profile: bytes = b""
    """ICC colour profile of the first; empty if it has none."""
    is_paired: bool = False
    """Whether each picture leaves the decoder as two frames: its colours, then its alpha as a grey picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What ``probe_media`` found in a file."""

    path: Path
    container: str
    """libav's name(s) of the container format."""
    size_bytes: int
    start_s: float
    """Start time of the container: the earliest start of its streams, seconds."""
    duration_s: float | None
    video: VideoTrack
    streams: tuple[StreamEntry, ...]
    """All streams, the main video included, in container order."""
    chapter_count: int = 0
    guesses: tuple[str, ...] = field(default=())
    """What was unspecified and how it was resolved, one sentence each."""
    pictures: PictureSet | None = None
    """Where it is no film in a file; its other properties are then those of a film that these are the frames of."""
