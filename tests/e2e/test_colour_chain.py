"""Flat patches and ramps through the whole chain: decode, a network that changes nothing, lossless encode, decode."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.runs import run_films
from numpy.typing import NDArray

HEIGHT, WIDTH = 128, 256
BAND_ROWS = 32
PATCH_PX = 64
MARGIN_PX = 12
"""Between two patches, where a chroma filter of 12 taps may mix both."""
MATRICES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
PATCHES = ((90, 160, 100), (180, 100, 150), (60, 128, 128), (140, 90, 190))
"""Y', Cb, Cr in 8-bit codes, inside every matrix's gamut or not: neither may matter."""


def spans(*, depth: int, full: bool) -> tuple[float, float, float, float]:
    """ITU-T H.273 8.3: luma of black, codes to white, neutral chroma, codes of chroma's whole range."""
    step, highest = 2 ** (depth - 8), 2**depth - 1
    return (0, highest, 128 * step, highest) if full else (16 * step, 219 * step, 128 * step, 224 * step)


def make_planes(*, depth: int, full: bool, halved: tuple[int, int]) -> list[NDArray[np.uint16]]:
    """Ramps of luma, Cb and Cr, one below the other, and a row of patches."""
    offset, luma, centre, chroma = spans(depth=depth, full=full)
    across = np.arange(WIDTH) / (WIDTH - 1)
    planes = [np.full((HEIGHT, WIDTH), offset + luma / 2), *(np.full((HEIGHT, WIDTH), centre) for _ in range(2))]
    planes[0][: BAND_ROWS // 2] = offset + luma * across
    planes[1][BAND_ROWS // 2 : BAND_ROWS] = centre + chroma * (across - 0.5) / 2
    planes[2][BAND_ROWS : 2 * BAND_ROWS] = centre + chroma * (across - 0.5) / 2
    for number, codes in enumerate(PATCHES):
        for plane, code in zip(planes, codes, strict=True):
            plane[2 * BAND_ROWS :, number * PATCH_PX : (number + 1) * PATCH_PX] = code << (depth - 8)
    whole = [np.rint(plane).astype(np.uint16) for plane in planes]
    return [whole[0], *(plane[:: halved[0], :: halved[1]] for plane in whole[1:])]


def inner(*, halved: tuple[int, int]) -> NDArray[np.bool_]:
    """Where no sharp edge of the test picture is within reach of a filter, on a plane's own grid."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for top, bottom in ((0, BAND_ROWS // 2), (BAND_ROWS // 2, BAND_ROWS), (BAND_ROWS, 2 * BAND_ROWS)):
        margin = min(MARGIN_PX, (bottom - top) // 2 - 2)
        mask[top + margin : bottom - margin, MARGIN_PX:-MARGIN_PX] = True
    for number in range(len(PATCHES)):
        left = number * PATCH_PX + MARGIN_PX
        mask[2 * BAND_ROWS + MARGIN_PX : -MARGIN_PX, left : left + PATCH_PX - 2 * MARGIN_PX] = True
    return mask[:: halved[0], :: halved[1]]


def write_film(path: Path, planes: list[Any], *, pixel_format: str, matrix: int, full: bool, transfer: int = 1) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, pixel_format
        context.colorspace, context.color_range = matrix, 2 if full else 1
        context.color_primaries, context.color_trc = 1 if transfer == 1 else 9, transfer
        frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
        is_wide = np.dtype(np.uint16 if pixel_format.endswith("le") else np.uint8)
        order = (1, 2, 0) if pixel_format.startswith("gbr") else (0, 1, 2)  # libav's planes are G, B, R
        for plane, number in zip(frame.planes, order, strict=True):
            rows = np.frombuffer(plane, is_wide).reshape(plane.height, -1)
            rows[:, : planes[number].shape[1]] = planes[number]
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        for index in range(2):
            frame.pts = index
            for packet in stream.encode(frame):
                container.mux(packet)
        container.mux(stream.encode(None))
    return path


def read_film(path: Path) -> tuple[Any, list[NDArray[Any]]]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        rows = [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].copy() for plane in frame.planes]
    return frame, [rows[2], rows[0], rows[1]] if frame.format.is_rgb else rows


IDENTITY = {"infer": {"model": "nearest-x1", "backend": "resize"}}
ENCODERS: dict[str, dict[str, Any]] = {
    "ffv1": {"encode": {"kind": "ffv1"}, "output": {"container": "mkv"}},
    "libx264": {"encode": {"kind": "libx264", "quality": 0}, "output": {"container": "mp4"}},
    "libx265": {
        "encode": {"kind": "libx265", "options": {"x265-params": "lossless=1"}},
        "output": {"container": "mkv"},
    },
}


SAMPLINGS = ("420", "422", "444")
KINDS = (("ffv1", 8), ("ffv1", 10), ("ffv1", 12), ("libx264", 8), ("libx265", 10))


def halves(sampling: str) -> tuple[int, int]:
    """By how much chroma is coarser, down and across."""
    return 2 if sampling == "420" else 1, 1 if sampling == "444" else 2


def check_arrived(output: Path, planes: list[NDArray[np.uint16]], *, sampling: str) -> Any:
    """Compare a result's first picture with what was sent, away from sharp edges; returns the picture."""
    frame, found = read_film(output)
    masks = [inner(halved=grid) for grid in ((1, 1), halves(sampling), halves(sampling))]
    for name, ours, theirs, mask in zip(("Y", "Cb", "Cr"), found, planes, masks, strict=True):
        error = np.abs(ours.astype(int) - theirs)[mask].max()
        assert error <= 1, f"{output.stem}: {name} is off by {error} codes"
    return frame


def check_chain(
    capfd: pytest.CaptureFixture[str], folder: Path, *, encoder: str, depth: int, films: list[tuple[int, bool, str]]
) -> None:
    """Films of (matrix, full range, sampling) through one job each."""
    sent = {}
    for matrix, full, sampling in films:
        planes = make_planes(depth=depth, full=full, halved=halves(sampling))
        path = folder / f"{MATRICES[matrix]}-{'full' if full else 'limited'}-{sampling}.mkv"
        sent[path.stem] = (matrix, full, sampling, planes)
        pixel_format = f"yuv{sampling}p" + ("" if depth == 8 else f"{depth}le")
        write_film(path, planes, pixel_format=pixel_format, matrix=matrix, full=full)
    ran = run_films(capfd, folder, *(folder / f"{stem}.mkv" for stem in sent), **IDENTITY, **ENCODERS[encoder])
    assert ran.code == 0, ran.err
    assert len(ran.outputs) == len(films)
    for output in ran.outputs:
        matrix, full, sampling, planes = sent[output.stem]
        frame = check_arrived(output, planes, sampling=sampling)
        assert frame.format.components[0].bits == depth
        assert (frame.colorspace, frame.color_range) == (matrix, 2 if full else 1), output.stem


@pytest.mark.parametrize("number", range(len(KINDS)), ids=lambda number: "-".join(map(str, KINDS[number])))
def test_every_matrix_and_range_arrives_within_one_code(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, number: int
) -> None:
    """Every pair of encoder with depth, matrix, range and sampling is there; all of them together are slow."""
    films = pairwise_films(number)
    check_chain(capfd, tmp_path, encoder=KINDS[number][0], depth=KINDS[number][1], films=films)


def pairwise_films(number: int) -> list[tuple[int, bool, str]]:
    """One film for each matrix; range and sampling change from film to film and from row to row."""
    return [
        (matrix, (place + number) % 2 == 1, SAMPLINGS[(place + number // 2) % 3])
        for place, matrix in enumerate(MATRICES)
    ]


def test_the_films_hold_every_pair_of_properties() -> None:
    rows = [(kind, *film) for number, kind in enumerate(KINDS) for film in pairwise_films(number)]
    axes = (KINDS, tuple(MATRICES), (False, True), SAMPLINGS)
    for one, other in combinations(range(4), 2):
        assert {(row[one], row[other]) for row in rows} == set(product(axes[one], axes[other])), (one, other)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("encoder", "depth"), KINDS)
def test_every_combination_arrives_within_one_code(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, encoder: str, depth: int, sampling: str
) -> None:
    films = [(matrix, full, sampling) for matrix in MATRICES for full in (False, True)]
    check_chain(capfd, tmp_path, encoder=encoder, depth=depth, films=films)


HDR_ROWS = ((16, "420", 0, 10, True), (18, "444", 0, 12, False), (16, "444", 96, 12, True), (18, "420", 96, 10, False))
"""Transfer (PQ, HLG), sampling, largest tile, depth, full range."""


@pytest.mark.parametrize(
    ("transfer", "sampling", "tile_px", "depth", "full"),
    [
        *HDR_ROWS,
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in product((16, 18), ("420", "444"), (0, 96), (10, 12), (False, True))
            if row not in HDR_ROWS
        ),
    ],
)
def test_hdr_arrives_within_one_code_though_the_network_sees_a_curve_of_it(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    transfer: int,
    sampling: str,
    tile_px: int,
    depth: int,
    full: bool,
) -> None:
    planes = make_planes(depth=depth, full=full, halved=halves(sampling))
    film = write_film(
        *(tmp_path / "hdr.mkv", planes),
        **{"pixel_format": f"yuv{sampling}p{depth}le", "matrix": 9, "full": full, "transfer": transfer},
    )
    settings = {"infer": {**IDENTITY["infer"], "hdr": "curve"}, **ENCODERS["ffv1"]}
    if tile_px:
        settings["tile"] = {"max_px": tile_px, "overlap_px": 16}
    ran = run_films(capfd, tmp_path, film, **settings)
    assert ran.code == 0, ran.err
    assert "the network sees the" in ran.err
    assert check_arrived(ran.outputs[0], planes, sampling=sampling).color_trc == transfer


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_rgb_arrives_within_one_code(capfd: pytest.CaptureFixture[str], tmp_path: Path, full: bool) -> None:
    planes = make_planes(depth=10, full=full, halved=(1, 1))
    film = write_film(tmp_path / "rgb.mkv", planes, pixel_format="gbrp10le", matrix=0, full=full)
    ran = run_films(capfd, tmp_path, film, **IDENTITY, **ENCODERS["ffv1"])
    assert ran.code == 0, ran.err
    frame, found = read_film(ran.outputs[0])
    assert frame.format.name == "gbrp10le"
    for ours, theirs in zip(found, planes, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_rgb_of_8_bits_stays_so_and_arrives_exactly(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    planes = make_planes(depth=8, full=True, halved=(1, 1))
    film = tmp_path / "rgb.mov"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        pixels = np.stack(planes, axis=-1).astype(np.uint8)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)
    ran = run_films(capfd, tmp_path, film, **IDENTITY, **ENCODERS["ffv1"])
    assert ran.code == 0, ran.err
    with av.open(str(ran.outputs[0])) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "bgr0"
    assert np.array_equal(frame.to_ndarray(format="rgb24"), pixels)


@pytest.mark.parametrize("depth", [8, 10])
def test_what_is_shown_follows_the_formulas_of_the_matrix(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, depth: int
) -> None:
    """The way there and back hides a wrong matrix; pictures in R'G'B' do not. Each matrix has each range once."""
    pixel_format = "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    films, sent = [], {}
    for place, matrix in enumerate(MATRICES):
        full = place % 2 == (depth == 8)
        sent[matrix] = full, make_planes(depth=depth, full=full, halved=(1, 1))
        path = tmp_path / f"{matrix}.mkv"
        films.append(write_film(path, sent[matrix][1], pixel_format=pixel_format, matrix=matrix, full=full))
    ran = run_films(capfd, tmp_path, *films, **IDENTITY, encode={"kind": "png", "bit_depth": 8})
    assert ran.code == 0, ran.err
    for matrix, film in zip(MATRICES, films, strict=True):
        full, planes = sent[matrix]
        offset, luma, centre, chroma = spans(depth=depth, full=full)
        folder = next(output for output in ran.outputs if output.name.startswith(film.stem))
        with av.open(str(min(folder.iterdir()))) as container:
            shown = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
        kr, kb = WEIGHTS[matrix]
        grey, cb, cr = (plane.astype(float) for plane in planes)
        y = (grey - offset) / luma
        red = y + 2 * (1 - kr) * (cr - centre) / chroma
        blue = y + 2 * (1 - kb) * (cb - centre) / chroma
        green = (y - kr * red - kb * blue) / (1 - kr - kb)
        wanted = np.clip(np.stack([red, green, blue], axis=-1), 0, 1) * 255
        assert np.abs(shown - wanted).max() <= 1, MATRICES[matrix]
