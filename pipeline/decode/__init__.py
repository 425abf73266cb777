"""Decoders: a film in, frames with their own timestamps out.

A decoder is a module, an entry in ``DECODERS`` and a subclass of the contract test; nothing else knows its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import Literal, Protocol

from pipeline.decode.base import Decoder, check_progressive
from pipeline.frames import MediaInfo

DecoderKind = Literal["auto", "libav", "synthetic"]

DECODERS = {"libav": "pipeline.decode.libav:LibavDecoder", "synthetic": "pipeline.decode.synthetic:SyntheticDecoder"}
"""``module:class`` of every decoder; imported when it is opened."""

__all__ = [
    "check_progressive",
    "choose_decoder",
    "Decoder",
    "DecoderChoice",
    "DecoderKind",
    "DECODERS",
    "open_decoder",
    "probe_synthetic",
    "SyntheticSettings",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderChoice:
    """Which decoder reads a film, and why."""

    kind: Literal["libav", "synthetic"]
    reason: str
    """Half a sentence for the line that names the parts of a run."""


class SyntheticSettings(Protocol):
    """What the config says about a computed film."""

    @property
    def height(self) -> int:
        """Pixels, >= 1."""
        ...

    @property
    def width(self) -> int:
        """Pixels, >= 1."""
        ...

    @property
    def frame_count(self) -> int:
        """Frames, >= 0."""
        ...

    @property
    def rate(self) -> Fraction:
        """Frames per second, > 0."""
        ...


def probe_synthetic(settings: SyntheticSettings) -> MediaInfo:
    """Describe a computed film as ``probe_media`` describes a file: 8-bit 4:2:0, BT.709, limited range.

    Raises:
        ValueError: A setting is out of range.
    """
    from pipeline.decode.synthetic import SyntheticFilm, describe_film

    film = SyntheticFilm(
        height=settings.height, width=settings.width, frame_count=settings.frame_count, rate=settings.rate
    )
    return describe_film(film)


def choose_decoder(kind: DecoderKind) -> DecoderChoice:
    """Resolve ``auto`` once, before the first frame.

    Args:
        kind: As configured.
    """
    if kind == "auto":
        return DecoderChoice(kind="libav", reason="software decoding, the only decoder for files so far")
    return DecoderChoice(kind=kind, reason="named in the config")


def open_decoder(kind: DecoderKind, info: MediaInfo, *, threads: int = 0) -> Decoder:
    """Open a film for decoding.

    Args:
        kind: As configured; ``auto`` is resolved by ``choose_decoder``.
        info: What ``probe_media`` or ``probe_synthetic`` found.
        threads: Threads of a software decoder, 0 for as many as there are cores.

    Returns:
        An open decoder, a context manager.

    Raises:
        UnsupportedMedia: The film cannot be handled by this decoder.
        ValueError: ``info`` is of a computed film and ``kind`` reads files, or the other way round.
    """
    choice = choose_decoder(kind)
    module_name, _, class_name = DECODERS[choice.kind].partition(":")
    decoder_class = getattr(import_module(module_name), class_name)
    decoder: Decoder = decoder_class(info) if choice.kind == "synthetic" else decoder_class(info, threads=threads)
    return decoder
