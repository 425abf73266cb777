"""What libav says of a stream in words only: PyAV has no attribute for it.

libav's description of a file, at its verbose log level, reads::

    Stream #0:1[0x1](eng): Video: hevc (Main 10), yuv420p10le(tv, bt2020nc/..., topleft), 96x64 ...
      Side data:
        DOVI configuration record: version: 1.0, profile: 8, level: 1, ..., compatibility id: 1, compression: 0
        Frame Cropping: 8/16/4/10

The four numbers of the last line are left, right, top and bottom. Source: libavformat/dump.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.frames import ChromaLocation
from pipeline.media import Crop
from pipeline.tags import CHROMA_LOCATIONS

if TYPE_CHECKING:
    from av.container import InputContainer

_DOLBY_VISION = re.compile(
    r"DOVI configuration record:.*?\bprofile: (?P<profile>\d+),.*?compatibility id: (?P<base>\d+)"
)
_CROPPING = re.compile(r"Frame Cropping: (?P<left>\d+)/(?P<right>\d+)/(?P<top>\d+)/(?P<bottom>\d+)")
_STREAM = re.compile(r"\s*Stream #0:(?P<index>\d+)\D.*?(?:Video:(?P<properties>.*))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DolbyVision:
    """A Dolby Vision configuration record. Source: Dolby Vision Streams Within the ISO Base Media File Format, 3.2."""

    profile: int
    base_layer: int
    """Compatibility of the pictures without Dolby Vision: 0 none, 1 HDR10, 2 SDR, 4 HLG, 6 HDR10 of a UHD disc."""

    @property
    def is_viewable_without(self) -> bool:
        """Whether what a plain decoder gives are pictures in Y'CbCr, and not in Dolby's own IPT-C2."""
        return self.base_layer != 0 or self.profile not in {5, 10, 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWords:
    """What was said of one video stream."""

    chroma_location: ChromaLocation | None = None
    """None if it is not said."""
    dolby_vision: DolbyVision | None = None
    """None if the container has no configuration record for the stream."""
    crop: Crop = field(default_factory=Crop)
    """What the container (Matroska's PixelCrop, MP4's clap) cuts off; libav's decoders leave that to their caller."""


def read_stream_words(container: InputContainer, *, index: int) -> StreamWords:
    """Read libav's words about one video stream.

    libav's log levels are the process's; they are raised for this one call and put back.

    Args:
        container: An opened file.
        index: The stream's index in it.
    """
    lines = _describe(container)
    location: ChromaLocation | None = None
    dolby_vision: DolbyVision | None = None
    crop = Crop()
    is_ours = False
    for line in lines:
        if stream := _STREAM.match(line):
            is_ours = int(stream["index"]) == index
            if is_ours:
                words = set(re.split(r"[(),\s]+", stream["properties"] or ""))
                location = next((place for place in CHROMA_LOCATIONS.values() if place in words), None)
        elif is_ours and (record := _DOLBY_VISION.search(line)):
            dolby_vision = DolbyVision(profile=int(record["profile"]), base_layer=int(record["base"]))
        elif is_ours and (cropping := _CROPPING.search(line)):
            crop = Crop(**{edge: int(value) for edge, value in cropping.groupdict().items()})
    return StreamWords(chroma_location=location, dolby_vision=dolby_vision, crop=crop)


def _describe(container: Any) -> list[str]:
    import av

    level = av.logging.get_level()
    av.logging.set_libav_level(av.logging.VERBOSE)
    av.logging.set_level(av.logging.INFO)
    try:
        lines: list[str] = container.dumps_format().splitlines()
    finally:
        av.logging.set_level(level)
        av.logging.set_libav_level(av.logging.INFO)  # libav's default
    return lines
