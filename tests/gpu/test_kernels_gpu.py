"""Our kernels on a real GPU: the CPU path's results, in order with other streams, and as fast as memory nearly allows.

The figures of the last test are logged: ``pytest tests/gpu/test_kernels_gpu.py -k memory -o log_cli=true
--log-cli-level=INFO``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graph_times import seconds_each
from helpers.kernel_runs import (
    NV12,
    P010,
    PLANAR,
    Film,
    KernelRun,
    Layout,
    assert_codes_agree,
    assert_tiles_agree,
    cpu_canvas,
    cpu_finished,
    cpu_tiles,
    enlarged,
    picture_on,
    plan_film,
    random_planes,
    random_tiles,
)

from engines.gpu.cuda import CudaDevice, open_device
from pipeline.cuda.cache import KernelCache
from pipeline.cuda.launcher import CudaLauncher
from pipeline.frames import SampleFormat

pytestmark = pytest.mark.gpu

_LOG = logging.getLogger(__name__)

RunFactory = Callable[[Film], KernelRun]

FORMATS = [
    SampleFormat(matrix="bt709"),
    SampleFormat(matrix="bt601", full_range=True, chroma_location="center"),
    SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="topleft"),
    SampleFormat(matrix="bt601", subsampling="422", bit_depth=16, full_range=True),
    SampleFormat(matrix="bt709", subsampling="444", bit_depth=12),
    SampleFormat(matrix="rgb", subsampling="444", full_range=True),
]

ROWS_APART = Layout(padding=64)

LEAST_SHARE_OF_A_COPY = 0.6
"""How fast each step is to be, beside a copy on the device that moves as many bytes as the step must."""

NETWORK_S = 1 / 308
"""The least time that the fastest network needs for a 1080p frame on an H200, at the limit of its arithmetic."""


def layouts(format: SampleFormat) -> list[Layout]:
    if format.subsampling == "444":
        return [PLANAR, Layout(padding=64)]
    return [PLANAR, Layout(padding=64), NV12] + ([P010] if 8 < format.bit_depth < 16 else [])


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


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
def test_tiles_on_the_gpu_are_those_of_the_cpu_path(start: RunFactory, format: SampleFormat, io_dtype: str) -> None:
    for size, tile, multiple_of in (((181, 323), (64, 129), 1), ((37, 62), None, 8), ((1, 3), None, 4)):
        film = plan_film(
            source=format, height=size[0], width=size[1], tile=tile, multiple_of=multiple_of, io_dtype=io_dtype
        )
        run, planes = start(film), random_planes(format, height=size[0], width=size[1])
        for layout in layouts(format):
            assert_tiles_agree(run.tiles(planes, layout=layout), cpu_tiles(film, planes))


@pytest.mark.parametrize("mode", ["linear", "cut"])
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
def test_canvas_on_the_gpu_is_that_of_the_cpu_path(start: RunFactory, mode: str, io_dtype: str) -> None:
    film = plan_film(
        source=FORMATS[0], height=145, width=261, tile=(64, 97), overlap_px=9, scale=3, mode=mode, io_dtype=io_dtype
    )
    tiles = random_tiles(film)
    tiles += np.arange(len(tiles), dtype=io_dtype)[:, None, None, None]
    assert start(film).canvas(tiles) == pytest.approx(cpu_canvas(film, tiles), rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("dither", [False, True], ids=["rounded", "dithered"])
def test_planes_on_the_gpu_are_those_of_the_cpu_path(start: RunFactory, format: SampleFormat, dither: bool) -> None:
    for size, tile in (((91, 163), None), ((90, 164), (48, 96)), ((1, 3), None)):
        film = plan_film(
            source=FORMATS[0],
            height=size[0],
            width=size[1],
            tile=tile,
            target=format,
            dither=dither,
            io_dtype="float16",
        )
        run, tiles = start(film), random_tiles(film)
        share = 0.999 if size[0] > 1 else 0.9
        for layout in layouts(format):
            assert_codes_agree(run.finished(tiles, layout=layout), cpu_finished(film, tiles), share=share)


@pytest.mark.parametrize("out", [(121, 203), (300, 500)], ids=str)
@pytest.mark.parametrize(
    ("light", "transfer"), [("gamma", 1), ("linear", 1), ("linear", 13), ("linear", 16), ("linear", 18)]
)
def test_resized_planes_on_the_gpu_are_those_of_the_cpu_path(
    start: RunFactory, out: tuple[int, int], light: Any, transfer: int
) -> None:
    for tile in (None, (48, 96)):
        film = plan_film(
            source=FORMATS[0],
            height=90,
            width=164,
            tile=tile,
            out=out,
            light=light,
            transfer=transfer,
            target=FORMATS[2],
            io_dtype="float16",
        )
        tiles = random_tiles(film)
        share = 0.99 if light == "linear" else 0.999
        assert_codes_agree(start(film).finished(tiles, layout=P010), cpu_finished(film, tiles), share=share)


def test_a_whole_frame_goes_through_and_back_with_its_codes(start: RunFactory) -> None:
    """Enlarging nothing, 4:4:4 comes back to the last code."""
    format = SampleFormat(matrix="bt709", subsampling="444", bit_depth=10)
    film = plan_film(source=format, height=720, width=1280, tile=(400, 512), overlap_px=16, scale=1)
    run, planes = start(film), random_planes(format, height=720, width=1280)
    for found, wanted in zip(run.finished(enlarged(run.tiles(planes), 1)), planes, strict=True):
        assert np.array_equal(found, wanted)


def test_kernels_of_a_second_process_come_from_the_cache(device: CudaDevice, tmp_path: Path) -> None:
    film = plan_film(source=FORMATS[0], height=48, width=64, io_dtype="float16")
    tiles, results, written = random_tiles(film), [], []
    for _ in range(2):
        launcher = CudaLauncher(device, cache=KernelCache(tmp_path))
        run = KernelRun(device, film, launcher)
        results.append(run.finished(tiles, layout=NV12))
        run.close()
        launcher.close()
        launcher.close()
        written.append({path: path.stat().st_mtime_ns for path in tmp_path.iterdir()})
    assert len(written[0]) == 4  # cut and finish, for both layouts of chroma
    assert written[0] == written[1]
    assert all(np.array_equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("source", "target", "layout_in", "layout_out"),
    [(FORMATS[0], FORMATS[2], NV12, P010), (FORMATS[2], FORMATS[0], ROWS_APART, ROWS_APART)],
    ids=["NV12 to P010", "planar 10 bits to planar 8 bits"],
)
@pytest.mark.parametrize(
    ("name", "scale", "tile", "share_of_network"),
    [("one tile x2", 2, None, 0.05), ("one tile x4, shrunk", 4, None, 0.1), ("six tiles x2", 2, (560, 672), 0.1)],
    ids=str,
)
def test_kernels_take_little_beside_the_network_and_use_the_memorys_speed(
    device: CudaDevice,
    start: RunFactory,
    name: str,
    scale: int,
    tile: tuple[int, int] | None,
    share_of_network: float,
    source: SampleFormat,
    target: SampleFormat,
    layout_in: Layout,
    layout_out: Layout,
) -> None:
    """1080p in, 2160p out. Bytes are those that must be moved, each once: scratch memory does not count."""
    film = plan_film(
        source=source,
        height=1080,
        width=1920,
        tile=tile,
        overlap_px=16,
        multiple_of=2,
        scale=scale,
        target=target,
        out=(2160, 3840),
        dither=True,
        io_dtype="float16",
    )
    run = start(film)
    kernels, grid, blend, stream = run.kernels, film.grid, film.blend, run.stream
    count = len(grid.tiles)
    in_bytes, out_bytes = 6 * grid.tile_height * grid.tile_width, 6 * blend.tile_height * blend.tile_width
    cut_tiles, enlarged_tiles = device.allocate(count * in_bytes), device.allocate(count * out_bytes)
    canvas = device.allocate(max(256, kernels.canvas_bytes))
    zeros = [np.zeros(shape, film.source.dtype) for shape in film.source.plane_shapes(height=1080, width=1920)]
    empty = [np.zeros(shape, film.target.dtype) for shape in film.target.plane_shapes(height=2160, width=3840)]
    with (
        picture_on(device, film.source, zeros, layout=layout_in) as (picture, source_bytes, _),
        picture_on(device, film.target, empty, layout=layout_out) as (out, target_bytes, _),
    ):

        def cut() -> None:
            kernels.cut(picture, tile=0, count=count, out=cut_tiles.pointer, stream=stream)

        def blended() -> None:
            kernels.blend(enlarged_tiles.pointer, tile=0, count=count, canvas=canvas.pointer, stream=stream)

        def finish() -> None:
            image = enlarged_tiles if count == 1 else canvas
            kernels.finish(image.pointer, is_canvas=count > 1, out=out, stream=stream)

        steps = [
            ("cut", cut, source_bytes.bytes + count * in_bytes),
            ("finish", finish, (kernels.canvas_bytes or out_bytes) + target_bytes.bytes),
        ]
        if count > 1:
            steps.append(("blend", blended, count * out_bytes + kernels.canvas_bytes))
        shares, total_s = {}, 0.0
        for step, enqueue, moved_bytes in steps:
            seconds = seconds_each(stream, enqueue)
            total_s += seconds
            copied = device.allocate(moved_bytes)
            half = moved_bytes // 2 // 256 * 256
            copy_s = seconds_each(
                stream, lambda copied=copied, half=half: stream.copy(copied.pointer, copied.pointer + half, bytes=half)
            )
            copied.close()
            shares[step] = copy_s / seconds
            _LOG.info(
                "%s, %s: %.1f us, %.0f GB/s; a copy that moves as much: %.1f us, %.0f GB/s; %.0f %% of it",
                name,
                step,
                seconds * 1e6,
                moved_bytes / seconds / 1e9,
                copy_s * 1e6,
                2 * half / copy_s / 1e9,
                100 * shares[step],
            )
    for buffer in (cut_tiles, enlarged_tiles, canvas):
        buffer.close()
    assert min(shares.values()) >= LEAST_SHARE_OF_A_COPY, shares
    assert total_s < share_of_network * NETWORK_S
