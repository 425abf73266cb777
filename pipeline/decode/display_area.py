"""Which part of decoded images is shown, and which way up: container cropping and display matrices."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.decode.sidedata import read_side_data
from pipeline.media import Crop
from pipeline.tags import PlanarLayout, layout_of

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MATRIX = struct.Struct("=9i")
"""Three rows of a 3x3 matrix, columns 0 and 1 in 16.16 fixed point. Source: libavutil/display.h."""
_TURN_TOLERANCE = 1 / 128
"""How far a matrix may be from a rotation: the fixed point's 2^-16 and what players round are far below, a picture that
is stretched by one pixel of 128 is just beyond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How a picture is turned before it is shown."""

    rotation_deg: int = 0
    """Counter-clockwise, -180 to 180."""
    is_mirrored: bool = False
    """Whether it is then mirrored left to right."""
    is_distorted: bool = False
    """Whether the matrix also stretches or shears, which nothing here keeps."""

    @property
    def words(self) -> str:
        """Degrees from 0 to 359, and whether it is mirrored."""
        return f"{self.rotation_deg % 360}{', mirrored' if self.is_mirrored else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayArea:
    """What is shown of a film's images, and how."""

    height: int
    """Pixels that are left when ``crop`` is gone, before turning."""
    width: int
    crop: Crop
    orientation: Orientation
    guesses: tuple[str, ...]
    """What is not done as the container says, one sentence each."""


def read_display_area(frame: VideoFrame, crop: Crop) -> DisplayArea:
    """Find out what is shown of a film's images.

    Args:
        frame: The first one, of a format that ``layout_of`` knows.
        crop: What the container says.
    """
    layout = layout_of(frame.format.name)
    if layout is None:
        raise ValueError(f"{frame.format.name} cannot be read into planes")
    crop, guesses = fit_crop(crop, layout, height=frame.height, width=frame.width)
    orientation = read_orientation(frame)
    if orientation.is_distorted:
        guesses += ("the display matrix stretches or shears the picture: only rotation and mirroring are kept",)
    return DisplayArea(
        height=frame.height - crop.top - crop.bottom,
        width=frame.width - crop.left - crop.right,
        crop=crop,
        orientation=orientation,
        guesses=guesses,
    )


def read_orientation(frame: VideoFrame) -> Orientation:
    """What a frame's display matrix does to the picture."""
    matrix = read_side_data(frame, "DISPLAYMATRIX")
    if len(matrix) < _MATRIX.size:
        return Orientation(rotation_deg=frame.rotation)  # also of a matrix that PyAV does not show
    a, b, _, c, d, *_ = (value / 65536 for value in _MATRIX.unpack_from(matrix))
    is_mirrored = a * d - b * c < 0
    if is_mirrored:  # mirroring left to right negates what x becomes. Source: libavutil/display.c
        a, c = -a, -c
    angle = math.atan2(-b, a)
    errors = (math.cos(angle) - a, math.cos(angle) - d, -math.sin(angle) - b, math.sin(angle) - c)
    return Orientation(
        rotation_deg=round(math.degrees(angle)),
        is_mirrored=is_mirrored,
        is_distorted=max(map(abs, errors)) > _TURN_TOLERANCE,
    )


def fit_crop(crop: Crop, layout: PlanarLayout, *, height: int, width: int) -> tuple[Crop, tuple[str, ...]]:
    """Make of a container's cropping one that planes can be cut to without moving chroma against luma.

    Args:
        crop: As the container says.
        layout: Of the images that are cropped.
        height, width: Of the images that are cropped, pixels.

    Returns:
        The cropping, and one sentence for what is not as the container says.
    """
    if crop == Crop():
        return crop, ()
    if crop.left + crop.right >= width or crop.top + crop.bottom >= height:
        return Crop(), (f"the container crops a picture of {width}x{height} to nothing: that is ignored",)
    # chroma that is not stored can be cut anywhere
    columns = 1 if layout.is_grey or layout.subsampling == "444" else 2
    rows = 2 if layout.subsampling == "420" and not layout.is_grey else 1
    left, top = crop.left // columns * columns, crop.top // rows * rows
    fitted = Crop(left=left, right=crop.right, top=top, bottom=crop.bottom)
    if fitted == crop:
        return fitted, ()
    return fitted, (
        f"the container crops {crop.left} columns at the left and {crop.top} rows at the top, where chroma cannot be"
        f" cut: {left} and {top} are cropped",
    )
