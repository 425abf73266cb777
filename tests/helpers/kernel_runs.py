"""Runs of ``pipeline.cuda`` on any device, and the same by the CPU path, for tests that compare the two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.gpu import Device, DeviceBuffer
from pipeline.blending import BlendPlan, plan_blend
from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.cpu.blend import TileBlender
from pipeline.cpu.cut import TileCutter
from pipeline.cuda import DevicePicture, DevicePlane, FrameKernels
from pipeline.cuda.launcher import Launcher
from pipeline.frames import SampleFormat
from pipeline.resample import Light, ResamplePlan, plan_resample
from pipeline.seen import SeenCurve
from pipeline.tiling import TileGrid, plan_tiles

Array = NDArray[Any]

GARBAGE = 0xA5
"""Fills what lies between rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How pictures lie in device memory."""

    is_interleaved: bool = False
    msb_aligned: bool = False
    padding: int = 0
    """Samples between rows."""


PLANAR = Layout(padding=3)
NV12 = Layout(is_interleaved=True, padding=64)
P010 = Layout(is_interleaved=True, msb_aligned=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What kernels are made for."""

    source: SampleFormat
    grid: TileGrid
    blend: BlendPlan
    resample: ResamplePlan | None
    target: SampleFormat
    height: int
    width: int
    dither: bool = False
    io_dtype: Any = "float32"
    seen: SeenCurve | None = None


def plan_film(
    *,
    source: SampleFormat,
    height: int,
    width: int,
    tile: tuple[int, int] | None = None,
    overlap_px: int = 4,
    multiple_of: int = 1,
    scale: int = 2,
    mode: Any = "linear",
    target: SampleFormat | None = None,
    out: tuple[int, int] | None = None,
    light: Light = "gamma",
    transfer: int = 1,
    dither: bool = False,
    io_dtype: Any = "float32",
    seen: SeenCurve | None = None,
) -> Film:
    """Kernels' parameters; one whole tile and the source's format unless said otherwise."""
    tile_height, tile_width = tile or (None, None)
    grid = plan_tiles(
        height=height,
        width=width,
        tile_height=tile_height,
        tile_width=tile_width,
        overlap_px=overlap_px,
        multiple_of=multiple_of,
    )
    blend = plan_blend(grid, scale=scale, mode=mode, margin_px=1)
    out_height, out_width = out or (blend.height, blend.width)
    resample = plan_resample(
        height=blend.height,
        width=blend.width,
        out_height=out_height,
        out_width=out_width,
        light=light,
        transfer=transfer,
        seen=seen,
    )
    return Film(
        source=source,
        grid=grid,
        blend=blend,
        resample=None if resample.is_identity else resample,
        target=target or source,
        height=out_height,
        width=out_width,
        dither=dither,
        io_dtype=io_dtype,
        seen=seen,
    )


@dataclass(slots=True)
class KernelRun:
    """One film's kernels on a device, with host arrays in and out."""

    device: Device
    film: Film
    launcher: Launcher | None = None
    kernels: FrameKernels = field(init=False)
    stream: Any = field(init=False)

    def __post_init__(self) -> None:
        film, self.stream = self.film, self.device.make_stream()
        self.kernels = FrameKernels(
            self.device,
            source=film.source,
            grid=film.grid,
            blend=film.blend,
            resample=film.resample,
            target=film.target,
            height=film.height,
            width=film.width,
            dither=film.dither,
            io_dtype=film.io_dtype,
            stream=self.stream,
            seen=film.seen,
            launcher=self.launcher,
        )

    def close(self) -> None:
        self.stream.synchronize()
        self.kernels.close()
        self.stream.close()

    def tiles(self, planes: Sequence[Array], *, layout: Layout = PLANAR) -> Array:
        """All tiles of a picture: (N, 3, h, w) io_dtype."""
        grid = self.film.grid
        result = np.zeros((len(grid.tiles), 3, grid.tile_height, grid.tile_width), self.film.io_dtype)
        with picture_on(self.device, self.film.source, planes, layout=layout) as (picture, holder, content):
            out = self.device.allocate(result.nbytes)
            self.stream.upload(content, holder.pointer)
            # The first alone, the others together: both ways make the same.
            self.kernels.cut(picture, tile=0, out=out.pointer, stream=self.stream)
            if others := len(grid.tiles) - 1:
                rest = out.pointer + result[0].nbytes
                self.kernels.cut(picture, tile=1, count=others, out=rest, stream=self.stream)
            self._download(out, result)
            out.close()
        return result

    def canvas(self, tiles: Array) -> Array:
        """Enlarged tiles, (N, 3, s*h, s*w) io_dtype, as one picture: (3, H, W) float32."""
        buffer = self._blended(tiles)
        blend, pitch = self.film.blend, self.kernels.canvas_bytes // (12 * self.film.blend.height)
        result = np.zeros((3, blend.height, pitch), np.float32)
        self._download(buffer, result)
        buffer.close()
        return result[:, :, : blend.width]

    def finished(self, tiles: Array, *, layout: Layout = PLANAR) -> list[Array]:
        """Enlarged tiles as integer planes."""
        film = self.film
        is_canvas = self.kernels.canvas_bytes > 0
        image = self._blended(tiles) if is_canvas else self._uploaded(tiles)
        shapes = film.target.plane_shapes(height=film.height, width=film.width)
        blank = [np.zeros(shape, film.target.dtype) for shape in shapes]
        with picture_on(self.device, film.target, blank, layout=layout) as (picture, holder, content):
            self.stream.upload(content, holder.pointer)
            self.kernels.finish(image.pointer, is_canvas=is_canvas, out=picture, stream=self.stream)
            result = np.zeros_like(content)
            self._download(holder, result)
            image.close()
            return unpacked(result, film.target, picture, start=holder.pointer, padding_of=content)

    def _blended(self, tiles: Array) -> DeviceBuffer:
        held = self._uploaded(tiles)
        canvas = self.device.allocate(self.kernels.canvas_bytes)
        # One, then two at once, and so on: whichever come together, the canvas is the same.
        start, count = 0, 1
        while start < len(tiles):
            count = min(count, len(tiles) - start)
            pointer = held.pointer + start * tiles[0].nbytes
            self.kernels.blend(pointer, tile=start, count=count, canvas=canvas.pointer, stream=self.stream)
            start, count = start + count, count + 1
        self.stream.synchronize()
        held.close()
        return canvas

    def _uploaded(self, array: Array) -> DeviceBuffer:
        buffer = self.device.allocate(array.nbytes)
        self.stream.upload(np.ascontiguousarray(array), buffer.pointer)
        return buffer

    def _download(self, buffer: DeviceBuffer, target: Array) -> None:
        self.stream.download(buffer.pointer, target)
        self.stream.synchronize()


