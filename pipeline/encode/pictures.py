"""From our frames to libav's pictures: host planes are copied into one, GPU planes are lent to it.

Either way the caller may release the frame when ``make`` returns, and the picture lives as long as libav wants it:
encoders go on reading after ``encode`` has returned.
"""

from __future__ import annotations

from typing import Any, Protocol

import av
import numpy as np

from pipeline.encode.base import EncodeSpec
from pipeline.encode.entry import PixelFormat
from pipeline.frames import Frame


class PictureMaker(Protocol):
    """Makes the pictures of one encoder."""

    context_format: str
    """libav pixel format that the encoder is opened for."""

    def make(self, frame: Frame) -> av.VideoFrame:
        """A picture of the frame's planes, without times and colour description; the frame may be released at once.

        Raises:
            ValueError: The frame is not in the memory that this maker reads.
            OutOfDeviceMemory: No room for a copy on the GPU.
        """
        ...

    def close(self) -> None:
        """Give back what no picture holds any more; the rest goes when its picture goes. Can be called twice."""
        ...


class HostPictures:
    """Pictures from numpy planes.

    Args:
        spec: Size and encoder.
        pixel_format: The encoder's layout for the spec's sample format.
    """

    def __init__(self, spec: EncodeSpec, pixel_format: PixelFormat) -> None:
        self._spec = spec
        self._pixel_format = pixel_format
        self.context_format = pixel_format.name

    def make(self, frame: Frame) -> av.VideoFrame:
        """See ``PictureMaker.make``."""
        if frame.is_on_device:
            raise ValueError(f"frame {frame.stamp.index} is in GPU memory, this encoder was opened for host memory")
        picture = av.VideoFrame(self._spec.width, self._spec.height, self._pixel_format.name)
        _copy_planes(frame, picture, self._pixel_format)
        return picture

    def close(self) -> None:
        """Nothing to give back."""


def _copy_planes(frame: Frame, picture: av.VideoFrame, pixel_format: PixelFormat) -> None:
    rows = [_rows_of(plane, pixel_format) for plane in picture.planes]
    ordered = [frame.planes[index] for index in pixel_format.plane_order]
    if pixel_format.is_packed:
        targets = [rows[0][:, position : 3 * frame.width : 3] for position in range(3)]
    elif pixel_format.is_semiplanar:
        chroma_columns = 2 * ordered[1].shape[1]
        targets = [rows[0][:, : frame.width], *(rows[1][:, start:chroma_columns:2] for start in range(2))]
    else:
        targets = [plane[:, : source.shape[1]] for plane, source in zip(rows, ordered, strict=True)]
    for target, source in zip(targets, ordered, strict=True):
        if pixel_format.shift_bits:
            np.left_shift(source, pixel_format.shift_bits, out=target)
        else:
            target[...] = source


def _rows_of(plane: Any, pixel_format: PixelFormat) -> Any:
    """Writable view of a libav plane, padding columns included."""
    samples = np.frombuffer(plane, dtype=pixel_format.dtype)
    return samples.reshape(plane.height, plane.line_size // samples.itemsize)
