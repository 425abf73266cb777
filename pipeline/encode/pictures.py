"""From our frames to libav's pictures: planes are lent to it where that is safe, and copied elsewhere.

Encoders go on reading after ``encode`` has returned. What they read is their own copy of a host frame; libx264, libx265
and libsvtav1 make one themselves before ``encode`` returns (``EncoderSpec.copies_input``), so that a second one would
be for nothing. Of a frame on a GPU they hold the buffer.
"""

from __future__ import annotations

from typing import Any, Protocol

import av
import numpy as np

from pipeline.encode.base import EncodeSpec
from pipeline.encode.dlpack import KIND_HOST, PlaneTensor
from pipeline.encode.entry import PixelFormat
from pipeline.frames import Frame, Samples


class PictureMaker(Protocol):
    """Makes the pictures of one encoder."""

    context_format: str
    """libav pixel format that the encoder is opened for."""

    def make(self, frame: Frame) -> av.VideoFrame:
        """A picture of the frame's planes, without times and colour description.

        The frame may be released as soon as the encoder has returned from it.

        Raises:
            ValueError: The frame is not in the memory that this maker reads.
            OutOfDeviceMemory: No room for a copy on the GPU.
        """
        ...

    def check_returned(self) -> None:
        """Make sure that the caller may release the last frame, which the encoder has returned from.

        Raises:
            RuntimeError: libav still refers to memory that is not its own and not held: a defect.
        """
        ...

    def close(self) -> None:
        """Give back what no picture holds any more; the rest goes when its picture goes. Can be called twice."""
        ...


class HostPictures:
    """Pictures from numpy planes, lent to encoders that copy them anyway.

    Args:
        spec: Size and encoder.
        pixel_format: The encoder's layout for the spec's sample format.
    """

    def __init__(self, spec: EncodeSpec, pixel_format: PixelFormat) -> None:
        self._spec = spec
        self._pixel_format = pixel_format
        self.context_format = pixel_format.name
        is_direct = not (pixel_format.is_packed or pixel_format.is_semiplanar or pixel_format.shift_bits)
        # PyAV takes no planes of pictures that are not whole chroma samples
        is_whole = spec.format.subsampling == "444" or (spec.height % 2 == 0 and spec.width % 2 == 0)
        self._lends = spec.encoder.copies_input and is_direct and is_whole
        self._lent: list[None] = []  # an entry per plane that libav refers to; lists grow and shrink atomically

    @property
    def lent_count(self) -> int:
        """Planes that libav refers to now where they are."""
        return len(self._lent)

    def make(self, frame: Frame) -> av.VideoFrame:
        """See ``PictureMaker.make``."""
        if frame.is_on_device:
            raise ValueError(f"frame {frame.stamp.index} is in GPU memory, this encoder was opened for host memory")
        if self._lends and all(_is_lendable(plane) for plane in frame.planes):
            return self._lend(frame)
        picture = av.VideoFrame(self._spec.width, self._spec.height, self._pixel_format.name)
        _copy_planes(frame, picture, self._pixel_format)
        return picture

    def check_returned(self) -> None:
        """See ``PictureMaker.check_returned``."""
        if self._lent:
            raise RuntimeError(f"{self._spec.encoder.name} still reads a picture that it should have copied")

    def close(self) -> None:
        """Nothing to give back."""

    def _lend(self, frame: Frame) -> av.VideoFrame:
        planes = (frame.planes[index] for index in self._pixel_format.plane_order)
        return av.VideoFrame.from_dlpack([self._tensor(plane) for plane in planes], format=self._pixel_format.name)

    def _tensor(self, plane: Samples) -> PlaneTensor:
        """A plane for libav; what is called at the end keeps its memory alive until then."""

        def let_go(_memory: Samples = plane) -> None:
            self._lent.pop()

        return PlaneTensor(
            plane.ctypes.data,
            rows=plane.shape[0],
            columns=plane.shape[1],
            pitch_bytes=plane.strides[0],
            itemsize=plane.itemsize,
            device_index=0,
            on_take=lambda: self._lent.append(None),
            on_release=let_go,
            kind=KIND_HOST,
        )


def _is_lendable(plane: Samples) -> bool:
    """Whether libav can be told where the samples are: an address and a whole number of samples from row to row."""
    row_bytes, sample_bytes = plane.strides
    return (
        sample_bytes == plane.itemsize
        and row_bytes >= plane.shape[1] * plane.itemsize
        and (row_bytes % plane.itemsize == 0)
    )


def _copy_planes(frame: Frame, picture: av.VideoFrame, pixel_format: PixelFormat) -> None:
    rows = [_rows_of(plane, pixel_format) for plane in picture.planes]
    ordered = [frame.planes[index] for index in pixel_format.plane_order]
    if pixel_format.is_packed:
        step = pixel_format.packed_samples
        if step > 3:
            rows[0][:, 3 : step * frame.width : step] = 0
        targets = [rows[0][:, position : step * frame.width : step] for position in range(3)]
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
