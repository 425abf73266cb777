"""One pass of NVDEC over a film: packets to frames, with the numbers, times and losses that ``FilmPass`` gives them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import count
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.video.stream import VideoStream

from engines.gpu import Device
from pipeline.decode.container import error_text, open_media
from pipeline.decode.film_pass import EntryMissed
from pipeline.decode.frame_index import CONTAINERS_WITHOUT_PTS, EntryPoint
from pipeline.decode.image_watch import ImageWatch
from pipeline.decode.losses import CODECS_WITH_HIDDEN_FRAMES, Losses
from pipeline.decode.nvdec_choice import CODECS
from pipeline.decode.nvdec_frames import Delivery
from pipeline.decode.nvdec_session import NvdecFailed, NvdecSession, Surface
from pipeline.decode.nvdec_times import Beginning, SentPacket, SentPackets, TimesOutOfOrder
from pipeline.decode.packets import read_packets, read_packets_from, select_stream
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.decode.timeline import Timeline
from pipeline.device.streams import open_stream
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp
from pipeline.media import MediaInfo
from pipeline.show.wording import format_count

START_CODE_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""libav's filters that give packets start codes and parameter sets, which NVDEC wants, where a container leaves them
out; packets that have them pass unchanged."""

ENTRY_FILTERS = START_CODE_FILTERS | {"h264": "h264_mp4toannexb,dump_extra=freq=keyframe"}
"""The same where decoding begins within a film: that for H.264 gives parameter sets to IDR pictures alone, and a
recovery point needs them too."""


