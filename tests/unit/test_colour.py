"""Conversion between integer planes and R'G'B', against the standards' formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.asserts import REFERENCE_CODES, REFERENCE_RGB_ATOL, assert_frames_close, worst
from numpy.typing import NDArray

from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.frames import SampleFormat

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020nc": (0.2627, 0.0593)}
SIZES = [(1, 1), (1, 2), (2, 1), (3, 5), (17, 23), (40, 64)]
LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")
LAYOUTS = [*(("420", location) for location in LOCATIONS), ("422", "left"), ("422", "center"), ("444", "left")]
DEPTHS = [
    ("bt709", 8, False),
    ("bt709", 8, True),
    ("bt601", 8, False),
    ("bt2020nc", 10, False),
    ("bt2020nc", 10, True),
    ("bt709", 16, True),
]


def make_format(*, matrix: Any = "bt709", layout: tuple[Any, Any] = ("420", "left"), **rest: Any) -> SampleFormat:
    return SampleFormat(matrix=matrix, subsampling=layout[0], chroma_location=layout[1], **rest)


def random_planes(format: SampleFormat, *, height: int, width: int) -> list[NDArray[Any]]:
    random = np.random.default_rng(height * 1000 + width)
    shapes = format.plane_shapes(height=height, width=width)
    return [random.integers(0, 2**format.bit_depth, shape).astype(format.dtype) for shape in shapes]


def to_rgb(planes: Any, format: SampleFormat) -> NDArray[np.float32]:
    out = np.full((3, *planes[0].shape), np.nan, np.float32)
    planes_to_rgb(planes, format, out=out)
    return out


def to_planes(rgb: NDArray[np.float32], format: SampleFormat, **options: Any) -> list[NDArray[Any]]:
    shapes = format.plane_shapes(height=rgb.shape[1], width=rgb.shape[2])
    out = [np.full(shape, 77, format.dtype) for shape in shapes]
    rgb_to_planes(rgb, format, out=out, **options)
    return out


def spans(format: SampleFormat) -> tuple[float, float, float, float]:
    step, highest = 2 ** (format.bit_depth - 8), 2**format.bit_depth - 1
    return (0, highest, 128 * step, highest) if format.full_range else (16 * step, 219 * step, 128 * step, 224 * step)


def filtered(values: NDArray[np.float64], positions: NDArray[np.float64], *, kernel: Any, reach: int) -> Any:
    """Values along the last axis at other positions, edges repeated."""
    columns = []
    for position in positions:
        taps = np.arange(int(np.floor(position)) - reach, int(np.floor(position)) + reach + 2)
        weights = kernel(np.abs(taps - position))
        columns.append(values[..., np.clip(taps, 0, values.shape[-1] - 1)] @ (weights / weights.sum()))
    return np.stack(columns, axis=-1)


def catmull_rom(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def wide_lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x < 6, np.sinc(x / 2) * np.sinc(x / 6), 0)


def chroma_axes(format: SampleFormat) -> list[tuple[int, float]]:
    """(axis, luma position of the first chroma sample) of each subsampled axis."""
    axes = []
    if format.subsampling != "444":
        axes.append((1, 0.0 if "left" in format.chroma_location else 0.5))
    if format.subsampling == "420":
        rows = {"top": 0.0, "topleft": 0.0, "bottom": 1.0, "bottomleft": 1.0}
        axes.append((0, rows.get(format.chroma_location, 0.5)))
    return axes


def reference_rgb(planes: Any, format: SampleFormat) -> NDArray[np.float64]:
    offset, luma_span, centre, chroma_span = spans(format)
    y, cb, cr = (plane.astype(np.float64) for plane in planes)
    kr, kb = WEIGHTS[format.matrix]
    chroma = []
    for plane in (cb, cr):
        wide = plane
        for axis, first in chroma_axes(format):
            positions = (np.arange(y.shape[axis]) - first) / 2
            moved = np.moveaxis(wide, axis, -1)
            wide = np.moveaxis(filtered(moved, positions, kernel=catmull_rom, reach=1), -1, axis)
        chroma.append((wide - centre) / chroma_span)
    grey = (y - offset) / luma_span
    red, blue = grey + 2 * (1 - kr) * chroma[1], grey + 2 * (1 - kb) * chroma[0]
    return np.stack([red, (grey - kr * red - kb * blue) / (1 - kr - kb), blue])


def reference_planes(rgb: Any, format: SampleFormat) -> list[NDArray[np.float64]]:
    offset, luma_span, centre, chroma_span = spans(format)
    kr, kb = WEIGHTS[format.matrix]
    red, green, blue = rgb.astype(np.float64)
    grey = kr * red + (1 - kr - kb) * green + kb * blue
    planes = [grey * luma_span + offset]
    for plane in ((blue - grey) / (2 * (1 - kb)), (red - grey) / (2 * (1 - kr))):
        small = plane
        for axis, first in chroma_axes(format):
            positions = 2.0 * np.arange((plane.shape[axis] + 1) // 2) + first
            moved = np.moveaxis(small, axis, -1)
            small = np.moveaxis(filtered(moved, positions, kernel=wide_lanczos, reach=5), -1, axis)
        planes.append(small * chroma_span + centre)
    return [np.clip(np.floor(plane + 0.5), 0, 2**format.bit_depth - 1) for plane in planes]


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
@pytest.mark.parametrize(("matrix", "depth", "full"), DEPTHS)
def test_both_directions_follow_the_standards(layout: Any, matrix: Any, depth: int, full: bool) -> None:
    format = make_format(matrix=matrix, layout=layout, bit_depth=depth, full_range=full)
    for height, width in SIZES:
        planes = random_planes(format, height=height, width=width)
        assert worst(to_rgb(planes, format), reference_rgb(planes, format)) < REFERENCE_RGB_ATOL
        rgb = np.random.default_rng(width).normal(0.5, 0.4, (3, height, width)).astype(np.float32)
        assert_frames_close(to_planes(rgb, format), reference_planes(rgb, format), codes=REFERENCE_CODES)


@pytest.mark.parametrize("depth", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020nc", "rgb"])
def test_444_survives_the_round_trip_exactly(matrix: Any, depth: int, full: bool) -> None:
    """Random planes hold every kind of code, most of them far outside the gamut and the nominal range."""
    format = make_format(matrix=matrix, layout=("444", "left"), bit_depth=depth, full_range=full)
    planes = random_planes(format, height=31, width=67)
    assert_frames_close(to_planes(to_rgb(planes, format), format), planes, codes=0)


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("dither", [False, True])
def test_flat_patches_survive_the_round_trip_in_every_format(layout: Any, depth: int, dither: bool) -> None:
    format = make_format(layout=layout, bit_depth=depth)
    highest = 2**depth - 1
    for codes in ((0, 0, 0), (highest, highest, highest), (highest // 3, highest // 5, highest - highest // 7)):
        shapes = format.plane_shapes(height=19, width=21)
        planes = [np.full(shape, code, format.dtype) for shape, code in zip(shapes, codes, strict=True)]
        tolerance = 0 if depth < 16 else 1
        assert_frames_close(to_planes(to_rgb(planes, format), format, dither=dither), planes, codes=tolerance)


@pytest.mark.parametrize(
    ("codes", "full", "rgb"),
    [
        ((16, 128, 128), False, (0, 0, 0)),
        ((235, 128, 128), False, (1, 1, 1)),
        ((255, 128, 128), True, (1, 1, 1)),
        ((81, 90, 240), False, (1, 0, 0)),
        ((145, 54, 34), False, (0, 1, 0)),
        ((41, 240, 110), False, (0, 0, 1)),
    ],
)
def test_known_colours_of_bt601(codes: tuple[int, int, int], full: bool, rgb: tuple[int, int, int]) -> None:
    """The 100 % colour bars of BT.601, as every table of them lists the codes, to the rounding of those codes."""
    format = make_format(matrix="bt601", full_range=full)
    planes = [np.full(shape, code, np.uint8) for shape, code in zip(((4, 4), (2, 2), (2, 2)), codes, strict=True)]
    assert worst(to_rgb(planes, format), np.array(rgb).reshape(3, 1, 1)) < 0.5 / 219 + 1.8 * 0.5 / 224
    assert_frames_close(
        to_planes(np.ones((3, 4, 4), np.float32) * np.array(rgb, np.float32)[:, None, None], format), planes
    )


def test_rgb_planes_are_red_green_and_blue_in_this_order() -> None:
    format = SampleFormat(matrix="rgb", subsampling="444", full_range=True)
    planes = [np.full((2, 3), code, np.uint8) for code in (255, 51, 0)]
    assert worst(to_rgb(planes, format), np.array([1, 0.2, 0]).reshape(3, 1, 1)) < 1e-6


def test_super_white_and_super_black_are_kept() -> None:
    format = make_format(layout=("444", "left"))
    planes = [np.array([[0, 255]], np.uint8), np.full((1, 2), 128, np.uint8), np.full((1, 2), 128, np.uint8)]
    rgb = to_rgb(planes, format)
    assert rgb[0, 0, 0] == pytest.approx(-16 / 219)
    assert rgb[0, 0, 1] == pytest.approx(239 / 219)


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_what_does_not_fit_the_bits_is_clipped(layout: Any) -> None:
    format = make_format(layout=layout)
    for value, code in ((-1e30, 0), (-1, 0), (1e30, 255), (5, 255)):
        luma = to_planes(np.full((3, 6, 6), value, np.float32), format)[0]
        assert (luma == code).all()
    blown = np.zeros((3, 6, 6), np.float32)
    blown[2] = 1e30
    assert (to_planes(blown, format)[1] == 255).all()


def test_not_a_number_becomes_code_0_and_stays_local() -> None:
    format = make_format(layout=("444", "left"))
    rgb = np.full((3, 1, 40), 0.5, np.float32)
    rgb[:, 0, 3] = np.nan
    planes = to_planes(rgb, format)
    assert [int(plane[0, 3]) for plane in planes] == [0, 0, 0]
    assert (np.delete(planes[0], 3) == 126).all()


@pytest.mark.parametrize("dtype_depth", [8, 10])
def test_padded_rows_read_only_planes_and_parts_of_arrays_are_taken(dtype_depth: int) -> None:
    """A decoder's rows are wider than the picture and may not be written; a batch slot is a part of an array."""
    format = make_format(bit_depth=dtype_depth)
    plain = random_planes(format, height=14, width=18)
    padded = [np.zeros((plane.shape[0] + 2, plane.shape[1] + 13), format.dtype) for plane in plain]
    views = []
    for store, plane in zip(padded, plain, strict=True):
        store[1 : 1 + plane.shape[0], : plane.shape[1]] = plane
        store.flags.writeable = False
        views.append(store[1 : 1 + plane.shape[0], : plane.shape[1]])
    batch = np.full((2, 3, 20, 30), -7, np.float32)
    planes_to_rgb(views, format, out=batch[1][:, :14, :18])
    wanted = to_rgb(plain, format)
    assert np.array_equal(batch[1][:, :14, :18], wanted)
    assert (batch[0] == -7).all() and (batch[1][:, 14:] == -7).all() and (batch[1][:, :, 18:] == -7).all()
    odd = [np.asfortranarray(plane)[:, ::-1][:, ::-1] for plane in plain]
    assert np.array_equal(to_rgb(odd, format), wanted)
    back = [np.full((plane.shape[0], plane.shape[1] + 5), 9, format.dtype) for plane in plain]
    targets = [store[:, : plane.shape[1]] for store, plane in zip(back, plain, strict=True)]
    rgb_to_planes(batch[1][:, :14, :18], format, out=targets)
    assert_frames_close(targets, to_planes(wanted, format))
    assert all((store[:, plane.shape[1] :] == 9).all() for store, plane in zip(back, plain, strict=True))


