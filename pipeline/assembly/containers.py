"""Which streams the output container can hold, decided before the run begins.

Everything of the source goes along: copied as it is where the container has room for it, converted where that is usual
(text subtitles, the uncompressed sound of discs), and otherwise refused by name, or left out if the config says so.
Streams that no container here knows are always left out. Each that is left out or converted has a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from pipeline.assembly.capabilities import CAPABILITIES, PLAIN_PCM, TEXT_SUBTITLES, Capabilities, Container
from pipeline.encode.table import EncoderSpec
from pipeline.errors import ConfigError
from pipeline.media import MediaInfo, StreamEntry

FORMAT_NAMES: Mapping[str, str] = MappingProxyType({"mkv": "matroska", "mp4": "mp4", "mov": "mov"})
"""libav's name of each container's muxer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCopy:
    """One stream of the source that goes along."""

    source: StreamEntry
    codec: str
    """libav codec name in the result; the source's own unless it is converted."""

    @property
    def is_converted(self) -> bool:
        """Whether it is recoded: text subtitles, and uncompressed sound into another uncompressed form."""
        return self.codec != self.source.codec


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """What becomes of every stream of the source but the main video."""

    container: Container
    copies: tuple[StreamCopy, ...]
    """In source order, converted ones included."""
    warnings: tuple[str, ...]
    """One sentence for each stream that is converted or left out."""
    problems: tuple[str, ...]
    """One line for each stream that the container cannot hold: the run must not begin."""


def choose_container(wanted: str, *, info: MediaInfo, encoder: EncoderSpec) -> str:
    """Choose the output's container.

    Args:
        wanted: ``auto``, ``mkv``, ``mp4`` or ``mov``.
        info: The source.
        encoder: What writes the video.

    Returns:
        ``mkv``, ``mp4`` or ``mov``; ``png`` for a folder of pictures, ``picture`` for one; empty if nothing is written.
        ``auto`` is the source's own where that is mp4 or mov and holds all streams, else mkv, else what the encoder's
        codec is at home in.

    Raises:
        ConfigError: The named container cannot hold the encoder's codec.
    """
    if encoder.product == "nothing":
        return ""
    if info.pictures is not None and info.pictures.is_single:
        return "picture"
    if encoder.product == "pictures":
        if wanted != "auto":
            raise ConfigError(
                (f"output.container: {encoder.name} writes a folder of pictures (got {wanted})",),
                hint="leave output.container at auto",
            )
        return encoder.codec
    if wanted != "auto":
        if wanted not in encoder.containers:
            raise ConfigError(
                (f"output.container: {wanted} cannot hold {encoder.codec} (encode.kind {encoder.name})",),
                hint=f"set output.container: {' or '.join(encoder.containers)}",
            )
        return wanted
    own = _own_container(info)
    if own in encoder.containers and not plan_streams(info, container=own, encoder=encoder).problems:
        return own
    return "mkv" if "mkv" in encoder.containers else encoder.containers[0]


def plan_streams(
    info: MediaInfo, *, container: str, encoder: EncoderSpec, leave_out_unheld: bool = False
) -> StreamPlan:
    """Decide for every stream but the main video what becomes of it.

    Args:
        info: The source.
        container: ``mkv``, ``mp4`` or ``mov``.
        encoder: What writes the video; its codec must fit the container (``choose_container``).
        leave_out_unheld: Whether what the container cannot hold is left out with a warning instead of being a problem.
    """
    name: Container = next(known for known in get_args(Container) if known == container)
    if name not in encoder.containers:
        raise ValueError(f"{container} cannot hold {encoder.codec}")
    copies, warnings, problems = [], [], []
    for entry in info.streams:
        if entry.index == info.video.index:
            continue
        if entry.kind in {"data", "other"}:
            if not _is_chapter_titles(entry, info):
                warnings.append(f"{_name(entry)} is left out: only video, audio, subtitles and attachments are kept")
            continue
        if entry.is_empty:
            warnings.append(f"{_name(entry)} is left out: nothing of it can be read")
            continue
        codec = _codec_in(CAPABILITIES[name], entry)
        if codec is None and leave_out_unheld:
            warnings.append(f"{_name(entry)} is left out: {name} cannot hold it")
            continue
        if codec is None:
            problems.append(f"output.container: {name} cannot hold {_name(entry)} of {info.path.name}")
            continue
        if codec != entry.codec:
            loss = "its samples stay the same" if entry.kind == "audio" else "styling may be lost"
            warnings.append(f"{_name(entry)} is converted to {codec}, which {name} holds; {loss}")
        copies.append(StreamCopy(source=entry, codec=codec))
    return StreamPlan(container=name, copies=tuple(copies), warnings=tuple(warnings), problems=tuple(problems))


def _codec_in(container: Capabilities, entry: StreamEntry) -> str | None:
    """The codec that a stream has in a container; None if it cannot be there."""
    if entry.kind == "attachment":
        return entry.codec if container.attachments else None
    if not entry.codec:
        return None
    if entry.kind == "subtitle":
        if entry.codec in container.subtitle:
            return entry.codec
        return container.text_subtitle if entry.codec in TEXT_SUBTITLES else None
    if entry.is_attached_pic:
        return entry.codec if entry.codec in container.cover else None
    if entry.kind == "audio":
        return _sound_codec_in(container, entry.codec)
    return entry.codec if container.video is None or entry.codec in container.video else None


def _sound_codec_in(container: Capabilities, codec: str) -> str | None:
    if codec not in container.audio_lacking and (container.audio is None or codec in container.audio):
        return codec
    return PLAIN_PCM.get(codec)


def _own_container(info: MediaInfo) -> str:
    """The output container that is the source's own kind; empty for all others."""
    if "mp4" not in info.container.split(","):
        return ""
    return "mov" if info.path.suffix.lower() in {".mov", ".qt"} else "mp4"


def _is_chapter_titles(entry: StreamEntry, info: MediaInfo) -> bool:
    """mp4 and mov keep chapter titles in a text track that libav shows as a data stream; they go along as chapters."""
    return bool(_own_container(info)) and info.chapter_count > 0 and entry.codec in {"", "bin_data"}


def _name(entry: StreamEntry) -> str:
    kind = "cover art" if entry.is_attached_pic else entry.kind
    codec = f" ({entry.codec})" if entry.codec else ""
    language = f", language {entry.language}" if entry.language else ""
    title = f", titled {entry.title!r}" if entry.title else ""
    return f"{kind} stream {entry.index}{codec}{language}{title}"
