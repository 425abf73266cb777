"""The result's size is what was asked for, in the picture's shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sizes import choose_output_size

SIDES = st.integers(1, 5000)


def size(height: int, width: int, **wish: object) -> tuple[int, int]:
    return choose_output_size(height=height, width=width, model_scale=4, subsampling="420", **wish)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, (1088, 2560)),
        ({"factor": 2}, (544, 1280)),
        ({"factor": 1.5}, (408, 960)),
        ({"factor": 3}, (816, 1920)),
        ({"to_height": 1080}, (1080, 2542)),
        ({"to_width": 1920}, (816, 1920)),
        ({"fit": (2160, 3840)}, (1632, 3840)),
        ({"fit": (544, 9999)}, (544, 1280)),
    ],
)
def test_each_way_of_asking(wish: dict[str, object], expected: tuple[int, int]) -> None:
    assert size(272, 640, **wish) == expected


@pytest.mark.parametrize(("subsampling", "expected"), [("444", (45, 45)), ("422", (45, 46)), ("420", (46, 46))])
def test_only_subsampled_sides_are_made_even(subsampling: str, expected: tuple[int, int]) -> None:
    found = choose_output_size(height=15, width=15, model_scale=4, subsampling=subsampling, factor=3)  # type: ignore[arg-type]
    assert found == expected


def test_one_pixel_stays_a_picture() -> None:
    assert size(1, 1) == (4, 4)
    assert size(1, 1, factor=0.1) == (2, 2)


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_fitted_picture_is_inside_its_box_and_touches_it(height: int, width: int, box_h: int, box_w: int) -> None:
    found = choose_output_size(height=height, width=width, model_scale=4, subsampling="444", fit=(box_h, box_w))
    assert found[0] <= max(1, box_h) and found[1] <= max(1, box_w)
    assert found[0] == box_h or found[1] == box_w


@given(SIDES, SIDES, st.sampled_from([2.0, 3.0, 4.0, 1.5]))
def test_the_shape_is_kept_to_a_pixel(height: int, width: int, factor: float) -> None:
    found = choose_output_size(height=height, width=width, model_scale=4, subsampling="444", factor=factor)
    assert abs(found[0] - height * factor) <= 0.5 and abs(found[1] - width * factor) <= 0.5
