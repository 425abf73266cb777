"""Frames in GPU memory for NVENC: they go from the stitcher to the encoder without leaving the GPU, and uncopied.

Run on an H200 up to the session, which that GPU refuses: libav refers to our memory without a copy, reads it in the
order of the events, and lets go (tests/gpu/test_nvenc_gpu.py). What NVENC does with it is not yet run on hardware.

A libav picture made by DLPack is a reference to our memory. libav hands the reference on to NVENC and drops it when the
picture's packet is out, which with B-frames and lookahead is many frames later; DLPack's deleter says so. Until then
the frame's lease is shared, and its pool does not hand the buffer out again. NVENC knows buffers by their address, so
the pool must outlive the encoder.

Only as many frames are held as the pool was planned for (`count_held_pictures`). If NVENC holds more, the next ones are
copied within the GPU, so that the stitcher always gets another buffer: nobody can say before a session is open how many
B-frames a driver's preset has.

The order on the GPU is CUDA's: libav gives NVENC our stream for its input (``nvEncSetIOCudaStreams``), and that stream
waits for the frame's event. PyAV takes a stream on CUDA device 0 only; on another one the host waits.
"""

from __future__ import annotations

import logging
from typing import Any

import av
import av.video.frame

from engines.gpu import Device, DeviceBuffer
from pipeline.encode.base import EncodeSpec
from pipeline.encode.dlpack import PlaneTensor
from pipeline.encode.held_pictures import count_held_pictures
from pipeline.frames import Frame, Releasable

_LOGGER = logging.getLogger(__name__)

_PITCH_MULTIPLE_BYTES = 4
"""What rows of an NVENC input are a multiple of: nvEncodeAPI.h, ``NV_ENC_REGISTER_RESOURCE`` for CUDA memory."""


