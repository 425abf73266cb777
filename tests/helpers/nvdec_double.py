"""PyNvVideoCodec of Python: decodes on the host with libav into a ``FakeGpu``'s memory, and breaks the rules that the
real one breaks.

Names, arguments and behaviour are those of PyNvVideoCodec 2.2.4 as far as the project uses them. What is faithful on
purpose, because it is easily got wrong:

- Surfaces lie in the decoder's own slots, and every ``Decode`` begins again at the first one. They are written when the
  stream gets there, not before; the ``FakeGpu`` finds whoever reads them in another order.
- The bitstream is read from the address in ``PacketData`` during the call.
- Images are cut to the display size from the coded image's upper left corner; where the display area does not begin
  there, they are not cut at all.
- A smaller image within a stream is scaled to the first one's size; a larger one is refused.
- Times do not always come back with the picture that they were sent with, see ``ParserTimes``.
- Pictures that look past the beginning of an HEVC stream are decoded and not shown, those of an MPEG-2 stream are not
  decoded. Those of an H.264 stream are shown here, damaged; not yet seen on hardware.
- There is no ``close``; a decoder ends with its last reference, and ``open_sessions`` counts those that have not.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import av
import numpy as np
from helpers.gpu_double import FakeGpu, GpuMisuse
from numpy.typing import NDArray

LIBAV_NAMES = {"H264": "h264", "HEVC": "hevc", "VP8": "vp8", "VP9": "vp9", "AV1": "libdav1d", "MPEG2": "mpeg2video"}
"""Codecs that the double decodes, and libav's decoders for them."""

IGNORE_CROP = 1 << 16
"""AV_CODEC_FLAG2_IGNORE_CROP of libavcodec."""

OUTPUT_CORRUPT = 1 << 3
"""AV_CODEC_FLAG_OUTPUT_CORRUPT of libavcodec."""


class PyNvVCException(Exception):
    """As the library's."""


class PyNvVCExceptionUnsupported(Exception):
    """As the library's: not a subclass of the other one."""


class PixelFormat(enum.Enum):
    NV12 = 3
    YUV444 = 4
    P016 = 5


class PacketData:
    """What is fed; only these names exist."""

    __slots__ = ("bsl", "bsl_data", "decode_flag", "dts", "duration", "key", "pos", "pts")

    def __init__(self) -> None:
        self.bsl = self.bsl_data = self.decode_flag = self.dts = self.duration = self.key = self.pos = self.pts = 0


@dataclass(frozen=True, slots=True)
class PlaneView:
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dataptr: int


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    timestamp: int
    format: PixelFormat
    views: tuple[PlaneView, ...]
    decoder_stream_event: int = 0

    def cuda(self) -> list[PlaneView]:
        return list(self.views)

    def GetPtrToPlane(self, planeIdx: int) -> int:
        return self.views[planeIdx].dataptr

    def getPTS(self) -> int:
        return self.timestamp


