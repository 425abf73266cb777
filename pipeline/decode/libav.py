"""Software decoding with libav through PyAV: any codec, on several cores, with the GIL released.

Damage never stops the film: what cannot be decoded is skipped, counted, and its first time kept for ``damage``. That
includes libav's "cannot allocate memory", which is what a broken length in a file leads to. Times are the source's own
(``pipeline.decode.timeline``), samples its own memory (``pipeline.decode.planes``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.decode.base import check_progressive
from pipeline.decode.container import error_text, open_media
from pipeline.decode.losses import Losses
from pipeline.decode.planes import PlaneReader
from pipeline.decode.synthetic import CONTAINER as SYNTHETIC_CONTAINER
from pipeline.decode.timeline import Timeline
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp, MediaInfo
from pipeline.show.wording import format_count
from pipeline.tags import PlanarLayout, layout_of

CONTAINERS_WITHOUT_PTS = frozenset({"avi"})
"""Containers (libav's names) that store frames in decoding order without presentation times."""

MAX_READ_ERRORS = 2
"""Errors of the container in a row, without a packet between, after which the rest of the file is given up. ffmpeg
gives up at the first; the second try gets past a bad block where the demuxer can find the next one."""


class LibavDecoder:
    """Decodes one film with libav. See ``Decoder`` for the protocol.

    ``frames(start)`` decodes and drops what comes before ``start``: exact on any file, whatever its index says.

    Args:
        info: What ``probe_media`` found; ``info.path`` is opened anew by every ``frames`` call.
        threads: Decoder threads, frame-parallel where the codec can; 0 for as many as there are cores.

    Raises:
        UnsupportedMedia: The film is interlaced.
        ValueError: ``info`` is of a computed film.
    """

    def __init__(self, info: MediaInfo, *, threads: int = 0) -> None:
        if info.container == SYNTHETIC_CONTAINER:
            raise ValueError("a computed film is no file; decode it with kind synthetic")
        check_progressive(info)
        self.info = info
        self._threads = threads
        self._pass: _Pass | None = None
        self._running: Generator[Frame] | None = None
        self._is_closed = False

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``."""
        return self._pass.damage if self._pass is not None else None

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        return self._pass.notes if self._pass is not None else ()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See ``Decoder.frames``; planes are read-only views of the decoder's memory, kept alive by ``Frame.owner``."""
        if start < 0 or (stop is not None and stop < 0):
            raise ValueError(f"frame range must not be negative, got {start}:{stop}")
        if self._is_closed:
            raise ValueError("the decoder is closed")
        self._end_pass()
        self._pass = _Pass(self.info, threads=self._threads)
        self._running = self._pass.frames(start, stop)
        return self._running

    def close(self) -> None:
        """See ``Decoder.close``."""
        self._is_closed = True
        self._end_pass()

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


class _Pass:
    """One reading of the film from its beginning."""

    def __init__(self, info: MediaInfo, *, threads: int) -> None:
        self._info = info
        self._threads = threads
        video = info.video
        self._planes = PlaneReader(video.format, height=video.height, width=video.width)
        self._layouts: dict[str, PlanarLayout | None] = {}
        rate = video.average_rate or Fraction(25)  # only spaces frames that have no time at all
        self._timeline = Timeline(
            time_base=video.time_base,
            nominal_ticks=max(1, round(1 / (rate * video.time_base))),
            first_pts=video.start_pts or 0,
            is_in_decode_order=info.container in CONTAINERS_WITHOUT_PTS,
        )
        self._losses = Losses(info)
        self._interlaced_count = 0

    @property
    def damage(self) -> str | None:
        return self._losses.damage

    @property
    def notes(self) -> tuple[str, ...]:
        notes = self._timeline.notes + self._losses.notes
        if self._interlaced_count:
            notes += (f"{format_count(self._interlaced_count, 'frame')} marked as interlaced: taken as they are",)
        return notes

    def frames(self, start: int, stop: int | None) -> Generator[Frame]:
        if stop is not None and stop <= start:
            return
        for index, decoded in enumerate(self._decode()):
            duration = decoded.duration or 0
            pts = self._timeline.place(decoded.pts, duration=duration)
            self._losses.note_frame(pts, duration=duration)
            self._check(decoded, pts)
            if index >= start:
                yield self._make_frame(decoded, FrameStamp(index=index, pts=pts, duration=duration))
            if index + 1 == stop:
                return

    def _decode(self) -> Iterator[VideoFrame]:
        """All decodable frames in display order."""
        sent_count = discarded_count = returned_count = failed_count = 0
        last_pts: int | None = None
        with open_media(self._info.path) as container:
            stream = self._select_stream(container)
            codec = stream.codec_context.codec
            for packet in self._read_packets(container, stream):
                sent_count += packet.size > 0 and not packet.is_discard
                discarded_count += packet.is_discard  # cut off by an edit list
                self._timeline.feed(packet.pts)
                if packet.is_corrupt:
                    self._losses.add("a packet is damaged", pts=packet.pts)
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError as exc:
                    failed_count += 1
                    self._timeline.drop(packet.pts)
                    self._losses.add(f"a packet cannot be decoded ({error_text(exc)})", pts=packet.pts)
                    continue
                for frame in decoded:
                    returned_count += 1
                    last_pts = frame.pts if frame.pts is not None else last_pts
                    yield frame
        if (
            self._info.container not in CONTAINERS_WITHOUT_PTS
            and last_pts is not None
            and sent_count - failed_count > returned_count
        ):
            for frame in self._decode_tail(last_pts):
                returned_count += 1
                yield frame
        self._losses.check_counts(
            read_count=sent_count + discarded_count,
            silent_count=sent_count - failed_count - returned_count,
            codec=codec.canonical_name,
            is_intra_only=codec.intra_only,
        )
        try:
            self._losses.check_structure()
        except OSError as exc:
            raise MediaError(
                f"{self._info.path} can no longer be read: {error_text(exc)}",
                path=self._info.path,
                hint="keep the inputs in place while they are upscaled",
            ) from exc

    def _decode_tail(self, last_pts: int) -> Iterator[VideoFrame]:
        """Frames after ``last_pts`` that the frame threads kept to themselves.

        When several threads are drained at the end, PyAV stops at the first frame that fails and drops those behind it
        without a word. One thread gives them. Streams whose packets are not one frame each get here in vain.
        """
        with open_media(self._info.path) as container:
            stream = self._select_stream(container, threads=1)
            try:
                container.seek(last_pts, stream=stream)
            except av.error.FFmpegError:
                return  # no index to seek by: what the threads gave must do
            for packet in self._read_packets(container, stream):
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError as exc:
                    if packet.pts is not None and packet.pts > last_pts:  # the others were counted in the first pass
                        self._losses.add(f"a packet cannot be decoded ({error_text(exc)})", pts=packet.pts)
                    continue
                for frame in decoded:
                    if frame.pts is not None and frame.pts > last_pts:
                        yield frame

    def _select_stream(self, container: InputContainer, *, threads: int | None = None) -> VideoStream:
        try:
            stream = container.streams[self._info.video.index]
        except IndexError:
            stream = None
        if not isinstance(stream, VideoStream):
            raise MediaError(
                f"{self._info.path} has changed: stream {self._info.video.index} is no longer its video",
                path=self._info.path,
                hint="do not write to an input while it is upscaled",
            )
        stream.thread_count = self._threads if threads is None else threads
        stream.thread_type = "AUTO" if stream.thread_count != 1 else "NONE"
        return stream

    def _read_packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        """Packets of the film and at last the empty one that drains the decoder."""
        error_count = 0
        while True:
            try:
                for packet in container.demux(stream):
                    error_count = 0
                    yield packet
                return
            except av.error.FFmpegError as exc:
                self._losses.add(f"the file cannot be read ({error_text(exc)})")
                error_count += 1
                if error_count >= MAX_READ_ERRORS:
                    yield self._make_flush_packet(stream)
                    return

    @staticmethod
    def _make_flush_packet(stream: VideoStream) -> Packet[VideoStream]:
        packet: Any = Packet()
        packet.stream = stream
        flush: Packet[VideoStream] = packet
        return flush

    def _check(self, frame: VideoFrame, pts: int) -> None:
        if frame.is_corrupt:
            self._losses.add("a frame is damaged", pts=pts)
        if frame.interlaced_frame:
            self._interlaced_count += 1
        video = self._info.video
        if (frame.height, frame.width) != (video.height, video.width):
            raise UnsupportedMedia(
                f"{self._info.path}: the image changes from {video.width}x{video.height} to"
                f" {frame.width}x{frame.height} at {self._losses.clock(pts)}",
                path=self._info.path,
                hint="cut the file there and upscale the parts on their own",
            )

    def _make_frame(self, decoded: VideoFrame, stamp: FrameStamp) -> Frame:
        layout = self._layout(decoded, stamp.pts)
        planes, owner = self._planes.read(decoded, layout)
        video = self._info.video
        return Frame(
            stamp=stamp, format=video.format, height=video.height, width=video.width, planes=planes, owner=owner
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
