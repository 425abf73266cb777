"""Whether NVDEC decodes a film here, as software does: asked of the film, of the GPU, and of the first images."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from engines.errors import BackendUnavailable, EngineError
from engines.gpu import Device
from pipeline.decode.nvdec_session import first_line, library_errors, load_nvdec
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.errors import MediaError, SetupError, UnsupportedMedia
from pipeline.media import Crop, MediaInfo

logger = logging.getLogger(__name__)

CODECS = {
    "h264": "H264",
    "hevc": "HEVC",
    "vp8": "VP8",
    "vp9": "VP9",
    "av1": "AV1",
    "mpeg1video": "MPEG1",
    "mpeg2video": "MPEG2",
}
"""libav's codec names and those of PyNvVideoCodec's ``cudaVideoCodec``, where packets are all that a decoder needs."""

PIXEL_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv420p10le", "yuv420p12le"})
"""What NVDEC hands out as NV12 or P016, as libav calls it."""

COMPARED_FRAMES = 24
"""Images compared with software's: enough to see the order of the first B-frames, also behind a still opening, and few
enough to be quick."""

INEXACT_CODES = {"mpeg1video": 4, "mpeg2video": 4}
"""Codecs whose inverse transform is not defined to the bit, and how far decoders may be apart in ``COMPARED_FRAMES``:
one code each from the ideal in a key frame, and as much again in what is predicted from it. Source: IEEE 1180-1990,
which ISO/IEC 13818-2 annex A refers to."""

_HINT = "use decode.kind: auto or libav"


def check_nvdec(info: MediaInfo, *, device: Device | None = None, library: Any = None) -> None:
    """Make sure that NVDEC decodes a film to the same images at the same times as libav.

    Opens a decoding session for the first ``COMPARED_FRAMES`` images, because what a GPU says that it can decode leaves
    out much: cropping at the left or top edge, for one, is not carried out.

    Args:
        info: What ``probe_media`` found.
        device: The GPU; by default the first one.
        library: PyNvVideoCodec; by default imported.

    Raises:
        SetupError: There is no GPU, no driver or no PyNvVideoCodec.
        UnsupportedMedia: The GPU cannot decode this film, or not rightly.
        ValueError: The film is computed, not a file.
    """
    check_film(info)
    library = library if library is not None else load_nvdec()
    device = device if device is not None else open_gpu()
    _check_abilities(info, device=device, library=library)
    _compare(info, device=device, library=library)


def check_film(info: MediaInfo) -> None:
    """Make sure that a film is of a kind that NVDEC takes and this program takes from NVDEC.

    Raises:
        UnsupportedMedia: It is not.
        ValueError: It is computed, not a file.
    """
    if info.container == SYNTHETIC_CONTAINER:
        raise ValueError("a computed film is no file; decode it with kind synthetic")
    video = info.video
    if video.is_interlaced:
        raise _refusal(info, "NVDEC is not used for interlaced films")
    if video.crop != Crop():
        raise _refusal(info, "NVDEC is not used for films that their container crops")
    if video.codec not in CODECS:
        raise _refusal(info, f"NVDEC is not used for {video.codec or 'a codec without a name'}")
    if video.pixel_format not in PIXEL_FORMATS:
        raise _refusal(info, f"NVDEC is used for 4:2:0 of 8, 10 and 12 bits, and this film is {video.pixel_format}")


def open_gpu() -> Device:
    """Open the first GPU.

    Raises:
        SetupError: There is none.
    """
    from engines.gpu.cuda import open_device

    try:
        return open_device(0)
    except BackendUnavailable as exc:
        raise SetupError(f"NVDEC needs an NVIDIA GPU: {exc}", missing=exc.missing, hint=_HINT) from exc


def _check_abilities(info: MediaInfo, *, device: Device, library: Any) -> None:
    """Ask the GPU whether it decodes this codec, depth and size."""
    video = info.video
    depth = video.format.bit_depth
    try:
        abilities = library.GetDecoderCaps(
            gpuid=device.index,
            codec=getattr(library.cudaVideoCodec, CODECS[video.codec]),
            chromaformat=library.cudaVideoChromaFormat.__members__["420"],
            bitdepth=depth,
        )
    except library_errors(library) as exc:
        raise _refusal(info, f"NVDEC cannot be asked what it decodes: {first_line(exc)}") from exc
    finally:
        device.make_current()  # older releases (not 2.2.4) ask in a context of their own and leave the thread without
    if not abilities["supported"]:
        raise _refusal(info, f"{device.name} does not decode {video.codec} of {depth} bits")
    smallest = abilities["width_min"], abilities["height_min"]
    largest = abilities["width_max"], abilities["height_max"]
    blocks = -(-video.width // 16) * -(-video.height // 16)
    if (
        not smallest[0] <= video.width <= largest[0]
        or not smallest[1] <= video.height <= largest[1]
        or blocks > abilities["mb_num_max"]
    ):
        raise _refusal(
            info,
            f"{device.name} decodes {video.codec} of {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]} and"
            f" {abilities['mb_num_max']} macroblocks, not of {video.width}x{video.height}",
        )


def _compare(info: MediaInfo, *, device: Device, library: Any) -> None:
    """Decode the first images both ways."""
    from pipeline.decode.libav import LibavDecoder
    from pipeline.decode.nvdec import NvdecDecoder

    try:
        with (
            LibavDecoder(info, threads=1) as software,
            NvdecDecoder(info, device=device, library=library) as hardware,
        ):
            expected = list(software.frames(0, COMPARED_FRAMES))
            found = list(hardware.frames(0, COMPARED_FRAMES))
    except EngineError as exc:
        raise _refusal(info, f"the GPU failed while NVDEC was tried: {exc}") from exc
    except UnsupportedMedia:
        raise
    except MediaError as exc:
        raise _refusal(info, f"NVDEC was tried and failed: {exc}") from exc
    if [frame.stamp for frame in found] != [frame.stamp for frame in expected]:
        raise _refusal(info, "NVDEC gives the first images at other times than libav")
    tolerance = INEXACT_CODES.get(info.video.codec, 0)
    for ours, theirs in zip(found, expected, strict=True):
        for plane, reference in zip(ours.planes, theirs.planes, strict=True):
            difference = int(np.abs(plane.astype(np.int32) - reference.astype(np.int32)).max())
            if difference > tolerance:
                raise _refusal(
                    info,
                    f"NVDEC decodes image {ours.stamp.index} otherwise than libav, by up to {difference} codes"
                    " (cropping at the left or top edge may do this)",
                )
    logger.debug("%s: NVDEC gives the same first %d images as libav", info.path, len(found))


def _refusal(info: MediaInfo, why: str) -> UnsupportedMedia:
    return UnsupportedMedia(f"{why} ({info.path.name})", path=info.path, hint=_HINT)
