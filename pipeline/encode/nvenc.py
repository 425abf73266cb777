"""NVIDIA's hardware encoders, through libav: rows of the table of encoders.

Not yet run on hardware: no GPU with an encoder was at hand (data-centre GPUs such as the H100 and H200 have none).
Every option is checked against libav's own descriptors, and everything but the session itself runs in the tests, on an
H200 as well. Frames in a GPU's memory reach it there (`pipeline.encode.surfaces`).

What decides the defaults:

- Constant quality is ``cq`` under ``rc=vbr`` with bit rate 0, with which every encoder is opened. ``b``, ``rc``,
  ``qp`` or ``cbr`` in ``encode.options`` replaces it: ``{rc: cbr, b: 20M}``, ``{rc: vbr, b: 20M, maxrate: 30M}``,
  ``{qp: 18}``.
- ``tune=hq`` leaves the number of B-frames to the driver's preset; ``bf`` and ``b_ref_mode`` set it.
- Spatial adaptive quantisation is on: without it flat areas band first. ``rc-lookahead`` and ``temporal-aq`` are off,
  as in libav, because not every GPU has them for every codec; both are options.
- ``forced-idr``: a keyframe that is asked for is one that nothing refers across. Segments need nothing else: each has a
  session of its own, and NVENC's groups of pictures are closed.

Bits depend on the GPU's generation and on its driver, as no software encoder's do: a film that is resumed on another
machine has segments of either's making. Whether two runs on one GPU give the same bits is not yet measured.

HDR10's mastering display and content light level are not written (``mastering_param`` stays empty). libav's nvenc takes
them only from the codec context's ``decoded_side_data`` when it opens, which PyAV 18 and 19 cannot set; the colour
description itself is written.
"""

from __future__ import annotations

from types import MappingProxyType

from pipeline.encode.entry import EncoderSpec, FormatKey, PixelFormat, QualityOption

_LIBAV = "pipeline.encode.libav:LibavEncoder"
_PRESETS = ("p7", "p6", "p5", "p4", "p3", "p2", "p1")
_10_IN_16 = 6
"""Bits below a 10-bit sample that stands in the upper bits of 16, which is how NVENC takes more than 8."""

_420 = {
    FormatKey(colour="yuv", subsampling="420", bit_depth=8): PixelFormat(name="yuv420p", dtype="|u1"),
    FormatKey(colour="yuv", subsampling="420", bit_depth=10): PixelFormat(
        name="p010le", is_semiplanar=True, shift_bits=_10_IN_16
    ),
}
_422 = {
    FormatKey(colour="yuv", subsampling="422", bit_depth=8): PixelFormat(name="nv16", is_semiplanar=True, dtype="|u1"),
    FormatKey(colour="yuv", subsampling="422", bit_depth=10): PixelFormat(
        name="p210le", is_semiplanar=True, shift_bits=_10_IN_16
    ),
}
_444 = {
    FormatKey(colour="yuv", subsampling="444", bit_depth=8): PixelFormat(name="yuv444p", dtype="|u1"),
    FormatKey(colour="yuv", subsampling="444", bit_depth=10): PixelFormat(name="yuv444p10msble", shift_bits=_10_IN_16),
}
_SURFACES = {
    FormatKey(colour="yuv", subsampling="420", bit_depth=8): "nv12",
    FormatKey(colour="yuv", subsampling="420", bit_depth=10): "p010le",
}
"""What PyAV 18 and 19 make CUDA pictures of (``VideoFrame.from_dlpack``); p016le would be cut to 10 bits."""
_RGB = {
    FormatKey(colour="rgb", subsampling="444", bit_depth=8): PixelFormat(
        name="gbrp", plane_order=(1, 2, 0), dtype="|u1"
    ),
    FormatKey(colour="rgb", subsampling="444", bit_depth=10): PixelFormat(
        name="gbrp10msble", plane_order=(1, 2, 0), shift_bits=_10_IN_16
    ),
}


def _entry(
    name: str,
    *,
    codec: str,
    pixel_formats: dict[FormatKey, PixelFormat],
    quality: QualityOption,
    bits_per_px: float,
    containers: tuple[str, ...],
    iso_tag: str = "",
) -> EncoderSpec:
    return EncoderSpec(
        name=name,
        is_hardware=True,
        codec=codec,
        opener=_LIBAV,
        pixel_formats=MappingProxyType(pixel_formats),
        surface_formats=MappingProxyType(_SURFACES),
        # no other siting is known to reach the bitstream, and unsaid it means this one (H.264 and H.265, E.2.1)
        chroma_locations=("left",),
        needs_even=True,
        quality=quality,
        quality_options=(("rc", "vbr"),),
        rate_options=("b", "rc", "qp", "cbr"),
        bits_per_px=bits_per_px,
        presets=_PRESETS,
        default_preset="p5",
        containers=containers,
        iso_tag=iso_tag,
        fixed_options=(("tune", "hq"), ("spatial-aq", "1"), ("forced-idr", "1")),
        # libav says 2 whenever there are B-frames; a deeper pyramid in some driver's preset would then fail in the
        # muxer, while decoding times that are earlier than need be cost nothing
        reorder_frames=4,
        reorder_option="bf",
    )


NVENC_ENTRIES = (
    # 4:2:2 and 10-bit H.264 are for the newest GPUs only (Blackwell); the session says so, before the work
    _entry(
        "h264_nvenc",
        codec="h264",
        pixel_formats=_420 | _422 | _444,
        quality=QualityOption(name="cq", minimum=1, maximum=51, default=17),
        bits_per_px=0.35,
        containers=("mp4", "mkv", "mov"),
    ),
    _entry(
        "hevc_nvenc",
        codec="hevc",
        pixel_formats=_420 | _422 | _444 | _RGB,
        quality=QualityOption(name="cq", minimum=1, maximum=51, default=18),
        bits_per_px=0.25,
        containers=("mp4", "mkv", "mov"),
        iso_tag="hvc1",  # as libx265's
    ),
    _entry(
        "av1_nvenc",
        codec="av1",
        pixel_formats=_420,
        quality=QualityOption(name="cq", minimum=1, maximum=63, default=20),
        bits_per_px=0.2,
        containers=("mp4", "mkv"),
    ),
)
"""H.264, HEVC and AV1. Default qualities are the numbers of the software encoders of the same codecs, on the same scale
(libav's ranges: 0 to 51 and 0 to 63, 0 being automatic); sizes are twice theirs, for the estimate of disk space to err
on the safe side. Both wait for hardware to be measured on."""
