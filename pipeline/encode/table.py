"""The one table of encoders: what each can hold, how it is asked for it, and what is asked when the config is silent.

Nothing outside this table branches on an encoder's name. Adding an encoder is one entry here (and, if it does not speak
through libav, one module that its ``opener`` names).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.encode.entry import (
    EncoderSpec,
    FormatKey,
    PixelFormat,
    QualityOption,
    gbr_formats,
    yuv_formats,
)
from pipeline.encode.nvenc import NVENC_ENTRIES
from pipeline.frames import Subsampling

__all__ = ["EncoderSpec", "ENCODERS", "FormatKey", "PixelFormat", "QualityOption"]

_PACKED_RGB = {
    FormatKey(colour="rgb", subsampling="444", bit_depth=8): PixelFormat(name="rgb24", is_packed=True, dtype="|u1"),
    FormatKey(colour="rgb", subsampling="444", bit_depth=16): PixelFormat(name="rgb48be", is_packed=True, dtype=">u2"),
}
_BGR = {  # libav's FFV1 has no planar R'G'B' of 8 bits
    FormatKey(colour="rgb", subsampling="444", bit_depth=8): PixelFormat(
        name="bgr0", plane_order=(2, 1, 0), is_packed=True, packed_samples=4, dtype="|u1"
    )
}
_ALL: tuple[Subsampling, ...] = ("420", "422", "444")
_ANY_FORMAT = yuv_formats(_ALL, range(8, 17)) | gbr_formats(range(8, 17))
_LIBAV = "pipeline.encode.libav:LibavEncoder"
# Defaults were chosen for a luma PSNR of 47.5 to 48 dB on real film at little CPU time: the network wants the cores. 24
# frames of Big Buck Bunny enlarged to 2560x1088, 24 fps, two cores, CPU-ms a frame / Mbit/s / dB:
#   libx264 crf 17: ultrafast 21 / 21.1 / 47.7, superfast 46 / 12.8 / 47.9, veryfast 60 / 9.7 / 47.5,
#     faster 85 / 10.2 / 47.9, medium 152 / 10.3 / 48.0
#   libx265 crf 18, 10 bit: ultrafast 100 / 4.5 / 47.2, superfast 154 / 5.2 / 48.1, veryfast 270 / 6.4 / 48.8
#   libsvtav1 crf 20, 10 bit: 10 66 / 5.8 / 47.0, 8 80 / 5.7 / 47.8, 7 186 / 5.7 / 48.6
#   png level 1 70 / 343, 3 138 / 305, 6 397 / 260; ffv1 40 / 135; prores_ks 205 / 235
_X26X_PRESETS = (
    "placebo",
    "veryslow",
    "slower",
    "slow",
    "medium",
    "fast",
    "faster",
    "veryfast",
    "superfast",
    "ultrafast",
)

_X264_UP_TO_AVX2 = "MMX2,SSE,SSE2,SSE2Fast,LZCNT,SSE3,SSSE3,SSE4.1,SSE4.2,AVX,FMA3,AVX2,BMI1,BMI2"
"""All that every processor with AVX-512 has besides. libx264's AVX-512 code for macroblock trees gives another result
whenever the heap lies differently: 30 equal frames of 320x180 encoded twelve times in one process gave eight different
streams with it, one without it (libx264 165 of PyAV 18.1 on Zen 4; tests/contract/test_encoder_determinism.py)."""
_X264_WITHOUT_TREES = ("superfast", "ultrafast")
"""x264, ``param_apply_preset``: no macroblock tree. Twelve encodings of 30 frames of film each at 320x180 and 426x240
with 1 and 3 threads gave one stream, the same with AVX-512 as without (veryfast and medium: up to nine). With it, 48
frames of 1080p superfast in one thread on Zen 4 took 26.6 instead of 29.1 ms of user time each: medians of eight runs
by turns on a busy machine, every pair faster, by 1 to 12 %."""

_ENTRIES = (
    *NVENC_ENTRIES,  # before the software encoders of the same codecs: faster, and only where a session opens
    EncoderSpec(
        name="libx264",
        codec="h264",
        bits_per_px=0.175,
        opener=_LIBAV,
        pixel_formats=MappingProxyType(yuv_formats(_ALL, (8, 10))),
        needs_even=True,
        quality=QualityOption(name="crf", minimum=0, maximum=51, default=17),
        presets=_X26X_PRESETS,
        default_preset="veryfast",
        containers=("mp4", "mkv", "mov"),
        params_option="x264-params",
        avx512_params=(("asm", _X264_UP_TO_AVX2),),
        avx512_presets=_X264_WITHOUT_TREES,
        copies_input=True,
        mastering_param="mastering-display",
        light_param="cll",
        rate_options=("qp", "b"),  # libav would prefer the quality without a word
    ),
    EncoderSpec(
        name="libx265",
        codec="hevc",
        bits_per_px=0.127,
        opener=_LIBAV,
        pixel_formats=MappingProxyType(yuv_formats(_ALL, (8, 10, 12)) | gbr_formats((8, 10, 12))),
        minimum_px=16,
        needs_even=True,
        quality=QualityOption(name="crf", minimum=0, maximum=51, default=18),
        presets=_X26X_PRESETS,
        default_preset="superfast",
        containers=("mp4", "mkv", "mov"),
        params_option="x265-params",
        copies_input=True,
        fixed_params=(("log-level", "error"),),
        threads_param="pools",
        mastering_param="master-display",
        iso_tag="hvc1",  # Apple's players refuse the muxer's own hev1
        reorder_frames=2,  # B-frames that are references among them; x265, Encoder::configure, m_bframeDelay
        light_param="max-cll",
        rate_options=("qp", "b"),  # libav would prefer the quality without a word
    ),
    EncoderSpec(
        name="libsvtav1",
        codec="av1",
        bits_per_px=0.097,
        opener=_LIBAV,
        pixel_formats=MappingProxyType(yuv_formats(("420",), (8, 10))),
        chroma_locations=("left", "topleft"),
        minimum_px=4,
        quality=QualityOption(name="crf", minimum=1, maximum=63, default=20, whole=True),
        # 11 to 13 leave most of the chroma out: 14 to 18 dB where 10 has 39 to 44 (160x96 and 320x240, crf 20, 10 bit)
        presets=tuple(str(number) for number in range(11)),
        default_preset="8",
        containers=("mp4", "mkv"),
        params_option="svtav1-params",
        copies_input=True,
        threads_param="lp",
        mastering_param="mastering-display",
        mastering_as_decimals=True,
        light_param="content-light",
        environment=(("SVT_LOG", "1"),),  # errors only; it writes straight to stderr
    ),
    EncoderSpec(
        name="ffv1",
        codec="ffv1",
        bits_per_px=3.4,
        opener=_LIBAV,
        pixel_formats=MappingProxyType(yuv_formats(_ALL, (8, 9, 10, 12, 16)) | _BGR | gbr_formats((10, 12, 16))),
        containers=("mkv",),
        chroma_locations=("left", "center", "topleft", "top"),  # what Matroska can state
        # MP4 states colour whole or not at all, and FFV1 itself states none; Matroska's rounding of times to 1 ms,
        # which the result has anyway, does no harm here because there are no B-frames
        pipe_format="matroska",
        # RFC 9043: version 3 has slices, each with a CRC; every frame a keyframe, as archives ask for
        fixed_options=(("level", "3"), ("slicecrc", "1"), ("g", "1")),
    ),
    EncoderSpec(
        name="prores_ks",
        codec="prores",
        bits_per_px=4.1,
        opener=_LIBAV,
        pixel_formats=MappingProxyType(yuv_formats(("422", "444"), (10,))),
        limited_range_only=True,
        chroma_locations=("left",),
        # 1 to 31 is the quantiser scale; unset, the profile's own bit rate rules. 118 is libav's FF_QP2LAMBDA
        quality=QualityOption(name="global_quality", minimum=1, maximum=31, default=None, factor=118, whole=True),
        presets=("auto", "4444xq", "4444", "hq", "standard", "lt", "proxy"),
        preset_option="profile",
        default_preset="auto",
        containers=("mov", "mkv"),
        segment_container="mov",
    ),
    EncoderSpec(
        name="png",
        codec="png",
        bits_per_px=12.9,
        opener=_LIBAV,
        product="pictures",
        pixel_formats=MappingProxyType(_PACKED_RGB),
        full_range_only=True,
        presets=tuple(str(level) for level in range(9, -1, -1)),
        preset_option="compression_level",
        default_preset="1",
    ),
    EncoderSpec(
        name="null",
        codec="",
        opener="pipeline.encode.null:NullEncoder",
        product="nothing",
        pixel_formats=MappingProxyType(_ANY_FORMAT),
    ),
)

ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every encoder by name. Of two with the same codec, ``auto`` takes the first that works on this machine."""
