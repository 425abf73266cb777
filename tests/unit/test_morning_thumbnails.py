"""Thumbnails show the same part of the same frame, small enough for a page of many."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import MediaError, OutputError
from pipeline.show.morning.thumbnails import (
    HEIGHT_PX,
    MAX_BYTES,
    WIDTH_PX,
    choose_frame,
    encode_jpeg,
    write_thumbnails,
)


def write_film(path: Path, frames: list[np.ndarray]) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for index, samples in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(samples, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def flat(*, height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_both_show_the_frame_that_was_asked_for(tmp_path: Path) -> None:
    source = write_film(tmp_path / "in.mkv", [flat(height=90, width=160, level=40 + 50 * i) for i in range(3)])
    output = write_film(tmp_path / "out.mkv", [flat(height=360, width=640, level=60 + 50 * i) for i in range(3)])
    made = write_thumbnails(source, output, frame_index=2, before=tmp_path / "before.jpg", after=tmp_path / "after.jpg")
    before, after = read(made.before), read(made.after)
    assert before.shape == after.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert abs(before.mean() - 140) < 2 and abs(after.mean() - 160) < 2
    assert made.caption == "frame 2: 512x288 of 640x360 pixels, from (0, 0)"


def test_both_show_the_same_part_the_one_with_most_detail(tmp_path: Path) -> None:
    small = flat(height=300, width=600, level=30)
    small[200:280:4, 450:550:4] = 255
    source = write_film(tmp_path / "in.mkv", [small])
    output = write_film(tmp_path / "out.mkv", [small.repeat(2, axis=0).repeat(2, axis=1)])
    made = write_thumbnails(source, output, frame_index=0, before=tmp_path / "b.jpg", after=tmp_path / "a.jpg")
    before, after = read(made.before).astype(float), read(made.after).astype(float)
    assert before.std() > 10 and after.std() > 10
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.7


def test_noise_fits_too(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, size=(400, 700, 3), dtype=np.uint8)
    film = write_film(tmp_path / "film.mkv", [noise])
    made = write_thumbnails(film, film, frame_index=0, before=tmp_path / "b.jpg", after=tmp_path / "a.jpg")
    assert max(made.before.stat().st_size, made.after.stat().st_size) <= MAX_BYTES


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 15), (2, 700), (700, 3)])
def test_any_size_gives_pictures(height: int, width: int, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [flat(height=height, width=width, level=99)])
    made = write_thumbnails(film, film, frame_index=0, before=tmp_path / "b.jpg", after=tmp_path / "a.jpg")
    assert read(made.after).shape == (min(height, HEIGHT_PX), min(width, WIDTH_PX), 3)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_a_browser_sees_the_colours_that_went_in(colour: tuple[int, int, int]) -> None:
    picture = np.full((16, 16, 3), colour, dtype=np.uint8)
    shown = np.asarray(Image.open(io.BytesIO(encode_jpeg(picture, quantiser=2))).convert("RGB"))
    assert np.abs(shown.astype(int) - colour).max() <= 4


@pytest.mark.parametrize(
    ("count", "rate", "index"), [(1, "25", 0), (100, "25", 50), (180_000, "25", 500), (9000, "30000/1001", 599)]
)
def test_the_frame_is_the_middle_one_or_an_early_one(count: int, rate: str, index: int) -> None:
    assert choose_frame(count, rate=Fraction(rate)) == index


def test_errors_are_clear_and_leave_nothing(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [flat(height=16, width=16, level=9)])
    before, after = tmp_path / "b.jpg", tmp_path / "a.jpg"
    with pytest.raises(MediaError, match="no frame 5"):
        write_thumbnails(film, film, frame_index=5, before=before, after=after)
    with pytest.raises(OutputError, match="cannot write the picture"):
        write_thumbnails(film, film, frame_index=0, before=tmp_path / "missing" / "b.jpg", after=after)
    assert not before.exists() and not after.exists()
