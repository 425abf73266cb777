"""Promises of pipeline.tags: which planes a pixel format gives, and what is guessed when a file says nothing."""

from __future__ import annotations

import av
import numpy as np
import pytest

from pipeline.decode.planes import PlaneReader
from pipeline.frames import ColourTags, SampleFormat
from pipeline.tags import layout_of, resolve_format, unsupported_reason

UNTAGGED = ColourTags()


def resolve(
    tags: ColourTags = UNTAGGED,
    pixel_format: str = "yuv420p",
    height: int = 720,
    width: int = 1280,
    codec: str = "",
):
    return resolve_format(tags, pixel_format=pixel_format, height=height, width=width, codec=codec)


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [
        ("yuv420p", ("yuv420p", "420", 8)),
        ("yuvj422p", ("yuvj422p", "422", 8)),
        ("yuv444p16le", ("yuv444p16le", "444", 16)),
        ("yuv422p10be", ("yuv422p10be", "422", 10)),
        ("yuva420p", ("yuva420p", "420", 8)),
        ("nv12", ("yuv420p", "420", 8)),
        ("p010le", ("yuv420p10le", "420", 10)),
        ("y210le", ("yuv422p10le", "422", 10)),
        ("uyvy422", ("yuv422p", "422", 8)),
        ("yuv411p", ("yuv444p", "444", 8)),
        ("yuv440p12le", ("yuv444p12le", "444", 12)),
        ("gray", ("gray", "420", 8)),
        ("gray10le", ("gray10le", "420", 10)),
        ("ya16le", ("gray16le", "420", 16)),
        ("rgb24", ("gbrp", "444", 8)),
        ("pal8", ("gbrp", "444", 8)),
        ("rgb48be", ("gbrp16le", "444", 16)),
        ("gbrap12le", ("gbrap12le", "444", 12)),
    ],
)
def test_pixel_format_gives_the_nearest_planes(pixel_format, expected):
    layout = layout_of(pixel_format)
    assert layout is not None
    assert (layout.pixel_format, layout.subsampling, layout.bit_depth) == expected


@pytest.mark.parametrize(
    "pixel_format", ["gbrpf32le", "xyz12le", "bayer_rggb8", "cuda", "vaapi", "gray32le", "nonsense", ""]
)
def test_formats_without_lossless_integer_planes_are_refused_by_name(pixel_format):
    assert layout_of(pixel_format) is None
    reason = unsupported_reason(ColourTags(), pixel_format=pixel_format)
    assert reason is not None
    assert pixel_format in reason


_LOSSLESS = (
    *("nv12", "nv21", "nv16", "nv24", "nv42", "yuyv422", "uyvy422", "yvyu422", "vuyx", "nv20le"),
    *("p010le", "p010be", "p012le", "p016le", "p210le", "p212le", "p216le", "p410le", "p412le", "p416le"),
    *("y210le", "y212le", "y216le", "xv30le", "xv36le", "xv48le", "v30xle", "ayuv", "vuya", "ayuv64le"),
    *("rgb24", "bgr24", "0rgb", "rgb0", "argb", "bgra", "rgb48le", "bgr48be", "rgba64le", "x2rgb10le"),
)


@pytest.mark.parametrize("pixel_format", _LOSSLESS)
def test_repacking_keeps_every_sample(pixel_format):
    """Random planes survive the way into a packed format and back through the decoder's repacking."""
    layout = layout_of(pixel_format)
    assert layout is not None
    sample_format = SampleFormat(
        matrix="rgb" if layout.is_rgb else "bt709",
        subsampling=layout.subsampling,
        bit_depth=layout.bit_depth,
        full_range=layout.is_full_range,
    )
    planar = av.VideoFrame(64, 24, layout.pixel_format)
    rng = np.random.default_rng(0)
    for plane in planar.planes:
        samples = rng.integers(0, 1 << layout.bit_depth, (plane.height, plane.width)).astype(sample_format.dtype)
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : samples.nbytes // plane.height] = samples.view(np.uint8)
    code = 2 if sample_format.full_range else 1
    packed = planar.reformat(format=pixel_format, src_color_range=code, dst_color_range=code)
    reader = PlaneReader(sample_format, height=24, width=64)
    planar_layout = layout_of(layout.pixel_format)
    assert planar_layout is not None
    got, _ = reader.read(packed, layout)
    expected, _ = reader.read(planar, planar_layout)
    for got_plane, expected_plane in zip(got, expected, strict=True):
        np.testing.assert_array_equal(got_plane, expected_plane)