@contextmanager
def picture_on(
    device: Device, format: SampleFormat, planes: Sequence[Array], *, layout: Layout
) -> Iterator[tuple[DevicePicture, DeviceBuffer, Array]]:
    """A picture, the memory for it, and the bytes to upload there; chroma not beside luma, rows as ``layout`` says."""
    arrays = [np.ascontiguousarray(plane) for plane in planes]
    if layout.msb_aligned:
        arrays = [(plane << (16 - format.bit_depth)).astype(np.uint16) for plane in arrays]
    if layout.is_interleaved:
        pairs = np.stack(arrays[1:], axis=-1)
        arrays = [arrays[0], pairs.reshape(len(pairs), -1)]
    pieces, places, total = [], [], 0
    for array in arrays:
        rows = np.full((array.shape[0], array.shape[1] + layout.padding), GARBAGE, array.dtype)
        rows[:, : array.shape[1]] = array
        places.append((total, rows.strides[0], *array.shape))
        filler = -rows.nbytes % 64
        pieces += [rows.reshape(-1).view(np.uint8), np.full(filler, GARBAGE, np.uint8)]
        total += rows.nbytes + filler
    holder = device.allocate(total)
    shown = tuple(
        DevicePlane(pointer=holder.pointer + offset, pitch_bytes=pitch, height=height, width=width)
        for offset, pitch, height, width in places
    )
    try:
        yield (
            DevicePicture(planes=shown, format=format, msb_aligned=layout.msb_aligned),
            holder,
            np.concatenate(pieces),
        )
    finally:
        holder.close()


def unpacked(
    content: Array, format: SampleFormat, picture: DevicePicture, *, start: int, padding_of: Array
) -> list[Array]:
    """The planes in the bytes of a picture; what is between rows must be as in ``padding_of``."""
    arrays, is_picture = [], np.zeros(len(content), bool)
    item = np.dtype(format.dtype).itemsize
    for plane in picture.planes:
        first = plane.pointer - start
        strides = (plane.pitch_bytes, 1)
        shape = (plane.height, plane.width * item)
        view = np.lib.stride_tricks.as_strided(content[first:], shape, strides)
        arrays.append(np.ascontiguousarray(view).view(format.dtype))
        np.lib.stride_tricks.as_strided(is_picture[first:], shape, strides)[...] = True
    assert np.array_equal(content[~is_picture], padding_of[~is_picture]), "written between rows"
    if picture.is_interleaved:
        arrays = [arrays[0], arrays[1][:, 0::2], arrays[1][:, 1::2]]
    if picture.shift_bits:
        low = (1 << picture.shift_bits) - 1
        assert not any((array & low).any() for array in arrays), "bits below the samples are set"
        arrays = [array >> picture.shift_bits for array in arrays]
    return arrays


