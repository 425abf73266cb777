"""The kernels' variants for HDR against the CPU path, run by a C++ compiler's code on the GPU double."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers.cuda_on_cpu import COMPILER, HostLauncher
from helpers.gpu_double import FakeGpu
from helpers.kernel_runs import (
    P010,
    PLANAR,
    Film,
    KernelRun,
    assert_codes_agree,
    assert_seen_tiles_agree,
    cpu_finished,
    cpu_tiles,
    enlarged,
    plan_film,
    ramp_planes,
    random_planes,
    random_tiles,
)

from pipeline.cuda.cut import cut_build
from pipeline.cuda.finish import finish_build
from pipeline.frames import SampleFormat
from pipeline.seen import SeenCurve

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler to run kernels without a GPU")

RunFactory = Callable[[Film], KernelRun]

PQ = SeenCurve(family="pq", gamma=3.2, peak_cd_m2=1000.0)
BRIGHT = SeenCurve(family="pq", gamma=3.2, peak_cd_m2=4000.0)
HLG = SeenCurve(family="hlg", gamma=2.4)

FORMATS = [
    SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="topleft"),
    SampleFormat(matrix="bt2020nc", subsampling="422", bit_depth=12, chroma_location="center"),
    SampleFormat(matrix="bt2020nc", subsampling="444", bit_depth=10),
    SampleFormat(matrix="rgb", subsampling="444", bit_depth=12, full_range=True),
]


def words(value: Any) -> str:
    if isinstance(value, SeenCurve):
        return f"{value.family}-{value.peak_cd_m2:g}"
    return f"{value.matrix}-{value.subsampling}-{value.bit_depth}"


@pytest.fixture
def start() -> Iterator[RunFactory]:
    """Makes kernels on a fake GPU; at the end everything must have been given back."""
    gpu = FakeGpu()
    runs: list[KernelRun] = []

    def make(film: Film) -> KernelRun:
        runs.append(KernelRun(gpu, film, HostLauncher(gpu)))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
    gpu.check_clean()


@pytest.mark.parametrize("seen", [PQ, BRIGHT, HLG], ids=words)
@pytest.mark.parametrize("format", FORMATS, ids=words)
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
def test_the_network_sees_what_it_sees_on_the_cpu(
    start: RunFactory, format: SampleFormat, seen: SeenCurve, io_dtype: str
) -> None:
    film = plan_film(source=format, height=45, width=151, tile=(24, 64), overlap_px=5, io_dtype=io_dtype, seen=seen)
    run, planes = start(film), random_planes(format, height=45, width=151)
    for layout in [PLANAR] + ([P010] if format.subsampling != "444" else []):
        assert_seen_tiles_agree(run.tiles(planes, layout=layout), cpu_tiles(film, planes))


@pytest.mark.parametrize("seen", [PQ, HLG], ids=words)
@pytest.mark.parametrize("format", FORMATS, ids=words)
def test_what_it_makes_becomes_the_codes_that_it_becomes_on_the_cpu(
    start: RunFactory, format: SampleFormat, seen: SeenCurve
) -> None:
    for tile, io_dtype in ((None, "float16"), ((24, 40), "float16"), (None, "float32")):
        film = plan_film(source=FORMATS[0], height=35, width=75, tile=tile, target=format, io_dtype=io_dtype, seen=seen)
        tiles = random_tiles(film)
        assert_codes_agree(start(film).finished(tiles), cpu_finished(film, tiles), share=0.98)


@pytest.mark.parametrize("out", [(37, 61), (35, 75), (105, 150)], ids=str)
@pytest.mark.parametrize("light", ["gamma", "linear"])
@pytest.mark.parametrize("seen", [PQ, HLG], ids=words)
def test_resized_pictures_are_the_cpu_paths(
    start: RunFactory, out: tuple[int, int], light: Any, seen: SeenCurve
) -> None:
    """By tables and by whole numbers, in what the network sees and in light."""
    for tile in (None, (24, 40)):
        film = plan_film(
            source=FORMATS[0],
            height=35,
            width=75,
            tile=tile,
            out=out,
            light=light,
            target=FORMATS[0],
            io_dtype="float16",
            seen=seen,
        )
        tiles = random_tiles(film)
        assert_codes_agree(start(film).finished(tiles, layout=P010), cpu_finished(film, tiles), share=0.98)


@pytest.mark.parametrize("seen", [PQ, BRIGHT, HLG], ids=words)
@pytest.mark.parametrize("tile", [None, (24, 64)], ids=["whole", "tiles"])
def test_every_code_goes_through_and_back(start: RunFactory, seen: SeenCurve, tile: tuple[int, int] | None) -> None:
    """A network that changes nothing: grey ramps over all codes of 10 bits, sub-black and super-white among them."""
    for format in (FORMATS[0], FORMATS[2]):
        film = plan_film(
            source=format, height=32, width=1024, tile=tile, overlap_px=8, scale=1, io_dtype="float16", seen=seen
        )
        run, planes = start(film), ramp_planes(format, height=32, width=1024)
        assert_codes_agree(run.finished(enlarged(run.tiles(planes), 1)), planes, share=0.95)


def test_other_films_get_the_kernels_without_a_curve() -> None:
    cut = cut_build(FORMATS[0], is_interleaved=True, io_dtype="float16")
    finish = finish_build(FORMATS[0], is_interleaved=True, image_dtype="float16", is_resampled=False, curve=None)
    assert "-DSEEN=0" in cut.macros
    assert "-DSEEN=0" in finish.macros


def test_nan_becomes_code_zero(start: RunFactory) -> None:
    """Rows and columns as in the test of this name in test_cuda_kernels.py."""
    film = plan_film(source=FORMATS[0], height=40, width=40, seen=PQ)
    tiles = random_tiles(film)
    tiles[:, :, 21:25, 31:35] = np.nan
    found = start(film).finished(tiles)
    assert not found[0][21:25, 31:35].any()
    assert_codes_agree(found, cpu_finished(film, tiles), share=0.98)
