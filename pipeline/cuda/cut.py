"""Pictures to the network's tiles on the device: prepares and launches the kernel ``cut``."""

from __future__ import annotations

import numpy as np

from engines.gpu import Stream
from engines.spec import FloatType
from pipeline.colour import from_codes_constants, halved, up_filters
from pipeline.cuda.arguments import MOST_TILES, CutArguments
from pipeline.cuda.compile import KernelBuild
from pipeline.cuda.launcher import Kernel, Launcher
from pipeline.cuda.picture import DevicePicture
from pipeline.cuda.types import CUDA_TYPES, sample_type
from pipeline.frames import SampleFormat
from pipeline.seen import FAMILIES, SeenCurve
from pipeline.tiling import TileGrid

_GROUPS = (16, 4)
"""Columns that one thread makes, of two rows: without a curve, and with one, of which as many stand in the code. See
NOTES.md."""
_COLUMNS = 128
"""That a block makes."""
_THREADS = 64
"""Of a block: a thread needs so many registers that larger blocks leave some of a multiprocessor's unused."""


class CutStep:
    """Launches ``cut`` for one film.

    Args:
        launcher: Compiles and loads the kernels.
        source: Format of the film's pictures.
        grid: The tiles.
        io_dtype: What the network takes.
        seen: What it sees of the codes; None: the codes.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        source: SampleFormat,
        grid: TileGrid,
        io_dtype: FloatType,
        seen: SeenCurve | None = None,
    ) -> None:
        self._source = source
        self._grid = grid
        self._tile_bytes = 3 * grid.tile_height * grid.tile_width * np.dtype(io_dtype).itemsize
        layouts = (False, True) if source.subsampling != "444" else (False,)
        self._kernels: dict[bool, Kernel] = {
            is_interleaved: launcher.load(
                cut_build(source, is_interleaved=is_interleaved, io_dtype=io_dtype, seen=seen)
            )
            for is_interleaved in layouts
        }
        self._group = _GROUPS[seen is not None]
        self._template = _arguments(source, grid, seen=seen)

    def launch(self, picture: DevicePicture, *, tile: int, count: int, out: int, stream: Stream) -> None:
        """Enqueue tiles. See ``FrameKernels.cut``."""
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
        arguments.shift = picture.shift_bits
        # A pack is as long as a group at most, and no longer than 16 bytes.
        pack_bytes = min(16, self._group * np.dtype(self._source.dtype).itemsize)
        arguments.is_aligned = not any(p.pointer % pack_bytes or p.pitch_bytes % pack_bytes for p in picture.planes)
        if not 0 <= tile < tile + count <= len(grid.tiles):
            raise ValueError(f"there are {len(grid.tiles)} tiles, not tiles {tile} to {tile + count - 1}")
        down = 2 * _THREADS * self._group // _COLUMNS
        for start in range(tile, tile + count, MOST_TILES):
            tiles = grid.tiles[start : min(start + MOST_TILES, tile + count)]
            arguments.tile = out + (start - tile) * self._tile_bytes
            arguments.tops[: len(tiles)] = [one.top for one in tiles]
            arguments.lefts[: len(tiles)] = [one.left for one in tiles]
            rows = grid.tile_height + max(one.top % 2 for one in tiles)  # pairs begin at even rows of the frame
            self._kernels[picture.is_interleaved].launch(
                arguments,
                blocks=(-(-grid.tile_width // _COLUMNS), -(-rows // down), len(tiles)),
                stream=stream,
                reads=picture.spans,
                writes=((arguments.tile, len(tiles) * self._tile_bytes),),
            )


def cut_build(
    source: SampleFormat, *, is_interleaved: bool, io_dtype: FloatType, seen: SeenCurve | None = None
) -> KernelBuild:
    """The variant of ``cut`` for a format, a layout of chroma and a family of curves."""
    group = _GROUPS[seen is not None]
    halved_rows, halved_columns = halved(source)
    _, taps = up_filters(source.chroma_location)
    # The even positions of such an axis are made of one chroma sample, by the weights 0, 1, 0, 0.
    cosited_rows, cosited_columns = (np.count_nonzero(taps[axis, 0]) == 1 for axis in (0, 1))
    return KernelBuild(
        name="cut",
        threads=_THREADS,
        defines=(
            ("SOURCE", sample_type(source)),
            ("TILE", CUDA_TYPES[io_dtype]),
            ("INTERLEAVED", int(is_interleaved)),
            ("HALVED_ROWS", int(halved_rows)),
            ("HALVED_COLUMNS", int(halved_columns)),
            ("IS_RGB", int(source.matrix == "rgb")),
            ("COSITED_ROWS", int(cosited_rows)),
            ("COSITED_COLUMNS", int(cosited_columns)),
            ("SEEN", 0 if seen is None else FAMILIES[seen.family]),
            ("GROUP", group),
            ("GROUPS_X", _COLUMNS // group),
        ),
    )


def _arguments(source: SampleFormat, grid: TileGrid, *, seen: SeenCurve | None) -> CutArguments:
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
    if seen is not None:
        arguments.seen[:] = seen.constants.tolist()
    return arguments
