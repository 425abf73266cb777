"""Enlarged pictures to integer planes on the device: prepares and launches the kernels ``rows`` and ``finish``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from engines.gpu import Device, DeviceBuffer, Stream
from engines.spec import FloatType
from pipeline.colour import down_filters, halved, thresholds, to_codes_constants
from pipeline.cuda.arguments import FinishArguments, RowArguments
from pipeline.cuda.compile import THREADS, KernelBuild
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
_ROWS = 4
"""Rows that a block of ``finish`` makes in one step."""
_HALO = 8
"""LEFT of finish.cu."""
_WAVES = (1, 4)
"""How often a multiprocessor gets so many, likewise: a wave that is not full costs as much as one that is."""
_LEAST_SEGMENT_ROWS = 16
"""Rows that one block of ``finish`` makes at least: it reads 11 more for its chroma."""
_BLOCKS = (4, 3)
"""Blocks of ``finish`` that a multiprocessor is to hold at once: without shrinking, and with it. See NOTES.md."""
_ROW_GROUPS_X = 64
"""GROUPS_X of rows.cu."""
_GROUP = 4
"""Columns that one thread of ``rows`` makes."""
_ROW_ITEMS = 32
"""Scratch rows are multiples of 128 bytes, a cache line, apart."""
_CURVES = {None: 0, "power": 1, "pq": 2, "hlg": 3}
"""CURVE of curves.cuh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """How an R'G'B' picture of float32 or float16 lies in device memory. Items are its numbers."""

    dtype: FloatType
    height: int
    """Rows that are picture."""
    width: int
    """Columns that are picture."""
    pitch: int
    """Items from one row to the next."""
    plane: int
    """Items from one plane to the next."""

    @property
    def bytes(self) -> int:
        """From the first to the last number."""
        items = 2 * self.plane + (self.height - 1) * self.pitch + self.width
        return items * np.dtype(self.dtype).itemsize


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
        self._thresholds = tables.add(thresholds(True)) if dither else None
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
                    dither=dither,
                    seen=seen,
                )
            )
            for is_interleaved in layouts
        }
        self._template = _arguments(target, source, shrink=shrink, curve=curve, height=height, width=width)
        if seen is not None:
            self._template.seen[:] = seen.constants.tolist()
        own_width = _READ_WIDTHS[0 if shrink is None else shrink.step] - (2 * _HALO if halved(target)[1] else 0)
        strips = -(-width // own_width)
        is_shrunk = shrink is not None
        blocks = launcher.multiprocessors * _BLOCKS[is_shrunk] * _WAVES[is_shrunk]
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
        pack_bytes = 4 * np.dtype(self._source.dtype).itemsize
        arguments.is_aligned = not (read[0] % pack_bytes or self._source.pitch % 4 or self._source.plane % 4)
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
        if self._thresholds is not None:
            arguments.thresholds = tables.pointer(self._thresholds)
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
        _fill_curve(arguments, resample.curve)
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
    dither: bool,
    seen: SeenCurve | None = None,
) -> KernelBuild:
    """The variant of ``finish`` for a type of picture, a format, a layout of chroma and families of curves."""
    halved_rows, halved_columns = halved(target)
    step = 0 if shrink is None else shrink.step
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
            ("IS_RGB", int(target.matrix == "rgb")),
            ("DITHERED", int(dither)),
            ("SEEN", 0 if seen is None else FAMILIES[seen.family]),
            ("READ_WIDTH", _READ_WIDTHS[step]),
            ("ROWS", _ROWS),
            ("BLOCKS", _BLOCKS[step != 0]),
        ),
    )


def _arguments(
    target: SampleFormat,
    source: ImageLayout,
    *,
    shrink: Shrink | None,
    curve: TransferCurve | None,
    height: int,
    width: int,
) -> FinishArguments:
    """All that is the same for every picture of a film."""
    _, (chroma_rows, chroma_columns), _ = target.plane_shapes(height=height, width=width)
    arguments = FinishArguments(
        image_pitch=source.pitch,
        image_plane=source.plane,
        height=height,
        width=width,
        chroma_rows=chroma_rows,
        chroma_columns=chroma_columns,
        image_height=source.height,
        image_width=source.width,
        highest=2**target.bit_depth - 1,
    )
    row_taps, column_taps = down_filters(target.chroma_location)
    arguments.row_taps[:] = row_taps.tolist()
    arguments.column_taps[:] = column_taps.tolist()
    constants = to_codes_constants(target).tolist()
    if target.matrix == "rgb":
        # All three planes are scaled and offset like luma.
        scale, offset = constants
        constants = [0.0, 0.0, 0.0, scale, offset, 0.0, 0.0, offset]
    arguments.matrix[:] = constants
    if shrink is not None:
        arguments.shrink_taps[: len(shrink.taps)] = shrink.taps.tolist()
    _fill_curve(arguments, curve)
    return arguments


def _segment_rows(height: int, *, strips: int, blocks: int) -> int:
    """Rows of a block so that a picture has at most so many blocks, where that leaves enough rows; even."""
    rows = -(-height // max(1, blocks // strips))
    return max(_LEAST_SEGMENT_ROWS, rows + rows % 2)


def _family(curve: TransferCurve | None) -> int:
    return _CURVES[None if curve is None else curve.family]


def _fill_curve(arguments: RowArguments | FinishArguments, curve: TransferCurve | None) -> None:
    values = () if curve is None else (*curve.constants, curve.slope)
    arguments.curve[: len(values)] = values
