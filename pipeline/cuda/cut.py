"""Pictures to the network's tiles on the device: prepares and launches the kernel ``cut``."""

from __future__ import annotations

import numpy as np

from engines.gpu import Stream
from engines.spec import FloatType
from pipeline.colour import from_codes_constants, halved, up_filters
from pipeline.cuda.arguments import CutArguments
from pipeline.cuda.compile import THREADS, KernelBuild
from pipeline.cuda.launcher import Kernel, Launcher
from pipeline.cuda.picture import DevicePicture
from pipeline.cuda.types import CUDA_TYPES, sample_type
from pipeline.frames import SampleFormat
from pipeline.tiling import TileGrid

_GROUP = 4
"""Columns that one thread makes."""
_GROUPS_X = 32
"""GROUPS_X of cut.cu."""


class CutStep:
    """Launches ``cut`` for one film.

    Args:
        launcher: Compiles and loads the kernels.
        source: Format of the film's pictures.
        grid: The tiles.
        io_dtype: What the network takes.
    """

    def __init__(self, launcher: Launcher, *, source: SampleFormat, grid: TileGrid, io_dtype: FloatType) -> None:
        self._source = source
        self._grid = grid
        self._tile_bytes = 3 * grid.tile_height * grid.tile_width * np.dtype(io_dtype).itemsize
        layouts = (False, True) if source.subsampling != "444" else (False,)
        self._kernels: dict[bool, Kernel] = {
            is_interleaved: launcher.load(cut_build(source, is_interleaved=is_interleaved, io_dtype=io_dtype))
            for is_interleaved in layouts
        }
        self._template = _arguments(source, grid)

    def launch(self, picture: DevicePicture, *, tile: int, out: int, stream: Stream) -> None:
        """Enqueue one tile. See ``FrameKernels.cut``."""
        grid = self._grid
        picture.check(self._source, height=grid.height, width=grid.width)
        arguments = CutArguments.from_buffer_copy(self._template)
        luma, blue, red = (*picture.planes, picture.planes[-1])[:3]
        arguments.luma, arguments.blue, arguments.red = luma.pointer, blue.pointer, red.pointer
        arguments.luma_pitch, arguments.blue_pitch, arguments.red_pitch = (
            luma.pitch_bytes,
            blue.pitch_bytes,
            red.pitch_bytes,
        )
        arguments.tile = out
        arguments.shift = picture.shift_bits
        arguments.top, arguments.left = grid.tiles[tile].top, grid.tiles[tile].left
        across, down = _GROUPS_X * _GROUP, THREADS // _GROUPS_X
        self._kernels[picture.is_interleaved].launch(
            arguments,
            blocks=(-(-grid.tile_width // across), -(-grid.tile_height // down), 1),
            stream=stream,
            reads=picture.spans,
            writes=((out, self._tile_bytes),),
        )


def cut_build(source: SampleFormat, *, is_interleaved: bool, io_dtype: FloatType) -> KernelBuild:
    """The variant of ``cut`` for a format and a layout of chroma."""
    halved_rows, halved_columns = halved(source)
    return KernelBuild(
        name="cut",
        defines=(
            ("SOURCE", sample_type(source)),
            ("TILE", CUDA_TYPES[io_dtype]),
            ("INTERLEAVED", int(is_interleaved)),
            ("HALVED_ROWS", int(halved_rows)),
            ("HALVED_COLUMNS", int(halved_columns)),
            ("IS_RGB", int(source.matrix == "rgb")),
        ),
    )


def _arguments(source: SampleFormat, grid: TileGrid) -> CutArguments:
    """All that is the same for every tile of a film."""
    arguments = CutArguments()
    _, (chroma_rows, chroma_columns), _ = source.plane_shapes(height=grid.height, width=grid.width)
    arguments.height, arguments.width = grid.height, grid.width
    arguments.chroma_rows, arguments.chroma_columns = chroma_rows, chroma_columns
    arguments.tile_height, arguments.tile_width = grid.tile_height, grid.tile_width
    constants = from_codes_constants(source)
    arguments.matrix[: len(constants)] = constants.tolist()
    first, taps = up_filters(source.chroma_location)
    arguments.first_row[:] = first[0].tolist()
    arguments.row_taps[:] = taps[0].reshape(-1).tolist()
    # Both phases over the same five columns, from two before the half of the luma column on.
    columns = np.zeros((2, 5), np.float32)
    for phase in (0, 1):
        start = int(first[1, phase]) + 2
        columns[phase, start : start + 4] = taps[1, phase]
    arguments.column_taps[:] = columns.reshape(-1).tolist()
    return arguments
