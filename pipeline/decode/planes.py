"""Views of a decoded image's memory as the three planes of a ``Frame``, without copying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import SampleFormat
from pipeline.media import Crop
from pipeline.tags import PlanarLayout

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Planes = tuple[Any, Any, Any]


class PlaneReader:
    """Presents libav frames of one film as planes.

    Args:
        sample_format: What the planes are to be; the same for the whole film.
        height, width: Size of the planes in pixels: that of the part which is shown.
        crop: What of the images is beyond it; left and top in whole chroma samples, as ``fit_crop`` makes them.
    """

    def __init__(self, sample_format: SampleFormat, *, height: int, width: int, crop: Crop | None = None) -> None:
        self._format = sample_format
        self._shapes = sample_format.plane_shapes(height=height, width=width)
        crop = crop or Crop()
        chroma_top = crop.top // 2 if sample_format.subsampling == "420" else crop.top
        chroma_left = crop.left if sample_format.subsampling == "444" else crop.left // 2
        self._corners = ((crop.top, crop.left), (chroma_top, chroma_left), (chroma_top, chroma_left))
        self._neutral = np.full(self._shapes[1], 1 << (sample_format.bit_depth - 1), dtype=sample_format.dtype)
        self._neutral.flags.writeable = False

    def read(self, frame: VideoFrame, layout: PlanarLayout) -> tuple[Planes, VideoFrame]:
        """The planes of an image, read-only, and the libav frame that owns their memory.

        The memory is the decoder's own: it may still predict other images from it, so nobody may write there. Only
        big-endian samples are copied, and formats that are not planar rewritten by libswscale, without a change of
        range or matrix.

        Args:
            frame: A decoded frame in host memory, of the film's size before it is cropped.
            layout: ``layout_of`` the frame's pixel format.
        """
        if frame.format.name != layout.pixel_format:
            frame = self._repack(frame, layout)
        if layout.is_grey:
            return (self._view(frame, 0, layout), self._neutral, self._neutral), frame
        # libav stores G, B, R
        order = (2, 0, 1) if layout.is_rgb else (0, 1, 2)
        first, second, third = (self._view(frame, number, layout) for number in order)
        return (first, second, third), frame

    def _view(self, frame: VideoFrame, number: int, layout: PlanarLayout) -> NDArray[Any]:
        # R, G and B have the same shape, so a plane's own number serves for all formats
        plane = frame.planes[number]
        height, width = self._shapes[number]
        stride_bytes = plane.line_size
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, abs(stride_bytes))
        if stride_bytes < 0:
            rows = rows[::-1]
        top, left = self._corners[number]
        sample_bytes = np.dtype(self._format.dtype).itemsize
        start, stop = left * sample_bytes, (left + width) * sample_bytes
        samples = rows[top : top + height, start:stop].view(self._format.dtype)
        if layout.is_big_endian:
            samples = samples.byteswap()
        samples.flags.writeable = False
        return samples

    def _repack(self, frame: VideoFrame, layout: PlanarLayout) -> VideoFrame:
        range_code = 2 if self._format.full_range else 1  # AVColorRange; the same on both sides: no conversion
        for pixel_format in filter(None, (layout.via, layout.pixel_format)):
            frame = frame.reformat(
                format=pixel_format, src_color_range=range_code, dst_color_range=range_code, threads=1
            )
        return frame
