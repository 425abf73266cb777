"""Decoding on an NVIDIA GPU's NVDEC through PyNvVideoCodec.

libav reads the container, so that frames have the times, numbers and losses that software decoding gives them, and
entering the film at a point is exact; NVDEC gets one packet at a time and gives surfaces back. Frames stay in the GPU's
memory where a pool for them is handed in, and otherwise come to the host.
"""

from __future__ import annotations

from typing import Any

from engines.gpu import Device
from pipeline.decode.frame_index import EntryPoint, FrameIndex
from pipeline.decode.nvdec_choice import check_film, open_gpu
from pipeline.decode.nvdec_frames import Delivery, DeviceDelivery, HostDelivery
from pipeline.decode.nvdec_pass import NvdecPass
from pipeline.decode.nvdec_session import load_nvdec
from pipeline.decode.nvdec_times import CHECKED_IMAGES, MAX_REORDERED_IMAGES
from pipeline.decode.pass_decoder import PassDecoder
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.device.pools import DevicePool
from pipeline.media import MediaInfo


class NvdecDecoder(PassDecoder[NvdecPass]):
    """Decodes one film with NVDEC. See ``Decoder`` for the protocol.

    Every iteration has a decoding session and a CUDA stream of its own, opened when it begins and given back when it
    ends, by whoever iterates; ``InferenceFailed`` if the GPU fails. ``check_nvdec`` tells whether a film is decoded
    rightly; this class relies on it. Damage within pictures is concealed by NVDEC and not seen. Frames on the GPU are
    valid as long as the pool is open.

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
        super().__init__(info, index=index)
        self._library = library if library is not None else load_nvdec()
        self._device = device if device is not None else open_gpu()
        self._pool = pool

    def _entry_before(self, start: int) -> EntryPoint | None:
        """Where to begin, so that the parser has come to trust times before the index ends in doubt of them."""
        if self._index is None:
            return None
        if self._index.doubt:
            start = min(start, len(self._index.pts) - CHECKED_IMAGES - MAX_REORDERED_IMAGES)
        return self._index.entry_before(start)

    def _begin_pass(self) -> NvdecPass:
        return NvdecPass(self.info, device=self._device, library=self._library, open_delivery=self._open_delivery)

    def _open_delivery(self, layout: SurfaceLayout) -> Delivery:
        if self._pool is not None:
            return DeviceDelivery(layout, pool=self._pool)
        return HostDelivery(layout, device=self._device)
