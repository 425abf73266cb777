"""Enlarged tiles onto a canvas in device memory: prepares and launches the kernel ``blend``."""

from __future__ import annotations

import numpy as np

from engines.gpu import Stream
from engines.spec import FloatType
from pipeline.blending import BlendPlan, TileSpan
from pipeline.cuda.arguments import BlendArguments
from pipeline.cuda.compile import THREADS, KernelBuild
from pipeline.cuda.launcher import Launcher
from pipeline.cuda.tables import DeviceTables
from pipeline.cuda.types import CUDA_TYPES
from pipeline.tiling import round_up

_GROUP = 4
"""Columns that one thread makes; groups begin at multiples of it."""
_GROUPS_X = 32
"""GROUPS_X of blend.cu."""
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

    def launch(self, tile_pointer: int, *, tile: int, canvas: int, stream: Stream) -> None:
        """Enqueue one tile. See ``FrameKernels.blend``."""
        plan, tables = self._plan, self._tables
        row_index, column_index = divmod(tile, len(plan.columns))
        row, column = plan.rows[row_index], plan.columns[column_index]
        # The last column has no trail; any address will do.
        trail = self._column_leads[min(column_index + 1, len(plan.columns) - 1)]
        arguments = BlendArguments(
            tile=tile_pointer,
            canvas=canvas,
            row_lead=tables.pointer(self._row_leads[row_index]),
            column_lead=tables.pointer(self._column_leads[column_index]),
            column_trail=tables.pointer(trail),
            tile_pitch=plan.tile_width,
            tile_plane=plan.tile_height * plan.tile_width,
            canvas_pitch=self.canvas_pitch,
            canvas_plane=plan.height * self.canvas_pitch,
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
        self._kernel.launch(
            arguments,
            blocks=_blocks(row, column),
            stream=stream,
            reads=((tile_pointer, self._tile_bytes), (canvas, self.canvas_bytes), *tables.spans),
            writes=((canvas, self.canvas_bytes),),
        )


def blend_build(io_dtype: FloatType) -> KernelBuild:
    """The variant of ``blend`` for a type of tile."""
    return KernelBuild(name="blend", defines=(("TILE", CUDA_TYPES[io_dtype]),))


def _blocks(row: TileSpan, column: TileSpan) -> tuple[int, int, int]:
    across, down = _GROUPS_X * _GROUP, THREADS // _GROUPS_X
    aligned_start = column.start - column.start % _GROUP
    return (-(-(column.stop - aligned_start) // across), -(-(row.stop - row.start) // down), 1)
