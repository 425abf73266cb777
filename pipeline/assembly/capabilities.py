"""What each output container holds, as libav's muxers write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Container = Literal["mkv", "mp4", "mov"]

# what libav decodes to text; it has no decoder for ttml and hdmv_text_subtitle
TEXT_SUBTITLES = frozenset(
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
class Capabilities:
    """What one container holds. Names are libav's codec names; None: any codec."""

    video: frozenset[str] | None
    audio: frozenset[str] | None
    audio_lacking: frozenset[str] = frozenset()
    """What it does not hold although ``audio`` is any."""
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

_NOT_IN_MATROSKA = frozenset(
    {
        "adpcm_ima_qt",
        "nellymoser",
        "pcm_bluray",
        "pcm_dvd",
        "pcm_f32be",
        "pcm_f64be",
        "pcm_s8",
        "s302m",
    }
)
"""Sound that libav's Matroska muxer refuses. Measured with FFmpeg 9.0.2 by copying a track of each."""

PLAIN_PCM: Mapping[str, str] = MappingProxyType(
    {
        "pcm_bluray": "pcm_s24le",
        "pcm_dvd": "pcm_s24le",
        "pcm_f32be": "pcm_f32le",
        "pcm_f64be": "pcm_f64le",
        "pcm_s8": "pcm_s16le",
        "s302m": "pcm_s24le",
    }
)
"""Uncompressed sound in forms of discs and broadcasting, and a form that every container here holds with the same
samples: those of discs and of SMPTE ST 302 have 16, 20 or 24 bits."""

CAPABILITIES: Mapping[Container, Capabilities] = MappingProxyType(
    {
        "mkv": Capabilities(
            video=None,
            audio=None,
            audio_lacking=_NOT_IN_MATROSKA,
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
        "mp4": Capabilities(
            video=frozenset(["av1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "png", "vp9", "vvc"]),
            audio=_ISO_AUDIO | {"vorbis"},
            subtitle=frozenset({"mov_text"}),
            text_subtitle="mov_text",
            attachments=False,
            cover=_PICTURES,
        ),
        "mov": Capabilities(
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
