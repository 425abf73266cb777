"""Pictures as they are compared: Y'CbCr in nominal units, source and result on one grid and in one matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.colour import LUMA_WEIGHTS, chroma_offsets_px
from pipeline.frames import Frame, Matrix, SampleFormat
from pipeline.verify.reduce import Axis, reduce_plane

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Size and sample positions in which two pictures are compared: the source's, or the result's if it is smaller."""

    height: int
    width: int
    format: SampleFormat
    """Its matrix is that of the comparison; never ``rgb``. Range and depth play no part."""
    is_rgb_bound: bool = False
    """Whether pictures are compared without colours that R'G'B' codes cannot hold: one of both is of such codes, or it
    is a second look."""
    is_second_look: bool = False
    """Whether pictures of this grid were found wanting before."""

    @classmethod
    def between(cls, source: Frame, result: Frame) -> Grid:
        """The grid for a source and what was made of it."""
        format = source.format
        if format.matrix == "rgb":
            format = SampleFormat(matrix="bt709", subsampling="444")
        return cls(
            height=min(source.height, result.height),
            width=min(source.width, result.width),
            format=format,
            is_rgb_bound="rgb" in (source.format.matrix, result.format.matrix),
        )

    def second_look(self) -> Grid:
        """Only what a screen can show, at a cost that few frames are worth.

        A film may hold codes of no R'G'B' colour (black with chroma: a tape's noise, a drawing). Networks were never
        shown such, and bring them back: animevideov3 takes half of the chroma away, a tenth of the range.
        """
        return replace(self, is_rgb_bound=True, is_second_look=True)

    @property
    def chroma_step_px(self) -> tuple[int, int]:
        """Luma pixels from one chroma sample to the next, down and to the right."""
        return 2 if self.format.subsampling == "420" else 1, 1 if self.format.subsampling == "444" else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One frame on a grid, in nominal units: chroma [-0.5, 0.5], and what lies beyond that."""

    luma: Plane
    """(height, width) of the grid, [0, 1]: darker than black is shown as black, brighter than white as white. Networks
    go far beyond both beside hard edges, and bring what a film has there back: by a tenth of the range."""
    chroma: NDArray[np.float32]
    """(2, rows, columns), Cb and Cr, where the grid has its chroma samples."""


def picture_of(frame: Frame, grid: Grid) -> Picture:
    """Put a frame on a grid by averaging areas.

    Args:
        frame: In host memory, ready; only read.
        grid: Where to.
    """
    own = frame.format
    if grid.is_rgb_bound and own.matrix != "rgb":
        return _rgb_bound(frame, grid)
    if own.matrix == grid.format.matrix:
        luma = np.clip(_reduce(frame, 0, grid, to_chroma=False), 0, 1)
        return Picture(luma=luma, chroma=np.stack([_reduce(frame, index, grid, to_chroma=True) for index in (1, 2)]))
    turn = ycc_matrix(grid.format.matrix) @ rgb_matrix(own.matrix)
    at_luma, at_chroma = (
        np.stack([_reduce(frame, index, grid, to_chroma=to_chroma) for index in range(3)])
        for to_chroma in (False, True)
    )
    return Picture(luma=np.clip(turned(turn[:1], at_luma)[0], 0, 1), chroma=turned(turn[1:], at_chroma))


def _rgb_bound(frame: Frame, grid: Grid) -> Picture:
    """A picture of Y'CbCr codes as R'G'B' codes hold it: what lies outside their cube is cut off, pixel by pixel."""
    planes = np.stack([_reduce(frame, index, grid, to_chroma=False) for index in range(3)])
    rgb = np.clip(turned(rgb_matrix(frame.format.matrix), planes), 0, 1)
    luma, *chroma = turned(ycc_matrix(grid.format.matrix), rgb)
    full = _axes(grid.format, height=grid.height, width=grid.width, is_chroma=False)
    halved = _axes(grid.format, height=grid.height, width=grid.width, is_chroma=True)
    rows, columns = zip(full, halved, strict=True)
    return Picture(luma=luma, chroma=np.stack([reduce_plane(plane, rows=rows, columns=columns) for plane in chroma]))


_Float = TypeVar("_Float", np.float32, np.float64)


def turned(turn: NDArray[np.float64], planes: NDArray[_Float]) -> NDArray[_Float]:
    """Every pixel through a matrix. Not ``@``: that wakes a thread on every core, which costs more than it saves.

    Args:
        turn: (n, 3).
        planes: (3, ...).

    Returns:
        (n, ...), of the planes' type.
    """
    kind = planes.dtype.type
    rows = [
        sum((kind(a) * plane for a, plane in zip(row[1:], planes[1:], strict=True)), kind(row[0]) * planes[0])
        for row in turn
    ]
    return np.stack(rows)


def rgb_matrix(matrix: Matrix) -> NDArray[np.float64]:
    """(3, 3), from (Y', Cb, Cr) in nominal units to R'G'B'; the identity for ``rgb``. Source: ITU-T H.273 8.3."""
    return np.asarray(np.linalg.inv(ycc_matrix(matrix)), dtype=np.float64)


def ycc_matrix(matrix: Matrix) -> NDArray[np.float64]:
    """(3, 3), from R'G'B' to (Y', Cb, Cr) in nominal units; the identity for ``rgb``. Source: ITU-T H.273 8.3."""
    if matrix == "rgb":
        return np.eye(3)
    kr, kb = LUMA_WEIGHTS[matrix]
    kg = 1 - kr - kb
    return np.array(
        [
            [kr, kg, kb],
            [-kr / (2 * (1 - kb)), -kg / (2 * (1 - kb)), 0.5],
            [0.5, -kg / (2 * (1 - kr)), -kb / (2 * (1 - kr))],
        ]
    )


def _reduce(frame: Frame, index: int, grid: Grid, *, to_chroma: bool) -> Plane:
    """One plane at the grid's luma or chroma positions, in nominal units."""
    is_chroma = index > 0 and frame.format.matrix != "rgb"
    rows, columns = zip(
        _axes(frame.format, height=frame.height, width=frame.width, is_chroma=is_chroma),
        _axes(grid.format, height=grid.height, width=grid.width, is_chroma=to_chroma),
        strict=True,
    )
    offset, span = _quantisation(frame.format, is_chroma=is_chroma)
    # averaging and scaling commute, and there are fewer samples now
    return (reduce_plane(frame.planes[index], rows=rows, columns=columns) - np.float32(offset)) * np.float32(1 / span)


def _axes(format: SampleFormat, *, height: int, width: int, is_chroma: bool) -> tuple[Axis, Axis]:
    """Rows and columns of a plane."""
    if not is_chroma:
        return Axis(size_px=height, step_px=1), Axis(size_px=width, step_px=1)
    top, left = chroma_offsets_px(format.chroma_location)
    halves_rows, halves_columns = format.subsampling == "420", format.subsampling != "444"
    return (
        Axis(size_px=height, step_px=2, offset_px=top) if halves_rows else Axis(size_px=height, step_px=1),
        Axis(size_px=width, step_px=2, offset_px=left) if halves_columns else Axis(size_px=width, step_px=1),
    )


def _quantisation(format: SampleFormat, *, is_chroma: bool) -> tuple[float, float]:
    """Code of 0 and codes from there to nominal 1. Source: ITU-T H.273 8.3."""
    step = 2.0 ** (format.bit_depth - 8)
    if format.full_range:
        return (128 * step if is_chroma else 0.0), 2.0**format.bit_depth - 1
    return (128 * step, 224 * step) if is_chroma else (16 * step, 219 * step)
