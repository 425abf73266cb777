"""What a picture's file says is found without decoding it, and no damage to it does harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import picture_files
from helpers.picture_files import HEIGHT, WIDTH
from PIL import Image

from pipeline.inputs.picture_header import read_header

KINDS = ("png", "jpg", "tif", "webp", "bmp")


def write_all(path: Path, *, lossless: bool = False) -> Path:
    options = {} if path.suffix == ".bmp" else {"icc_profile": picture_files.profile()}
    if path.suffix != ".bmp":
        options["exif"] = picture_files.exif(6, make="A camera")
    if lossless:
        options["lossless"] = True
    return picture_files.write(path, picture_files.colours(), **options)


@pytest.mark.parametrize("suffix", KINDS)
def test_size_orientation_profile_and_camera_are_found(tmp_path: Path, suffix: str) -> None:
    header = read_header(write_all(tmp_path / f"p.{suffix}"))
    assert header is not None
    assert (header.height, header.width) == (HEIGHT, WIDTH)
    if suffix != "bmp":
        assert (header.orientation, header.is_photo) == (6, True)
        assert header.profile == picture_files.profile()


def test_a_lossless_webp_without_metadata_has_its_size(tmp_path: Path) -> None:
    path = picture_files.write(tmp_path / "p.webp", picture_files.colours(), lossless=True)
    header = read_header(path)
    assert header is not None
    assert (header.height, header.width, header.orientation, header.is_photo) == (HEIGHT, WIDTH, 1, False)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_pictures_in_inks_are_known(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    Image.fromarray(picture_files.colours()).convert("CMYK").save(path)
    header = read_header(path)
    assert header is not None
    assert header.is_in_inks


def test_a_profile_in_several_segments_of_a_jpeg_is_put_together(tmp_path: Path) -> None:
    profile = bytes(np.random.default_rng(0).integers(0, 256, 150_000, dtype=np.uint8))
    path = picture_files.write(tmp_path / "p.jpg", picture_files.colours(), icc_profile=profile)
    header = read_header(path)
    assert header is not None
    assert header.profile == profile


@pytest.mark.parametrize("suffix", KINDS)
def test_no_damage_to_a_file_does_harm(tmp_path: Path, suffix: str) -> None:
    whole = write_all(tmp_path / f"p.{suffix}").read_bytes()
    path = tmp_path / f"damaged.{suffix}"
    rng = np.random.default_rng(0)
    for length in range(0, min(len(whole), 400), 7):
        path.write_bytes(whole[:length])
        read_header(path)
    for _ in range(200):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 4):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        header = read_header(path)
        assert header is None or 1 <= header.orientation <= 8


def test_what_is_no_picture_and_what_is_not_there_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("a text")
    assert read_header(tmp_path / "text.png") is None
    assert read_header(tmp_path / "missing.png") is None
