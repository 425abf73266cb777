"""Which packet an image of NVDEC came from: told by a number that travels with it, or by the order.

NVIDIA's parser takes a time with every packet and gives it back with the picture that the packet holds, but not
blindly. While it shows the first 16 pictures it looks for times that do not rise in display order; if it finds one, it
takes all of them for decoding times, and from then on swaps them among the pictures that wait, so that they rise. A
packet's number in decoding order thus comes back with another picture as soon as there are B-frames, a presentation
time with its own. If it finds none, it gives all later times back as they are, rising or not.

Measured on an H200 (PyNvVideoCodec 2.2.4) for H.264, HEVC, MPEG-2 and VP9; the mechanism can be read in NVIDIA's open
parser of the same family (github.com/KhronosGroup/Vulkan-Video-Samples, ``VulkanVideoDecoder::display_picture``,
``m_lCheckPTS`` and ``m_bFilterTimestamps``). VP9, which has no B-frames, is never repaired.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

CHECKED_IMAGES = 16
"""Images that the parser shows before it trusts times. Source: ``m_lCheckPTS`` as above."""

MAX_REORDERED_IMAGES = 16
"""Images that may wait to be shown. Source: ITU-T H.264 A.3.1 and H.265 A.4.2 (``MaxDpbFrames``, ``MaxDpbSize``)."""

_FIRST_NUMBER = 1 << 62
"""Where numbers begin that stand for times of packets without one: beyond any time of a film."""

_START_CODE = b"\0\0\1"
_RASL_N, _RASL_R = 8, 9
_LEADING = range(6, 10)
_KEY = range(16, 24)
"""NAL unit types of HEVC pictures: of those that are shown before the key frame they follow (RADL, then RASL, which
look past it), and of key frames. Source: ITU-T H.265 table 7-1."""


class TimesOutOfOrder(Exception):
    """A packet's time cannot be told to the parser while it still doubts times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPacket:
    """What the container says about a packet that the decoder has."""

    pts: int | None
    duration: int
    """In the stream's time base; 0 if unknown."""
    is_wanted: bool
    """Not cut off by an edit list, and not shown before the entry point."""


class SentPackets:
    """The packets that one decoding session has and has not shown yet.

    Args:
        has_times: Packets have presentation times. If not, the n-th image is taken for the n-th packet's: a duration is
            all that it gets from there.
    """

    def __init__(self, *, has_times: bool) -> None:
        self._has_times = has_times
        self._waiting: dict[int, deque[SentPacket]] = {}
        self._number = 0
        self._shown_count = 0
        self._first_shown: int | None = None
        self._last_shown: int | None = None

    def add(self, packet: SentPacket) -> int:
        """Note a packet that is about to be sent.

        Returns:
            The tag to send with it.

        Raises:
            TimesOutOfOrder: It has no time, or one before an image already shown, within the first ``CHECKED_IMAGES``;
                or it is the first one that has a time.
        """
        tag = self._make_tag(packet)
        self._waiting.setdefault(tag, deque()).append(packet)
        return tag

    def take(self, tag: int) -> SentPacket | None:
        """The packet of an image that has come.

        Args:
            tag: As it came with the image.

        Returns:
            None if there is none: the image is one that the decoder made up.
        """
        if not self._has_times:
            tag = next(iter(self._waiting), tag)
        packets = self._waiting.get(tag)
        if packets is None:
            return None
        self._shown_count += 1
        self._first_shown = tag if self._first_shown is None else self._first_shown
        self._last_shown = tag
        packet = packets.popleft()
        if not packets:
            del self._waiting[tag]
        return packet

    def missing(self) -> list[SentPacket]:
        """Wanted packets whose image has not come although it is not before the first that did, in decoding order.

        Of use once the decoder is drained. What comes before the first image may be there for no use, as pictures that
        lead the key frame a recording begins with are.
        """
        return [
            packet
            for tag, packets in self._waiting.items()
            for packet in packets
            if packet.is_wanted and (self._first_shown is None or tag > self._first_shown)
        ]

    def _make_tag(self, packet: SentPacket) -> int:
        is_checked = self._has_times and self._shown_count < CHECKED_IMAGES
        if packet.pts is not None:
            if not self._has_times:
                raise TimesOutOfOrder("presentation times begin within the film")
            if is_checked and self._last_shown is not None and packet.pts < self._last_shown:
                raise TimesOutOfOrder("the clock is set back")
            return packet.pts
        if is_checked:
            raise TimesOutOfOrder("a packet has no presentation time")
        self._number += 1
        return _FIRST_NUMBER + self._number


class Beginning:
    """Finds HEVC's pictures at the beginning of a session that depend on what came before it.

    The parser never shows them, so that nothing is lost without them (ITU-T H.265 8.1.3; seen on an H200). But it
    decodes them and keeps their times, which are earlier than those of the images it shows: it would begin to swap.

    Args:
        codec: libav's name.
    """

    def __init__(self, codec: str) -> None:
        self.is_over = codec != "hevc"
        """Whether ``leaves_out`` need not be asked any more."""
        self._has_key = False

    def leaves_out(self, payload: bytes) -> bool:
        """Whether a packet is such a picture. Call for each until ``is_over``, in decoding order.

        Args:
            payload: With start codes.
        """
        kind = None if self.is_over else _picture_kind(payload)
        if kind is None:
            return False
        if not self._has_key:
            self._has_key = kind in _KEY
            return not self._has_key
        self.is_over = kind not in _LEADING
        return kind in {_RASL_N, _RASL_R}


def _picture_kind(payload: bytes) -> int | None:
    """NAL unit type of an HEVC packet's first slice; None if it has none."""
    found = payload.find(_START_CODE)
    while 0 <= found < len(payload) - 3:
        kind = payload[found + 3] >> 1 & 0x3F
        if kind < 32:  # the others are parameter sets and messages
            return kind
        found = payload.find(_START_CODE, found + 3)
    return None
