"""The CUDA kernels against the CPU path, run by a C++ compiler's code on the GPU double: the same sources, no GPU."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers.cuda_on_cpu import COMPILER, HostLauncher, host_library
from helpers.gpu_double import FakeGpu, GpuMisuse
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
from helpers.tiles import film_path

from pipeline.cuda.arguments import BlendArguments, CutArguments, FinishArguments, RowArguments
from pipeline.cuda.blend import blend_build
from pipeline.cuda.cut import cut_build
from pipeline.cuda.finish import finish_build, rows_build
from pipeline.cuda.kernels import FrameKernels
from pipeline.cuda.shrink import plan_shrink
from pipeline.frames import SampleFormat

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler to run kernels without a GPU")

RunFactory = Callable[[Film], KernelRun]

FORMATS = [
    SampleFormat(matrix="bt709"),
    SampleFormat(matrix="bt601", full_range=True, chroma_location="center"),
    SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="topleft"),
    SampleFormat(matrix="bt2020nc", bit_depth=10, chroma_location="bottom"),
    SampleFormat(matrix="bt709", bit_depth=16, full_range=True),
    SampleFormat(matrix="bt601", subsampling="422"),
    SampleFormat(matrix="bt2020nc", subsampling="422", bit_depth=12, chroma_location="center"),
    SampleFormat(matrix="bt709", subsampling="444", bit_depth=9),
    SampleFormat(matrix="bt601", subsampling="444", full_range=True),
    SampleFormat(matrix="rgb", subsampling="444", full_range=True),
    SampleFormat(matrix="rgb", subsampling="444", bit_depth=14),
]

SHORT = [FORMATS[0], FORMATS[2], FORMATS[5], FORMATS[7], FORMATS[8]]


def words(format: SampleFormat) -> str:
    extent = "full" if format.full_range else "limited"
    return f"{format.matrix}-{format.subsampling}-{format.bit_depth}-{extent}-{format.chroma_location}"


def layouts(format: SampleFormat) -> list[Layout]:
    if format.subsampling == "444":
        return [PLANAR, Layout(padding=16)]
    return [PLANAR, Layout(padding=16), NV12] + ([P010] if 8 < format.bit_depth < 16 else [])


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


@pytest.mark.parametrize("format", FORMATS, ids=words)
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
def test_tiles_are_those_of_the_cpu_path_in_every_format_and_layout(
    start: RunFactory, format: SampleFormat, io_dtype: str
) -> None:
    film = plan_film(source=format, height=45, width=151, tile=(24, 64), overlap_px=5, io_dtype=io_dtype)
    run, planes = start(film), random_planes(format, height=45, width=151)
    for layout in layouts(format):
        assert_tiles_agree(run.tiles(planes, layout=layout), cpu_tiles(film, planes))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (3, 5), (6, 1), (37, 131), (64, 128)], ids=str)
@pytest.mark.parametrize("format", SHORT, ids=words)
def test_tiles_reach_past_small_and_odd_frames_by_reflection(
    start: RunFactory, format: SampleFormat, size: tuple[int, int]
) -> None:
    height, width = size
    planes = random_planes(format, height=height, width=width)
    for multiple_of, tile in ((1, None), (8, None), (4, (16, 12))):
        film = plan_film(
            source=format, height=height, width=width, tile=tile, multiple_of=multiple_of, io_dtype="float32"
        )
        assert_tiles_agree(start(film).tiles(planes, layout=layouts(format)[-1]), cpu_tiles(film, planes))


@pytest.mark.parametrize("mode", ["linear", "cut"])
@pytest.mark.parametrize("io_dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("size", "tile", "overlap_px", "scale"),
    [((45, 61), (24, 32), 5, 2), ((40, 90), (40, 33), 8, 3), ((30, 20), (11, 8), 6, 4), ((50, 41), (20, 41), 3, 1)],
)
def test_blended_tiles_are_the_cpu_paths_canvas(
    start: RunFactory,
    mode: str,
    io_dtype: str,
    size: tuple[int, int],
    tile: tuple[int, int],
    overlap_px: int,
    scale: int,
) -> None:
    film = plan_film(
        source=FORMATS[0],
        height=size[0],
        width=size[1],
        tile=tile,
        overlap_px=overlap_px,
        scale=scale,
        mode=mode,
        io_dtype=io_dtype,
    )
    tiles = random_tiles(film)
    tiles += np.arange(len(tiles), dtype=io_dtype)[:, None, None, None]
    assert start(film).canvas(tiles) == pytest.approx(cpu_canvas(film, tiles), rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("format", FORMATS, ids=words)
@pytest.mark.parametrize("dither", [False, True], ids=["rounded", "dithered"])
def test_finished_planes_are_the_cpu_paths_in_every_format_and_layout(
    start: RunFactory, format: SampleFormat, dither: bool
) -> None:
    film = plan_film(source=FORMATS[0], height=35, width=75, target=format, dither=dither, io_dtype="float16")
    run, tiles = start(film), random_tiles(film)
    for layout in layouts(format):
        assert_codes_agree(run.finished(tiles, layout=layout), cpu_finished(film, tiles))


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 65), (33, 2), (11, 63)], ids=str)
@pytest.mark.parametrize("format", SHORT, ids=words)
def test_small_and_odd_pictures_are_finished_as_on_the_cpu(
    start: RunFactory, format: SampleFormat, size: tuple[int, int]
) -> None:
    film = plan_film(
        source=FORMATS[0], height=size[0], width=size[1], multiple_of=4, scale=1, target=format, io_dtype="float32"
    )
    tiles = random_tiles(film)
    assert_codes_agree(start(film).finished(tiles, layout=layouts(format)[-1]), cpu_finished(film, tiles), share=0.99)


@pytest.mark.parametrize("out", [(37, 61), (105, 150), (70, 71), (140, 75)], ids=str)
@pytest.mark.parametrize(
    ("light", "transfer"), [("gamma", 1), ("linear", 1), ("linear", 13), ("linear", 16), ("linear", 18)]
)
@pytest.mark.parametrize("tile", [None, (24, 40)], ids=["whole", "tiles"])
def test_resized_pictures_are_the_cpu_paths_up_and_down_in_codes_and_in_light(
    start: RunFactory, out: tuple[int, int], light: Any, transfer: int, tile: tuple[int, int] | None
) -> None:
    film = plan_film(
        source=FORMATS[0],
        height=35,
        width=75,
        tile=tile,
        out=out,
        light=light,
        transfer=transfer,
        target=FORMATS[2],
        io_dtype="float16",
    )
    tiles = random_tiles(film)
    # Curves are steep: PQ makes a code of 3e-7 of light, and sums differ in their last bits.
    share = 0.99 if light == "linear" else 0.999
    assert_codes_agree(start(film).finished(tiles, layout=P010), cpu_finished(film, tiles), share=share)


@pytest.mark.parametrize("size", [(30, 8), (30, 44), (75, 155), (140, 301)], ids=str)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("light", ["gamma", "linear"])
@pytest.mark.parametrize("tile", [None, (24, 40)], ids=["whole", "tiles"])
def test_pictures_shrunk_by_a_whole_number_are_the_cpu_paths(
    start: RunFactory, size: tuple[int, int], scale: int, light: Any, tile: tuple[int, int] | None
) -> None:
    """Sizes of one block, of several side by side and above each other, and odd ones."""
    film = plan_film(
        source=FORMATS[0],
        height=size[0],
        width=size[1],
        tile=tile,
        scale=scale,
        out=size,
        light=light,
        target=FORMATS[2],
        io_dtype="float16",
    )
    tiles = random_tiles(film)
    share = 0.99 if light == "linear" else 0.999
    assert_codes_agree(start(film).finished(tiles, layout=P010), cpu_finished(film, tiles), share=share)


@pytest.mark.parametrize("target", SHORT, ids=words)
def test_shrunk_pictures_are_the_cpu_paths_in_every_subsampling(start: RunFactory, target: SampleFormat) -> None:
    film = plan_film(source=FORMATS[0], height=71, width=130, out=(71, 130), target=target, io_dtype="float32")
    tiles = random_tiles(film)
    for layout in layouts(target):
        assert_codes_agree(start(film).finished(tiles, layout=layout), cpu_finished(film, tiles))


@pytest.mark.parametrize("format", SHORT, ids=words)
def test_pictures_of_many_blocks_are_the_cpu_paths(start: RunFactory, format: SampleFormat) -> None:
    film = plan_film(source=format, height=141, width=523, scale=1, target=format, io_dtype="float16")
    run, tiles, planes = start(film), random_tiles(film), random_planes(format, height=141, width=523)
    assert_tiles_agree(run.tiles(planes, layout=layouts(format)[-1]), cpu_tiles(film, planes))
    assert_codes_agree(run.finished(tiles, layout=layouts(format)[-1]), cpu_finished(film, tiles))


def test_nan_becomes_code_zero(start: RunFactory) -> None:
    """In chroma too. Weights that are zero but for rounding count on the CPU, not here: from odd rows and columns on,
    every sum that has a NaN under such a weight has one under another."""
    film = plan_film(source=FORMATS[0], height=40, width=40)
    tiles = random_tiles(film)
    tiles[:, :, 21:25, 31:35] = np.nan
    found = start(film).finished(tiles)
    assert not found[0][21:25, 31:35].any()
    assert_codes_agree(found, cpu_finished(film, tiles))


@pytest.mark.parametrize(
    ("out", "tile", "dither"), [(None, None, False), ((200, 300), (80, 96), True)], ids=["whole", "tiled"]
)
def test_film_frames_go_through_all_kernels_as_through_the_cpu_path(
    start: RunFactory, out: tuple[int, int] | None, tile: tuple[int, int] | None, dither: bool
) -> None:
    av = pytest.importorskip("av")
    with av.open(str(film_path("carphone_pristine.mp4"))) as container:
        frames = list(itertools.islice(container.decode(video=0), 2))
    picture = frames[0].to_ndarray(format="yuv420p")
    height, width = frames[0].height, frames[0].width
    source = SampleFormat(matrix="bt601")
    chroma = picture[height:].reshape(2, height // 2, width // 2)
    planes = [picture[:height], chroma[0], chroma[1]]
    film = plan_film(source=source, height=height, width=width, tile=tile, out=out, dither=dither, overlap_px=8)
    run = start(film)
    found = run.finished(enlarged(run.tiles(planes, layout=NV12), 2), layout=NV12)
    assert_codes_agree(found, cpu_finished(film, enlarged(cpu_tiles(film, planes), 2)))


def test_kernels_are_ordered_by_their_stream_alone(start: RunFactory) -> None:
    """Nothing is waited for when frames are enqueued, and a reader on another stream without an event is found."""
    film = plan_film(source=FORMATS[0], height=40, width=60, tile=(24, 32), out=(50, 70))
    run = start(film)
    gpu: Any = run.device
    tile_bytes = 4 * 3 * film.blend.tile_height * film.blend.tile_width
    tile, canvas = gpu.allocate(tile_bytes), gpu.allocate(run.kernels.canvas_bytes)
    other = gpu.make_stream()
    with picture_on(gpu, film.target, random_planes(film.target, height=50, width=70), layout=NV12) as (out, *_):
        run.stream.upload(np.zeros(tile_bytes, np.uint8), tile.pointer)
        gpu.log.clear()
        for index in range(len(film.grid.tiles)):
            run.kernels.blend(tile.pointer, tile=index, canvas=canvas.pointer, stream=run.stream)
        run.kernels.finish(canvas.pointer, is_canvas=True, out=out, stream=run.stream)
        assert not [entry for entry in gpu.log if entry.startswith("host waits")]
        with pytest.raises(GpuMisuse, match="race"):
            run.kernels.finish(canvas.pointer, is_canvas=True, out=out, stream=other)
        run.stream.synchronize()
    for part in (tile, canvas, other):
        part.close()


def test_pictures_that_do_not_fit_are_refused(start: RunFactory) -> None:
    film = plan_film(source=FORMATS[0], height=40, width=60)
    run = start(film)
    other = FORMATS[1]
    planes = random_planes(other, height=40, width=60)
    with picture_on(run.device, other, planes, layout=NV12) as (picture, *_), pytest.raises(ValueError, match="bt601"):
        run.kernels.cut(picture, tile=0, out=0, stream=run.stream)
    small = random_planes(film.source, height=38, width=60)
    with picture_on(run.device, film.source, small, layout=NV12) as (picture, *_):
        with pytest.raises(ValueError, match="38"):
            run.kernels.cut(picture, tile=0, out=0, stream=run.stream)
        with pytest.raises(ValueError, match="38"):
            run.kernels.finish(0, is_canvas=False, out=picture, stream=run.stream)
        with pytest.raises(ValueError, match="is_canvas"):
            run.kernels.finish(0, is_canvas=True, out=picture, stream=run.stream)
    with pytest.raises(ValueError, match="one tile"):
        run.kernels.blend(0, tile=0, canvas=0, stream=run.stream)


@pytest.mark.parametrize(("tile", "count"), [(-1, 1), (0, 0), (0, 7), (5, 2)])
def test_tiles_that_do_not_exist_are_refused(start: RunFactory, tile: int, count: int) -> None:
    film = plan_film(source=FORMATS[0], height=40, width=60, tile=(24, 24))
    run = start(film)
    assert len(film.grid.tiles) == 6
    planes = random_planes(film.source, height=40, width=60)
    with (
        picture_on(run.device, film.source, planes, layout=NV12) as (picture, *_),
        pytest.raises(ValueError, match="6 tiles"),
    ):
        run.kernels.cut(picture, tile=tile, count=count, out=0, stream=run.stream)
    with pytest.raises(ValueError, match="6 tiles"):
        run.kernels.blend(0, tile=tile, count=count, canvas=0, stream=run.stream)


@pytest.mark.parametrize(
    ("out", "step"),
    [((70, 150), 2), ((140, 300), 1), ((35, 75), 4), ((70, 75), None), ((69, 150), None), ((105, 225), None)],
)
def test_one_kernel_shrinks_by_whole_numbers_and_tables_do_the_rest(out: tuple[int, int], step: int | None) -> None:
    film = plan_film(source=FORMATS[0], height=35, width=75, scale=4, out=out)
    plan = None if film.resample is None else plan_shrink(film.resample)
    assert (None if plan is None else plan.step) == (None if step == 1 else step)


def test_pictures_too_small_for_a_filter_go_by_tables() -> None:
    film = plan_film(source=FORMATS[0], height=4, width=75, scale=4, out=(4, 75))
    assert film.resample is not None
    assert plan_shrink(film.resample) is None


def test_plans_that_do_not_fit_each_other_are_refused(start: RunFactory) -> None:
    gpu = FakeGpu()
    whole = plan_film(source=FORMATS[0], height=40, width=60)
    tiled = plan_film(source=FORMATS[0], height=40, width=60, tile=(24, 32))
    resized = plan_film(source=FORMATS[0], height=40, width=60, out=(50, 70))
    for changes in (
        {"blend": tiled.blend},
        {"height": 50},
        {"resample": resized.resample},
    ):
        kept = {"blend": whole.blend, "height": whole.height, "resample": None, **changes}
        with pytest.raises(ValueError, match=r"tiles|resampl"):
            FrameKernels(
                gpu,
                source=whole.source,
                grid=whole.grid,
                target=whole.target,
                width=whole.width,
                dither=False,
                io_dtype="float32",
                stream=None,  # type: ignore[arg-type]  # never reached
                launcher=HostLauncher(gpu),
                **kept,  # type: ignore[arg-type]
            )
    gpu.check_clean()


def test_structures_have_the_kernels_own_layout() -> None:
    format = FORMATS[0]
    finish = finish_build(format, is_interleaved=False, image_dtype="float16", is_resampled=False, curve=None)
    for build, arguments in (
        (cut_build(format, is_interleaved=False, io_dtype="float32"), CutArguments),
        (blend_build("float32"), BlendArguments),
        (rows_build("float16", None), RowArguments),
        (finish, FinishArguments),
    ):
        size_of = getattr(host_library(build), f"{build.name}_argument_bytes")
        size_of.restype = ctypes.c_ulonglong
        assert size_of() == ctypes.sizeof(arguments)
