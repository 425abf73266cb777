"""Decoders: a film in, frames with their own timestamps out.

A decoder is a module, an entry in ``DECODERS`` and a subclass of the contract test; nothing else knows its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipeline.decode.base import Decoder, check_progressive
from pipeline.errors import PipelineError, SetupError, UnsupportedMedia
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from engines.gpu import Device
    from pipeline.decode.deinterlace_plan import Deinterlacing
    from pipeline.decode.frame_index import FrameIndex
    from pipeline.device.pools import DevicePool

DecoderKind = Literal["auto", "libav", "nvdec", "synthetic", "images"]

DECODERS = {
    "libav": "pipeline.decode.libav:LibavDecoder",
    "nvdec": "pipeline.decode.nvdec:NvdecDecoder",
    "synthetic": "pipeline.decode.synthetic:SyntheticDecoder",
    "images": "pipeline.decode.images:ImageDecoder",
}
"""``module:class`` of every decoder; imported when it is opened."""

NVDEC_BY_ITSELF = True
"""Whether ``auto`` may take NVDEC for films that ``check_nvdec`` finds decoded alike. How its images are told apart was
measured on an H200 with PyNvVideoCodec 2.2.4, see ``pipeline.decode.nvdec_times``."""

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

    kind: Literal["libav", "nvdec", "synthetic", "images"]
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


def choose_decoder(kind: DecoderKind, info: MediaInfo | None = None, *, device: Device | None = None) -> DecoderChoice:
    """Resolve ``auto`` once, before the first frame, and make sure that a decoder named works for the film.

    NVDEC is tried on the film's first images (``pipeline.decode.nvdec_choice``). ``auto`` takes it only where frames
    stay on the GPU: otherwise each would have to be brought down from it, and rearranged by the processor.

    Args:
        kind: As configured.
        info: The film; None to ask about no film in particular, which tries nothing.
        device: The GPU that frames stay on; None if they go to the host.

    Raises:
        SetupError: ``nvdec`` is named, and there is no GPU, no driver or no PyNvVideoCodec.
        UnsupportedMedia: ``nvdec`` is named, and does not decode this film, or not rightly.
    """
    if info is not None and info.pictures is not None:
        return DecoderChoice(kind="images", reason="pictures are read one by one")
    if kind == "nvdec" and info is not None:
        from pipeline.decode.nvdec_choice import check_nvdec

        check_nvdec(info, device=device)
    if kind != "auto":
        return DecoderChoice(kind=kind, reason="named in the config")
    if device is None or info is None:
        return DecoderChoice(kind="libav", reason="software decoding into the host's memory")
    if not NVDEC_BY_ITSELF:
        return DecoderChoice(kind="libav", reason="software decoding: NVDEC is only used where decode.kind names it")
    refusal = _nvdec_refusal(info, device=device)
    if refusal is not None:
        return DecoderChoice(kind="libav", reason=f"software decoding: {refusal}")
    return DecoderChoice(kind="nvdec", reason=f"hardware decoding on {device.name}, where frames stay")


def _nvdec_refusal(info: MediaInfo, *, device: Device) -> PipelineError | None:
    """Why a film is not decoded by NVDEC; None if it can be."""
    from pipeline.decode.nvdec_choice import check_nvdec

    try:
        check_nvdec(info, device=device)
    except (SetupError, UnsupportedMedia) as exc:
        return exc
    return None


def open_decoder(
    kind: DecoderKind,
    info: MediaInfo,
    *,
    threads: int = 0,
    index: FrameIndex | None = None,
    device: Device | None = None,
    pool: DevicePool | None = None,
    deinterlacing: Deinterlacing | None = None,
) -> Decoder:
    """Open a film for decoding.

    Args:
        kind: As ``choose_decoder`` resolved it, which also tells whether it works; ``auto`` is resolved here.
        info: What ``probe_media``, ``probe_images`` or ``probe_synthetic`` found.
        threads: Threads of a software decoder, 0 for as many as there are cores.
        index: From ``build_frame_index``, so that ``frames(start)`` need not decode what comes before; not for
            computed films and pictures, which need none.
        device: The GPU of a hardware decoder; None for the first one.
        pool: Where a hardware decoder puts frames that stay on ``device``, see ``NvdecDecoder``; None for frames in the
            host's memory. Software decoders always give those.
        deinterlacing: How frames are made of a film's fields, with software; ``info`` and ``index`` are then of what
            it makes. None for films without.

    Returns:
        An open decoder, a context manager.

    Raises:
        UnsupportedMedia: The film cannot be handled by this decoder.
        SetupError: A hardware decoder lacks its GPU, driver or library.
        ValueError: ``info`` is of a computed film and ``kind`` reads files, or the other way round; or another decoder
            than ``libav`` is to deinterlace.
    """
    if deinterlacing is not None:
        if kind not in ("auto", "libav"):
            raise ValueError(f"films are deinterlaced with libav, not with {kind}")
        from pipeline.decode.deinterlacing import DeinterlacingDecoder

        return DeinterlacingDecoder(info, deinterlacing=deinterlacing, threads=threads, index=index)
    resolved = choose_decoder(kind, info, device=device if pool is not None else None) if kind == "auto" else None
    name = resolved.kind if resolved is not None else kind
    module_name, _, class_name = DECODERS[name].partition(":")
    decoder_class = getattr(import_module(module_name), class_name)
    options: dict[str, dict[str, Any]] = {
        "libav": {"threads": threads, "index": index},
        "nvdec": {"device": device, "pool": pool, "index": index},
        "synthetic": {},
        "images": {},
    }
    decoder: Decoder = decoder_class(info, **options[name])
    return decoder
