"""What a film lost while it was decoded, and when first: the sentence by which a job is marked damaged."""

from __future__ import annotations

import logging
from fractions import Fraction

from pipeline.decode.structure import broken_avi_offset, broken_matroska_offset, missing_bytes
from pipeline.decode.transport import broken_transport_offset
from pipeline.media import MediaInfo
from pipeline.show.wording import format_count

logger = logging.getLogger(__name__)

CODECS_WITH_HIDDEN_FRAMES = frozenset({"vp8", "vp9", "av1"})
"""Codecs some of whose packets are there to predict others and are never shown."""


class Losses:
    """Counts the losses of one pass over a film and keeps the first.

    Args:
        info: The film.
    """

    def __init__(self, info: MediaInfo) -> None:
        self._info = info
        self._count = 0
        self._first = ""
        self._end_pts: int | None = None
        self._first_gap_pts: int | None = None
        self._notes: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What may be a loss, but is normal in some intact films too; one sentence each."""
        return tuple(self._notes)

    @property
    def damage(self) -> str | None:
        """The first loss with its time, and how many there were; None without any."""
        if not self._count:
            return None
        more = f" ({self._count} losses in all)" if self._count > 1 else ""
        return f"{self._first}{more}"

    def add(self, what: str, *, pts: int | None = None) -> None:
        """Note a loss.

        Args:
            what: What happened, a clause.
            pts: About when, in the video's time base; None for the end of the latest frame.
        """
        self._count += 1
        if self._count == 1:
            time = pts if pts is not None else self._end_pts
            self._first = f"{what} near {self.clock(time if time is not None else 0)}"
            logger.warning("%s: %s; decoding goes on", self._info.path, self._first)

    def note_frame(self, pts: int, *, duration: int) -> None:
        """Note a decoded frame, in display order, to see where time passes without one."""
        gap = 0 if self._end_pts is None else pts - self._end_pts
        if self._first_gap_pts is None and gap > duration // 2:
            self._first_gap_pts = self._end_pts
        self._end_pts = pts + duration

    def check_counts(self, *, read_count: int, silent_count: int, codec: str, is_intra_only: bool) -> None:
        """Compare packets with pictures and with the header. Call once the file has been read to its end.

        Args:
            read_count: Packets that the container gave.
            silent_count: Those that gave neither a picture nor an error.
            codec: libav's codec name.
            is_intra_only: Every packet of the codec is one picture.
        """
        if silent_count > 0 and is_intra_only:
            self.add(f"{format_count(silent_count, 'packet')} without a picture up to the end,")
        elif silent_count > 0 and codec not in CODECS_WITH_HIDDEN_FRAMES:  # pictures before a key frame, perhaps
            self._notes.append(f"{format_count(silent_count, 'packet')} without a picture and without an error")
        promised_count = self._info.video.frame_count_from_header or 0
        if promised_count > read_count and "mp4" in self._info.container:  # its table names every single sample
            self.add(f"{format_count(promised_count - read_count, 'frame')} of the file's table missing up to the end,")
        elif promised_count > read_count:  # AVI counts dropped frames too, and statistics go stale
            self._notes.append(f"the header promises {format_count(promised_count, 'frame')}, {read_count} were found")

    def check_structure(self) -> None:
        """Find the losses that libav passes over in silence. Call once the file has been read to its end.

        Raises:
            OSError: The file cannot be read.
        """
        absent_bytes = missing_bytes(self._info.path)
        if absent_bytes:
            self.add(f"the file ends {absent_bytes} bytes too early")
        # variable rates have gaps too, sound may go on after the picture, and recordings begin between key frames: only
        # broken structure makes it a loss
        elif not self._count and (self._first_gap_pts is not None or self._notes or self._ends_early()):
            offset = self._broken_offset()
            if offset is not None:
                self.add(f"the file is broken at byte {offset}: frames are missing", pts=self._first_gap_pts)

    def _broken_offset(self) -> int | None:
        path = self._info.path
        for find in (broken_matroska_offset, broken_transport_offset, broken_avi_offset):
            offset = find(path)
            if offset is not None:
                return offset
        return None

    def clock(self, pts: int) -> str:
        """Time since the start of the video, in seconds, for messages."""
        return f"{float((pts - (self._info.video.start_pts or 0)) * self._info.video.time_base):.3f} s"

    def _ends_early(self) -> bool:
        video = self._info.video
        if video.duration_s is None or self._end_pts is None:
            return False
        frame_s = 1 / video.average_rate if video.average_rate else Fraction(0)
        played = (self._end_pts - (video.start_pts or 0)) * video.time_base
        return played + frame_s < video.duration_s
