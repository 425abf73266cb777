"""Surfaces for NVENC in GPU memory: frames go from the stitcher to the encoder without leaving the GPU.

Not yet run on hardware; see `pipeline.encode.nvenc`.

NVENC reads a surface until the picture's packet is out, which with B-frames and lookahead is many frames later, so each
frame is copied once within the GPU: 12 MB at 2160p, some microseconds. libav says through DLPack's deleter when it is
done, and the surface is used again. It is registered with NVENC by its address, so none is freed before the encoder is.
"""

from __future__ import annotations

from typing import Any

import av
import av.video.frame

from engines.gpu import Device, DeviceBuffer
from pipeline.encode.base import EncodeSpec
from pipeline.encode.dlpack import DevicePlaneTensor
from pipeline.frames import Frame


class DeviceSurfaces:
    """Pictures from planes in GPU memory: two, luma and interleaved chroma, 10-bit samples in the upper bits.

    Args:
        spec: Encoder, size and sample format.
        device: The GPU that holds the frames; stays the caller's.

    Raises:
        ValueError: The encoder takes no surfaces of this format.
    """

    context_format = "cuda"

    def __init__(self, spec: EncodeSpec, device: Device) -> None:
        self._sw_format = spec.encoder.surface_format(spec.format)
        if not self._sw_format:
            raise ValueError(f"{spec.encoder.name} takes no GPU surface of {spec.format}")
        self._device = device
        self._height, self._width = spec.height, spec.width
        self._itemsize = 1 if spec.format.bit_depth == 8 else 2
        self._pitch_bytes = 0  # of the surfaces: the first frame's
        device.make_current()
        self._stream = device.make_stream()
        # The context that is current, not the primary one by libav's own hands: libav refuses a primary context that
        # somebody else has made with other flags.
        self._context = av.video.frame.CudaContext(device_id=device.index, primary_ctx=False, current_ctx=True)
        self._surfaces: list[_Surface] = []
        self._is_closed = False

    @property
    def surface_count(self) -> int:
        """Surfaces made so far: as many as the encoder has held at once."""
        return len(self._surfaces)

    def make(self, frame: Frame) -> av.VideoFrame:
        """Copy a frame's planes into a free surface; blocks until they are copied.

        Args:
            frame: Two ``pipeline.cuda.DevicePlane`` of equal pitch.

        Raises:
            ValueError: The frame is not in GPU memory or not in that layout.
            OutOfDeviceMemory: No room for another surface.
            InferenceFailed: The copy failed on the GPU.
        """
        self._check(frame)
        self._device.make_current()  # libav looks for the current context when the first surface is handed over
        surface = next((free for free in self._surfaces if not free.held_count), None)
        if surface is None:
            self._pitch_bytes = self._pitch_bytes or frame.planes[0].pitch_bytes
            rows = self._height + self._height // 2
            surface = _Surface(self._device.allocate(rows * self._pitch_bytes))
            self._surfaces.append(surface)
        if frame.ready is not None:
            self._stream.wait_for(frame.ready)
        luma, chroma = frame.planes
        target = surface.buffer.pointer
        for plane, rows in ((luma, self._height), (chroma, self._height // 2)):
            self._copy_rows(plane, target, rows=rows)
            target += rows * self._pitch_bytes
        self._stream.record().wait()
        return self._picture(surface)

    def close(self) -> None:
        """Free the surfaces, those that libav still holds when it lets go; the encoder must be gone. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stream.close()
        for surface in self._surfaces:
            surface.close()

    def _check(self, frame: Frame) -> None:
        name = f"frame {frame.stamp.index}"
        if not frame.is_on_device:
            raise ValueError(f"{name} is in host memory, this encoder was opened for GPU memory")
        if len(frame.planes) != 2 or (self._itemsize == 2 and not frame.msb_aligned):
            raise ValueError(f"{name} is not {self._sw_format}, which NVENC reads: {len(frame.planes)} planes")

    def _copy_rows(self, plane: Any, target: int, *, rows: int) -> None:
        """Copy a plane: at once where the pitches agree, else row by row."""
        row_bytes = self._width * self._itemsize
        if plane.pitch_bytes == self._pitch_bytes:
            self._stream.copy(plane.pointer, target, bytes=(rows - 1) * self._pitch_bytes + row_bytes)
            return
        for row in range(rows):
            self._stream.copy(
                plane.pointer + row * plane.pitch_bytes, target + row * self._pitch_bytes, bytes=row_bytes
            )

    def _picture(self, surface: _Surface) -> av.VideoFrame:
        """Hand a surface to libav, both planes in one block as NVENC wants them."""
        luma = surface.hold(
            surface.buffer.pointer,
            rows=self._height,
            columns=self._width,
            pitch_bytes=self._pitch_bytes,
            itemsize=self._itemsize,
            device_index=self._device.index,
        )
        chroma = surface.hold(
            surface.buffer.pointer + self._height * self._pitch_bytes,
            rows=self._height // 2,
            columns=self._width,
            pitch_bytes=self._pitch_bytes,
            itemsize=self._itemsize,
            device_index=self._device.index,
        )
        return av.VideoFrame.from_dlpack((luma, chroma), format=self._sw_format, cuda_context=self._context)


class _Surface:
    """One block of device memory, and how many of its planes libav holds."""

    def __init__(self, buffer: DeviceBuffer) -> None:
        self.buffer = buffer
        self.held_count = 0
        self._is_done = False

    def hold(self, pointer: int, **layout: int) -> DevicePlaneTensor:
        """A plane of it, to be handed to libav."""
        return DevicePlaneTensor(pointer, on_take=self._take, on_release=self._let_go, **layout)

    def close(self) -> None:
        """Free it as soon as nobody holds it."""
        self._is_done = True
        if not self.held_count:
            self.buffer.close()

    def _take(self) -> None:
        self.held_count += 1

    def _let_go(self) -> None:
        self.held_count -= 1
        if self._is_done and not self.held_count:
            self.buffer.close()
