"""From what a file says about its samples to what a conversion needs: pixel formats, H.273 code points, guesses.

``layout_of`` says in which planes a decoded image reaches us, ``resolve_format`` turns colour tags into a
``SampleFormat``. Nothing here reads a file. Invariant: bringing samples into planes never changes their matrix, range
or bit depth; where it must interpolate chroma or drop transparency, a guess says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pipeline.frames import UNSPECIFIED, ChromaLocation, ColourTags, Matrix, SampleFormat, Subsampling

MATRICES: dict[int, Matrix] = {0: "rgb", 1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020nc"}
"""MatrixCoefficients that are converted. Source: ITU-T H.273 table 4."""

UNSUPPORTED_MATRICES: dict[int, str] = {
    4: "FCC 73.682",
    7: "SMPTE 240M",
    8: "YCgCo",
    10: "BT.2020 constant luminance",
    11: "SMPTE ST 2085 Y'D'zD'x",
    12: "chromaticity-derived non-constant luminance",
    13: "chromaticity-derived constant luminance",
    14: "BT.2100 ICtCp",
    15: "SMPTE ST 2128 IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
"""MatrixCoefficients that are refused by name. Source: ITU-T H.273 table 4."""

CHROMA_LOCATIONS: dict[int, ChromaLocation] = {
    1: "left",
    2: "center",
    3: "topleft",
    4: "top",
    5: "bottomleft",
    6: "bottom",
}
"""libav's AVChromaLocation: Chroma420SampleLocType plus one. Source: ITU-T H.273, figure 1."""

CENTRED_CHROMA_CODECS = frozenset({"mjpeg", "mjpegb", "ljpeg", "jpegls", "mpeg1video", "h261", "h263", "flv1", "webp"})
"""Codecs whose 4:2:0 chroma lies between luma samples. Source: JFIF 1.02; ISO/IEC 11172-2 2.4.1; ITU-T H.263 4.1."""

SD_MAX_HEIGHT_PX = 576
SD_MIN_HD_WIDTH_PX = 1280
"""An untagged image up to this height, and narrower than that, is BT.601. Source: mpv, ``mp_csp_guess_colorspace``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanarLayout:
    """The planes in which images of one pixel format reach the pipeline."""

    pixel_format: str
    """libav's name of the format whose planes are handed out; the decoder repacks if it is not the decoded one."""
    subsampling: Subsampling
    bit_depth: int
    is_rgb: bool = False
    is_grey: bool = False
    """Only luma is stored; both chroma planes are neutral grey."""
    is_full_range: bool = False
    """The format itself says full range (yuvj), or has always meant it (RGB, grey)."""
    is_big_endian: bool = False
    """Samples of more than 8 bits are stored with their high byte first."""
    via: str = ""
    """Format to repack to on the way, where libswscale's direct way is not exact; empty otherwise."""
    loss: str = ""
    """What the repacking changes, as half a sentence; empty if every sample survives."""


