"""Pictures of integer samples in device memory: addresses and pitches, no ownership."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.frames import SampleFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlane:
    """One plane of samples in device memory."""

    pointer: int
    """Device address of the first sample, a multiple of the sample's size."""
    pitch_bytes: int
    """From one row to the next, a multiple of the sample's size."""
    height: int
    """Rows."""
    width: int
    """Samples in a row; an interleaved chroma plane counts those of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePicture:
    """One picture in device memory. Owns nothing; whoever passes it on keeps the memory alive."""

    planes: tuple[DevicePlane, ...]
    """Three, as ``SampleFormat`` names them, or two: Y' and interleaved CbCr (NV12, P010, P016)."""
    format: SampleFormat
    """What the samples mean."""
    msb_aligned: bool = False
    """Whether samples of 9 to 15 bits stand in the upper bits of their 16 (P010, P012) rather than the lower."""

    @property
    def is_interleaved(self) -> bool:
        """Whether Cb and Cr share a plane."""
        return len(self.planes) == 2

    @property
    def shift_bits(self) -> int:
        """How far samples stand above bit 0."""
        return 16 - self.format.bit_depth if self.msb_aligned and self.format.bit_depth > 8 else 0

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(address, bytes) of each plane, from its first to its last sample."""
        itemsize = np.dtype(self.format.dtype).itemsize
        return tuple((p.pointer, (p.height - 1) * p.pitch_bytes + p.width * itemsize) for p in self.planes)

    def check(self, format: SampleFormat, *, height: int, width: int) -> None:
        """Check that this is a picture of that format and size.

        Raises:
            ValueError: It is not, or an address or pitch is not a multiple of the sample's size.
        """
        if self.format != format:
            raise ValueError(f"the kernels are made for {format}, not {self.format}")
        luma, *chroma = format.plane_shapes(height=height, width=width)
        wanted = [luma, *chroma]
        if self.is_interleaved and format.matrix != "rgb":
            rows, columns = chroma[0]
            wanted = [luma, (rows, 2 * columns)]
        found = [(plane.height, plane.width) for plane in self.planes]
        if found != wanted:
            raise ValueError(f"{width}x{height} in {format.subsampling} needs planes of shapes {wanted}, not {found}")
        itemsize = np.dtype(format.dtype).itemsize
        for plane in self.planes:
            if plane.pointer % itemsize or plane.pitch_bytes % itemsize or plane.pitch_bytes < plane.width * itemsize:
                raise ValueError(
                    f"a plane of {plane.width} samples of {itemsize} bytes cannot lie at {plane.pointer:#x} with "
                    f"{plane.pitch_bytes} bytes from row to row"
                )
