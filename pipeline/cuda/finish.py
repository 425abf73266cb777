"""Enlarged pictures to integer planes on the device: prepares and launches the kernels ``rows`` and ``finish``."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engines.gpu import Device, DeviceBuffer, Stream
from engines.spec import FloatType
from pipeline.colour import down_filters, halved
from pipeline.cuda.arguments import FinishArguments, RowArguments
from pipeline.cuda.compile import THREADS, KernelBuild
from pipeline.cuda.finish_terms import ImageLayout, aligned_items, biases, fill_curve, finish_terms
from pipeline.cuda.launcher import Kernel, Launcher, Span
from pipeline.cuda.picture import DevicePicture
from pipeline.cuda.shrink import Shrink, plan_shrink
from pipeline.cuda.tables import DeviceTables
from pipeline.cuda.types import CUDA_TYPES, sample_type
from pipeline.frames import SampleFormat
from pipeline.resample import ResamplePlan
from pipeline.seen import FAMILIES, SeenCurve
from pipeline.tiling import round_up
from pipeline.transfer import TransferCurve

_READ_WIDTHS = MappingProxyType({0: 256, 2: 128, 3: 64, 4: 64})
"""Columns that a block of ``finish`` reads, by the whole number that a picture shrinks by; see NOTES.md."""
_COSTLY_READ_WIDTH = 128
"""The same where columns go by tables, or codes by a curve."""
_PIXELS = 8
"""Columns that a thread of ``finish`` makes where it only has to load them."""
_COSTLY_PIXELS = 4
"""The same where each is a sum, or takes a curve, which stands in the code once for each."""
_ROWS = 8
"""Rows that a block of ``finish`` makes in one step: one for each of its warps."""
_HALO = 8
"""LEFT of finish.cu."""
_LEAST_SEGMENT_ROWS = 16
"""Rows that one block of ``finish`` makes at least: it reads 11 more for its chroma."""
_BLOCKS = (4, 3)
"""Blocks of ``finish`` that a multiprocessor is to hold at once, and all that it gets: without shrinking, and with it.
See NOTES.md."""
_ROW_GROUPS_X = 64
"""GROUPS_X of rows.cu."""
_GROUP = 4
"""Columns that one thread of ``rows`` makes."""
_ROW_ITEMS = 32
"""Scratch rows are multiples of 128 bytes, a cache line, apart."""
_LEAST_TAP = 1e-9
"""Weights below it add less to any picture than float32 can tell; where a filter's zeros fall on samples, they are
1e-17."""
_CURVES = {None: 0, "power": 1, "pq": 2, "hlg": 3}
"""CURVE of curves.cuh."""


class FinishStep:
    """Launches ``rows`` and ``finish`` for one film.

    Args:
        device: For scratch memory.
        launcher: Compiles and loads the kernels.
        image: What comes in.
        resample: From there to the output size; None if they are the same.
        target: Format of the pictures made.
        height, width: Their size.
        dither: Dither when quantising.
        tables: Takes the weights.
        seen: What of the codes the image is; None: the codes.
    """

    def __init__(
        self,
        device: Device,
        *,
        launcher: Launcher,
        image: ImageLayout,
        resample: ResamplePlan | None,
        target: SampleFormat,
        height: int,
        width: int,
        dither: bool,
        tables: DeviceTables,
        seen: SeenCurve | None = None,
    ) -> None:
        self._image, self._target = image, target
        self._height, self._width = height, width
        self._tables = tables
        self._resample = resample
        self._scratch: DeviceBuffer | None = None
        self._rows: Kernel | None = None
        self._biases = tables.add(biases(target, dither=dither))
        curve = None if resample is None else resample.curve
        source = image
        shrink = None if resample is None else plan_shrink(resample)
        if resample is not None and shrink is None:
            self._rows = launcher.load(rows_build(image.dtype, curve))
            pitch = round_up(image.width, _ROW_ITEMS)
            source = ImageLayout(dtype="float32", height=height, width=image.width, pitch=pitch, plane=height * pitch)
            self._row_first = tables.add(resample.rows.first.astype(np.int32))
            self._row_weights = tables.add(resample.rows.weights)
            self._column_first = tables.add(resample.columns.first.astype(np.int32))
            # Neighbouring threads make neighbouring columns.
            self._column_weights = tables.add(np.ascontiguousarray(resample.columns.weights.T))
        self._source = source
        layouts = (False, True) if target.subsampling != "444" else (False,)
        self._kernels: dict[bool, Kernel] = {
            is_interleaved: launcher.load(
                finish_build(
                    target,
                    is_interleaved=is_interleaved,
                    image_dtype=source.dtype,
                    is_resampled=self._rows is not None,
                    shrink=shrink,
                    curve=curve,
                    seen=seen,
                )
            )
            for is_interleaved in layouts
        }
        self._template = finish_terms(target, source, shrink=shrink, curve=curve, height=height, width=width)
        if seen is not None:
            self._template.seen[:] = seen.constants.tolist()
        read_width, _ = _widths(is_resampled=self._rows is not None, shrink=shrink, seen=seen)
        own_width = read_width - (2 * _HALO if halved(target)[1] else 0)
        strips = -(-width // own_width)
        blocks = launcher.multiprocessors * _BLOCKS[shrink is not None]
        segment = _segment_rows(height, strips=strips, blocks=blocks)
        self._template.segment = segment
        self._blocks = (strips, -(-height // segment), 1)
        if self._rows is not None:
            self._scratch = device.allocate(source.bytes)

    def launch(self, image: int, *, out: DevicePicture, stream: Stream) -> None:
        """Enqueue one picture. See ``FrameKernels.finish``."""
        out.check(self._target, height=self._height, width=self._width)
        read: Span = (image, self._image.bytes)
        if self._resample is not None and self._scratch is not None and self._rows is not None:
            self._launch_rows(self._rows, self._resample, read, scratch=self._scratch, stream=stream)
            read = (self._scratch.pointer, self._scratch.bytes)
        tables = self._tables
        arguments = FinishArguments.from_buffer_copy(self._template)
        arguments.image = read[0]
        arguments.aligned_items = aligned_items(read[0], self._source)
        luma, blue, red = (*out.planes, out.planes[-1])[:3]
        arguments.luma, arguments.blue, arguments.red = luma.pointer, blue.pointer, red.pointer
        arguments.luma_pitch, arguments.blue_pitch, arguments.red_pitch = (
            luma.pitch_bytes,
            blue.pitch_bytes,
            red.pitch_bytes,
        )
        arguments.shift = out.shift_bits
        if self._resample is not None and self._rows is not None:
            arguments.taps = self._resample.columns.weights.shape[1]
            arguments.first = tables.pointer(self._column_first)
            arguments.weights = tables.pointer(self._column_weights)
        arguments.biases = tables.pointer(self._biases)
        self._kernels[out.is_interleaved].launch(
            arguments,
            blocks=self._blocks,
            stream=stream,
            reads=(read, *tables.spans),
            writes=out.spans,
        )

    def close(self) -> None:
        """Give the scratch memory back; no kernel may be using it. Can be called twice."""
        if self._scratch is not None:
            self._scratch.close()

    def _launch_rows(
        self, kernel: Kernel, resample: ResamplePlan, read: Span, *, scratch: DeviceBuffer, stream: Stream
    ) -> None:
        tables, image, source = self._tables, self._image, self._source
        arguments = RowArguments(
            image=read[0],
            out=scratch.pointer,
            first=tables.pointer(self._row_first),
            weights=tables.pointer(self._row_weights),
            image_pitch=image.pitch,
            image_plane=image.plane,
            out_pitch=source.pitch,
            out_plane=source.plane,
            width=image.width,
            out_height=resample.out_height,
            taps=resample.rows.weights.shape[1],
        )
        fill_curve(arguments, resample.curve)
        across, down = _ROW_GROUPS_X * _GROUP, THREADS // _ROW_GROUPS_X
        kernel.launch(
            arguments,
            blocks=(-(-image.width // across), -(-resample.out_height // down), 3),
            stream=stream,
            reads=(read, *tables.spans),
            writes=((scratch.pointer, scratch.bytes),),
        )


def rows_build(image_dtype: FloatType, curve: TransferCurve | None) -> KernelBuild:
    """The variant of ``rows`` for a type of picture and a family of curves."""
    return KernelBuild(name="rows", defines=(("IMAGE", CUDA_TYPES[image_dtype]), ("CURVE", _family(curve))))


def finish_build(
    target: SampleFormat,
    *,
    is_interleaved: bool,
    image_dtype: FloatType,
    is_resampled: bool,
    shrink: Shrink | None = None,
    curve: TransferCurve | None,
    seen: SeenCurve | None = None,
) -> KernelBuild:
    """The variant of ``finish`` for a type of picture, a format, a layout of chroma and families of curves."""
    halved_rows, halved_columns = halved(target)
    step = 0 if shrink is None else shrink.step
    read_width, pixels = _widths(is_resampled=is_resampled, shrink=shrink, seen=seen)
    row_taps, column_taps = down_filters(target.chroma_location)
    return KernelBuild(
        name="finish",
        defines=(
            ("IMAGE", CUDA_TYPES[image_dtype]),
            ("TARGET", sample_type(target)),
            ("RESAMPLED", int(is_resampled)),
            ("SHRINK", step),
            ("SHRINK_TAPS", 0 if shrink is None else len(shrink.taps)),
            ("CURVE", _family(curve)),
            ("INTERLEAVED", int(is_interleaved)),
            ("HALVED_ROWS", int(halved_rows)),
            ("HALVED_COLUMNS", int(halved_columns)),
            ("ROW_TAPS", _counting(row_taps)),
            ("COLUMN_TAPS", _counting(column_taps)),
            ("IS_RGB", int(target.matrix == "rgb")),
            ("SEEN", 0 if seen is None else FAMILIES[seen.family]),
            ("READ_WIDTH", read_width),
            ("PIXELS", pixels),
            ("ROWS", _ROWS),
            ("BLOCKS", _BLOCKS[step != 0]),
        ),
    )


def _counting(taps: NDArray[np.float32]) -> int:
    """Bit i: whether weight i is one. Where chroma lies on luma, the filter's zeros do, but for its rounding."""
    return sum(1 << index for index, tap in enumerate(taps) if abs(tap) > _LEAST_TAP)


def _widths(*, is_resampled: bool, shrink: Shrink | None, seen: SeenCurve | None) -> tuple[int, int]:
    """READ_WIDTH and PIXELS of finish.cu."""
    if shrink is not None:
        return _READ_WIDTHS[shrink.step], _COSTLY_PIXELS
    if is_resampled or seen is not None:
        return _COSTLY_READ_WIDTH, _COSTLY_PIXELS
    return _READ_WIDTHS[0], _PIXELS


def _segment_rows(height: int, *, strips: int, blocks: int) -> int:
    """Rows of a block so that a picture has at most so many blocks, where that leaves enough rows; even."""
    rows = -(-height // max(1, blocks // strips))
    return max(_LEAST_SEGMENT_ROWS, rows + rows % 2)


def _family(curve: TransferCurve | None) -> int:
    return _CURVES[None if curve is None else curve.family]
