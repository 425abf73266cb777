"""The values that travel between stages. No behaviour beyond checks and arithmetic.

Ownership: whoever receives a frame or a batch owns it and its lease, and either passes both on or releases the lease.
Arrays of a released lease must not be touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

Samples = NDArray[np.uint8] | NDArray[np.uint16]
Matrix = Literal["bt601", "bt709", "bt2020nc", "rgb"]
Subsampling = Literal["420", "422", "444"]
ChromaLocation = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]

UNSPECIFIED = 2
"""Code point "unspecified" of ITU-T H.273 for matrix, primaries and transfer."""


class Releasable(Protocol):
    """A buffer lease, as far as stages are concerned."""

    def release(self) -> None:
        """Give the buffer back. Exactly once."""
        ...


class Awaitable(Protocol):
    """A point in a CUDA stream, as ``engines.gpu.Event``."""

    def wait(self) -> None:
        """Block the calling thread until the point was reached."""
        ...


class OrderedLease(Releasable, Protocol):
    """A lease whose buffer a GPU may still be using when it is given back."""

    def release(self, *, after: Awaitable | None = None) -> None:
        """Give the buffer back; whoever gets it next uses it only after ``after``. Exactly once."""
        ...


@runtime_checkable
class ShareableLease(OrderedLease, Protocol):
    """A lease whose buffer a second owner can hold on to, as ``pipeline.device.leases.DeviceLease``."""

    def share(self) -> Releasable:
        """Hold the buffer beyond ``release``. What this returns is released when nothing reads it any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFormat:
    """How integer samples in planes become R'G'B': everything that a conversion needs, nothing unspecified."""

    matrix: Matrix
    """``rgb`` means planes R, G, B; otherwise planes Y', Cb, Cr. ``bt601`` covers both 625 and 525 lines."""
    subsampling: Subsampling = "420"
    """Chroma sampling; always ``444`` with ``rgb``."""
    bit_depth: int = 8
    """Bits per sample, 8 to 16, in the low bits of uint8 (8) or uint16 (9 to 16)."""
    full_range: bool = False
    """Full (0 .. 2^n - 1) or limited (16 .. 235 x 2^(n-8)) quantisation. Source: ITU-T H.273 8.3."""
    chroma_location: ChromaLocation = "left"
    """Where a chroma sample lies in its 2x2 (or 2x1) luma group: on its left column or, without ``left``, midway
    between both; on its upper row (``top``), its lower one (``bottom``) or midway. ``left`` is the default of MPEG-2,
    H.264 and HEVC. Source: ITU-T H.273, figure 1."""

    def __post_init__(self) -> None:
        if not 8 <= self.bit_depth <= 16:
            raise ValueError(f"bit_depth must be 8 to 16, not {self.bit_depth}")
        if self.matrix == "rgb" and self.subsampling != "444":
            raise ValueError("RGB has no chroma subsampling")

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """numpy dtype of one sample."""
        return np.uint8 if self.bit_depth == 8 else np.uint16

    def plane_shapes(self, *, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the three planes of an image; chroma sizes are rounded up for odd images."""
        chroma_h = (height + 1) // 2 if self.subsampling == "420" else height
        chroma_w = width if self.subsampling == "444" else (width + 1) // 2
        return ((height, width), (chroma_h, chroma_w), (chroma_h, chroma_w))

    def frame_bytes(self, *, height: int, width: int) -> int:
        """Bytes of one image without padding."""
        return sum(h * w for h, w in self.plane_shapes(height=height, width=width)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourTags:
    """Colour description as a file states it: ITU-T H.273 code points, 2 = unspecified. Written out as read."""

    matrix: int = UNSPECIFIED
    """MatrixCoefficients: 0 GBR, 1 BT.709, 5 BT.470BG, 6 SMPTE 170M, 9 BT.2020 non-constant luminance."""
    primaries: int = UNSPECIFIED
    """ColourPrimaries: 1 BT.709, 9 BT.2020 ..."""
    transfer: int = UNSPECIFIED
    """TransferCharacteristics: 1 BT.709, 13 sRGB, 16 PQ, 18 HLG ..."""
    full_range: bool | None = None
    """VideoFullRangeFlag; None if the file does not say."""
    chroma_location: ChromaLocation | None = None
    """None if the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStamp:
    """Which frame, and when it is shown."""

    index: int
    """0-based position in the film in display order."""
    pts: int
    """Presentation time in the source stream's time base."""
    duration: int = 0
    """Display time in the same unit; 0 if the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image in integer planes."""

    stamp: FrameStamp
    format: SampleFormat
    height: int
    width: int
    planes: tuple[Any, ...]
    """Host: three 2-D numpy arrays (``Samples``) of ``format.dtype`` with the shapes of ``format.plane_shapes``; rows
    contiguous, row stride may be wider. GPU: as many ``pipeline.cuda.DevicePlane``, or two, the second one with Cb and
    Cr by turns."""
    lease: Releasable | OrderedLease | None = None
    """Pool buffer that holds the planes; None if they belong to ``owner``. Where ``ready`` is set, an
    ``OrderedLease``."""
    owner: Any = None
    """Foreign object that keeps the planes' memory alive (a decoder's frame); None with a lease."""
    ready: Awaitable | None = None
    """CUDA event after which the planes may be read, on the GPU or by the host; None if they may be at once."""
    msb_aligned: bool = False
    """On the GPU only: samples of more than 8 bits stand in the upper bits of their 16 (P010, P016)."""

    @property
    def is_on_device(self) -> bool:
        """Whether the planes are in a GPU's memory."""
        return hasattr(self.planes[0], "pointer")

    @property
    def is_shareable(self) -> bool:
        """Whether ``share`` can be called."""
        return isinstance(self.lease, ShareableLease)

    def share(self) -> Releasable:
        """Hold the planes' buffer beyond ``release``, for a reader that says itself when it is done.

        Raises:
            TypeError: The planes are not in a buffer that can be held so.
        """
        if not isinstance(self.lease, ShareableLease):
            raise TypeError(f"the planes of frame {self.stamp.index} are in no buffer that can be shared")
        return self.lease.share()

    def release(self, *, after: Awaitable | None = None) -> None:
        """Give the planes' buffer back; the planes must not be touched afterwards.

        Args:
            after: For planes that a GPU reads: the event after which it is done. None: nobody has read them, or the
                host did.
        """
        _release(self.lease, after=after or self.ready)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSlot:
    """Which tile of which frame lies in one row of a batch."""

    stamp: FrameStamp
    tile: int
    """Index into the frame's ``TileGrid.tiles``; the last one completes the frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileBatch:
    """Tiles in or out of the engine: rows ``0 .. len(slots)`` of ``tiles`` are used, in film order."""

    tiles: Any
    """(N, 3, H, W) float32 or float16 RGB planar; nominally [0, 1]. Host: numpy. GPU: an object with
    ``__cuda_array_interface__`` (``pipeline.device.arrays.DeviceArray``)."""
    slots: tuple[TileSlot, ...]
    lease: Releasable | OrderedLease | None = None
    """Where ``ready`` is set, an ``OrderedLease``."""
    ready: Awaitable | None = None
    """CUDA event after which tiles on the GPU may be read; None for host memory."""

    def release(self, *, after: Awaitable | None = None) -> None:
        """Give the batch's buffer back.

        Args:
            after: For tiles on the GPU: the event after which it has read them; None if nobody has.
        """
        _release(self.lease, after=after or self.ready)


def _release(lease: Releasable | OrderedLease | None, *, after: Awaitable | None) -> None:
    """Give a buffer back. What nobody read is still being written until it is ready."""
    if lease is None:
        return
    if after is None:
        lease.release()
    else:
        cast(OrderedLease, lease).release(after=after)
