"""One pass of NVDEC over a film: packets to frames, with the numbers, times and losses that ``FilmPass`` gives them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
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
from pipeline.decode.image_size import ImageSizeWatch
from pipeline.decode.losses import Losses
from pipeline.decode.nvdec_choice import CODECS
from pipeline.decode.nvdec_frames import Delivery
from pipeline.decode.nvdec_session import NvdecFailed, NvdecSession, Surface
from pipeline.decode.packets import read_packets, read_packets_from, select_stream
from pipeline.decode.surfaces import SurfaceLayout
from pipeline.decode.timeline import Timeline
from pipeline.device.streams import open_stream
from pipeline.errors import MediaError, UnsupportedMedia
from pipeline.frames import Frame, FrameStamp, MediaInfo

START_CODE_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""libav's filters that give packets start codes and parameter sets, which NVDEC wants, where a container leaves them
out; packets that have them pass unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """What the container says about a packet that the decoder has."""

    pts: int | None
    duration: int
    is_wanted: bool
    """Not cut off by an edit list, and not shown before the entry point."""


class NvdecPass:
    """One reading of a film, from its beginning or from an entry point.

    NVDEC conceals damage within pictures without a word, so ``damage`` names what the container shows: packets marked
    as damaged, frames that are missing, a file that ends early.

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
        self._sent: dict[int, _Sent] = {}
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

    def _decode(self, session: NvdecSession, entry: EntryPoint | None) -> Iterator[tuple[Surface, _Sent]]:
        """All wanted images in display order, from the entry point's on; each valid until the next is asked for."""
        self._passed_count = entry.packets_before if entry is not None else 0
        with open_media(self._info.path) as container:
            stream = select_stream(container, self._info, threads=1)
            codec = stream.codec_context.codec
            sizes = ImageSizeWatch(self._info, decoder=codec.name)
            name = START_CODE_FILTERS.get(self._info.video.codec)
            bitstream = BitStreamFilterContext(name, stream) if name is not None else None
            if entry is None:
                packets = read_packets(container, stream, on_error=self._losses.add)
            else:
                packets = self._packets_from(
                    entry, read_packets_from(container, stream, entry, on_error=self._losses.add)
                )
            for tag, packet in enumerate(packets):
                if packet.size:
                    yield from self._decode_packet(
                        session, packet, tag=tag, bitstream=bitstream, sizes=sizes, entry=entry
                    )
            yield from self._shown(session, None, tag=0, entry=entry)
        self._losses.check_counts(
            read_count=self._sent_count + self._passed_count,
            silent_count=self._sent_count - self._failed_count - self._returned_count,
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
        tag: int,
        bitstream: BitStreamFilterContext | None,
        sizes: ImageSizeWatch,
        entry: EntryPoint | None,
    ) -> Iterator[tuple[Surface, _Sent]]:
        """Send one packet; what it leads is yielded before the next one is sent."""
        pts, is_key = packet.pts, packet.is_keyframe  # the filter below takes them out of the packet
        # pictures that lead the entry point come before all others; later on a clock may be set back
        is_leading = entry is not None and not self._returned_count and pts is not None and pts < entry.pts
        sent = _Sent(pts=pts, duration=packet.duration or 0, is_wanted=not (is_leading or packet.is_discard))
        if sent.is_wanted:
            self._sent_count += 1
            self._timeline.feed(pts)
        else:
            self._passed_count += 1
        if packet.is_corrupt and not is_leading:
            self._losses.add("a packet is damaged", pts=pts)
        self._sent[tag] = sent
        try:
            units = [packet] if bitstream is None else bitstream.filter(packet)
        except av.error.FFmpegError as exc:
            self._failed_count += sent.is_wanted
            self._timeline.drop(pts)
            self._losses.add(f"a packet cannot be decoded ({error_text(exc)})", pts=pts)
            return
        for unit in units:
            if is_key:
                sizes.check(bytes(unit), clock=self._losses.clock(pts or 0))
            yield from self._shown(session, unit, tag=tag, entry=entry)

    def _shown(
        self, session: NvdecSession, packet: Packet[Any] | None, *, tag: int, entry: EntryPoint | None
    ) -> Iterator[tuple[Surface, _Sent]]:
        """Decode and yield what can be shown, in display order."""
        try:
            surfaces = session.decode(packet, tag=tag)
        except NvdecFailed as exc:
            raise self._failure(exc) from exc
        for surface in surfaces:
            self.decoded_count += 1
            sent = self._sent.pop(surface.tag, _Sent(pts=None, duration=0, is_wanted=True))
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
