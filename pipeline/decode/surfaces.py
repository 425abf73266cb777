"""How NVDEC lays out a decoded image: one block with luma and, below it, Cb and Cr by turns (NV12, P016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import SampleFormat
from pipeline.media import VideoTrack

if TYPE_CHECKING:
    from pipeline.cuda import DevicePlane


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceLayout:
    """A 4:2:0 image as NVDEC hands it out: NV12 for 8 bits, P016 for more.

    Rows are as wide as the image, made even because Cb and Cr alternate; chroma follows luma without a gap, its rows
    rounded up. Samples of more than 8 bits stand in the upper bits of their 16. Source: PyNvVideoCodec 2.x,
    ``NvDecoder::GetWidth`` and ``GenerateNativeOutput``.
    """

    format: SampleFormat
    height: int
    """Of the image, pixels; odd ones too."""
    width: int

    @classmethod
    def of(cls, video: VideoTrack) -> SurfaceLayout:
        """The layout of a film's images."""
        return cls(format=video.format, height=video.height, width=video.width)

    @property
    def columns(self) -> int:
        """Samples in a row of the block."""
        return self.width + self.width % 2

    @property
    def pitch_bytes(self) -> int:
        """From one row to the next."""
        return self.columns * np.dtype(self.format.dtype).itemsize

    @property
    def bytes(self) -> int:
        """Length of the block."""
        return self.pitch_bytes * (self.height + self._chroma_rows)

    def on_device(self, pointer: int) -> tuple[DevicePlane, DevicePlane]:
        """See a block of device memory as luma and interleaved chroma.

        Args:
            pointer: Its address.
        """
        from pipeline.cuda import DevicePlane

        luma = DevicePlane(pointer=pointer, pitch_bytes=self.pitch_bytes, height=self.height, width=self.width)
        chroma = DevicePlane(
            pointer=pointer + self.pitch_bytes * self.height,
            pitch_bytes=self.pitch_bytes,
            height=self._chroma_rows,
            width=self.columns,
        )
        return luma, chroma

    def to_planes(self, block: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Copy a block of host memory into the three planes of a ``Frame``.

        Args:
            block: 1-D uint8 of ``bytes``; free again afterwards.

        Returns:
            Y', Cb and Cr with the shapes of ``format.plane_shapes``, samples in the low bits, read-only.
        """
        rows = block[: self.bytes].view(self.format.dtype).reshape(-1, self.columns)
        luma = rows[: self.height, : self.width]
        chroma = rows[self.height :]
        shift = 16 - self.format.bit_depth if self.format.bit_depth > 8 else 0
        planes = []
        for samples in (luma, chroma[:, 0::2], chroma[:, 1::2]):
            plane = np.ascontiguousarray(np.right_shift(samples, shift)) if shift else samples.copy()
            plane.flags.writeable = False
            planes.append(plane)
        first, second, third = planes
        return first, second, third

    @property
    def _chroma_rows(self) -> int:
        return (self.height + 1) // 2
