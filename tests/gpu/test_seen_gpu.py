"""The kernels' variants for HDR on a real GPU: the CPU path's results, and little time beside the network.

The figures of the last test are logged: ``pytest tests/gpu/test_seen_gpu.py -k time -o log_cli=true
--log-cli-level=INFO``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers.graph_times import seconds_each
from helpers.kernel_runs import (
    P010,
    Film,
    KernelRun,
    assert_codes_agree,
    assert_seen_tiles_agree,
    cpu_finished,
    cpu_tiles,
    enlarged,
    picture_on,
    plan_film,
    ramp_planes,
    random_planes,
    random_tiles,
)

from engines.gpu.cuda import CudaDevice, open_device
from pipeline.cuda.cache import KernelCache
from pipeline.cuda.launcher import CudaLauncher
from pipeline.frames import SampleFormat
from pipeline.seen import SeenCurve

pytestmark = pytest.mark.gpu

_LOG = logging.getLogger(__name__)

RunFactory = Callable[[Film], KernelRun]

PQ = SeenCurve(family="pq", gamma=3.2, peak_cd_m2=1000.0)
BRIGHT = SeenCurve(family="pq", gamma=3.2, peak_cd_m2=4000.0)
HLG = SeenCurve(family="hlg", gamma=2.4)

VIDEO = SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="topleft")
FORMATS = [
    VIDEO,
    SampleFormat(matrix="bt2020nc", subsampling="422", bit_depth=12),
    SampleFormat(matrix="bt2020nc", subsampling="444", bit_depth=10),
    SampleFormat(matrix="rgb", subsampling="444", bit_depth=12, full_range=True),
]

NETWORK_S = 1 / 308
"""The least time that the fastest network needs for a 1080p frame on an H200, at the limit of its arithmetic."""


def words(value: Any) -> str:
    if isinstance(value, SeenCurve):
        return f"{value.family}-{value.peak_cd_m2:g}"
    return f"{value.matrix}-{value.subsampling}-{value.bit_depth}"


@pytest.fixture(scope="module")
def device() -> CudaDevice:
    return open_device(0)


@pytest.fixture(scope="module")
def launcher(device: CudaDevice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CudaLauncher]:
    launcher = CudaLauncher(device, cache=KernelCache(tmp_path_factory.mktemp("kernels")))
    yield launcher
    launcher.close()


@pytest.fixture
def start(device: CudaDevice, launcher: CudaLauncher) -> Iterator[RunFactory]:
    runs: list[KernelRun] = []

    def make(film: Film) -> KernelRun:
        runs.append(KernelRun(device, film, launcher))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


@pytest.mark.parametrize("seen", [PQ, BRIGHT, HLG], ids=words)
@pytest.mark.parametrize("format", FORMATS, ids=words)
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
def test_the_network_sees_what_it_sees_on_the_cpu(
    start: RunFactory, format: SampleFormat, seen: SeenCurve, io_dtype: str
) -> None:
    film = plan_film(source=format, height=181, width=323, tile=(64, 129), io_dtype=io_dtype, seen=seen)
    planes = random_planes(format, height=181, width=323)
    assert_seen_tiles_agree(start(film).tiles(planes), cpu_tiles(film, planes))


@pytest.mark.parametrize("seen", [PQ, HLG], ids=words)
@pytest.mark.parametrize("out", [(180, 328), (90, 164), (121, 203)], ids=str)
@pytest.mark.parametrize("light", ["gamma", "linear"])
def test_what_it_makes_becomes_the_codes_that_it_becomes_on_the_cpu(
    start: RunFactory, seen: SeenCurve, out: tuple[int, int], light: Any
) -> None:
    """As it is, shrunk by a whole number, and by tables."""
    for tile in (None, (48, 96)):
        film = plan_film(
            source=VIDEO, height=90, width=164, tile=tile, out=out, light=light, io_dtype="float16", seen=seen
        )
        tiles = random_tiles(film)
        assert_codes_agree(start(film).finished(tiles, layout=P010), cpu_finished(film, tiles), share=0.98)


@pytest.mark.parametrize("seen", [PQ, BRIGHT, HLG], ids=words)
@pytest.mark.parametrize("tile", [None, (96, 512)], ids=["whole", "tiles"])
def test_every_code_goes_through_and_back(start: RunFactory, seen: SeenCurve, tile: tuple[int, int] | None) -> None:
    for format in (VIDEO, FORMATS[2]):
        film = plan_film(
            source=format, height=180, width=1024, tile=tile, overlap_px=16, scale=1, io_dtype="float16", seen=seen
        )
        run, planes = start(film), ramp_planes(format, height=180, width=1024)
        assert_codes_agree(run.finished(enlarged(run.tiles(planes), 1)), planes, share=0.95)


@pytest.mark.parametrize("seen", [None, PQ, HLG], ids=["codes", "PQ", "HLG"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_curve_takes_little_time_beside_the_network(
    device: CudaDevice, start: RunFactory, scale: int, seen: SeenCurve | None
) -> None:
    """1080p in, 2160p out, P010, one tile of float16."""
    film = plan_film(
        source=VIDEO,
        height=1080,
        width=1920,
        scale=scale,
        out=(2160, 3840),
        dither=True,
        io_dtype="float16",
        seen=seen,
    )
    run = start(film)
    kernels, stream = run.kernels, run.stream
    tile = device.allocate(6 * film.grid.tile_height * film.grid.tile_width)
    image = device.allocate(6 * film.blend.tile_height * film.blend.tile_width)
    grey = [np.full(shape, 512, np.uint16) for shape in VIDEO.plane_shapes(height=1080, width=1920)]
    empty = [np.zeros(shape, np.uint16) for shape in VIDEO.plane_shapes(height=2160, width=3840)]
    with (
        picture_on(device, VIDEO, grey, layout=P010) as (picture, holder, content),
        picture_on(device, VIDEO, empty, layout=P010) as (out, *_),
    ):
        stream.upload(content, holder.pointer)
        cut_s = seconds_each(stream, lambda: kernels.cut(picture, tile=0, out=tile.pointer, stream=stream))
        finish_s = seconds_each(stream, lambda: kernels.finish(image.pointer, is_canvas=False, out=out, stream=stream))
    for buffer in (tile, image):
        buffer.close()
    name = "codes" if seen is None else seen.text
    _LOG.info("%s, x%d: cut %.1f us, finish %.1f us", name, scale, cut_s * 1e6, finish_s * 1e6)
    assert cut_s + finish_s < 0.25 * NETWORK_S