_SEMI_PLANAR: dict[str, tuple[Subsampling, int]] = {
    **dict.fromkeys(("nv12", "nv21"), ("420", 8)),
    **dict.fromkeys(("nv16", "yuyv422", "uyvy422", "yvyu422"), ("422", 8)),
    **dict.fromkeys(("nv24", "nv42", "vuyx", "vyu444"), ("444", 8)),
    "nv20": ("422", 10),
    **{f"p0{depth}": ("420", depth) for depth in (10, 12, 16)},
    **{f"p2{depth}": ("422", depth) for depth in (10, 12, 16)},
    **{f"p4{depth}": ("444", depth) for depth in (10, 12, 16)},
    **{f"y2{depth}": ("422", depth) for depth in (10, 12, 16)},
    **{name: ("444", depth) for name, depth in (("xv30", 10), ("v30x", 10), ("xv36", 12), ("xv48", 16))},
    "yuv444p10msb": ("444", 10),
    "yuv444p12msb": ("444", 12),
}
_YUV_WITH_ALPHA: dict[str, int] = {"vuya": 8, "ayuv": 8, "uyva": 8, "ayuv64": 16}
_PACKED_RGB: dict[str, int] = {
    **dict.fromkeys(("rgb24", "bgr24", "0rgb", "rgb0", "0bgr", "bgr0", "pal8"), 8),
    **dict.fromkeys(("rgb8", "bgr8"), 8),
    **dict.fromkeys(("x2rgb10", "x2bgr10"), 10),
    **dict.fromkeys(("rgb48", "bgr48"), 16),
}
_SHORT_RGB = frozenset(f"{order}{bits}" for order in ("rgb", "bgr") for bits in ("555", "565"))
"""5 or 6 bits a channel: straight to gbrp, libswscale leaves white at 248 (measured); by way of rgb24 it is 255."""
_UNREADABLE = frozenset({"y210be", "y212be", "y216be", "xv30be", "v30xbe", "x2rgb10be", "x2bgr10be"})
"""Byte orders that libswscale does not read (measured with libswscale 9.5); no software decoder gives them."""
_RGB_WITH_ALPHA: dict[str, int] = {
    **dict.fromkeys(("argb", "rgba", "abgr", "bgra"), 8),
    **dict.fromkeys(("rgba64", "bgra64"), 16),
}
_COARSE_CHROMA = {"yuv411p", "yuvj411p", "uyyvyy411", "yuv410p", "yuv440p", "yuvj440p", "yuv440p10", "yuv440p12"}
_PLANAR_DEPTHS = (8, 9, 10, 12, 14, 16)
_SUBSAMPLINGS: dict[str, Subsampling] = {"420": "420", "422": "422", "444": "444"}
_PLANAR_NAME = re.compile(
    r"(?:yuv(?P<alpha>a)?(?P<jpeg>j)?(?P<sampling>420|422|444)p|(?P<rgb>gbr(?P<rgb_alpha>a)?p)|(?P<grey>gray))(?P<depth>\d*)"
)
_ALPHA_DROPPED = "transparency is dropped"


def layout_of(pixel_format: str) -> PlanarLayout | None:
    """The planes to hand out for a decoded pixel format.

    Args:
        pixel_format: libav's name, such as ``yuv420p10le`` or ``nv12``.

    Returns:
        The layout; None for formats that cannot be brought into 8 to 16-bit integer planes without loss of precision
        (floating point, 32-bit, Bayer, XYZ) or that are not in host memory.
    """
    stem = pixel_format.removesuffix("le").removesuffix("be")
    if stem in _COARSE_CHROMA:
        return _yuv(
            "444",
            int(stem[7:] or 8) if stem.startswith("yuv440p") else 8,
            is_full_range=stem.startswith("yuvj"),
            loss=f"chroma of {pixel_format} is interpolated to 4:4:4",
        )
    if pixel_format in _UNREADABLE:
        return None
    if stem in _SHORT_RGB:
        return replace(_rgb(8), via="rgb24")
    if stem in _SEMI_PLANAR:
        return _yuv(*_SEMI_PLANAR[stem])
    if stem in _YUV_WITH_ALPHA:
        return _yuv("444", _YUV_WITH_ALPHA[stem], loss=_ALPHA_DROPPED)
    if stem in _PACKED_RGB:
        return _rgb(_PACKED_RGB[stem])
    if stem in _RGB_WITH_ALPHA:
        return _rgb(_RGB_WITH_ALPHA[stem], loss=_ALPHA_DROPPED)
    if stem in {"monow", "monob"}:
        return _grey(8)
    if stem in {"ya8", "ya16"}:
        return _grey(int(stem[2:]), loss=_ALPHA_DROPPED)
    return _planar(pixel_format, stem)


def _planar(pixel_format: str, stem: str) -> PlanarLayout | None:
    """Formats whose planes are handed out as they are; an alpha plane behind them is left alone."""
    match = _PLANAR_NAME.fullmatch(stem)
    if match is None:
        return None
    depth = int(match["depth"] or 8)
    if depth not in _PLANAR_DEPTHS:
        return None
    loss = _ALPHA_DROPPED if match["alpha"] or match["rgb_alpha"] else ""
    if match["rgb"]:
        layout = _rgb(depth, loss=loss)
    elif match["grey"]:
        layout = _grey(depth)
    else:
        layout = _yuv(_SUBSAMPLINGS[match["sampling"]], depth, is_full_range=bool(match["jpeg"]), loss=loss)
    return replace(layout, pixel_format=pixel_format, is_big_endian=pixel_format.endswith("be"))


def _named(stem: str, depth: int) -> str:
    return stem if depth == 8 else f"{stem}{depth}le"


def _yuv(subsampling: Subsampling, depth: int, *, is_full_range: bool = False, loss: str = "") -> PlanarLayout:
    return PlanarLayout(
        pixel_format=_named(f"yuv{subsampling}p", depth),
        subsampling=subsampling,
        bit_depth=depth,
        is_full_range=is_full_range,
        loss=loss,
    )