def test_dither_keeps_the_mean_between_two_codes() -> None:
    """Without it a value 0.3 codes above a code is rounded away; with it the mean over 8x8 pixels is within 1/64."""
    format = make_format(layout=("444", "left"))
    grey = np.full((3, 8, 8), (100.3 - 16) / 219, np.float32)
    assert (to_planes(grey, format)[0] == 100).all()
    dithered = to_planes(grey, format, dither=True)[0]
    assert set(np.unique(dithered)) == {100, 101}
    assert dithered.mean() == pytest.approx(100.3, abs=1 / 64)
    assert np.array_equal(dithered, to_planes(grey, format, dither=True)[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (3, 8, 9)}, "needs planes of shapes"),
        ({"dtype": np.float64}, "dtype float32"),
        ({"shape": (8, 8)}, r"\(3, H, W\)"),
        ({"depth": 10}, "need dtype uint16"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change: dict[str, Any], words: str) -> None:
    format = make_format(bit_depth=change.get("depth", 8))
    planes = [np.zeros(shape, np.uint8) for shape in ((8, 8), (4, 4), (4, 4))]
    rgb = np.zeros(change.get("shape", (3, 8, 8)), change.get("dtype", np.float32))
    with pytest.raises(ValueError, match=words):
        planes_to_rgb(planes, format, out=rgb)
    with pytest.raises(ValueError, match=words):
        rgb_to_planes(rgb, format, out=planes)


def test_an_output_that_would_be_lost_in_a_copy_is_refused() -> None:
    format = make_format()
    planes = [np.zeros(shape, np.uint8) for shape in ((8, 8), (4, 4), (4, 4))]
    with pytest.raises(ValueError, match="contiguous rows"):
        planes_to_rgb(planes, format, out=np.zeros((3, 8, 16), np.float32)[:, :, ::2])
    frozen = [plane.copy() for plane in planes]
    frozen[0].flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        rgb_to_planes(np.zeros((3, 8, 8), np.float32), format, out=frozen)
