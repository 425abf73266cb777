"""The packets of a film's video stream, from its beginning or from a point in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.decode.container import error_text
from pipeline.decode.frame_index import EntryPoint, position_of
from pipeline.errors import MediaError
from pipeline.media import MediaInfo

MAX_READ_ERRORS = 2
"""Errors of the container in a row, without a packet between, after which the rest of the file is given up. ffmpeg
gives up at the first; the second try gets past a bad block where the demuxer can find the next one."""


def select_stream(container: InputContainer, info: MediaInfo, *, threads: int) -> VideoStream:
    """The film's video stream, set to decode with ``threads`` threads (0: as many as there are cores).

    Raises:
        MediaError: The container no longer holds it.
    """
    try:
        stream = container.streams[info.video.index]
    except IndexError:
        stream = None
    if not isinstance(stream, VideoStream):
        raise MediaError(
            f"{info.path} has changed: stream {info.video.index} is no longer its video",
            path=info.path,
            hint="do not write to an input while it is upscaled",
        )
    stream.thread_count = threads
    stream.thread_type = "AUTO" if threads != 1 else "NONE"
    return stream


def read_packets(
    container: InputContainer, stream: VideoStream, *, on_error: Callable[[str], None]
) -> Iterator[Packet[VideoStream]]:
    """Packets of the stream from where the container stands, and at last the empty one that drains the decoder.

    Args:
        container: Open.
        stream: Of the container.
        on_error: Called with a clause for every failure to read; reading goes on after it.
    """
    error_count = 0
    while True:
        try:
            for packet in container.demux(stream):
                error_count = 0
                yield packet
            return
        except IndexError:
            # PyAV does not know streams that first appear in the middle of an MPEG file; their packets are not ours
            continue
        except av.error.FFmpegError as exc:
            on_error(f"the file cannot be read ({error_text(exc)})")
            error_count += 1
            if error_count >= MAX_READ_ERRORS:
                yield _make_flush_packet(stream)
                return


def read_packets_from(
    container: InputContainer, stream: VideoStream, point: EntryPoint, *, on_error: Callable[[str], None]
) -> Iterator[Packet[VideoStream]] | None:
    """Packets from an entry point on, it itself first, so that nothing before it reaches the decoder.

    Containers seek by presentation time, by decoding time, or to somewhere near; so several times are tried, and
    packets read until the point is met.

    Returns:
        None if the point cannot be reached by seeking.
    """
    for target in point.seek_targets:
        try:
            container.seek(target, stream=stream)
        except av.error.FFmpegError:
            continue
        packets = read_packets(container, stream, on_error=on_error)
        for packet in packets:
            found = (packet.pts, packet.duration or 0, packet.size, position_of(packet))
            if found == (point.pts, point.duration, point.size_bytes, point.position):
                return chain((packet,), packets)
            if not packet.size or (packet.pts is not None and packet.pts > point.pts):
                break  # behind it: whatever comes before an entry point is also shown before it
    return None


def _make_flush_packet(stream: VideoStream) -> Packet[VideoStream]:
    packet: Any = Packet()
    packet.stream = stream
    flush: Packet[VideoStream] = packet
    return flush