def _rgb(depth: int, *, loss: str = "") -> PlanarLayout:
    return PlanarLayout(
        pixel_format=_named("gbrp", depth),
        subsampling="444",
        bit_depth=depth,
        is_rgb=True,
        is_full_range=True,
        loss=loss,
    )


def _grey(depth: int, *, loss: str = "") -> PlanarLayout:
    # 4:2:0 because the neutral chroma carries nothing. Full range as libswscale takes it (libswscale/utils.c,
    # handle_jpeg), unless the file says otherwise.
    return PlanarLayout(
        pixel_format=_named("gray", depth),
        subsampling="420",
        bit_depth=depth,
        is_grey=True,
        is_full_range=True,
        loss=loss,
    )


def unsupported_reason(tags: ColourTags, *, pixel_format: str) -> str | None:
    """Why images of this kind cannot be converted, as a sentence without its subject; None if they can."""
    layout = layout_of(pixel_format)
    if layout is None:
        return f"has pixel format {pixel_format}, which cannot be read into 8 to 16-bit planes"
    if not layout.is_rgb and tags.matrix in UNSUPPORTED_MATRICES:
        return (
            f"has colour matrix {UNSUPPORTED_MATRICES[tags.matrix]} (H.273 code {tags.matrix}), which is not supported"
        )
    return None


def resolve_format(
    tags: ColourTags, *, pixel_format: str, height: int, width: int, codec: str = ""
) -> tuple[SampleFormat, tuple[str, ...]]:
    """Fill in what a file leaves unspecified, as players do.

    Args:
        tags: What the file says.
        pixel_format: libav's name of the decoded format.
        height: Image height in pixels; with ``width`` it decides between BT.601 and BT.709.
        width: Image width in pixels.
        codec: libav's codec name; it decides where chroma lies if the file does not say.

    Returns:
        The complete format of the planes that ``layout_of(pixel_format)`` describes, and one sentence for each guess.

    Raises:
        ValueError: ``unsupported_reason`` has one.
    """
    reason = unsupported_reason(tags, pixel_format=pixel_format)
    layout = layout_of(pixel_format)
    if reason is not None or layout is None:
        raise ValueError(f"the video {reason}")
    guesses: list[str] = []
    matrix, matrix_guess = _resolve_matrix(tags, layout, height=height, width=width)
    guesses += matrix_guess
    full_range = tags.full_range
    if full_range is None:
        full_range = layout.is_full_range
        if not layout.is_full_range:
            guesses.append("the file does not say its sample range; limited range is assumed")
        elif layout.is_grey:
            guesses.append("the file does not say its sample range; full range is assumed for greyscale")
    location = tags.chroma_location
    if layout.subsampling == "444" or layout.is_grey:
        location = "left"  # says nothing without subsampled chroma
    elif location is None:
        location = "center" if codec in CENTRED_CHROMA_CODECS else "left"
        guesses.append(f"the file does not say where its chroma samples lie; {location} is assumed")
    if layout.loss:
        guesses.append(layout.loss)
    resolved = SampleFormat(
        matrix=matrix,
        subsampling=layout.subsampling,
        bit_depth=layout.bit_depth,
        full_range=full_range,
        chroma_location=location,
    )
    return resolved, tuple(guesses)


def _resolve_matrix(
    tags: ColourTags, layout: PlanarLayout, *, height: int, width: int
) -> tuple[Matrix, tuple[str, ...]]:
    if layout.is_rgb:
        return "rgb", ()
    known = MATRICES.get(tags.matrix)
    if known is not None and known != "rgb":
        return known, ()
    if tags.primaries == 9 or tags.transfer in {16, 18}:  # BT.2020 primaries, PQ, HLG: BT.2100 allows no other Y'CbCr
        matrix: Matrix = "bt2020nc"
        why = "its primaries or transfer are those of BT.2020/2100"
    elif width >= SD_MIN_HD_WIDTH_PX or height > SD_MAX_HEIGHT_PX:
        matrix, why = "bt709", f"it is {width}x{height}"
    else:
        matrix, why = "bt601", f"it is {width}x{height}"
    if layout.is_grey:
        return matrix, ()  # without chroma every matrix gives the same picture
    said = "does not say its colour matrix" if tags.matrix == UNSPECIFIED else f"names no usable matrix ({tags.matrix})"
    return matrix, (f"the file {said}; {matrix} is assumed because {why}",)