class NvdecPass:
    """One reading of a film, from its beginning or from an entry point.

    NVDEC conceals damage within pictures without a word, so ``damage`` names what can be seen from outside: packets
    marked as damaged, images that do not come, a file that ends early.

    Args:
        info: The film.
        device: The GPU.
        library: PyNvVideoCodec.
        open_delivery: Makes what turns surfaces into frames.
    """

    def __init__(
        self, info: MediaInfo, *, device: Device, library: Any, open_delivery: Callable[[SurfaceLayout], Delivery]
    ) -> None:
        self._info = info
        self._device = device
        self._library = library
        self._open_delivery = open_delivery
        video = info.video
        self._layout = SurfaceLayout.of(video)
        rate = video.average_rate or Fraction(25)  # only spaces frames that have no time at all
        self._timeline = Timeline(
            time_base=video.time_base,
            nominal_ticks=max(1, round(1 / (rate * video.time_base))),
            first_pts=video.start_pts or 0,
            is_in_decode_order=info.container in CONTAINERS_WITHOUT_PTS,
        )
        self._losses = Losses(info)
        self._sent: SentPackets | None = None
        self._beginning = Beginning(video.codec)
        self._may_lead = True  # pictures that lead the entry point come before all others
        self._sent_count = self._passed_count = self._failed_count = self._returned_count = 0
        self.decoded_count = 0
        """Frames that the decoder gave, those that were dropped included."""

    @property
    def damage(self) -> str | None:
        """See ``Decoder.damage``."""
        return self._losses.damage

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Decoder.notes``."""
        return self._timeline.notes + self._losses.notes

    def frames(self, start: int, stop: int | None, *, entry: EntryPoint | None = None) -> Generator[Frame]:
        """Yield the frames ``start <= index < stop``. See ``Decoder.frames``.

        Args:
            start: First index.
            stop: First index not wanted, or None.
            entry: Where to begin, at most at ``start``; None for the film's beginning.

        Raises:
            EntryMissed: With ``entry`` only, and before the first frame: decoding does not begin there.
        """
        if stop is not None and stop <= start:
            return
        with (
            open_stream(self._device) as stream,
            self._open_delivery(self._layout) as delivery,
            closing(self._open_session(stream)) as session,
        ):
            first = entry.frame if entry is not None else 0
            decoded = self._decode(session, entry)
            for index, (surface, sent) in zip(count(first), decoded, strict=False):
                pts = self._timeline.place(sent.pts, duration=sent.duration)
                self._losses.note_frame(pts, duration=sent.duration)
                if index >= start:
                    stamp = FrameStamp(index=index, pts=pts, duration=sent.duration)
                    yield delivery.deliver(surface, stamp=stamp, stream=stream)
                if index + 1 == stop:
                    return

    def _open_session(self, stream: Any) -> NvdecSession:
        try:
            codec = CODECS[self._info.video.codec]
            return NvdecSession(self._library, codec=codec, device=self._device, stream=stream)
        except NvdecFailed as exc:
            raise self._failure(exc) from exc

    def _decode(self, session: NvdecSession, entry: EntryPoint | None) -> Iterator[tuple[Surface, SentPacket]]:
        """All wanted images in display order, from the entry point's on; each valid until the next is asked for."""
        self._passed_count = entry.packets_before if entry is not None else 0
        with open_media(self._info.path) as container:
            stream = select_stream(container, self._info, threads=1)
            codec = stream.codec_context.codec
            watch = ImageWatch(self._info, decoder=codec.name, begins_with_film=entry is None)
            filters = START_CODE_FILTERS if entry is None else ENTRY_FILTERS
            name = filters.get(self._info.video.codec)
            bitstream = BitStreamFilterContext(name, stream) if name is not None else None
            if entry is None:
                packets = read_packets(container, stream, on_error=self._losses.add)
            else:
                packets = self._packets_from(
                    entry, read_packets_from(container, stream, entry, on_error=self._losses.add)
                )
            for packet in packets:
                if packet.size:
                    yield from self._decode_packet(session, packet, bitstream=bitstream, watch=watch, entry=entry)
            yield from self._shown(session, None, entry=entry)
        if entry is not None and not self._returned_count:
            raise EntryMissed(f"frame {entry.frame} cannot be decoded on its own")
        missing_count = self._note_missing(codec.canonical_name)
        self._losses.check_counts(
            read_count=self._sent_count + self._passed_count,
            silent_count=self._sent_count - self._failed_count - self._returned_count - missing_count,
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

    @staticmethod
    def _packets_from(
        entry: EntryPoint, packets: Iterator[Packet[VideoStream]] | None
    ) -> Iterator[Packet[VideoStream]]:
        if packets is None:
            raise EntryMissed(f"the packet of frame {entry.frame} cannot be found by seeking")
        return packets

    def _decode_packet(
        self,
        session: NvdecSession,
        packet: Packet[VideoStream],
        *,
        bitstream: BitStreamFilterContext | None,
        watch: ImageWatch,
        entry: EntryPoint | None,
    ) -> Iterator[tuple[Surface, SentPacket]]:
        """Send one packet; what it leads to is yielded before the next one is sent."""
        pts, is_key = packet.pts, packet.is_keyframe  # the filter below takes them out of the packet
        is_leading = self._leads(entry, pts)
        sent = SentPacket(
            pts=None if self._info.container in CONTAINERS_WITHOUT_PTS else pts,
            duration=packet.duration or 0,
            is_wanted=not (is_leading or packet.is_discard),
        )
        if sent.is_wanted:
            self._sent_count += 1
            self._timeline.feed(pts)
        else:
            self._passed_count += 1
        if packet.is_corrupt and not is_leading:
            self._losses.add("a packet is damaged", pts=pts)
        try:
            units = [packet] if bitstream is None else bitstream.filter(packet)
        except av.error.FFmpegError as exc:
            self._failed_count += sent.is_wanted
            self._timeline.drop(pts)
            self._losses.add(f"a packet cannot be decoded ({error_text(exc)})", pts=pts)
            return
        if not units or (not self._beginning.is_over and self._beginning.leaves_out(bytes(units[0]))):
            return
        tag = self._note_sent(sent)
        for unit in units:
            if is_key:
                watch.check(bytes(unit), clock=self._losses.clock(pts or 0))
            yield from self._shown(session, unit, tag=tag, entry=entry)

    def _leads(self, entry: EntryPoint | None, pts: int | None) -> bool:
        """Whether a packet is shown before the entry point. Call once for each, in decoding order."""
        if entry is None or pts is None:
            return False
        self._may_lead &= pts <= entry.pts  # later on a clock may be set back
        return self._may_lead and pts < entry.pts

    def _note_sent(self, sent: SentPacket) -> int:
        """The tag to send with a packet."""
        if self._sent is None:
            self._sent = SentPackets(has_times=sent.pts is not None)
        try:
            return self._sent.add(sent)
        except TimesOutOfOrder as exc:
            clock = self._losses.clock(sent.pts) if sent.pts is not None else "its first images"
            raise UnsupportedMedia(
                f"{self._info.path}: NVDEC's images cannot be told apart: {exc}, at {clock}",
                path=self._info.path,
                hint="use decode.kind: libav",
            ) from exc

    def _note_missing(self, codec: str) -> int:
        """Note images that should have come and did not; returns their number."""
        if self._sent is None or codec in CODECS_WITH_HIDDEN_FRAMES:
            return 0
        missing = self._sent.missing()
        if missing:
            times = [sent.pts for sent in missing if sent.pts is not None]
            self._losses.add(
                f"{format_count(len(missing), 'packet')} without an image from NVDEC,",
                pts=min(times) if times else None,
            )
        return len(missing)

    def _shown(
        self, session: NvdecSession, packet: Packet[Any] | None, *, tag: int = 0, entry: EntryPoint | None
    ) -> Iterator[tuple[Surface, SentPacket]]:
        """Decode and yield what can be shown, in display order."""
        try:
            surfaces = session.decode(packet, tag=tag)
        except NvdecFailed as exc:
            raise self._failure(exc) from exc
        for surface in surfaces:
            self.decoded_count += 1
            sent = self._sent.take(surface.tag) if self._sent is not None else None
            if sent is None:
                sent = SentPacket(pts=None, duration=0, is_wanted=True)
            if not sent.is_wanted:
                continue
            if entry is not None and not self._returned_count and sent.pts != entry.pts:
                raise EntryMissed(f"frame {entry.frame} cannot be decoded on its own")
            self._check(surface)
            self._returned_count += 1
            yield surface, sent

    def _check(self, surface: Surface) -> None:
        layout, expected = self._layout, (self._layout.height, self._layout.columns)
        sample_bytes = layout.pitch_bytes // layout.columns
        if (surface.height, surface.columns) != expected or surface.sample_bytes != sample_bytes:
            raise UnsupportedMedia(
                f"{self._info.path}: NVDEC gives images of {surface.columns}x{surface.height} with"
                f" {surface.sample_bytes} bytes a sample, not {expected[1]}x{expected[0]} with {sample_bytes}",
                path=self._info.path,
                hint="use decode.kind: libav; if the film changes there, cut it and upscale the parts on their own",
            )

    def _failure(self, error: NvdecFailed) -> MediaError:
        return MediaError(
            f"{self._info.path}: NVDEC failed: {error}", path=self._info.path, hint="use decode.kind: libav"
        )
