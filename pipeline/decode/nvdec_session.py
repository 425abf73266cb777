"""One decoding session of NVDEC through PyNvVideoCodec: packets in, surfaces out.

Written against PyNvVideoCodec 2.2.4. What its documentation does not say, and matters here:

- A surface lies in the decoder's own memory and is overwritten by the next call of ``Decode``: whatever reads it is put
  into the decoder's stream before that, which orders the two without the host.
- The time of a packet comes back with the picture that it holds only if times rise in display order; how what is sent
  there is chosen is told in ``pipeline.decode.nvdec_times``.
- The session has no ``close``: it ends with the object.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engines.errors import EngineError
from engines.gpu import Device, Stream
from pipeline.errors import SetupError

if TYPE_CHECKING:
    from av.packet import Packet

logger = logging.getLogger(__name__)

PACKAGE = "PyNvVideoCodec"
"""What is imported, and installed under the same name."""


class NvdecFailed(Exception):
    """PyNvVideoCodec refused something; its words in one line. Turned into a ``PipelineError`` by whoever knows the
    film.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """One decoded image in the decoder's memory, valid until the session's next ``decode``."""

    pointer: int
    """Device address of ``SurfaceLayout``'s block."""
    tag: int
    """The number that was sent with its packet (see ``decode``); one that never was if the library made it up."""
    height: int
    """Rows of luma."""
    columns: int
    """Samples in a row of the block; even."""
    sample_bytes: int
    """1 (NV12) or 2 (P016)."""


def load_nvdec() -> Any:
    """Import PyNvVideoCodec.

    Returns:
        The module.

    Raises:
        SetupError: It is not installed, or the driver has no video codec libraries.
    """
    try:
        return import_module(PACKAGE)
    except ImportError as exc:
        raise SetupError(
            f"{PACKAGE}, which NVDEC is reached through, cannot be imported: {first_line(exc)}",
            missing=PACKAGE,
            hint="pip install 'nightscale[nvidia]', or use decode.kind: libav",
        ) from exc
    except RuntimeError as exc:  # its way of saying that the driver's libraries are not there
        raise SetupError(
            f"{PACKAGE} finds no video codec driver: {first_line(exc)}",
            missing="the NVIDIA driver's video libraries",
            hint="in a container, run it with NVIDIA_DRIVER_CAPABILITIES=compute,utility,video; or decode.kind: libav",
        ) from exc


def first_line(error: Exception) -> str:
    """The first line of an error that has anything in it."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def library_errors(library: Any) -> tuple[type[Exception], ...]:
    """What PyNvVideoCodec raises."""
    return (library.PyNvVCException, library.PyNvVCExceptionUnsupported, RuntimeError)


class NvdecSession:
    """A decoder of one stream, in one thread.

    Args:
        library: PyNvVideoCodec.
        codec: Name in its ``cudaVideoCodec``.
        device: The GPU; current in this thread.
        stream: Where surfaces are written, and where everything that reads them must be put. Stays the caller's and
            outlives the session.

    Raises:
        NvdecFailed: No session can be opened.
    """

    def __init__(self, library: Any, *, codec: str, device: Device, stream: Stream) -> None:
        self._library = library
        self._stream = stream
        try:
            self._decoder: Any = library.CreateDecoder(
                gpuid=device.index,
                codec=getattr(library.cudaVideoCodec, codec),
                cudacontext=0,  # the device's primary context, which the stream belongs to
                cudastream=stream.handle,
                usedevicememory=True,
                bWaitForSessionWarmUp=False,  # named, for it picks the overload without asynchronous allocations
            )
        except library_errors(library) as exc:
            raise NvdecFailed(f"no decoding session can be opened: {first_line(exc)}") from exc

    def decode(self, packet: Packet[Any] | None, *, tag: int = 0) -> list[Surface]:
        """Decode a packet, or at the end what is left.

        Args:
            packet: In the form that NVDEC takes (start codes for H.264 and HEVC), not empty; None to drain.
            tag: Comes back with the picture, provided that tags rise in display order.

        Returns:
            What can be shown now, in display order; overwritten by the next call.

        Raises:
            NvdecFailed: The library or the GPU refused it.
        """
        fed = self._library.PacketData()
        if packet is not None:
            fed.bsl_data = packet.buffer_ptr
            fed.bsl = packet.buffer_size
            fed.pts = tag
        try:
            return [self._describe(frame) for frame in self._decoder.Decode(fed)]
        except library_errors(self._library) as exc:
            raise NvdecFailed(first_line(exc)) from exc

    def close(self) -> None:
        """Wait for what reads its surfaces and end the session. Can be called twice."""
        if self._decoder is None:
            return
        try:
            self._stream.synchronize()
        except EngineError as exc:
            logger.warning("a decoding session was not ended in order: %s", exc)
        finally:
            self._decoder = None

    def _describe(self, frame: Any) -> Surface:
        formats = self._library.Pixel_Format
        sizes = {formats.NV12: 1, formats.P016: 2}
        if frame.format not in sizes:
            raise NvdecFailed(f"surfaces are {frame.format}, not NV12 or P016")
        height, columns = frame.cuda()[0].shape[:2]
        return Surface(
            pointer=int(frame.GetPtrToPlane(0)),
            tag=int(frame.timestamp),
            height=int(height),
            columns=int(columns),
            sample_bytes=sizes[frame.format],
        )
