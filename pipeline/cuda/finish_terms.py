"""What the kernel ``finish`` is told of a film: all of its arguments that are the same for every picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.spec import FloatType
from pipeline.colour import down_filters, thresholds, to_codes_constants
from pipeline.cuda.arguments import FinishArguments, RowArguments
from pipeline.cuda.shrink import Shrink
from pipeline.frames import SampleFormat
from pipeline.transfer import TransferCurve

_FRACTION_BITS = 23
"""Of a float32."""


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


def finish_terms(
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
        top=(2**target.bit_depth - 0.5) / 2**target.bit_depth,
        one=2.0 ** (_FRACTION_BITS - target.bit_depth),
    )
    row_taps, column_taps = down_filters(target.chroma_location)
    arguments.row_taps[:] = row_taps.tolist()
    arguments.column_taps[:] = column_taps.tolist()
    constants = to_codes_constants(target).tolist()
    scales = [constants[3], constants[5], constants[6]] if target.matrix != "rgb" else 3 * [constants[0]]
    arguments.scales[:] = [scale / 2**target.bit_depth for scale in scales]
    if target.matrix != "rgb":
        arguments.matrix[:] = constants[:3]
    if shrink is not None:
        arguments.shrink_taps[: len(shrink.taps)] = shrink.taps.tolist()
    fill_curve(arguments, curve)
    return arguments


def biases(target: SampleFormat, *, dither: bool) -> NDArray[np.float32]:
    """What is added to luma and to chroma before truncating: (2, 8, 8), in units of 2**bit_depth, all exact."""
    constants = to_codes_constants(target)
    luma, chroma = (constants[4], constants[7]) if target.matrix != "rgb" else (constants[1], constants[1])
    added = [thresholds(dither) + offset for offset in (luma, chroma)]
    return np.stack(added).astype(np.float32) / np.float32(2**target.bit_depth)


def aligned_items(image: int, layout: ImageLayout) -> int:
    """8, 4 or 1 items that start wherever their index in a row is a multiple of as many can be loaded at once."""
    item_bytes = np.dtype(layout.dtype).itemsize
    for items in (8, 4):
        access_bytes = min(16, items * item_bytes)
        places = (image, layout.pitch * item_bytes, layout.plane * item_bytes)
        if not any(place % access_bytes for place in places):
            return items
    return 1


def fill_curve(arguments: RowArguments | FinishArguments, curve: TransferCurve | None) -> None:
    """Set the constants of a curve; without one they stay zero."""
    values = () if curve is None else (*curve.constants, curve.slope)
    arguments.curve[: len(values)] = values