class DeviceSurfaces:
    """Pictures from planes in GPU memory: two, luma and interleaved chroma, 10-bit samples in the upper bits.

    Args:
        spec: Encoder, size and sample format.
        device: The GPU that holds the frames; stays the caller's.

    Raises:
        ValueError: The encoder takes no surfaces of this format or size.
    """

    context_format = "cuda"

    def __init__(self, spec: EncodeSpec, device: Device) -> None:
        self._sw_format = spec.surface_format
        if not self._sw_format:
            raise ValueError(f"{spec.encoder.name} takes no GPU surface of {spec.format}")
        if spec.height % 2 or spec.width % 2:
            raise ValueError(f"{spec.encoder.name} takes no GPU surface of {spec.width}x{spec.height}: sides are odd")
        self._encoder_name = spec.encoder.name
        self._device = device
        self._height, self._width = spec.height, spec.width
        self._itemsize = 1 if spec.format.bit_depth == 8 else 2
        self._most_lent = count_held_pictures(spec)
        self._lent: list[None] = []  # an entry per plane that libav holds; lists grow and shrink atomically
        self._surfaces: list[_Surface] = []
        self._is_closed = False
        device.make_current()
        self._stream = device.make_stream()
        self._is_ordered = device.index == 0
        # The context that is current, not the primary one by libav's own hands: libav refuses a primary context that
        # somebody else has made with other flags.
        self._context: av.video.frame.CudaContext | None = av.video.frame.CudaContext(
            device_id=device.index,
            primary_ctx=False,
            current_ctx=True,
            cuda_stream=self._stream.handle if self._is_ordered else None,
        )

    @property
    def surface_count(self) -> int:
        """Surfaces of our own made so far, for frames that could not be lent."""
        return len(self._surfaces)

    @property
    def lent_count(self) -> int:
        """Frames that libav holds now where they are."""
        return -(-len(self._lent) // 2)

    def make(self, frame: Frame) -> av.VideoFrame:
        """Lend a frame to libav, which need not be ready; or copy it, and block until it is copied.

        Args:
            frame: Two ``pipeline.cuda.DevicePlane``. Lent if its lease can be shared and the second plane directly
                follows the first one with the same pitch.

        Raises:
            ValueError: The frame is not in GPU memory or not in that layout.
            OutOfDeviceMemory: No room for another surface.
            InferenceFailed: What makes the frame, or the copy, failed on the GPU.
        """
        self._check(frame)
        self._device.make_current()  # libav looks for the current context when the first picture is handed over
        if frame.ready is not None:
            self._stream.wait_for(frame.ready)
        if frame.is_shareable and self._is_one_block(frame) and self.lent_count < self._most_lent:
            if not self._is_ordered:
                self._stream.record().wait()
            luma = frame.planes[0]
            lent = (_LentPlane(frame, self._lent), _LentPlane(frame, self._lent))
            return self._picture(luma.pointer, pitch_bytes=luma.pitch_bytes, holders=lent)
        return self._copy(frame)

    def check_returned(self) -> None:
        """Nothing to check: what libav refers to is held until it lets go."""

    def close(self) -> None:
        """Free the surfaces, those that libav still holds when it lets go; the encoder must be gone. Idempotent.

        Raises:
            InferenceFailed: What makes a frame failed on the GPU, so that not all that was encoded is picture.
        """
        if self._is_closed:
            return
        self._is_closed = True
        # Now and by name: PyAV's context fails in its destructor, and leaks what it has of the GPU, if the garbage
        # collector gets it as part of a cycle, such as an error and its traceback.
        self._context = None
        try:
            self._stream.close()
        finally:
            for surface in self._surfaces:
                surface.close()

    def _check(self, frame: Frame) -> None:
        name = f"frame {frame.stamp.index}"
        if not frame.is_on_device:
            raise ValueError(f"{name} is in host memory, this encoder was opened for GPU memory")
        if len(frame.planes) != 2 or (self._itemsize == 2 and not frame.msb_aligned):
            raise ValueError(f"{name} is not {self._sw_format}, which NVENC reads: {len(frame.planes)} planes")

    def _is_one_block(self, frame: Frame) -> bool:
        """Whether the planes lie as NVENC reads them, which is told the address and the pitch of the first only."""
        luma, chroma = frame.planes
        follows = chroma.pointer == luma.pointer + self._height * luma.pitch_bytes
        return bool(
            follows and chroma.pitch_bytes == luma.pitch_bytes and luma.pitch_bytes % _PITCH_MULTIPLE_BYTES == 0
        )

    def _copy(self, frame: Frame) -> av.VideoFrame:
        """Copy a frame, for which the stream waits already, into a free surface."""
        surface = next((free for free in self._surfaces if not free.held_count), None)
        if surface is None:
            surface = self._add_surface(frame)
        luma, chroma = frame.planes
        target = surface.buffer.pointer
        for plane, rows in ((luma, self._height), (chroma, self._height // 2)):
            self._copy_rows(plane, target, pitch_bytes=surface.pitch_bytes, rows=rows)
            target += rows * surface.pitch_bytes
        self._stream.record().wait()  # the caller gives the frame back when this returns
        return self._picture(surface.buffer.pointer, pitch_bytes=surface.pitch_bytes, holders=(surface, surface))

    def _add_surface(self, frame: Frame) -> _Surface:
        if frame.is_shareable and not self._surfaces:
            _LOGGER.info(
                "%s holds more than %d pictures at once: further ones are copied", self._encoder_name, self._most_lent
            )
        row_bytes = self._width * self._itemsize
        pitch_bytes = -(-row_bytes // _PITCH_MULTIPLE_BYTES) * _PITCH_MULTIPLE_BYTES
        if frame.planes[0].pitch_bytes % _PITCH_MULTIPLE_BYTES == 0:
            pitch_bytes = frame.planes[0].pitch_bytes  # a plane is one copy then
        rows = self._height + self._height // 2
        surface = _Surface(self._device.allocate(rows * pitch_bytes), pitch_bytes=pitch_bytes)
        self._surfaces.append(surface)
        return surface

    def _copy_rows(self, plane: Any, target: int, *, pitch_bytes: int, rows: int) -> None:
        """Copy a plane: at once where the pitches agree, else row by row."""
        row_bytes = self._width * self._itemsize
        if plane.pitch_bytes == pitch_bytes:
            self._stream.copy(plane.pointer, target, bytes=(rows - 1) * pitch_bytes + row_bytes)
            return
        for row in range(rows):
            self._stream.copy(plane.pointer + row * plane.pitch_bytes, target + row * pitch_bytes, bytes=row_bytes)

    def _picture(
        self, pointer: int, *, pitch_bytes: int, holders: tuple[_LentPlane | _Surface, _LentPlane | _Surface]
    ) -> av.VideoFrame:
        """A libav picture that refers to one block of memory, with a holder for either plane."""
        starts = ((pointer, self._height), (pointer + self._height * pitch_bytes, self._height // 2))
        luma, chroma = (
            PlaneTensor(
                start,
                rows=rows,
                columns=self._width,
                pitch_bytes=pitch_bytes,
                itemsize=self._itemsize,
                device_index=self._device.index,
                on_take=holder.take,
                on_release=holder.let_go,
            )
            for (start, rows), holder in zip(starts, holders, strict=True)
        )
        return av.VideoFrame.from_dlpack((luma, chroma), format=self._sw_format, cuda_context=self._context)


class _LentPlane:
    """One plane of a frame that libav reads where it is."""

    def __init__(self, frame: Frame, lent: list[None]) -> None:
        self._frame: Frame | None = frame
        self._lent = lent
        self._share: Releasable | None = None

    def take(self) -> None:
        """Hold the frame's buffer."""
        if self._frame is not None:
            self._share, self._frame = self._frame.share(), None
            self._lent.append(None)

    def let_go(self) -> None:
        """libav has done with it."""
        if self._share is not None:
            self._lent.pop()
            share, self._share = self._share, None
            share.release()


class _Surface:
    """One block of device memory of our own, and how many of its planes libav holds."""

    def __init__(self, buffer: DeviceBuffer, *, pitch_bytes: int) -> None:
        self.buffer = buffer
        self.pitch_bytes = pitch_bytes
        self.held_count = 0
        self._is_done = False

    def take(self) -> None:
        """Hold a plane of it."""
        self.held_count += 1

    def let_go(self) -> None:
        """libav has done with a plane."""
        self.held_count -= 1
        if self._is_done and not self.held_count:
            self.buffer.close()

    def close(self) -> None:
        """Free it as soon as nobody holds it."""
        self._is_done = True
        if not self.held_count:
            self.buffer.close()
