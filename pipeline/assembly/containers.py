"""Which streams the output container can hold, decided before the run begins.

Everything of the source goes along: copied as it is where the container has room for it, converted where that is usual
(text subtitles), and otherwise refused by name. Only streams that no container here knows are left out, each with a
warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from pipeline.encode.table import EncoderSpec
from pipeline.errors import ConfigError
from pipeline.frames import MediaInfo, StreamEntry

Container = Literal["mkv", "mp4", "mov"]
FORMAT_NAMES: Mapping[str, str] = MappingProxyType({"mkv": "matroska", "mp4": "mp4", "mov": "mov"})
"""libav's name of each container's muxer."""

# what libav decodes to text; it has no decoder for ttml and hdmv_text_subtitle
_TEXT_SUBTITLES = frozenset(
    {
        "ass",
        "jacosub",
        "microdvd",
        "mov_text",
        "mpl2",
        "pjs",
        "realtext",
        "sami",
        "stl",
        "subrip",
        "ssa",
        "subviewer",
        "subviewer1",
        "text",
        "vplayer",
        "webvtt",
    }
)
_PICTURES = frozenset({"mjpeg", "png"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Capabilities:
    """What one container holds. Names are libav's codec names; None: any codec."""

    video: frozenset[str] | None
    audio: frozenset[str] | None
    subtitle: frozenset[str]
    text_subtitle: str
    """What other text subtitles become."""
    attachments: bool
    cover: frozenset[str]


_ISO_AUDIO = frozenset(
    {
        "aac",
        "ac3",
        "alac",
        "eac3",
        "flac",
        "mp2",
        "mp3",
        "opus",
        "pcm_f32be",
        "pcm_f32le",
        "pcm_f64be",
        "pcm_f64le",
        "pcm_s16be",
        "pcm_s16le",
        "pcm_s24be",
        "pcm_s24le",
        "pcm_s32be",
        "pcm_s32le",
    }
)

_CAPABILITIES: Mapping[Container, _Capabilities] = MappingProxyType(
    {
        "mkv": _Capabilities(
            video=None,
            audio=None,
            subtitle=frozenset(
                [
                    "arib_caption",
                    "ass",
                    "dvb_subtitle",
                    "dvd_subtitle",
                    "hdmv_pgs_subtitle",
                    "hdmv_text_subtitle",
                    "ssa",
                    "subrip",
                    "text",
                    "webvtt",
                ]
            ),
            text_subtitle="subrip",
            attachments=True,
            cover=_PICTURES,
        ),
        "mp4": _Capabilities(
            video=frozenset(["av1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "png", "vp9", "vvc"]),
            audio=_ISO_AUDIO | {"vorbis"},
            subtitle=frozenset({"mov_text"}),
            text_subtitle="mov_text",
            attachments=False,
            cover=_PICTURES,
        ),
        "mov": _Capabilities(
            video=frozenset(
                [
                    "dnxhd",
                    "dvvideo",
                    "h264",
                    "hevc",
                    "mjpeg",
                    "mpeg1video",
                    "mpeg2video",
                    "mpeg4",
                    "png",
                    "prores",
                    "qtrle",
                ]
            ),
            audio=_ISO_AUDIO | {"pcm_u8", "pcm_s8", "pcm_mulaw", "pcm_alaw"},
            subtitle=frozenset({"mov_text"}),
            text_subtitle="mov_text",
            attachments=False,
            cover=frozenset(),
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCopy:
    """One stream of the source that goes along."""

    source: StreamEntry
    codec: str
    """libav codec name in the result; the source's own unless it is converted."""

    @property
    def is_converted(self) -> bool:
        """Whether it is recoded; only ever text subtitles."""
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
        ``mkv``, ``mp4`` or ``mov``; ``png`` for a folder of pictures; empty if nothing is written. ``auto`` is the
        source's own where that is mp4 or mov and holds all streams, else mkv, else what the encoder's codec is at home
        in.

    Raises:
        ConfigError: The named container cannot hold the encoder's codec.
    """
    if encoder.product == "nothing":
        return ""
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


def plan_streams(info: MediaInfo, *, container: str, encoder: EncoderSpec) -> StreamPlan:
    """Decide for every stream but the main video what becomes of it.

    Args:
        info: The source.
        container: ``mkv``, ``mp4`` or ``mov``.
        encoder: What writes the video; its codec must fit the container (``choose_container``).
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
        codec = _codec_in(_CAPABILITIES[name], entry)
        if codec is None:
            problems.append(f"output.container: {name} cannot hold {_name(entry)} of {info.path.name}")
            continue
        if codec != entry.codec:
            warnings.append(f"{_name(entry)} is converted to {codec}, which {name} holds; styling may be lost")
        copies.append(StreamCopy(source=entry, codec=codec))
    return StreamPlan(container=name, copies=tuple(copies), warnings=tuple(warnings), problems=tuple(problems))


def _codec_in(container: _Capabilities, entry: StreamEntry) -> str | None:
    """The codec that a stream has in a container; None if it cannot be there."""
    if entry.kind == "attachment":
        return entry.codec if container.attachments else None
    if not entry.codec:
        return None
    if entry.kind == "subtitle":
        if entry.codec in container.subtitle:
            return entry.codec
        return container.text_subtitle if entry.codec in _TEXT_SUBTITLES else None
    if entry.is_attached_pic:
        return entry.codec if entry.codec in container.cover else None
    known = container.audio if entry.kind == "audio" else container.video
    return entry.codec if known is None or entry.codec in known else None


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
