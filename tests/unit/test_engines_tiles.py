"""Tiles to try networks on: any size, the same everywhere, and what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from engines.tiles import FILM_FILE, adversarial_names, adversarial_tiles, film_pictures, film_tiles


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (33, 50), (192, 256), (193, 300), (500, 40)])
def test_any_size_is_possible_and_well_formed(height, width):
    every = {"film": film_tiles(height=height, width=width, batch=3)}
    every |= adversarial_tiles(height=height, width=width, batch=3)
    for name, tiles in every.items():
        assert tiles.shape == (3, 3, height, width), name
        assert tiles.dtype == np.float32 and tiles.flags.c_contiguous and tiles.flags.writeable, name
        assert tiles.min() >= 0 and tiles.max() <= 1, name


def test_film_tiles_are_cut_from_the_middle_of_the_pictures_without_scaling():
    picture = film_pictures()[0]
    top, left = (picture.shape[0] - 40) // 2, (picture.shape[1] - 60) // 2
    wanted = picture[top : top + 40, left : left + 60].transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(film_tiles(height=40, width=60)[0], wanted)


def test_rows_of_a_batch_differ():
    tiles = film_tiles(height=24, width=24, batch=5)
    assert len({tile.tobytes() for tile in tiles}) == 5


def test_larger_tiles_go_on_mirrored():
    height, width = film_pictures()[0].shape[:2]
    tile = film_tiles(height=height + 2, width=width + 4)[0]
    assert np.array_equal(tile[:, 0], tile[:, 1])
    assert np.array_equal(tile[:, :, 1], tile[:, :, 2])
    assert np.array_equal(tile[:, :, 0], tile[:, :, 3])
    assert np.array_equal(tile[:, :, -1], tile[:, :, -4])


def test_patterns_are_what_their_names_say():
    tiles = {name: batch[0] for name, batch in adversarial_tiles(height=24, width=32).items()}
    assert tuple(tiles) == adversarial_names()
    assert not tiles["black"].any() and (tiles["white"] == 1).all()
    board = tiles["checkerboard"]
    assert (board[:, 1:] != board[:, :-1]).all() and (board[:, :, 1:] != board[:, :, :-1]).all()
    assert 0 < tiles["points"].sum() < 0.05 * tiles["points"].size
    assert set(np.unique(tiles["primaries"])) == {0.0, 1.0}
    assert (np.ptp(tiles["primaries"], axis=0) == 1).all()
    assert (np.diff(tiles["ramps"][0], axis=1) > 0).all() and (np.diff(tiles["ramps"][1], axis=0) > 0).all()
    assert tiles["noise"].std() == pytest.approx(1 / np.sqrt(12), rel=0.05)


def test_the_same_call_gives_the_same_values():
    for first, second in zip(
        adversarial_tiles(height=9, width=7).values(), adversarial_tiles(height=9, width=7).values(), strict=True
    ):
        assert np.array_equal(first, second)
    assert np.array_equal(film_tiles(height=9, width=7), film_tiles(height=9, width=7))


def test_the_pictures_are_small_and_their_origin_lies_beside_them():
    assert FILM_FILE.stat().st_size < 300_000
    assert "Creative Commons" in FILM_FILE.with_suffix(".md").read_text()