class NvdecLibrary:
    """The module. Hand it to whoever takes ``library``.

    Args:
        gpu: Whose memory and streams.
        refused: (codec, bits) that the GPU cannot decode.
        alter: Called with each image (NV12 or P016 rows) before it is written: for decoders that get it wrong.
        fail_after: Surfaces after which decoding fails.
        lost: Numbers of images, in display order, that each session decodes but does not show.
    """

    PyNvVCException = PyNvVCException
    PyNvVCExceptionUnsupported = PyNvVCExceptionUnsupported
    PacketData = PacketData
    Pixel_Format = PixelFormat
    cudaVideoCodec = enum.Enum("cudaVideoCodec", ["MPEG1", "MPEG4", "VC1", *LIBAV_NAMES])

    class cudaVideoChromaFormat:
        __members__: ClassVar = {"Monochrome": 0, "420": 1, "422": 2, "444": 3}

    def __init__(
        self,
        gpu: FakeGpu,
        *,
        refused: frozenset[tuple[str, int]] = frozenset({("H264", 10), ("AV1", 8)}),
        alter: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        fail_after: int | None = None,
        lost: frozenset[int] = frozenset(),
    ) -> None:
        self.gpu = gpu
        self.refused = refused
        self.alter = alter
        self.fail_after = fail_after
        self.lost = lost
        self.open_sessions = 0
        self.opened_count = 0
        self.decoded_count = 0
        self.largest = (8192, 8192)
        self.session_refusal = ""

    def GetDecoderCaps(self, *, gpuid: int, codec: Any, chromaformat: Any, bitdepth: int) -> dict[str, int]:
        assert gpuid == self.gpu.index
        assert chromaformat == self.cudaVideoChromaFormat.__members__["420"]
        supported = codec.name in LIBAV_NAMES and (codec.name, bitdepth) not in self.refused
        width, height = self.largest
        return {
            "supported": int(supported),
            "num_decoder_engines": 7,
            "width_min": 16,
            "height_min": 16,
            "width_max": width,
            "height_max": height,
            "mb_num_max": width * height // 256,
            "bitdepth": bitdepth,
            "codec_id": codec.value,
            "chromaformat_id": chromaformat,
        }

    def CreateDecoder(
        self,
        *,
        gpuid: int,
        codec: Any,
        cudacontext: int,
        cudastream: int,
        usedevicememory: bool,
        bWaitForSessionWarmUp: bool,
    ) -> Handle:
        assert gpuid == self.gpu.index
        assert cudacontext == 0, "the primary context"
        if bWaitForSessionWarmUp:
            raise GpuMisuse("waits for as many sessions as nobody opens")
        self.gpu.stream_of(cudastream)  # a stream of this device, not the default one
        if not usedevicememory:
            raise GpuMisuse("surfaces would be in the host's memory")
        if self.session_refusal:
            raise PyNvVCException(self.session_refusal)
        return Handle(Session(self, LIBAV_NAMES[codec.name], cudastream))


class ParserTimes:
    """What NVIDIA's parser does with times: it repairs them until it has seen that they rise in display order.

    While the first 16 pictures are shown, a time that is later than one of a waiting picture changes places with it,
    and then so do all after it. As seen on an H200. Source: ``VulkanVideoDecoder::display_picture`` in NVIDIA's open
    parser (github.com/KhronosGroup/Vulkan-Video-Samples).
    """

    WAITING = 32
    """Pictures that may wait; who is older than so many was never shown (there: its buffer has been used again)."""

    def __init__(self) -> None:
        self._sent_count = 0
        self._waiting: dict[int, int] = {}  # number of a packet: time that its picture will get
        self._checks_left = 16
        self._is_repairing = False

    def send(self, time: int) -> int:
        """Number of the next packet."""
        self._sent_count += 1
        self._waiting[self._sent_count] = time
        self._waiting.pop(self._sent_count - self.WAITING, None)
        return self._sent_count

    def forget(self, number: int) -> None:
        """A packet turned out to hold no picture."""
        self._waiting.pop(number, None)

    def show(self, number: int) -> int:
        """The time that comes with the picture of a packet."""
        time = self._waiting.pop(number)
        if self._is_repairing or self._checks_left:
            earliest = min(self._waiting, key=self._waiting.__getitem__, default=None)
            if earliest is not None and self._waiting[earliest] < time:
                self._is_repairing = True
                self._waiting[earliest], time = time, self._waiting[earliest]
            self._checks_left = max(0, self._checks_left - 1)
        return time


