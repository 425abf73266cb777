"""Colours under transparent pixels are those of what is seen beside them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.decode.transparency import fill_transparent, hold_flat


def test_seen_pixels_stay_as_they_are_however_little_is_seen_of_them() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.random((3, 33, 47), dtype=np.float32)
    alpha = np.where(rng.random((33, 47)) < 0.6, 0, rng.random((33, 47))).astype(np.float32)
    alpha[0, 0] = 1e-4
    filled = fill_transparent(rgb, alpha)
    assert np.array_equal(filled[:, alpha > 0], rgb[:, alpha > 0])
    assert filled.dtype == np.float32


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1), (16, 16), (17, 31)])
def test_a_single_colour_spreads_over_everything(height: int, width: int) -> None:
    rgb = np.zeros((3, height, width), dtype=np.float32)
    alpha = np.zeros((height, width), dtype=np.float32)
    rgb[:, -1, 0] = (0.2, 0.7, 0.4)
    alpha[-1, 0] = 0.5
    filled = fill_transparent(rgb, alpha)
    assert np.allclose(filled, np.array([0.2, 0.7, 0.4], np.float32)[:, None, None], atol=1e-6)


def test_beside_an_edge_is_the_colour_of_that_edge_and_not_what_was_hidden() -> None:
    rgb = np.full((3, 32, 64), -5.0, dtype=np.float32)  # what is hidden
    alpha = np.zeros((32, 64), dtype=np.float32)
    rgb[:, :, :20], alpha[:, :20] = 0.25, 1
    rgb[:, :, 44:], alpha[:, 44:] = 0.75, 1
    filled = fill_transparent(rgb, alpha)
    assert np.allclose(filled[:, :, 20:22], 0.25)
    assert np.allclose(filled[:, :, 42:44], 0.75)
    assert filled.min() >= 0.25 - 1e-6
    assert filled.max() <= 0.75 + 1e-6


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_picture_that_is_seen_wholly_or_not_at_all_stays_as_it_is(level: float) -> None:
    rgb = np.random.default_rng(1).random((3, 9, 9), dtype=np.float32)
    assert np.array_equal(fill_transparent(rgb, np.full((9, 9), level, np.float32)), rgb)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (36, 45), (12, 16)])
def test_empty_and_full_areas_stay_so_and_edges_are_as_they_were_made(height: int, width: int) -> None:
    alpha = np.zeros((12, 16), dtype=np.float32)
    alpha[:, 6:] = 1
    alpha[:, 5] = 0.5
    made = np.full((height, width), 0.25, dtype=np.float32)
    held = hold_flat(made, alpha)
    source = ((np.arange(width) + 0.5) * 16 / width).astype(int)
    assert np.all(held[:, source <= 3] == 0)
    assert np.all(held[:, (source >= 4) & (source <= 6)] == 0.25)
    assert np.all(held[:, source >= 7] == 1)
