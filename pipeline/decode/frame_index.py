"""Which frame is where in a film, found by reading its packets without decoding them.

A film's frames are numbered as decoding from the beginning gives them. Where every packet shows one picture at a time
of its own, that number is the rank of the packet's time, and decoding may begin at an entry point (a key frame that
nothing behind it looks past) and count on from there: exact whatever comes later, since from an entry point on the
decoder does what it would have done anyway. The first thing that breaks this (damage, a missing or repeated time, a
clock set back ...) ends the index; frames behind it are reached from the last entry point before it.

Damage inside a picture that leaves the packets' headers intact cannot be seen here, and may cost a frame when decoded.
Whoever decodes the frames before an entry point sees it: ``LibavDecoder.first_deviation``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.access_points import Inspect, packet_inspector
from pipeline.decode.container import open_media, unreadable
from pipeline.decode.structure import broken_matroska_offset
from pipeline.media import MediaInfo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

CONTAINERS_WITHOUT_PTS = frozenset({"avi"})
"""Containers (libav's names) that store frames in decoding order without presentation times."""

CHECKED_FRAMES = 32
"""Frames decoded at the beginning and compared with the index: twice the 16 frames that H.264 and HEVC may hold back,
so that whatever a decoder drops before its first key frame, or makes of fields, has shown itself."""

FRAME, PTS, DTS, DURATION, SIZE, POSITION, PACKET = range(7)
"""Columns of ``FrameIndex.entries``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """A packet at which decoding may begin."""

    frame: int
    """Number of the frame that it shows."""
    pts: int
    """Its presentation time, in the stream's time base."""
    duration: int
    """Of the packet, in the stream's time base; 0 if unknown. A demuxer may work it out from what came before."""
    size_bytes: int
    """Of the packet."""
    position: int
    """Byte offset of the packet in the file, -1 if the container does not say."""
    packets_before: int
    """Packets of the stream before it, in decoding order."""
    seek_targets: tuple[int, ...]
    """Times to seek to, in the stream's time base, the most promising first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameIndex:
    """Frame numbers, times and entry points of one film. Small, picklable, usable by any number of decoders."""

    size_bytes: int
    """Of the file that was read."""
    stream: int
    """Index of the video stream in the container."""
    pts: NDArray[np.int64]
    """(frames,) presentation times of the frames whose numbers are known, strictly increasing."""
    entries: NDArray[np.int64]
    """(entry points, 7): frame number, pts, dts, duration, size in bytes, byte offset, packets before it; in film
    order."""
    doubt: str
    """Why the index does not reach to the end of the film, as a clause; empty if it does."""
    of_frames: FrameIndex | None = None
    """Where ``pts`` are of the film's fields: the index of its frames, which ``entries`` are of in either case."""

    @property
    def frame_count(self) -> int | None:
        """Frames of the whole film; None if the index does not reach to its end."""
        return None if self.doubt else len(self.pts)

    def entry_before(self, frame: int) -> EntryPoint | None:
        """The last entry point from which decoding reaches ``frame``; None if only the film's beginning does."""
        number = int(np.searchsorted(self.entries[:, FRAME], frame, side="right")) - 1
        if number < 0 or self.entries[number, FRAME] == 0:
            return None
        entry = [int(value) for value in self.entries[number]]
        earlier = [int(value) for value in self.entries[max(0, number - 2) : number, PTS][::-1]]
        return EntryPoint(
            frame=entry[FRAME],
            pts=entry[PTS],
            duration=entry[DURATION],
            size_bytes=entry[SIZE],
            position=entry[POSITION],
            packets_before=entry[PACKET],
            seek_targets=tuple(dict.fromkeys([entry[PTS], entry[DTS], *earlier])),
        )

    def belongs_to(self, info: MediaInfo) -> bool:
        """Whether it was made of this film, as far as size and stream tell."""
        return (self.size_bytes, self.stream) == (info.size_bytes, info.video.index)


def build_frame_index(info: MediaInfo, *, threads: int = 0) -> FrameIndex:
    """Read a film's packets once and decode its first ``CHECKED_FRAMES`` frames.

    Costs about as much as reading the file. Never an error for what the film is like: an index that knows nothing is
    empty and says why.

    Args:
        info: What ``probe_media`` found.
        threads: Decoder threads for the first frames, 0 for as many as there are cores.

    Raises:
        UnsupportedMedia: The film cannot be decoded by ``LibavDecoder``.
        MediaError: The file can no longer be read.
    """
    from pipeline.decode.libav import LibavDecoder

    table = _read_table(info)
    if "matroska" in info.container:
        _cut_at_break(info, table)
    with LibavDecoder(info, threads=threads) as decoder:
        head = np.array([frame.stamp.pts for frame in decoder.frames(0, CHECKED_FRAMES)], dtype=np.int64)
    index = _number_frames(info, table, head)
    logger.info(
        "%s: %d frames and %d entry points indexed%s",
        info.path,
        len(index.pts),
        len(index.entries),
        f"; {index.doubt}: frames behind are decoded from the last entry point before" if index.doubt else "",
    )
    return index


class _Table:
    """The shown packets of a stream in decoding order, up to the first thing that makes numbers uncertain."""

    def __init__(self) -> None:
        self.pts: list[int] = []
        self.positions: list[int] = []
        self.entries: list[tuple[int, ...]] = []  # as ``FrameIndex.entries``, but with the row in ``pts`` for the frame
        self.doubt = ""
        self._seen: set[int] = set()
        self._latest: int | None = None  # greatest time so far
        self._floor: int | None = None  # time of the last entry but one: all that follows is shown after it
        self._packet_count = 0

    def add(self, packet: Packet[VideoStream], inspect: Inspect) -> None:
        """Note the next packet; sets ``doubt`` if it cannot be relied on."""
        if packet.is_corrupt:
            self.doubt = "a packet is damaged"
            return
        facts = inspect(bytes(packet), packet.is_keyframe)
        if facts.break_reason:
            self.doubt = facts.break_reason
        elif packet.is_discard or not facts.shown_count:
            pass  # cut off by an edit list, or never shown
        elif packet.pts is None:
            self.doubt = "a packet has no presentation time"
        elif packet.pts in self._seen:
            self.doubt = "two packets have the same presentation time"
        elif self._floor is not None and packet.pts <= self._floor:
            self.doubt = "the clock is set back"
        elif facts.is_entry and self._latest is not None and packet.pts <= self._latest:
            self.doubt = "a key frame is shown before pictures that come before it"
        else:
            self._append(packet, packet.pts, is_entry=facts.is_entry)
        self._packet_count += 1

    def _append(self, packet: Packet[VideoStream], pts: int, *, is_entry: bool) -> None:
        if is_entry:
            self._floor = self.entries[-1][PTS] if self.entries else None
            dts = packet.dts if packet.dts is not None else pts
            identity = (packet.duration or 0, packet.size, position_of(packet))
            self.entries.append((len(self.pts), pts, dts, *identity, self._packet_count))
        self._seen.add(pts)
        self.pts.append(pts)
        self.positions.append(position_of(packet))
        self._latest = pts if self._latest is None else max(self._latest, pts)


def position_of(packet: Packet[VideoStream]) -> int:
    """Byte offset of a packet in its file, -1 if the container does not say."""
    return packet.pos if packet.pos is not None else -1


def _read_table(info: MediaInfo) -> _Table:
    from pipeline.decode.packets import read_packets, select_stream

    table = _Table()

    def note_error(what: str) -> None:
        table.doubt = what

    with open_media(info.path) as container:
        stream = select_stream(container, info, threads=1)
        codec = stream.codec_context.codec
        inspect = packet_inspector(
            codec.canonical_name,
            extradata=bytes(stream.codec_context.extradata or b""),
            is_intra_only=codec.intra_only,
        )
        if inspect is None:
            table.doubt = f"packets of {codec.canonical_name} do not say which pictures are shown"
        elif info.container in CONTAINERS_WITHOUT_PTS and not codec.intra_only:
            table.doubt = f"{info.container} stores no presentation times"
        else:
            for packet in read_packets(container, stream, on_error=note_error):
                if table.doubt:
                    break
                if packet.size:
                    table.add(packet, inspect)
    return table


def _cut_at_break(info: MediaInfo, table: _Table) -> None:
    """End the table where a Matroska file's structure is broken: libav goes on behind it without a word.

    Looked for only where frames are missing in time, for it reads a little of every block.
    """
    steps = np.diff(np.sort(np.array(table.pts, dtype=np.int64)))
    if not len(steps) or steps.max() <= 1.5 * np.median(steps):
        return
    try:
        offset = broken_matroska_offset(info.path)
    except OSError as exc:
        raise unreadable(info, exc) from exc
    if offset is None:
        return
    row = next((row for row, position in enumerate(table.positions) if position >= offset), len(table.pts))
    if row < len(table.pts):
        table.doubt = f"the file is broken at byte {offset}"
        del table.pts[row:]


def _number_frames(info: MediaInfo, table: _Table, head: NDArray[np.int64]) -> FrameIndex:
    """Turn packets into frame numbers, as far as they are certain."""
    # noise seldom begins where a packet does: the one before the first that is visibly wrong is not relied on either
    in_order = np.array(table.pts[:-1] if table.doubt else table.pts, dtype=np.int64)
    doubt = table.doubt
    shown = np.sort(in_order)
    first = int(np.searchsorted(shown, head[0])) if len(head) else 0
    known = shown[first : first + CHECKED_FRAMES]
    is_whole_in_head = len(head) < CHECKED_FRAMES and not doubt
    if not np.array_equal(known, head[: len(known)]) or (is_whole_in_head and len(known) != len(head)):
        doubt = "the first frames decoded are not those that the packets announce"
        in_order = shown = shown[:0]
    entries = np.array([entry for entry in table.entries if entry[0] < len(in_order)], dtype=np.int64).reshape(-1, 7)
    rows = entries[:, FRAME].copy()
    entries[:, FRAME] = np.searchsorted(shown, entries[:, PTS]) - first
    if doubt:
        # pictures that lead an entry point come right behind it: with one after it they have all been seen
        later = np.maximum.accumulate(in_order[::-1])[::-1]
        is_settled = later[rows] > entries[:, PTS] if len(rows) else np.zeros(0, dtype=bool)
        entries = entries[is_settled]
        # frames behind the last settled entry may still be preceded by what was not read
        shown = shown[: int(np.searchsorted(shown, entries[-1, PTS])) + 1] if len(entries) else shown[:0]
    return FrameIndex(
        size_bytes=info.size_bytes,
        stream=info.video.index,
        pts=shown[first:],
        entries=entries[entries[:, FRAME] >= 0],
        doubt=doubt,
    )