class Handle:
    """The library's ``PyNvDecoder``: what it is made of has no Python frames that an error could keep alive."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.Decode = session.decode

    def __del__(self) -> None:
        self._session.end()


class Session:
    """What happens behind a ``Handle``."""

    def __init__(self, library: NvdecLibrary, codec: str, stream: int) -> None:
        self._library = library
        self._stream = stream
        self._slots: list[Any] = []
        self._display: tuple[int, int] | None = None  # (height, width)
        self._shown = _make_context(codec)  # cropped: tells the display size
        self._coded = _make_context(codec)
        self._coded.flags2 |= IGNORE_CROP
        self._times = ParserTimes()
        self._shown_count = 0
        self._anchor_count = 0
        self._codec = codec
        library.open_sessions += 1
        library.opened_count += 1

    def end(self) -> None:
        self._library.open_sessions -= 1
        gpu = self._library.gpu
        for slot in self._slots:
            if gpu.failure is None:
                slot.close()
            else:  # a GPU that failed never does what is still in flight
                gpu.live.pop(slot.pointer)

    def decode(self, packet: PacketData) -> list[DecodedFrame]:
        payload = ctypes.string_at(packet.bsl_data, packet.bsl) if packet.bsl else None
        frames = []
        for number, (coded, tag) in enumerate(self._images(payload, packet.pts)):
            if self._library.fail_after is not None and self._library.decoded_count >= self._library.fail_after:
                raise PyNvVCException("cuvidDecodePicture returned error 999")
            self._library.decoded_count += 1
            frames.append(self._write(number, coded, tag))
        return frames

    def _images(self, payload: bytes | None, tag: int) -> list[tuple[Any, int]]:
        images = []
        number = self._times.send(tag) if payload is not None else 0
        if self._codec.startswith("mpeg") and payload is not None and not self._has_references(payload):
            self._times.forget(number)
        cropped: Any = None
        for context, is_coded in ((self._shown, False), (self._coded, True)):
            fed = None
            if payload is not None:
                fed = av.Packet(payload)
                fed.pts = number
            try:
                decoded = context.decode(fed)
            except av.error.FFmpegError:
                self._times.forget(number)
                continue  # concealed: nothing is said
            for image in decoded:
                if is_coded:
                    self._shown_count += 1
                    if self._shown_count - 1 not in self._library.lost:
                        images.append((image, self._times.show(image.pts)))
                elif self._display is None and cropped is None:
                    cropped = image
        if cropped is not None and self._display is None:
            self._display = _display_size(cropped, coded=images[0][0])
        return images

    def _has_references(self, payload: bytes) -> bool:
        """Whether an MPEG picture can be decoded; B-pictures need two others before them."""
        picture = payload.find(b"\0\0\1\0")
        if picture >= 0 and payload[picture + 5] >> 3 & 7 == 3:
            return self._anchor_count >= 2
        self._anchor_count += 1
        return True

    def _write(self, number: int, image: Any, tag: int) -> DecodedFrame:
        assert self._display is not None
        height, width = self._display
        if image.height < height or image.width < width:
            image = image.reformat(width=width + width % 2, height=height + height % 2)
        rows = _interleave(image, height=height, width=width)
        if self._library.alter is not None:
            rows = self._library.alter(rows)
        content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        gpu = self._library.gpu
        while len(self._slots) <= number:
            self._slots.append(gpu.allocate(content.nbytes))
        pointer = self._slots[number].pointer

        def run() -> None:
            gpu.bytes_at(pointer, content.nbytes)[:] = content

        gpu.enqueue(self._stream, run, name="nvdec", writes=((pointer, content.nbytes),))
        columns, itemsize = rows.shape[1], rows.itemsize
        return DecodedFrame(
            tag,
            PixelFormat.NV12 if itemsize == 1 else PixelFormat.P016,
            (
                PlaneView((height, columns, 1), (columns, 1, 1), pointer),
                PlaneView((height // 2, columns // 2, 2), (columns, 2, 1), pointer + height * columns * itemsize),
            ),
        )


def _make_context(codec: str) -> Any:
    context: Any = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    context.flags |= OUTPUT_CORRUPT
    return context


def _display_size(cropped: Any, *, coded: Any) -> tuple[int, int]:
    """(height, width) that the library takes for the display size."""
    ours, theirs = (
        np.frombuffer(image.planes[0], dtype=np.uint8).reshape(-1, image.planes[0].line_size)
        for image in (cropped, coded)
    )
    row_bytes = cropped.width * (2 if cropped.format.components[0].bits > 8 else 1)
    begins_alike = np.array_equal(ours[: cropped.height, :row_bytes], theirs[: cropped.height, :row_bytes])
    image = cropped if begins_alike else coded
    return image.height, image.width


def _interleave(image: Any, *, height: int, width: int) -> NDArray[Any]:
    """(rows of luma and chroma, columns made even) of NV12 or P016, cut from the upper left corner."""
    depth = image.format.components[0].bits
    dtype = np.uint8 if depth == 8 else np.uint16
    planes = []
    for plane in image.planes:
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size).view(dtype)
        planes.append(rows[:, : plane.width] << (16 - depth if depth > 8 else 0))
    columns, chroma_rows = width + width % 2, (height + 1) // 2
    block = np.zeros((height + chroma_rows, columns), dtype=dtype)
    block[:height, :width] = planes[0][:height, :width]
    block[height:, 0::2] = planes[1][:chroma_rows, : columns // 2]
    block[height:, 1::2] = planes[2][:chroma_rows, : columns // 2]
    return block
