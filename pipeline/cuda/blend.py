"""Enlarged tiles onto a canvas in device memory: prepares and launches the kernel ``blend``."""

from __future__ import annotations

import numpy as np

from engines.gpu import Stream
from engines.spec import FloatType
from pipeline.blending import BlendPlan
from pipeline.cuda.arguments import MOST_TILES, BlendArguments, BlendSpan
from pipeline.cuda.compile import THREADS, KernelBuild
from pipeline.cuda.launcher import Launcher
from pipeline.cuda.tables import DeviceTables
from pipeline.cuda.types import CUDA_TYPES
from pipeline.tiling import round_up

_GROUP = 4
"""Columns that one thread makes; groups begin at multiples of it. See NOTES.md."""
_GROUPS_X = 32
"""Threads of a block side by side."""
_ROW_ITEMS = 32
"""Canvas rows are multiples of 128 bytes, a cache line, apart."""


class BlendStep:
    """Launches ``blend`` for one film.

    Args:
        launcher: Compiles and loads the kernel.
        plan: Where each tile goes.
        io_dtype: What the network gives.
        tables: Takes the ramps' weights.
    """

    def __init__(self, launcher: Launcher, *, plan: BlendPlan, io_dtype: FloatType, tables: DeviceTables) -> None:
        self._plan = plan
        self._tables = tables
        self._kernel = launcher.load(blend_build(io_dtype))
        self._tile_bytes = 3 * plan.tile_height * plan.tile_width * np.dtype(io_dtype).itemsize
        self._row_leads = [tables.add(span.lead) for span in plan.rows]
        self._column_leads = [tables.add(span.lead) for span in plan.columns]
        self.canvas_pitch = round_up(plan.width, _ROW_ITEMS)
        """Floats from one canvas row to the next."""
        self.canvas_bytes = 3 * plan.height * self.canvas_pitch * np.dtype(np.float32).itemsize

    def launch(self, tiles_pointer: int, *, tile: int, count: int, canvas: int, stream: Stream) -> None:
        """Enqueue tiles. See ``FrameKernels.blend``."""
        total = len(self._plan.rows) * len(self._plan.columns)
        if not 0 <= tile < tile + count <= total:
            raise ValueError(f"there are {total} tiles, not tiles {tile} to {tile + count - 1}")
        for start in range(tile, tile + count, MOST_TILES):
            pointer = tiles_pointer + (start - tile) * self._tile_bytes
            self._launch(pointer, range(start, min(start + MOST_TILES, tile + count)), canvas=canvas, stream=stream)

    def _launch(self, tiles_pointer: int, tiles: range, *, canvas: int, stream: Stream) -> None:
        plan = self._plan
        places = [divmod(tile, len(plan.columns)) for tile in tiles]
        top = min(plan.rows[row].start for row, _ in places)
        bottom = max(plan.rows[row].stop for row, _ in places)
        left = min(plan.columns[column].start for _, column in places) // _GROUP * _GROUP
        right = max(plan.columns[column].stop for _, column in places)
        arguments = BlendArguments(
            tile=tiles_pointer,
            canvas=canvas,
            tile_pitch=plan.tile_width,
            tile_plane=plan.tile_height * plan.tile_width,
            canvas_pitch=self.canvas_pitch,
            canvas_plane=plan.height * self.canvas_pitch,
            top=top,
            left=left,
            count=len(tiles),
        )
        arguments.tiles[: len(tiles)] = [self._span(row, column) for row, column in places]
        across, down = _GROUPS_X * _GROUP, THREADS // _GROUPS_X
        self._kernel.launch(
            arguments,
            blocks=(-(-(right - left) // across), -(-(bottom - top) // down), 1),
            stream=stream,
            reads=(
                (tiles_pointer, len(tiles) * self._tile_bytes),
                (canvas, self.canvas_bytes),
                *self._tables.spans,
            ),
            writes=((canvas, self.canvas_bytes),),
        )

    def _span(self, row_index: int, column_index: int) -> BlendSpan:
        row, column = self._plan.rows[row_index], self._plan.columns[column_index]
        # The last column has no trail; any address will do.
        trail = self._column_leads[min(column_index + 1, len(self._plan.columns) - 1)]
        return BlendSpan(
            row_lead=self._tables.pointer(self._row_leads[row_index]),
            column_lead=self._tables.pointer(self._column_leads[column_index]),
            column_trail=self._tables.pointer(trail),
            row_origin=row.origin,
            row_start=row.start,
            row_stop=row.stop,
            column_origin=column.origin,
            column_start=column.start,
            column_stop=column.stop,
            row_lead_count=len(row.lead),
            column_lead_count=len(column.lead),
            column_trail_count=len(column.trail),
        )


def blend_build(io_dtype: FloatType) -> KernelBuild:
    """The variant of ``blend`` for a type of tile."""
    return KernelBuild(
        name="blend", defines=(("TILE", CUDA_TYPES[io_dtype]), ("GROUP", _GROUP), ("GROUPS_X", _GROUPS_X))
    )
