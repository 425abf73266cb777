"""Kernels and a network for the fake GPU: they compute what the CPU path computes, when the fake GPU gets to it.

A result of these is the CPU path's to the last bit, so anything else is a fault of whoever ordered the work.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from helpers.gpu_double import FakeGpu
from numpy.typing import NDArray

from engines.runner import FinishedCompletion
from engines.spec import RunnerSpec
from pipeline.blending import BlendPlan
from pipeline.colour import planes_to_rgb, rgb_to_planes
from pipeline.cpu.blend import TileBlender
from pipeline.cpu.cut import TileCutter
from pipeline.cuda.picture import DevicePicture, DevicePlane
from pipeline.frames import SampleFormat
from pipeline.resample import ResamplePlan
from pipeline.seen import SeenCurve
from pipeline.tiling import TileGrid


class HostKernels:
    """``pipeline.cuda.FrameKernels`` over the fake GPU's memory."""

    def __init__(
        self,
        device: FakeGpu,
        *,
        source: SampleFormat,
        grid: TileGrid,
        blend: BlendPlan,
        resample: ResamplePlan | None,
        target: SampleFormat,
        height: int,
        width: int,
        dither: bool,
        io_dtype: str,
        stream: Any,
        seen: SeenCurve | None = None,
    ) -> None:
        assert stream.handle in device.streams
        self._gpu = device
        self._source = source
        self._grid = grid
        self._blend = blend
        self._resample = resample
        self._target = target
        self._size = (height, width)
        self._dither = dither
        self._seen = seen
        self._dtype = np.dtype(io_dtype)
        self._cutter, self._blender = TileCutter(grid), TileBlender(blend)
        self._tile_bytes = 3 * grid.tile_height * grid.tile_width * self._dtype.itemsize
        self._enlarged_bytes = 3 * blend.tile_height * blend.tile_width * self._dtype.itemsize
        self.canvas_bytes = 0 if len(grid.tiles) == 1 else 12 * blend.height * blend.width
        self._table = device.allocate(1)

    def cut(self, picture: DevicePicture, *, tile: int, count: int = 1, out: int, stream: Any) -> None:
        picture.check(self._source, height=self._grid.height, width=self._grid.width)
        written = (out, count * self._tile_bytes)

        def run() -> None:
            rgb = np.empty((3, self._grid.height, self._grid.width), np.float32)
            planes_to_rgb(self._read(picture), self._source, out=rgb)
            if self._seen is not None:
                self._seen.show(rgb)
            shape = (count, 3, self._grid.tile_height, self._grid.tile_width)
            for index, target in enumerate(self._array(*written, shape, self._dtype)):
                self._cutter.cut(rgb, tile=tile + index, out=target)

        self._enqueue(stream, run, name="cut", reads=picture.spans, writes=(written,))

    def blend(self, tile_pointer: int, *, tile: int, count: int = 1, canvas: int, stream: Any) -> None:
        span = (tile_pointer, count * self._enlarged_bytes)

        def run() -> None:
            shape = (count, 3, self._blend.tile_height, self._blend.tile_width)
            for index, picture in enumerate(self._array(*span, shape, self._dtype)):
                self._blender.add(picture, tile=tile + index, canvas=self._canvas(canvas))

        reads = (span, (canvas, self.canvas_bytes))
        self._enqueue(stream, run, name="blend", reads=reads, writes=((canvas, self.canvas_bytes),))

    def finish(self, image: int, *, is_canvas: bool, out: DevicePicture, stream: Any) -> None:
        height, width = self._size
        out.check(self._target, height=height, width=width)
        span = (image, self.canvas_bytes if is_canvas else self._enlarged_bytes)

        def run() -> None:
            if is_canvas:
                picture = self._canvas(image)
            else:
                shape = (3, self._blend.tile_height, self._blend.tile_width)
                picture = self._array(*span, shape, self._dtype)[:, : self._blend.height, : self._blend.width]
                picture = np.asarray(picture, dtype=np.float32)
            if self._resample is not None:
                sized = np.empty((3, height, width), np.float32)
                self._resample.run(picture, out=sized)
                picture = sized
            if self._seen is not None:
                picture = np.array(picture)  # the kernel only reads it
                self._seen.restore(picture)
            shapes = self._target.plane_shapes(height=height, width=width)
            planes = [np.empty(shape, self._target.dtype) for shape in shapes]
            rgb_to_planes(picture, self._target, out=planes, dither=self._dither)
            if out.is_interleaved:
                planes = [planes[0], np.stack(planes[1:], axis=-1).reshape(shapes[1][0], -1)]
            planes = [plane << out.shift_bits for plane in planes]
            for plane, codes in zip(out.planes, planes, strict=True):
                self._rows(plane, codes.dtype)[:, : plane.width] = codes

        self._enqueue(stream, run, name="finish", reads=(span,), writes=out.spans)

    def close(self) -> None:
        self._table.close()

    def _enqueue(self, stream: Any, run: Any, **touched: Any) -> None:
        self._gpu.enqueue(stream.handle, run, **touched)

    def _array(self, pointer: int, count: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return self._gpu.bytes_at(pointer, count).view(dtype).reshape(shape)

    def _canvas(self, pointer: int) -> NDArray[Any]:
        return self._array(pointer, self.canvas_bytes, (3, self._blend.height, self._blend.width), np.float32)

    def _rows(self, plane: DevicePlane, dtype: Any) -> NDArray[Any]:
        """The plane with its padding; the last row has none that anybody may touch."""
        itemsize = np.dtype(dtype).itemsize
        count = (plane.height - 1) * plane.pitch_bytes + plane.width * itemsize
        flat = self._gpu.bytes_at(plane.pointer, count).view(dtype)
        return np.lib.stride_tricks.as_strided(
            flat, shape=(plane.height, plane.width), strides=(plane.pitch_bytes, itemsize)
        )

    def _read(self, picture: DevicePicture) -> list[NDArray[Any]]:
        planes = [np.ascontiguousarray(self._rows(plane, self._source.dtype)) for plane in picture.planes]
        planes = [plane >> picture.shift_bits for plane in planes]
        if picture.is_interleaved:
            planes = [planes[0], planes[1][:, 0::2].copy(), planes[1][:, 1::2].copy()]
        return planes


class FakeNetwork:
    """A runner that repeats pixels in the fake GPU's memory.

    Args:
        gpu: Whose memory.
        spec: As of the ``resize`` backend.
    """

    def __init__(self, gpu: FakeGpu, spec: RunnerSpec) -> None:
        self.spec = spec
        self._gpu = gpu
        self.inferred = 0
        self.fails_at: int | None = None
        """Number of the inference that is refused."""

    def infer(self, tiles: Any, *, out: Any, stream: Any = None) -> FinishedCompletion:
        source, target = tiles.__cuda_array_interface__, out.__cuda_array_interface__
        assert (source["shape"], source["typestr"]) == (self.spec.input_shape, np.dtype(self.spec.io_dtype).str)
        assert (target["shape"], target["typestr"]) == (self.spec.output_shape, np.dtype(self.spec.io_dtype).str)
        if self.inferred == self.fails_at:
            from engines.errors import InferenceFailed

            raise InferenceFailed("the fake network was told to fail")
        self.inferred += 1
        dtype, scale = np.dtype(self.spec.io_dtype), self.spec.scale
        read = (source["data"][0], int(np.prod(source["shape"])) * dtype.itemsize)
        written = (target["data"][0], int(np.prod(target["shape"])) * dtype.itemsize)

        def run() -> None:
            image = self._gpu.bytes_at(*read).view(dtype).reshape(self.spec.input_shape)
            result = self._gpu.bytes_at(*written).view(dtype).reshape(self.spec.output_shape)
            result[...] = image.repeat(scale, axis=2).repeat(scale, axis=3)

        self._gpu.enqueue(stream, run, name="infer", reads=(read,), writes=(written,))
        return FinishedCompletion()

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
