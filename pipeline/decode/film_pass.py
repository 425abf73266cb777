"""One pass of libav over a film: packets to frames, with their numbers, times and losses."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import count

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.decode.colour_follower import ColourFollower
from pipeline.decode.container import error_text, open_media, unreadable
from pipeline.decode.frame_index import CONTAINERS_WITHOUT_PTS, EntryPoint, FrameIndex
from pipeline.decode.losses import Losses
from pipeline.decode.packets import read_packets, read_packets_from, select_stream
from pipeline.decode.planes import PlaneReader
from pipeline.decode.timeline import Timeline
from pipeline.errors import UnsupportedMedia
from pipeline.frames import Frame, FrameStamp
from pipeline.media import MediaInfo
from pipeline.show.wording import format_count
from pipeline.tags import PlanarLayout, layout_of


class EntryMissed(Exception):
    """A pass that began at an entry point did not meet the frames that the index has there."""


class FilmPass:
    """One reading of a film, from its beginning or from an entry point.

    Args:
        info: The film.
        threads: Decoder threads, 0 for as many as there are cores.
        index: What the frames are compared with; None to compare nothing.
        takes_fields: See ``LibavDecoder``.
    """

    def __init__(
        self, info: MediaInfo, *, threads: int, index: FrameIndex | None = None, takes_fields: bool = False
    ) -> None:
        self._info = info
        self._known_pts = index.pts if index is not None else np.zeros(0, dtype=np.int64)
        self._threads = threads
        video = info.video
        self._planes = PlaneReader(video.format, height=video.height, width=video.width, crop=video.crop)
        self._layouts: dict[str, PlanarLayout | None] = {}
        rate = video.average_rate or Fraction(25)  # only spaces frames that have no time at all
        self._timeline = Timeline(
            time_base=video.time_base,
            nominal_ticks=max(1, round(1 / (rate * video.time_base))),
            first_pts=video.start_pts or 0,
            is_in_decode_order=info.container in CONTAINERS_WITHOUT_PTS,
        )
        self._losses = Losses(info)
        self._colour = ColourFollower(info, clock=self._losses.clock)
        self._interlaced_count = 0
        self._takes_fields = takes_fields
        self.decoded_count = 0
        """Frames that the decoder gave, those that were dropped included."""
        self.first_deviation: int | None = None
        """See ``LibavDecoder.first_deviation``."""

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``."""
        return self._losses.damage

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        notes = self._timeline.notes + self._losses.notes
        if self._interlaced_count:
            notes += (f"{format_count(self._interlaced_count, 'frame')} marked as interlaced: taken as they are",)
        if self._colour.changed_at is not None:
            notes += (f"colour matrix or range change at {self._colour.changed_at}: converted to the film's",)
        return notes

    def frames(self, start: int, stop: int | None, *, entry: EntryPoint | None = None) -> Generator[Frame]:
        """Yield the frames ``start <= index < stop``. See ``Decoder.frames``.

        Args:
            start: First index.
            stop: First index not wanted, or None.
            entry: Where to begin, at most at ``start``; None for the film's beginning.

        Raises:
            EntryMissed: With ``entry`` only, and before the first frame: the frames from there to ``start`` are not
                those of the index.
        """
        if stop is not None and stop <= start:
            return
        reached = entry.frame if entry is not None else 0
        for index, decoded in zip(count(reached), self._decode(entry), strict=False):
            reached = index + 1
            duration = decoded.duration or 0
            pts = self._timeline.place(decoded.pts, duration=duration)
            if index < len(self._known_pts) and pts != self._known_pts[index]:
                self._note_deviation(index, is_missed=entry is not None and index <= start)
            self._losses.note_frame(pts, duration=duration)
            self._check(decoded, pts)
            if index >= start:
                yield self._make_frame(decoded, FrameStamp(index=index, pts=pts, duration=duration))
            if reached == stop:
                return
        if reached < len(self._known_pts):
            self._note_deviation(reached, is_missed=entry is not None and reached <= start)

    def _note_deviation(self, index: int, *, is_missed: bool) -> None:
        if is_missed:
            raise EntryMissed(f"frame {index} is not where the packets announce it")
        if self.first_deviation is None:
            self.first_deviation = index

    def _decode(self, entry: EntryPoint | None) -> Iterator[VideoFrame]:
        """All decodable frames in display order, from the entry point's on."""
        sent_count = returned_count = failed_count = 0
        passed_count = entry.packets_before if entry is not None else 0  # packets that owe no frame
        last_pts: int | None = None
        with open_media(self._info.path) as container:
            stream = select_stream(container, self._info, threads=self._threads)
            codec = stream.codec_context.codec
            for packet, is_leading in self._read_from(container, stream, entry):
                if is_leading or packet.is_discard:  # shown before the entry point, or cut off by an edit list
                    passed_count += 1
                else:
                    sent_count += packet.size > 0
                    self._timeline.feed(packet.pts)
                if packet.is_corrupt and not is_leading:
                    self._losses.add("a packet is damaged", pts=packet.pts)
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError as exc:
                    if not is_leading:
                        failed_count += 1
                        self._timeline.drop(packet.pts)
                        self._losses.add(f"a packet cannot be decoded ({error_text(exc)})", pts=packet.pts)
                    continue
                for frame in decoded:
                    self.decoded_count += 1
                    if entry is not None and not returned_count:
                        if frame.pts is None or frame.pts < entry.pts:
                            continue  # leads the entry point, and may lack what it was predicted from
                        if frame.pts > entry.pts:
                            raise EntryMissed(f"frame {entry.frame} cannot be decoded on its own")
                    returned_count += 1
                    last_pts = frame.pts if frame.pts is not None else last_pts
                    yield frame
        if (
            self._info.container not in CONTAINERS_WITHOUT_PTS
            and last_pts is not None
            and sent_count - failed_count > returned_count
        ):
            for frame in self._decode_tail(last_pts):
                self.decoded_count += 1
                returned_count += 1
                yield frame
        self._losses.check_counts(
            read_count=sent_count + passed_count,
            silent_count=sent_count - failed_count - returned_count,
            codec=codec.canonical_name,
            is_intra_only=codec.intra_only,
        )
        try:
            self._losses.check_structure()
        except OSError as exc:
            raise unreadable(self._info, exc) from exc

    def _decode_tail(self, last_pts: int) -> Iterator[VideoFrame]:
        """Frames after ``last_pts`` that the frame threads kept to themselves.

        When several threads are drained at the end, PyAV stops at the first frame that fails and drops those behind it
        without a word. One thread gives them. Streams whose packets are not one frame each get here in vain.
        """
        with open_media(self._info.path) as container:
            stream = select_stream(container, self._info, threads=1)
            try:
                container.seek(last_pts, stream=stream)
            except av.error.FFmpegError:
                return  # no index to seek by: what the threads gave must do
            for packet in read_packets(container, stream, on_error=self._losses.add):
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError as exc:
                    if packet.pts is not None and packet.pts > last_pts:  # the others were counted in the first pass
                        self._losses.add(f"a packet cannot be decoded ({error_text(exc)})", pts=packet.pts)
                    continue
                for frame in decoded:
                    if frame.pts is not None and frame.pts > last_pts:
                        yield frame

    def _read_from(
        self, container: InputContainer, stream: VideoStream, entry: EntryPoint | None
    ) -> Iterator[tuple[Packet[VideoStream], bool]]:
        """Packets from the entry point on, each with whether it is shown before the entry point."""
        if entry is None:
            for packet in read_packets(container, stream, on_error=self._losses.add):
                yield packet, False
            return
        packets = read_packets_from(container, stream, entry, on_error=self._losses.add)
        if packets is None:
            raise EntryMissed(f"the packet of frame {entry.frame} cannot be found by seeking")
        may_lead = True
        for packet in packets:
            if packet.pts is not None and packet.pts > entry.pts:
                may_lead = False  # leading pictures come before all others; later on a clock may be set back
            yield packet, may_lead and packet.pts is not None and packet.pts < entry.pts

    def _check(self, frame: VideoFrame, pts: int) -> None:
        if frame.is_corrupt:
            self._losses.add("a frame is damaged", pts=pts)
        if frame.interlaced_frame and not self._takes_fields:
            self._interlaced_count += 1
        video = self._info.video
        if (frame.height, frame.width) != (video.decoded_height, video.decoded_width):
            raise UnsupportedMedia(
                f"{self._info.path}: the image changes from {video.decoded_width}x{video.decoded_height} to"
                f" {frame.width}x{frame.height} at {self._losses.clock(pts)}",
                path=self._info.path,
                hint="cut the file there and upscale the parts on their own",
            )

    def _make_frame(self, decoded: VideoFrame, stamp: FrameStamp) -> Frame:
        layout = self._layout(decoded, stamp.pts)
        sample_format = self._colour.format_of(decoded, layout, pts=stamp.pts)
        planes, owner = self._planes.read(decoded, layout)
        video = self._info.video
        return Frame(
            stamp=stamp, format=sample_format, height=video.height, width=video.width, planes=planes, owner=owner
        )

    def _layout(self, frame: VideoFrame, pts: int) -> PlanarLayout:
        """The layout of a frame, which must fill the same planes as the film's first; the range flag may change."""
        name = frame.format.name
        if name not in self._layouts:
            self._layouts[name] = layout_of(name)
        layout = self._layouts[name]
        expected = layout_of(self._info.video.pixel_format)
        if (
            layout is None
            or expected is None
            or (layout.subsampling, layout.bit_depth, layout.is_rgb, layout.is_grey)
            != (expected.subsampling, expected.bit_depth, expected.is_rgb, expected.is_grey)
        ):
            raise UnsupportedMedia(
                f"{self._info.path}: the pixel format changes from {self._info.video.pixel_format} to {name}"
                f" at {self._losses.clock(pts)}",
                path=self._info.path,
                hint="cut the file there and upscale the parts on their own",
            )
        return layout
