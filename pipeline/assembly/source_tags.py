"""What the source says about its main video beyond the pictures, and its cover art as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.assembly.containers import StreamPlan
from pipeline.decode.container import error_text, open_container
from pipeline.errors import MediaError
from pipeline.media import MediaInfo

_STALE = re.compile(
    # Matroska's statistics (mkvmerge) and what muxers and encoders say about themselves: untrue of the new stream
    r"(BPS|DURATION|NUMBER_OF_FRAMES|NUMBER_OF_BYTES|SOURCE_ID|_STATISTICS_.*)(-\w+)?|encoder|vendor_id",
    re.IGNORECASE,
)
_MIME_TYPES = {"mjpeg": ("image/jpeg", "jpg"), "png": ("image/png", "png")}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverFile:
    """One cover picture, taken out of the source."""

    index: int
    """Its stream's index in the source."""
    path: Path
    """A temporary file; whoever asked for it removes it."""
    mime_type: str
    file_name: str
    """As it should be called in the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTags:
    """Tags of the source's main video, and its covers."""

    video: Mapping[str, str]
    """Language, title and whatever else is still true of the upscaled stream."""
    disposition: str
    """ffmpeg's notation, such as ``default+original``; ``0`` for none."""
    covers: tuple[CoverFile, ...]
    """Only for a container that takes covers from files (mkv)."""


def read_source_tags(source: MediaInfo, *, plan: StreamPlan, folder: Path) -> SourceTags:
    """Read the tags, and take the covers out where the container needs that.

    Args:
        source: The film.
        plan: Which of its streams go along.
        folder: Where cover files are put.

    Raises:
        MediaError: The source cannot be read any more.
    """
    import av

    try:
        with open_container(source.path) as container:
            video = container.streams[source.video.index]
            covers = [copy.source.index for copy in plan.copies if copy.source.is_attached_pic]
            return SourceTags(
                video=_true_tags(video.metadata),
                disposition=_describe(video.disposition),
                covers=tuple(_extract(container, index, folder) for index in covers) if plan.container == "mkv" else (),
            )
    except (av.FFmpegError, OSError) as exc:
        raise MediaError(
            f"cannot read {source.path} any more: {error_text(exc)}",
            path=source.path,
            hint="the source must stay where it is until the run ends",
        ) from exc


def _true_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """What is still true of the upscaled stream, with the title under the name that every container knows."""
    tags = {key: value for key, value in metadata.items() if not _STALE.fullmatch(key)}
    if "title" not in tags and "name" in tags:  # mp4 and mov: libav writes the tag title, and reads it as name
        tags["title"] = tags.pop("name")
    return tags


def _describe(disposition: Any) -> str:
    return "+".join(str(flag.name) for flag in disposition) or "0"


def _extract(container: Any, index: int, folder: Path) -> CoverFile:
    stream = container.streams[index]
    packet = next(packet for packet in container.demux(stream) if packet.size)
    mime_type, suffix = _MIME_TYPES[stream.codec_context.codec.canonical_name]
    path = folder / f"cover-{index}.{suffix}"
    path.write_bytes(bytes(packet))
    return CoverFile(
        index=index,
        path=path,
        mime_type=stream.metadata.get("mimetype", mime_type),
        file_name=stream.metadata.get("filename", f"cover.{suffix}"),
    )