def test_palette_images_keep_their_colours():
    frame = av.VideoFrame(16, 8, "pal8")
    palette = np.random.default_rng(0).integers(0, 256, (256, 4), dtype=np.uint8)  # B, G, R, A in memory
    palette[:, 3] = 255
    numbers = np.arange(128, dtype=np.uint8).reshape(8, 16)
    np.frombuffer(frame.planes[0], dtype=np.uint8).reshape(8, -1)[:, :16] = numbers
    np.frombuffer(frame.planes[1], dtype=np.uint8)[:] = palette.reshape(-1)
    layout = layout_of("pal8")
    assert layout is not None
    planes, _ = PlaneReader(SampleFormat(matrix="rgb", subsampling="444", full_range=True), height=8, width=16).read(
        frame, layout
    )
    for plane, channel in zip(planes, (2, 1, 0), strict=True):
        np.testing.assert_array_equal(plane, palette[numbers][..., channel])


@pytest.mark.parametrize("pixel_format", ["rgb555le", "bgr565le"])
def test_white_of_short_rgb_formats_is_white(pixel_format):
    frame = av.VideoFrame(16, 8, pixel_format)
    np.frombuffer(frame.planes[0], dtype=np.uint8)[:] = 255
    layout = layout_of(pixel_format)
    assert layout is not None
    planes, _ = PlaneReader(SampleFormat(matrix="rgb", subsampling="444", full_range=True), height=8, width=16).read(
        frame, layout
    )
    assert {int(value) for plane in planes for value in np.unique(plane)} == {255}


def test_big_endian_planes_come_in_native_order():
    frame = av.VideoFrame(16, 8, "yuv420p10be")
    for plane in frame.planes:
        np.frombuffer(plane, dtype=">u2")[:] = 700
    layout = layout_of("yuv420p10be")
    assert layout is not None
    planes, _ = PlaneReader(SampleFormat(matrix="bt709", bit_depth=10), height=8, width=16).read(frame, layout)
    assert all(plane.dtype == np.uint16 and (plane == 700).all() for plane in planes)


def test_specified_tags_are_used_without_a_guess():
    tags = ColourTags(matrix=9, primaries=9, transfer=16, full_range=False, chroma_location="topleft")
    resolved, guesses = resolve(tags, "yuv420p10le")
    assert resolved == SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="topleft")
    assert guesses == ()


@pytest.mark.parametrize(
    ("height", "width", "matrix"),
    [(576, 720, "bt601"), (480, 1279, "bt601"), (577, 720, "bt709"), (480, 1280, "bt709"), (2160, 3840, "bt709")],
)
def test_unspecified_matrix_is_guessed_by_size_as_mpv_does(height, width, matrix):
    resolved, guesses = resolve(height=height, width=width)
    assert resolved.matrix == matrix
    assert any(matrix in guess and f"{width}x{height}" in guess for guess in guesses)


@pytest.mark.parametrize("tags", [ColourTags(primaries=9), ColourTags(transfer=16), ColourTags(transfer=18)])
def test_unspecified_matrix_beside_wide_gamut_tags_is_bt2020(tags):
    assert resolve(tags)[0].matrix == "bt2020nc"


@pytest.mark.parametrize(("code", "matrix"), [(1, "bt709"), (5, "bt601"), (6, "bt601"), (9, "bt2020nc")])
def test_matrix_codes_of_h273(code, matrix):
    assert resolve(ColourTags(matrix=code), height=16, width=16)[0].matrix == matrix


@pytest.mark.parametrize(
    ("code", "name"), [(4, "FCC"), (7, "240M"), (8, "YCgCo"), (10, "constant"), (14, "ICtCp"), (17, "YCgCo-Ro")]
)
def test_other_matrices_are_refused_by_name(code, name):
    reason = unsupported_reason(ColourTags(matrix=code), pixel_format="yuv420p")
    assert reason is not None
    assert name in reason
    with pytest.raises(ValueError, match=name):
        resolve(ColourTags(matrix=code))


def test_rgb_planes_are_rgb_whatever_the_tags_say():
    resolved, guesses = resolve(ColourTags(matrix=8), "gbrp")
    assert (resolved.matrix, resolved.full_range, guesses) == ("rgb", True, ())


def test_matrix_code_rgb_on_yuv_planes_is_guessed_and_named():
    resolved, guesses = resolve(ColourTags(matrix=0))
    assert resolved.matrix == "bt709"
    assert "(0)" in guesses[0]


def test_range_is_limited_unless_said_or_implied():
    assert resolve()[0].full_range is False
    assert resolve(pixel_format="yuvj420p")[0].full_range is True
    assert resolve(pixel_format="gray")[0].full_range is True
    assert resolve(ColourTags(full_range=True))[0].full_range is True
    assert resolve(ColourTags(full_range=False), "gray")[0].full_range is False


def test_chroma_lies_left_unless_the_codec_centres_it():
    assert resolve(codec="h264")[0].chroma_location == "left"
    assert resolve(codec="mjpeg")[0].chroma_location == "center"
    assert resolve(ColourTags(chroma_location="topleft"), codec="mjpeg")[0].chroma_location == "topleft"


@pytest.mark.parametrize("pixel_format", ["yuva420p", "bgra", "ya8", "gbrap10le", "vuya"])
def test_dropped_transparency_is_said(pixel_format):
    assert "transparency is dropped" in resolve(pixel_format=pixel_format)[1]
