"""Decoding on an NVIDIA GPU's NVDEC through PyNvVideoCodec.

libav reads the container, so that frames have the times, numbers and losses that software decoding gives them, and
entering the film at a point is exact; NVDEC gets one packet at a time and gives surfaces back. Frames stay in the GPU's
memory where a pool for them is handed in, and otherwise come to the host.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self

from engines.gpu import Device
from pipeline.decode.film_pass import EntryMissed
from pipeline.decode.frame_index import EntryPoint, FrameIndex
from pipeline.decode.nvdec_choice import check_film, open_gpu
from pipeline.decode.nvdec_frames import Delivery, DeviceDelivery, HostDelivery
from pipeline.decode.nvdec_pass import NvdecPass
from pipeline.decode.nvdec_session import load_nvdec
from pipeline.decode.nvdec_times import CHECKED_IMAGES, MAX_REORDERED_IMAGES
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.device.pools import DevicePool
from pipeline.frames import Frame, MediaInfo

logger = logging.getLogger(__name__)


class NvdecDecoder:
    """Decodes one film with NVDEC. See ``Decoder`` for the protocol.

    Every iteration has a decoding session and a CUDA stream of its own, opened when it begins and given back when it
    ends, by whoever iterates. ``check_nvdec`` tells whether a film is decoded rightly; this class relies on it.

    Args:
        info: What ``probe_media`` found; ``info.path`` is opened anew by every ``frames`` call.
        device: The GPU; by default the first one.
        pool: Buffers in its memory of ``SurfaceLayout.of(info.video).bytes`` each: frames are then two
            ``DevicePlane`` (NV12, or P016 with ``msb_aligned``), to be read after ``Frame.ready``, and iterating
            blocks while all buffers are out. Stays the caller's. None: frames are planar in the host's memory.
        index: From ``build_frame_index``; may be shared with other decoders of the film. None: ``frames(start)``
            decodes and drops what comes before ``start``.
        library: PyNvVideoCodec; by default imported.

    Raises:
        UnsupportedMedia: The film is not of a kind that NVDEC decodes.
        SetupError: There is no GPU, no driver or no PyNvVideoCodec.
        ValueError: ``info`` is of a computed film, or ``index`` of another one.
    """

    def __init__(
        self,
        info: MediaInfo,
        *,
        device: Device | None = None,
        pool: DevicePool | None = None,
        index: FrameIndex | None = None,
        library: Any = None,
    ) -> None:
        check_film(info)
        if index is not None and not index.belongs_to(info):
            raise ValueError(f"the frame index is not of {info.path}, or the file has changed since it was read")
        self.info = info
        self._library = library if library is not None else load_nvdec()
        self._device = device if device is not None else open_gpu()
        self._pool = pool
        self._index = index
        self._pass: NvdecPass | None = None
        self._running: Generator[Frame] | None = None
        self._spent_count = 0  # frames decoded by a pass that was given up
        self._is_closed = False

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``; damage within pictures is concealed by NVDEC and not seen."""
        return self._pass.damage if self._pass is not None else None

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        return self._pass.notes if self._pass is not None else ()

    @property
    def decoded_count(self) -> int:
        """Frames that the latest iteration decoded so far, those dropped before its start included."""
        return self._spent_count + (self._pass.decoded_count if self._pass is not None else 0)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder.frames``. Frames on the GPU are valid as long as the pool is open.

        Raises:
            InferenceFailed: The GPU failed.
        """
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        if self._is_closed:
            raise ValueError("the decoder is closed")
        self._end_pass()
        self._spent_count = 0
        self._pass = self._make_pass()
        self._running = self._iterate(self._pass, start, stop)
        return self._running

    def close(self) -> None:
        """See ``Decoder.close``."""
        self._is_closed = True
        self._end_pass()

    def _iterate(self, film_pass: NvdecPass, start: int, stop: int | None) -> Generator[Frame]:
        entry = self._entry_before(start)
        if entry is not None:
            try:
                yield from film_pass.frames(start, stop, entry=entry)
                return
            except EntryMissed as exc:  # always before the first frame
                logger.warning("%s: %s; decoding from the beginning to frame %d", self.info.path, exc, start)
            self._spent_count = film_pass.decoded_count
            self._pass = film_pass = self._make_pass()
        yield from film_pass.frames(start, stop)

    def _entry_before(self, start: int) -> EntryPoint | None:
        """Where to begin, so that the parser has come to trust times before the index ends in doubt of them."""
        if self._index is None:
            return None
        if self._index.doubt:
            start = min(start, len(self._index.pts) - CHECKED_IMAGES - MAX_REORDERED_IMAGES)
        return self._index.entry_before(start)

    def _make_pass(self) -> NvdecPass:
        return NvdecPass(self.info, device=self._device, library=self._library, open_delivery=self._open_delivery)

    def _open_delivery(self, layout: SurfaceLayout) -> Delivery:
        if self._pool is not None:
            return DeviceDelivery(layout, pool=self._pool)
        return HostDelivery(layout, device=self._device)

    def _end_pass(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