def cpu_tiles(film: Film, planes: Sequence[Array]) -> Array:
    """The CPU path's tiles, float32."""
    grid, cutter = film.grid, TileCutter(film.grid)
    rgb = np.empty((3, grid.height, grid.width), np.float32)
    planes_to_rgb(planes, film.source, out=rgb)
    if film.seen is not None:
        film.seen.show(rgb)
    result = np.empty((len(grid.tiles), 3, grid.tile_height, grid.tile_width), np.float32)
    for index, tile in enumerate(result):
        cutter.cut(rgb, tile=index, out=tile)
    return result


def cpu_canvas(film: Film, tiles: Array) -> Array:
    """The CPU path's picture of enlarged tiles, float32."""
    blend = film.blend
    if len(tiles) == 1:
        return np.ascontiguousarray(tiles[0, :, : blend.height, : blend.width], dtype=np.float32)
    canvas = np.full((3, blend.height, blend.width), np.nan, np.float32)
    blender = TileBlender(blend)
    for index, tile in enumerate(tiles):
        blender.add(tile, tile=index, canvas=canvas)
    return canvas


def cpu_finished(film: Film, tiles: Array) -> list[Array]:
    """The CPU path's integer planes of enlarged tiles."""
    image = cpu_canvas(film, tiles)
    if film.resample is not None:
        sized = np.empty((3, film.height, film.width), np.float32)
        film.resample.run(image, out=sized)
        image = sized
    if film.seen is not None:
        image = image.copy()
        film.seen.restore(image)
    shapes = film.target.plane_shapes(height=film.height, width=film.width)
    planes: list[Any] = [np.empty(shape, film.target.dtype) for shape in shapes]
    rgb_to_planes(image, film.target, out=planes, dither=film.dither)
    return planes


def enlarged(tiles: Array, scale: int) -> Array:
    """A network that repeats pixels."""
    return np.ascontiguousarray(tiles.repeat(scale, axis=-2).repeat(scale, axis=-1))


def random_planes(format: SampleFormat, *, height: int, width: int, seed: int = 0) -> list[Array]:
    """Codes over the whole range, the extremes among them."""
    random = np.random.default_rng(seed)
    shapes = format.plane_shapes(height=height, width=width)
    return [random.integers(0, 2**format.bit_depth, shape).astype(format.dtype) for shape in shapes]


def ramp_planes(format: SampleFormat, *, height: int, width: int) -> list[Array]:
    """Grey: every column of luma another code, from the lowest to the highest."""
    highest = 2**format.bit_depth - 1
    luma, *chroma = format.plane_shapes(height=height, width=width)
    ramp = np.rint(np.linspace(0, highest, width)).astype(format.dtype)
    grey = [np.full(shape, (highest + 1) // 2, format.dtype) for shape in chroma]
    return [np.broadcast_to(ramp, luma).copy(), *grey]


def random_tiles(film: Film, *, seed: int = 0) -> Array:
    """Enlarged tiles with values beyond [0, 1]; neighbours differ by little, so that resampling stays in range."""
    blend = film.blend
    random = np.random.default_rng(seed)
    shape = (len(film.grid.tiles), 3, blend.tile_height, blend.tile_width)
    y, x = np.mgrid[0 : blend.tile_height, 0 : blend.tile_width]
    wave = 0.5 + 0.6 * np.sin(x / 5 + seed) * np.cos(y / 7 - seed)
    return (wave + random.normal(0, 0.05, shape)).astype(film.io_dtype)


def assert_tiles_agree(found: Array, wanted: Array) -> None:
    """float32 within 2e-6 of the larger of 1 and the value; float16 within one step of its type."""
    assert found.shape == wanted.shape
    if found.dtype == np.float32:
        assert np.max(np.abs(found - wanted) / np.maximum(1, np.abs(wanted))) <= 2e-6
        return
    rounded = wanted.astype(np.float16)
    step = np.maximum(np.spacing(np.abs(rounded)), np.spacing(np.abs(found))).astype(np.float32)
    error = np.abs(found.astype(np.float32) - rounded.astype(np.float32))
    # Beside 0 the steps of float16 are finer than float32's rounding of the terms that cancel there.
    assert np.all(error <= np.maximum(step, 2e-6))


def assert_seen_tiles_agree(found: Array, wanted: Array) -> None:
    """Powers of light: float32 within 5e-5 of the larger of 1 and the value; float16 within a step of its type more.

    At PQ's code 1 a term of 18.85 less one of 18.69 leaves 0.16 with float32's rounding of 18: 1e-5 of the value, twice
    that after its power, and 1/100 of a code of 10 bits.
    """
    step = np.spacing(np.abs(found)).astype(np.float32) if found.dtype == np.float16 else 0
    error = np.abs(found.astype(np.float32) - wanted)
    assert np.all(error <= 5e-5 * np.maximum(1, np.abs(wanted)) + step)


def assert_codes_agree(found: Sequence[Array], wanted: Sequence[Array], *, share: float = 0.999) -> None:
    """Within one code everywhere, and equal for at least ``share`` of all samples."""
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        error = np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
        assert error.max() <= 1
        assert np.mean(error == 0) >= share
